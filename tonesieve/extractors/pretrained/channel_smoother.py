"""The pretrained smoother over one tone in several channels that share its course.

The channels' basebands are combined to the stream in which the common amplitude stands out most
(`signals.channel_pattern`), and this is smoothed. Each channel is regressed on it, and freed of it.
What is left is smoothed channel by channel (`signals.slow_amplitude`): a channel's own changes of
amplitude and phase, or nothing where noise explains it.

Axes: B streams, C channels, M steps, N blocks of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.extractors.noise_bands import Z90
from tonesieve.extractors.pretrained.down_converter import SAMPLES_AT_ONCE, real_stream
from tonesieve.recordings.spool import Spool
from tonesieve.signals.channel_pattern import ChannelPattern, CrossSpectra
from tonesieve.signals.slow_amplitude import smooth_slowly
from tonesieve.util.threads import over_rows

# Chosen: steps of a block of what channels do not share; over 8 periods of the tone noise is white
# enough. Guard, of memory: blocks at most.
OWN_STEPS, MAX_OWN_BLOCKS = 16, 2**15
# Chosen, not tuned: blocks over which the variance of the noise is averaged. Guard: the least, over
# that of all.
LOCAL_BLOCKS, QUIETEST = 5, 0.01

# Takes streams, a column each, with the tone at a quarter of their rate; returns the real and
# imaginary parts of its phasors and their half-widths, a column each.
Smooth = Callable[[Spool], Spool]


class _Amplitudes(NamedTuple):
    """Complex amplitude of the common part in each channel, and the variance of its error."""

    value: Complex[np.ndarray, "C 1"]
    variance: Float[np.ndarray, "C 1"]


class _Own(NamedTuple):
    """What channels do not share, in blocks of some steps, and the variance of its error."""

    length: int
    value: Complex[np.ndarray, "C N"]
    variance: Float[np.ndarray, "C N"]

    def at(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both at some steps (C, M): linear between the blocks' centres."""
        places = (steps + 0.5) / self.length - 0.5
        n = self.value.shape[1]
        below = np.clip(np.floor(places).astype(np.int64), 0, max(n - 2, 0))
        above = np.minimum(below + 1, n - 1)
        w = np.clip(places - below, 0.0, 1.0)
        value, variance = (
            (1 - w) * array[:, below] + w * array[:, above] for array in (self.value, self.variance)
        )
        return value, variance


class _Left(NamedTuple):
    """Sums over blocks of what is left of channels, of its square, and of the steps observed."""

    sums: Complex[np.ndarray, "C N"]
    squares: Float[np.ndarray, "C N"]
    counts: Float[np.ndarray, "C N"]


class SharedTone(NamedTuple):
    """A tone that channels share.

    Parameters
    ----------
    steps : Spool
        Real and imaginary parts and half-widths of all channels.
    share : float
        Share of the pattern, by `ChannelPattern`.
    """

    steps: Spool
    share: float


def smooth_channels(
    basebands: Spool, gain: complex, smooth: Smooth, scratch: Path, *, is_certain: bool = False
) -> SharedTone | None:
    """Estimate a tone in channels that share its course.

    Parameters
    ----------
    basebands : Spool
        Real and imaginary parts of the basebands of all channels, NaN in gaps.
    gain : complex
        Complex amplitude, in the mixture, of a tone of amplitude 1.
    smooth : callable
        Smooths any number of streams.
    scratch : Path
        Folder for what does not fit into memory.
    is_certain : bool, default False
        Whether the channels have a pattern in common whatever the test says.

    Returns
    -------
    SharedTone or None
        None if no pattern stands out of the noise.
    """
    run = _SharedRun(basebands, gain, smooth, scratch)
    pattern = run.pattern(is_certain)
    if pattern is None:
        return None
    common = run.common(pattern)
    amplitudes = run.amplitudes(common, pattern)
    noise = run.noise(common, amplitudes)
    amplitudes = run.amplitudes(common, pattern, noise)
    steps = run.joined(common, amplitudes, run.own(common, amplitudes, noise))
    common.close()
    return SharedTone(steps, pattern.share)


