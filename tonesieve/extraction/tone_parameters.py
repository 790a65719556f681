"""What is told of the tones in a recording, block by block: columns, bands, power, frequency.

Axes: C channels, T samples, K tones, N columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.evaluation.metrics import band_power
from tonesieve.extraction.passes import (
    ExtractedTones,
    InputScaling,
    delay_of,
    extract_array,
    reads_both_ways,
)
from tonesieve.extractors.demodulation import ToneDemodulator
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.noise_bands import (
    MAX_PROBE_SAMPLES,
    Z90,
    NoiseGain,
    SidebandNoise,
    noise_gain,
)
from tonesieve.extractors.source import Source
from tonesieve.inference.compiled_network import CompiledNetwork
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.resampling import resample
from tonesieve.recordings.statistics import ChannelStats, power_of_two
from tonesieve.signals.signal_model import input_rms

# Samples of all channels together that are read at once; of one channel no fewer than the last.
BLOCK, LEAST = 2**16, 2**10
# Samples a period that a reading needs at most.
DENSE = 40
# Power is compared over stretches of so many samples at most.
STRETCH = 2**20
# Networks that need PyTorch are slow: their noise gain is measured on less.
FEW = 2**11
# Bins of a spectrum (Hann) that a steady tone takes to each side.
RESOLVED = 2.0
# Frequencies are summed up over so many blocks at most.
MOST_BLOCKS = 64


class ToneParameters:
    """Tones that were taken out of a recording, and what they tell.

    Of those that were ``taken`` the ``chosen`` ones count.
    """

    def __init__(
        self,
        recording: Recording,
        surveys: list[ChannelStats],
        taken: ExtractedTones,
        source: Source,
        chosen: Sequence[int],
        *,
        causal: bool,
        bands: bool,
        band_hz: tuple[float, float] | None = None,
    ) -> None:
        self.recording, self.surveys, self.source = recording, surveys, source
        self.frequencies_hz = [source.frequencies_hz[k] for k in chosen]
        self.causal, self._chosen, self._tones = causal, list(chosen), taken.tones
        # A tone is narrow: a few dozen samples a period tell all.
        self._steps = [max(1, int(recording.rate_hz / f / DENSE)) for f in self.frequencies_hz]
        self._bands = [band_hz or self._band(f) for f in self.frequencies_hz]
        self._block = max(LEAST, BLOCK // len(surveys))
        self._band_told = taken.band
        measured = bands and taken.band is None
        self._gain = self._noise_gain() if measured else None
        self._levels = [self._level(k) for k in range(len(self._chosen))] if measured else []

    def blocks(self) -> Iterator[tuple[int, int]]:
        """All samples in turn."""
        n = self.recording.n_samples
        for start in range(0, n, self._block):
            yield start, min(start + self._block, n)

    def tones(self, start: int, stop: int) -> Float[np.ndarray, "C T K"]:
        """The chosen tones at these samples."""
        return self._shaped(self._tones.read(start, stop))

    def _shaped(self, rows: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "C T K"]:
        """Rows of numbers, of which those of the chosen tones are wanted."""
        shaped = rows.reshape(len(rows), len(self.surveys), -1)
        return shaped.transpose(1, 0, 2)[..., self._chosen]

    def _tones_of(self, c: int, start: int, stop: int) -> Float[np.ndarray, "T K"]:
        """Those of one channel; of the others few are held at a time."""
        step = rows_in_block(self._tones.n_columns)
        places = [c * len(self.source.frequencies_hz) + k for k in self._chosen]
        return np.concatenate(
            [
                self._tones.read(at, min(at + step, stop))[:, places]
                for at in range(start, stop, step)
            ]
        )

    def columns(
        self, start: int, stop: int, *, remove: bool, full: bool, gap: Sequence[bool]
    ) -> Float[np.ndarray, "T N"]:
        """What is written of these samples; blocks must come in turn."""
        samples, tones = self.recording.read(start, stop), self.tones(start, stop)
        residual = samples - tones.sum(axis=2)
        told = self._told(start, stop, tones, residual) if full else []
        found = []
        for c in range(len(samples)):
            found += [residual[c]] if remove else list(tones[c].T)
            for k in range(len(told)):
                found += [column[c] for column in told[k]]
            if full:
                found.append(tones[c].sum(axis=1) if remove else residual[c])
            if gap[c]:
                found.append((~np.isfinite(samples[c])).astype(float))
        return np.stack(found, axis=1)

    def read(
        self, k: int, start: int, stop: int
    ) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "C T"], Float[np.ndarray, "C T"]]:
        """Amplitude, phase and frequency of the k-th chosen tone."""
        n, step = self.recording.n_samples, self._steps[k]
        reader = ToneDemodulator(self.frequencies_hz[k], self.recording.rate_hz / step)
        first = max(0, start // step - reader.support - 1)
        last = -(-stop // step) + 1
        if not self.causal:
            last += reader.support
        last = min(last, -(-n // step))
        tone = self._thinned(k, first, last)
        unit = power_of_two(float(np.max(np.abs(tone), initial=0.0)))
        amplitude, phase, hz = reader.demodulate(tone / unit, first, centred=not self.causal)
        if step == 1:
            part = slice(start - first, stop - first)
            return amplitude[:, part] * unit, phase[:, part], hz[:, part]
        at, known = np.arange(start, stop), np.arange(first, last) * step
        if self.causal:  # between two of them, what the last one told
            held = at // step - first
            return amplitude[:, held] * unit, phase[:, held], hz[:, held]
        turned = np.unwrap(phase, axis=1)
        found = [
            np.stack([np.interp(at, known, row) for row in rows])
            for rows in (amplitude * unit, turned, hz)
        ]
        return found[0], np.pi - (np.pi - found[1]) % (2 * np.pi), found[2]

    def _thinned(self, k: int, first: int, last: int) -> Float[np.ndarray, "C T"]:
        """Of the k-th chosen tone every so many-th sample: a slow one has more than enough."""
        step = self._steps[k]
        if step == 1:
            return self.tones(first, last)[..., k]
        parts, size = [], max(1, self._block // step)
        for at in range(first, last, size):
            stop = min(at + size, last)
            parts.append(self.tones(at * step, (stop - 1) * step + 1)[:, ::step, k])
        return np.concatenate(parts, axis=1)

    def figures(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Of every channel and tone: power before and after, amplitude, frequency followed."""
        followed = [self._followed(k) for k in range(len(self.frequencies_hz))]
        found = []
        for c, channel in enumerate(self.recording.channels):
            for k, (f, name) in enumerate(zip(self.frequencies_hz, names, strict=True)):
                several = len(self.recording.channels) > 1
                found.append(
                    {
                        "column": f"{channel.name}_{name}" if several else name,
                        "hz": f,
                        **followed[k][c],
                        "band_hz": list(self._bands[k]),
                        **self._powers(c, k),
                    }
                )
        return found

    def _band(self, f: float) -> tuple[float, float]:
        """2% either side, and no less than the spectrum of so short a recording resolves."""
        half = max(0.02 * f, RESOLVED / self.recording.duration_s)
        return max(0.0, f - half), min(f + half, self.recording.rate_hz / 2)

    def _told(
        self,
        start: int,
        stop: int,
        tones: Float[np.ndarray, "C T K"],
        residual: Float[np.ndarray, "C T"],
    ) -> list[list[Float[np.ndarray, "C T"]]]:
        """Of every tone: amplitude, phase, frequency; lower and upper ends of the bands."""
        halves = self._half_widths(start, stop, residual)
        found = []
        for k in range(len(self._chosen)):
            amplitude, phase, hz = self.read(k, start, stop)
            tone, half = tones[..., k], halves[..., k]
            found.append(
                [
                    amplitude, phase, hz, tone - half, tone + half,
                    np.maximum(amplitude - half, 0.0), amplitude + half,
                ]
            )  # fmt: skip
        return found

    def _half_widths(
        self, start: int, stop: int, residual: Float[np.ndarray, "C T"]
    ) -> Float[np.ndarray, "C T K"]:
        """Of the chosen tones' bands: as told by the extractor, or as measured."""
        if self._band_told is not None:
            return self._shaped(self._band_told.read(start, stop))
        assert self._gain is not None
        at = np.arange(start, stop)
        age = at + 1
        if self._both:
            age = np.minimum(age, self.recording.n_samples - at)
        # Ages as the extractor counts them; white noise of one density has more power at its rate.
        gains = self._gain.at(age * self._ratio) * self.source.gain**2 * self._ratio
        unit = np.array([[power_of_two(s.rms)] for s in self.surveys])
        levels = [level.update(residual / unit) for level in self._levels]
        variance = np.stack(levels, axis=2) * gains[:, self._chosen]
        return Z90 * np.sqrt(variance) * unit[..., None]

    @property
    def _both(self) -> bool:
        causal = self.source.extractor.causal
        return not causal or reads_both_ways(self.source, causal=self.causal)

    @property
    def _ratio(self) -> float:
        """Samples of the extractor for one of the recording."""
        return self.source.data.rate_hz / self.recording.rate_hz

    def _noise_gain(self) -> NoiseGain:
        """On the start of the channel that has most to hear; what is causal gets a made-up one."""
        source, recording = self.source, self.recording
        quick = source.handles_nan or isinstance(source.extractor, CompiledNetwork)
        n_probe = MAX_PROBE_SAMPLES if quick else FEW
        n = min(recording.n_samples, int(n_probe / max(1.0, self._ratio)))
        rng = np.random.default_rng(0)
        if self.causal:
            t = np.arange(n) / source.data.rate_hz
            turns = np.outer(source.frequencies_hz, t) + rng.random((len(source.frequencies_hz), 1))
            heard = np.sin(2 * np.pi * turns).sum(axis=0) + rng.standard_normal(n)
            heard *= input_rms(source.data) / heard.std()
        else:
            prepared = InputScaling(recording, self.surveys, source)
            most = [s.n_samples - s.gaps.n_samples if s.rms > 0 else -1 for s in self.surveys]
            heard = prepared.bridged(prepared.read(0, n))[int(np.argmax(most))]
            heard = resample(np.nan_to_num(heard), recording.rate_hz, source.data.rate_hz)
        n_heard = round(recording.n_samples * self._ratio)
        memory = delay_of(source.extractor, n_heard) or source.memory_samples
        return noise_gain(
            lambda mixture: extract_array(source, mixture, causal=self.causal),
            heard,
            min(memory, n_heard),
            two_sided=self._both,
            rng=rng,
        )

    def _level(self, k: int) -> SidebandNoise:
        """Averaged over the start before it is used there, so that the first bands are not wild.

        Not where the past alone may count.
        """
        assert self._gain is not None
        recording, source = self.recording, self.source
        f = self.frequencies_hz[k]
        # A real tone's band, of noise within half the rate.
        band_hz = float(self._gain.steady_state[self._chosen[k]]) * source.data.rate_hz / 2
        others = ToneFilter(source.frequencies_hz, recording.rate_hz)
        spacing_hz = float(others.spacing_hz[self._chosen[k]])
        band_hz = min(max(band_hz, 1e-9 * f), spacing_hz)
        level = SidebandNoise(f, recording.rate_hz, band_hz, spacing_hz, len(self.surveys))
        unit = np.array([[power_of_two(s.rms)] for s in self.surveys])
        n = 0 if self.causal else min(level.settling_samples, recording.n_samples)
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            residual = recording.read(start, stop) - self.tones(start, stop).sum(axis=2)
            level.update(residual / unit)
        return level

    def _followed(self, k: int) -> list[dict[str, float | None]]:
        """Of every channel: mean amplitude, and the frequency: its mean, weighed by power, and its
        range."""
        blocks = list(self.blocks())
        amplitudes, frequencies = [], []
        for start, stop in blocks[:: -(-len(blocks) // MOST_BLOCKS)]:
            amplitude, _, hz = self.read(k, start, stop)
            step = max(1, round(self.recording.rate_hz / self.frequencies_hz[k] / 4))
            amplitudes.append(amplitude[:, ::step])
            frequencies.append(hz[:, ::step])
        pairs = zip(np.hstack(amplitudes), np.hstack(frequencies), strict=True)
        return [self._summary(amplitude, hz) for amplitude, hz in pairs]

    def _summary(
        self, amplitude: Float[np.ndarray, " T"], hz: Float[np.ndarray, " T"]
    ) -> dict[str, float | None]:
        unit = power_of_two(float(amplitude.max(initial=0.0)))
        weights = (amplitude / unit) ** 2
        if not weights.sum() > 0:
            return {"amplitude": 0.0, "followed_hz": None, "lowest_hz": None, "highest_hz": None}
        order = np.argsort(hz)
        share = np.cumsum(weights[order]) / weights.sum()
        low, high = (float(hz[order][np.searchsorted(share, s)]) for s in (0.05, 0.95))
        return {
            "amplitude": float(np.mean(amplitude / unit) * unit),
            "followed_hz": float(np.average(hz, weights=weights)),
            "lowest_hz": low,
            "highest_hz": high,
        }

    def _powers(self, c: int, k: int) -> dict[str, float | None]:
        recording, rate = self.recording, self.recording.rate_hz
        unit = power_of_two(max(abs(self.surveys[c].lowest), abs(self.surveys[c].highest)))
        low, high = self._bands[k]
        n, sums = recording.n_samples, np.zeros(4)
        for start in range(0, n, STRETCH):
            stop = min(start + STRETCH, n)
            raw, tones = recording.channel(c, start, stop) / unit, self._tones_of(c, start, stop)
            tones = tones / unit
            good = np.isfinite(raw)
            samples = np.where(good, raw, tones.sum(axis=1) + self.surveys[c].mean / unit)
            residual = samples - tones.sum(axis=1)
            powers = (
                band_power(samples, rate, low, high),
                band_power(residual, rate, low, high),
                band_power(tones[:, k], rate, low, high),
                band_power(tones[:, k], rate, 0.0, rate / 2),
            )
            sums += np.array(powers) * (stop - start) / n
        before, after, own, total = sums
        return {
            "tone_power": _in_unit(total, unit),
            "outside_band_share": float((total - own) / total) if total > 0 else None,
            "recording_power_in_band": _in_unit(before, unit),
            "residual_power_in_band": _in_unit(after, unit),
            "reduction_db": float(10 * np.log10(after / before)) if before * after > 0 else None,
        }


def _in_unit(power: float, unit: float) -> float | None:
    """Power in the recording's own unit, or None where no number is large enough."""
    with np.errstate(over="ignore"):
        whole = power * unit * unit
    return float(whole) if np.isfinite(whole) else None
