"""Clipped samples of a recording, replaced by their expectation given the tones found so far.

A tone that is fitted to clipped samples is too small. In short windows the unclipped samples, and
the bounds of the clipped ones, give the factor by which it is, if the rest is Gaussian
(`signals.censored_regression`). Clipped samples are replaced by their expectation, and the tones
extracted once more. Axes: C channels, T samples, K tones, W windows, P regressors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.extraction.passes import ExtractedTones
from tonesieve.extractors.noise_bands import Z90
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.statistics import ChannelStats
from tonesieve.signals.censored_regression import CensoredFit, expected_excess, fit_censored

# Chosen on sines in white and red noise, amplitude-modulated, beside a line: periods of the slowest
# tone in a window, by pass. Short ones follow the modulation, whose compression the first pass
# undoes; long ones have less error.
PERIODS = (30, 240)
# Guard: samples of a window at least, over the number of regressors; and of a fit at most.
SAMPLES_PER_REGRESSOR, MAX_FITTED = 16, 2**15
# Guard: a fit of a larger relative error corrects nothing, nor one with fewer samples unclipped.
MAX_ERROR, LEAST_FREE = 0.5, 0.1
# Chosen on the same signals: error of the correction, as part of it, where the rest of the
# recording is not Gaussian.
MODEL_ERROR = 0.15
# Guard: lags that are tried for a quadrature.
LEAST_LAGS = 20


class _Window(NamedTuple):
    """The model of one channel in a stretch of time; no fit where nothing is to be corrected."""

    start: int
    stop: int
    fit: CensoredFit | None
    clipped_share: float


@dataclass(frozen=True)
class DeclippedRecording(Recording):
    """A recording whose clipped samples are replaced by their expectation.

    Parameters
    ----------
    bounds : tuple of (float, float) or None
        Of every channel `ChannelStats.censored`.
    scales : tuple of (float, float)
        Of every channel its mean and RMS, the origin and the unit of the models.
    tones : Spool
        Tones as extracted before, C x K columns.
    cycles : tuple of float
        Frequencies of the K tones, cycles a sample.
    windows : tuple of tuple of _Window
        Of every channel the W models, in turn.
    """

    bounds: tuple[tuple[float, float] | None, ...]
    scales: tuple[tuple[float, float], ...]
    tones: Spool
    cycles: tuple[float, ...]
    windows: tuple[tuple[_Window, ...], ...] = ()

    def read(self, start: int, stop: int) -> Float[np.ndarray, "C T"]:
        """Read all channels, as `Recording.read`."""
        samples = super().read(start, stop)
        start = max(0, start)
        for c, windows in enumerate(self.windows):
            for window in windows:
                low, high = max(start, window.start), min(start + samples.shape[1], window.stop)
                if window.fit is not None and low < high:
                    part = samples[c, low - start : high - start]
                    part[:] = self._restored(c, window, low, part)
        return samples

    def _restored(self, c: int, window: _Window, start: int, samples: np.ndarray) -> np.ndarray:
        is_low, is_high = self._clipped(c, samples)
        if window.fit is None or not (is_low | is_high).any():
            return samples
        regressors = self._regressors(c, window, np.arange(start, start + len(samples)))
        mean, rms = self.scales[c]
        model = regressors @ window.fit.coefficients
        restored, sign = samples.copy(), np.where(is_high, 1.0, -1.0)
        use = (is_low | is_high) & np.isfinite(model)
        distance = sign[use] * ((samples[use] - mean) / rms - model[use])
        restored[use] += sign[use] * rms * expected_excess(distance, window.fit.std)
        return restored

    def _clipped(self, c: int, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether samples of a channel are at its lower bound, and at its upper one."""
        bounds = self.bounds[c]
        assert bounds is not None
        return samples == bounds[0], samples == bounds[1]

    def _regressors(self, c: int, window: _Window, at: np.ndarray) -> Float[np.ndarray, "T P"]:
        """Level, slope, and every tone with its quadrature, at increasing samples; else NaN."""
        ramp = (2 * at - window.start - window.stop) / (window.stop - window.start)
        columns = [np.ones(len(at)), ramp]
        for k in range(len(self.cycles)):
            columns += [part / self.scales[c][1] for part in self.tone_and_quadrature(c, k, at)]
        return np.stack(columns, axis=1)

    def tone_and_quadrature(self, c: int, k: int, at: np.ndarray) -> list[np.ndarray]:
        """The k-th tone at increasing samples, and 90 degrees later; NaN at the very start."""
        lag = _quadrature_lag(self.cycles[k])
        angle = 2 * np.pi * self.cycles[k] * lag
        column = c * len(self.cycles) + k
        first = max(0, int(at[0]) - lag)
        values = _column(self.tones, column, first, int(at[-1]) + 1)
        tone, place = values[at - first], at - lag - first
        delayed = np.where(at >= lag, values[np.maximum(place, 0)], np.nan)
        return [tone, (delayed - tone * np.cos(angle)) / np.sin(angle)]

    def fitted(self, periods: float) -> DeclippedRecording:
        """Fit all windows of some periods of the slowest tone."""
        return replace(self, windows=self._windows(periods, self._fit))

    def uncorrected(self, periods: float) -> DeclippedRecording:
        """State what was clipped up to every window, and replace nothing."""
        n_clipped = n_samples = 0

        def share(c: int, start: int, stop: int) -> _Window:
            nonlocal n_clipped, n_samples
            if start == 0:
                n_clipped = n_samples = 0
            n_clipped += sum(
                int(np.sum(end)) for end in self._clipped(c, self._raw(c, start, stop))
            )
            n_samples += stop - start
            return _Window(start, stop, None, n_clipped / n_samples)

        return replace(self, windows=self._windows(periods, share))

    def _windows(
        self, periods: float, model: Callable[[int, int, int], _Window]
    ) -> tuple[tuple[_Window, ...], ...]:
        n_regressors = 2 + 2 * len(self.cycles)
        size = max(periods / min(self.cycles), SAMPLES_PER_REGRESSOR * n_regressors)
        n_windows = max(1, int(self.n_samples / size))
        edges = np.linspace(0, self.n_samples, n_windows + 1).astype(int).tolist()
        return tuple(
            () if bounds is None else tuple(model(c, *ends) for ends in pairwise(edges))
            for c, bounds in enumerate(self.bounds)
        )

    def _fit(self, c: int, start: int, stop: int) -> _Window:
        step = max(1, -(-(stop - start) // MAX_FITTED))
        at, samples = np.arange(start, stop, step), self._raw(c, start, stop, step)
        is_low, is_high = self._clipped(c, samples)
        share = float(np.mean(is_low | is_high))
        window = _Window(start, stop, None, share)
        if not 0 < share <= 1 - LEAST_FREE:
            return window
        regressors = self._regressors(c, window, at)
        use = np.isfinite(samples) & np.isfinite(regressors).all(axis=1)
        if np.sum(use) < SAMPLES_PER_REGRESSOR * regressors.shape[1] / 2:
            return window
        mean, rms = self.scales[c]
        scaled = (samples[use] - mean) / rms
        fit = fit_censored(scaled, regressors[use], is_low[use], is_high[use])
        if fit is None or _relative_error(fit) > MAX_ERROR:
            return window
        return window._replace(fit=fit)

    def _raw(self, c: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Every ``step``-th sample of one channel as it was recorded."""
        parts = []
        for first, last in _blocks(stop, self.rows.n_columns, start):
            block = Recording.read(self, first, last)[c]
            parts.append(block[(start - first) % step :: step])
        return np.concatenate(parts)


def censored(
    recording: Recording,
    stats: Sequence[ChannelStats],
    extracted: ExtractedTones,
    hz: Sequence[float],
) -> DeclippedRecording:
    """Join a recording, the levels at which it is clipped, and the tones found so far.

    Parameters
    ----------
    recording : Recording
        The recording as it is.
    stats : sequence of ChannelStats
        Statistics of every channel, which state where it is clipped.
    extracted : ExtractedTones
        The tones found so far.
    hz : sequence of float
        Their frequencies.

    Returns
    -------
    DeclippedRecording
        Nothing is replaced yet.
    """
    return DeclippedRecording(
        recording.path, recording.channels, recording.grid, recording.rows,
        recording.output_format, recording.timed, tuple(one.censored for one in stats),
        tuple((one.mean, one.rms) for one in stats), extracted.tones,
        tuple(f / recording.rate_hz for f in hz),
    )  # fmt: skip


def widened(
    extracted: ExtractedTones, declipped: DeclippedRecording, raw: ExtractedTones, scratch: Path
) -> ExtractedTones:
    """Widen the bands by the error of the correction.

    Parameters
    ----------
    extracted : ExtractedTones
        The tones of the declipped recording.
    declipped : DeclippedRecording
        The recording that they were extracted from.
    raw : ExtractedTones
        The tones of the clipped recording.
    scratch : Path
        Folder for what does not fit into memory.

    Returns
    -------
    ExtractedTones
        The same tones with wider bands.
    """
    if extracted.band is None:
        return extracted
    band = Spool(extracted.band.n_columns, scratch)
    now = replace(declipped, tones=extracted.tones)
    n_tones = len(declipped.cycles)
    for start, stop in _blocks(len(extracted.tones), band.n_columns):
        rows, at = extracted.band.read(start, stop).copy(), np.arange(start, stop)
        before = raw.tones.read(start, stop)
        for c, windows in enumerate(declipped.windows):
            inside = [w for w in windows if w.start < stop and w.stop > start]
            if not inside:
                continue
            for k in range(n_tones):
                column = c * n_tones + k
                tone, quadrature = now.tone_and_quadrature(c, k, at)
                amplitude = np.hypot(tone, np.where(np.isfinite(quadrature), quadrature, tone))
                for window in inside:
                    part = slice(max(window.start, start) - start, min(window.stop, stop) - start)
                    error = _error_of(window, k, tone[part], before[part, column])
                    information = max(1 - window.clipped_share, 1e-3)
                    rows[part, column] = np.hypot(
                        rows[part, column] / np.sqrt(information), error * amplitude[part]
                    )
        band.append(rows)
    return extracted._replace(band=band)


def _error_of(window: _Window, k: int, tone: np.ndarray, before: np.ndarray) -> float:
    """Half-width of the correction's band over the amplitude."""
    largest = float(np.max(np.abs(tone), initial=0.0))
    if not largest > 0:
        return 0.0
    # Derived (Bussgang): Gaussian noise multiplies an uncorrected tone by the unclipped share.
    correction, variance = window.clipped_share / max(1 - window.clipped_share, 1e-3), 0.0
    if window.fit is not None:
        ratio = np.linalg.norm(before / largest) / np.linalg.norm(tone / largest)
        correction = MODEL_ERROR * abs(1 - float(ratio))
        own = slice(2 + 2 * k, 4 + 2 * k)
        gain = float(np.linalg.norm(window.fit.coefficients[own]))
        variance = float(np.trace(window.fit.covariance[own, own])) / 2 / max(gain, 1e-300) ** 2
    return float(np.hypot(Z90 * np.sqrt(variance), correction))


def _relative_error(fit: CensoredFit) -> float:
    """Standard error over the size of the largest tone's coefficients, which are a factor."""
    pairs = fit.coefficients[2:].reshape(-1, 2)
    errors = np.diag(fit.covariance)[2:].reshape(-1, 2)
    sizes, spread = np.linalg.norm(pairs, axis=1), np.sqrt(errors.sum(axis=1))
    return float(np.min(spread / np.maximum(sizes, 1e-300)))


def _quadrature_lag(cycles: float) -> int:
    """Samples after which a tone has turned by an angle that is nearly an odd quarter."""
    lags = np.arange(1, max(LEAST_LAGS, int(np.ceil(0.5 / cycles))))
    return int(lags[np.argmin(np.abs((cycles * lags) % 0.5 - 0.25))])


def _column(spool: Spool, column: int, start: int, stop: int) -> np.ndarray:
    parts = [
        spool.read(first, last)[:, column] for first, last in _blocks(stop, spool.n_columns, start)
    ]
    return np.concatenate(parts)


def _blocks(n: int, n_columns: int, start: int = 0) -> Iterator[tuple[int, int]]:
    step = rows_in_block(n_columns)
    for first in range(start, n, step):
        yield first, min(first + step, n)