class _SharedRun:
    """One tone over one recording."""

    def __init__(self, basebands: Spool, gain: complex, smooth: Smooth, scratch: Path) -> None:
        self._basebands, self._smooth, self._scratch = basebands, smooth, scratch
        # A tone of phasor Z is Im(gain Z exp(i phase)), and its baseband -i gain Z / 2.
        self._per_phasor = -0.5j * gain
        self._n_channels = basebands.n_columns // 2
        self._length = max(OWN_STEPS, -(-len(basebands) // MAX_OWN_BLOCKS))  # of a block

    def pattern(self, is_certain: bool) -> ChannelPattern | None:
        spectra = CrossSpectra(self._n_channels, len(self._basebands))
        for start, stop in self._blocks():
            spectra.update(self._z(start, stop))
        return spectra.pattern(is_certain=is_certain)

    def common(self, pattern: ChannelPattern) -> Spool:
        """The common amplitude, smoothed."""
        streams = Spool(1, self._scratch)
        for start, stop in self._blocks():
            combined = pattern.combined(self._z(start, stop))
            streams.append(real_stream(combined[None], start).T)
        return self._smooth(streams)

    def amplitudes(
        self, common: Spool, pattern: ChannelPattern, noise: Float[np.ndarray, "C N"] | None = None
    ) -> _Amplitudes:
        """By regression of the channels on the common amplitude, ``noise``: relative variances."""
        products, power = np.zeros(self._n_channels, complex), np.zeros(self._n_channels)
        for start, stop in self._blocks():
            z, (s, _) = self._z(start, stop), _estimate(common, start, stop)
            weights = np.isfinite(z).astype(float)
            if noise is not None:
                weights /= noise[:, np.arange(start, stop) // self._length]
            products += (weights * np.where(weights > 0, z, 0)) @ s[0].conj()
            power += weights @ np.abs(s[0]) ** 2
        power = np.maximum(power, 1e-300)
        value = products / power / self._per_phasor
        variance = pattern.noise.diagonal().real / power / abs(self._per_phasor) ** 2
        kept = np.maximum(0.0, 1 - variance / np.maximum(np.abs(value) ** 2, 1e-300))
        return _Amplitudes((kept * value)[:, None], (kept * variance)[:, None])

    def noise(self, common: Spool, amplitudes: _Amplitudes) -> Float[np.ndarray, "C N"]:
        """Variance of the noise in the neighbourhood of each block, over that of all."""
        left = self._left(common, amplitudes)
        n = np.maximum(left.counts, 1.0)
        scatter = np.maximum(left.squares - np.abs(left.sums) ** 2 / n, 0.0)
        scatter, freedom = (
            scipy.ndimage.uniform_filter1d(values, LOCAL_BLOCKS, axis=1, mode="nearest")
            for values in (scatter, n - 1)
        )
        variance = np.divide(scatter, freedom, out=np.zeros_like(scatter), where=freedom > 0)
        mean = np.maximum(variance.mean(axis=1, keepdims=True), 1e-300)
        return np.maximum(variance / mean, QUIETEST)

    def own(self, common: Spool, amplitudes: _Amplitudes, noise: Float[np.ndarray, "C N"]) -> _Own:
        """What is left of each channel without the common part, smoothed."""
        left = self._left(common, amplitudes)
        means = np.divide(
            left.sums, left.counts, out=np.zeros_like(left.sums), where=left.counts > 0
        )
        own = _Own(self._length, np.empty_like(means), np.empty(means.shape))

        def fit(rows: slice) -> None:
            for c in range(self._n_channels)[rows]:
                own.value[c], own.variance[c] = smooth_slowly(means[c], left.counts[c] / noise[c])

        over_rows(fit, self._n_channels)
        return own

    def _left(self, common: Spool, amplitudes: _Amplitudes) -> _Left:
        """Sums over blocks of what is left without the common part."""
        length = self._length
        shape = (self._n_channels, -(-len(self._basebands) // length))
        left = _Left(np.zeros(shape, complex), np.zeros(shape), np.zeros(shape))
        for start, stop in self._blocks():
            s, _ = _estimate(common, start, stop)
            values = self._z(start, stop) / self._per_phasor - amplitudes.value * s
            observed, first = np.isfinite(values), start // length
            values = np.where(observed, values, 0)
            edges = np.maximum(np.arange(first, -(-stop // length)) * length - start, 0)
            blocks = slice(first, first + len(edges))
            parts = (values, np.abs(values) ** 2, observed.astype(float))
            for total, part in zip(left, parts, strict=True):
                total[:, blocks] += np.add.reduceat(part, edges, axis=1)
        return left

    def joined(self, common: Spool, amplitudes: _Amplitudes, own: _Own) -> Spool:
        """Both parts, and the bands of their sum."""
        joined = Spool(3 * self._n_channels, self._scratch)
        for start, stop in self._blocks():
            s, s_band = _estimate(common, start, stop)
            rest, rest_variance = own.at(np.arange(start, stop))
            phasors = amplitudes.value * s + rest
            # A complex error has half its variance in the tone.
            variance = (amplitudes.variance * np.abs(s) ** 2 + rest_variance) * Z90**2 / 2
            variance += np.abs(amplitudes.value) ** 2 * s_band**2
            joined.append(np.concatenate([phasors.real, phasors.imag, np.sqrt(variance)]).T)
        return joined

    def _z(self, start: int, stop: int) -> Complex[np.ndarray, "C M"]:
        return complex_rows(self._basebands.read(start, stop))

    def _blocks(self) -> Iterator[tuple[int, int]]:
        n, size = len(self._basebands), max(1, SAMPLES_AT_ONCE // self._n_channels)
        for start in range(0, n, size):
            yield start, min(start + size, n)


def complex_rows(rows: Float[np.ndarray, "M N"]) -> Complex[np.ndarray, "C M"]:
    """Return the complex numbers of rows that hold their real parts first.

    Parameters
    ----------
    rows : ndarray, shape (M, 2 C)
        Real parts, then imaginary parts.

    Returns
    -------
    ndarray of complex, shape (C, M)
        One row a channel.
    """
    real, imaginary = np.split(rows.T, 2)
    return real + 1j * imaginary


def _estimate(
    steps: Spool, start: int, stop: int
) -> tuple[Complex[np.ndarray, "C M"], Float[np.ndarray, "C M"]]:
    """Phasors and half-widths."""
    real, imaginary, band = np.split(steps.read(start, stop).T, 3)
    return real + 1j * imaginary, band
