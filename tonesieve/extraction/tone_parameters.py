"""Parameters of the tones in a recording, block by block: columns, bands, power, frequency.

Axes: C channels, T samples, K tones, N columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.extraction.options import ExtractOptions
from tonesieve.extraction.passes import (
    ExtractedTones,
    delay_of,
    joins_directions,
    run_over_array,
)
from tonesieve.extraction.tone_powers import tone_powers
from tonesieve.extractors.demodulation import ToneDemodulator
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.input_scaling import InputScaling
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

# Guard against memory: samples of all channels together that are read at once, and of one channel
# at least. Chosen, not tuned.
BLOCK, LEAST = 2**16, 2**10
# Chosen, not tuned: a tone is narrow, so that this many samples a period give its amplitude.
SAMPLES_PER_PERIOD = 40
# Guard against time: networks that need PyTorch are slow; their noise gain is measured on less.
N_SLOW_NETWORK = 2**11
# Derived: bins of a spectrum under a Hann window that a steady tone takes to each side.
HANN_HALF_WIDTH = 2.0
# The band around a tone where power is compared, either side of it. Chosen, not tuned.
BAND_FRACTION = 0.02
# Guard against time: frequencies are averaged over this many blocks at most.
MAX_BLOCKS = 64
# Of a tone's power, the limits of the range of its frequency leave this out on each side.
RANGE_TAIL = 0.05


class ToneParameters:
    """Amplitude, phase, frequency, band and power of extracted tones; of the chosen ones alone."""

    def __init__(
        self,
        recording: Recording,
        stats: list[ChannelStats],
        extracted: ExtractedTones,
        source: Source,
        chosen: Sequence[int],
        options: ExtractOptions,
    ) -> None:
        self.recording, self.stats, self.source = recording, stats, source
        self.frequencies_hz = [source.frequencies_hz[k] for k in chosen]
        self.causal, self._chosen, self._tones = options.causal, list(chosen), extracted.tones
        self._steps = [
            max(1, int(recording.rate_hz / f / SAMPLES_PER_PERIOD)) for f in self.frequencies_hz
        ]
        self._bands = [options.band_hz or self._band(f) for f in self.frequencies_hz]
        self._block = max(LEAST, BLOCK // len(stats))
        # First sample and tones of the block that is held in memory.
        self._held: tuple[int, np.ndarray] = (0, np.empty((len(stats), 0, len(self._chosen))))
        self._half_widths_given = extracted.band
        measured = options.full and extracted.band is None
        self._gain = self._noise_gain() if measured else None
        self._noises = [self._noise(k) for k in range(len(self._chosen))] if measured else []

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First sample, and one after the last, of blocks in turn."""
        n = self.recording.n_samples
        for start in range(0, n, self._block):
            yield start, min(start + self._block, n)

    def tones(self, start: int, stop: int) -> Float[np.ndarray, "C T K"]:
        """The chosen tones at these samples."""
        first, held = self._held
        start, stop = max(0, start), min(stop, len(self._tones))
        if first <= start and stop <= first + held.shape[1]:
            return held[:, start - first : stop - first]
        return self._shaped(self._tones.read(start, stop))

    def _hold(self, start: int, stop: int) -> None:
        """Keep the tones of a block, and what demodulates them, in memory: for each is asked."""
        self._held = 0, np.empty((len(self.stats), 0, len(self._chosen)))
        beside = max(
            (ToneDemodulator(f, self.recording.rate_hz / step).support + 2) * step
            for f, step in zip(self.frequencies_hz, self._steps, strict=True)
        )
        first = max(0, start - beside)
        self._held = first, np.ascontiguousarray(self.tones(first, stop + beside))

    def _shaped(self, rows: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "C T K"]:
        """Columns of the chosen tones."""
        shaped = rows.reshape(len(rows), len(self.stats), -1)
        return shaped.transpose(1, 0, 2)[..., self._chosen]

    def _tones_and_sum(
        self, c: int, tones: Sequence[int], start: int, stop: int
    ) -> tuple[Float[np.ndarray, "J T"], Float[np.ndarray, " T"]]:
        """Some of the chosen tones of one channel, and the sum of all chosen ones."""
        step = rows_in_block(self._tones.n_columns)
        columns = [c * len(self.source.frequencies_hz) + k for k in self._chosen]
        some, total = np.empty((len(tones), stop - start)), np.empty(stop - start)
        for at in range(start, stop, step):
            rows = self._tones.read(at, min(at + step, stop))[:, columns]
            part = slice(at - start, at - start + len(rows))
            some[:, part], total[part] = rows[:, tones].T, rows.sum(axis=1)
        return some, total

    def columns(
        self, start: int, stop: int, *, remove: bool, full: bool, gap: Sequence[bool]
    ) -> Float[np.ndarray, "T N"]:
        """The output's columns at these samples; blocks must come in turn."""
        if full:
            self._hold(start, stop)
        samples, tones = self.recording.read(start, stop), self.tones(start, stop)
        residual = samples - tones.sum(axis=2)
        parameters = self._of_every_tone(start, stop, tones, residual) if full else []
        columns = []
        for c in range(len(samples)):
            columns += [residual[c]] if remove else list(tones[c].T)
            for of_tone in parameters:
                columns += [values[c] for values in of_tone]
            if full:
                columns.append(tones[c].sum(axis=1) if remove else residual[c])
            if gap[c]:
                columns.append((~np.isfinite(samples[c])).astype(float))
        return np.stack(columns, axis=1)

    def demodulate(
        self, k: int, start: int, stop: int
    ) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "C T"], Float[np.ndarray, "C T"]]:
        """Amplitude, phase (rad) and frequency (Hz) of the k-th chosen tone."""
        n, step = self.recording.n_samples, self._steps[k]
        demodulator = ToneDemodulator(self.frequencies_hz[k], self.recording.rate_hz / step)
        first = max(0, start // step - demodulator.support - 1)
        last = -(-stop // step) + 1
        if not self.causal:
            last += demodulator.support
        last = min(last, -(-n // step))
        tone = self._decimated(k, first, last)
        unit = power_of_two(float(np.max(np.abs(tone), initial=0.0)))
        amplitude, phase, hz = demodulator.demodulate(tone / unit, first, centred=not self.causal)
        if step == 1:
            part = slice(start - first, stop - first)
            return amplitude[:, part] * unit, phase[:, part], hz[:, part]
        at, nodes = np.arange(start, stop), np.arange(first, last) * step
        if self.causal:  # between two nodes, the earlier one's
            previous = at // step - first
            return amplitude[:, previous] * unit, phase[:, previous], hz[:, previous]
        unwrapped = np.unwrap(phase, axis=1)
        amplitude, phase, hz = (
            np.stack([np.interp(at, nodes, row) for row in rows])
            for rows in (amplitude * unit, unwrapped, hz)
        )
        return amplitude, np.pi - (np.pi - phase) % (2 * np.pi), hz

    def _decimated(self, k: int, first: int, last: int) -> Float[np.ndarray, "C T"]:
        """Every N-th sample of the k-th chosen tone: a slow one has more than enough."""
        step = self._steps[k]
        if step == 1:
            return self.tones(first, last)[..., k]
        parts, size = [], max(1, self._block // step)
        for at in range(first, last, size):
            stop = min(at + size, last)
            parts.append(self.tones(at * step, (stop - 1) * step + 1)[:, ::step, k])
        return np.concatenate(parts, axis=1)

    def metrics(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Of every channel and tone: power before and after, amplitude, tracked frequency."""
        tracked = self._tracked()
        metrics = []
        for c, channel in enumerate(self.recording.channels):
            powers = tone_powers(
                self.recording, self.stats[c], c, self._bands, partial(self._tones_and_sum, c)
            )
            for k, (f, name) in enumerate(zip(self.frequencies_hz, names, strict=True)):
                several = len(self.recording.channels) > 1
                metrics.append(
                    {
                        "column": f"{channel.name}_{name}" if several else name,
                        "hz": f,
                        **tracked[k][c],
                        "band_hz": list(self._bands[k]),
                        **powers[k],
                    }
                )
        return metrics

    def _band(self, f: float) -> tuple[float, float]:
        """2% on both sides, and no less than the spectrum of a short recording resolves."""
        half = max(BAND_FRACTION * f, HANN_HALF_WIDTH / self.recording.duration_s)
        return max(0.0, f - half), min(f + half, self.recording.rate_hz / 2)

    def _of_every_tone(
        self,
        start: int,
        stop: int,
        tones: Float[np.ndarray, "C T K"],
        residual: Float[np.ndarray, "C T"],
    ) -> list[list[Float[np.ndarray, "C T"]]]:
        """Amplitude, phase, frequency; lower and upper limits of the bands."""
        half_widths = self._half_widths(start, stop, residual)
        columns = []
        for k in range(len(self._chosen)):
            amplitude, phase, hz = self.demodulate(k, start, stop)
            tone, half = tones[..., k], half_widths[..., k]
            columns.append(
                [
                    amplitude, phase, hz, tone - half, tone + half,
                    np.maximum(amplitude - half, 0.0), amplitude + half,
                ]
            )  # fmt: skip
        return columns

    def _half_widths(
        self, start: int, stop: int, residual: Float[np.ndarray, "C T"]
    ) -> Float[np.ndarray, "C T K"]:
        """Of the chosen tones' bands: the extractor's own, or as measured."""
        if self._half_widths_given is not None:
            return self._shaped(self._half_widths_given.read(start, stop))
        assert self._gain is not None
        at = np.arange(start, stop)
        age = at + 1
        if self._both:
            age = np.minimum(age, self.recording.n_samples - at)
        # Ages in samples of the extractor; at a higher rate noise of one density has more power.
        gains = self._gain.at(age * self._ratio) * self.source.gain**2 * self._ratio
        unit = np.array([[power_of_two(s.rms)] for s in self.stats])
        noise_var = [noise.update(residual / unit) for noise in self._noises]
        variance = np.stack(noise_var, axis=2) * gains[:, self._chosen]
        return Z90 * np.sqrt(variance) * unit[..., None]

    @property
    def _both(self) -> bool:
        causal = self.source.extractor.causal
        return not causal or joins_directions(self.source, causal=self.causal)

    @property
    def _ratio(self) -> float:
        """Samples of the extractor for one of the recording."""
        return self.source.data.rate_hz / self.recording.rate_hz

    def _noise_gain(self) -> NoiseGain:
        """On the start of the channel with most samples; for a causal run on a synthetic one."""
        source, recording = self.source, self.recording
        fast = source.handles_nan or isinstance(source.extractor, CompiledNetwork)
        longest = MAX_PROBE_SAMPLES if fast else N_SLOW_NETWORK
        n = min(recording.n_samples, int(longest / max(1.0, self._ratio)))
        rng = np.random.default_rng(0)
        if self.causal:
            t = np.arange(n) / source.data.rate_hz
            cycles = np.outer(source.frequencies_hz, t)
            cycles = cycles + rng.random((len(source.frequencies_hz), 1))
            mixture = np.sin(2 * np.pi * cycles).sum(axis=0) + rng.standard_normal(n)
            mixture *= input_rms(source.data) / mixture.std()
        else:
            scaling = InputScaling.from_statistics(source, recording.rate_hz, self.stats)
            state = scaling.initial_state(len(self.stats))
            n_valid = [s.n_samples - s.gaps.n_samples if s.rms > 0 else -1 for s in self.stats]
            mixture = scaling.step(recording.read(0, n), state)[0][int(np.argmax(n_valid))]
            mixture = resample(np.nan_to_num(mixture), recording.rate_hz, source.data.rate_hz)
        n_samples = round(recording.n_samples * self._ratio)
        memory = delay_of(source.extractor, n_samples) or source.memory_samples
        return noise_gain(
            lambda mixture: run_over_array(source, mixture, causal=self.causal),
            mixture,
            min(memory, n_samples),
            two_sided=self._both,
            rng=rng,
        )

    def _noise(self, k: int) -> SidebandNoise:
        """Averaged over the start before it is used there, so that the first bands are not erratic.

        Not for a causal extraction.
        """
        assert self._gain is not None
        recording, source = self.recording, self.source
        f = self.frequencies_hz[k]
        # Derived: the noise bandwidth of a real tone, of half the rate.
        band_hz = float(self._gain.steady_state[self._chosen[k]]) * source.data.rate_hz / 2
        others = ToneFilter(source.frequencies_hz, recording.rate_hz)
        spacing_hz = float(others.spacing_hz[self._chosen[k]])
        band_hz = min(max(band_hz, 1e-9 * f), spacing_hz)
        noise = SidebandNoise(f, recording.rate_hz, band_hz, spacing_hz, len(self.stats))
        unit = np.array([[power_of_two(s.rms)] for s in self.stats])
        n = 0 if self.causal else min(noise.settling_samples, recording.n_samples)
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            residual = recording.read(start, stop) - self.tones(start, stop).sum(axis=2)
            noise.update(residual / unit)
        return noise

    def _tracked(self) -> list[list[dict[str, float | None]]]:
        """Of every tone, channel: mean amplitude, and the frequency's mean and range by power."""
        blocks = list(self.blocks())
        n = len(self.frequencies_hz)
        amplitudes: list[list[np.ndarray]] = [[] for _ in range(n)]
        frequencies: list[list[np.ndarray]] = [[] for _ in range(n)]
        half_widths: list[np.ndarray] = []
        for start, stop in blocks[:: -(-len(blocks) // MAX_BLOCKS)]:
            self._hold(start, stop)
            if self._half_widths_given is not None:
                rows = self._shaped(self._half_widths_given.read(start, stop))
                half_widths.append(rows.mean(axis=1))
            for k, f in enumerate(self.frequencies_hz):
                amplitude, _, hz = self.demodulate(k, start, stop)
                step = max(1, round(self.recording.rate_hz / f / 4))
                # A view would keep all of the block.
                amplitudes[k].append(amplitude[:, ::step].copy())
                frequencies[k].append(hz[:, ::step].copy())
        band = np.mean(half_widths, axis=0) if half_widths else None  # C K
        return [
            [
                {
                    **self._summary(*pair),
                    "amplitude_half_width": None if band is None else float(band[c, k]),
                }
                for c, pair in enumerate(zip(np.hstack(a), np.hstack(f), strict=True))
            ]
            for k, (a, f) in enumerate(zip(amplitudes, frequencies, strict=True))
        ]

    def _summary(
        self, amplitude: Float[np.ndarray, " T"], hz: Float[np.ndarray, " T"]
    ) -> dict[str, float | None]:
        unit = power_of_two(float(amplitude.max(initial=0.0)))
        weights = (amplitude / unit) ** 2
        if not weights.sum() > 0:
            return {"amplitude": 0.0, "followed_hz": None, "lowest_hz": None, "highest_hz": None}
        order = np.argsort(hz)
        fraction = np.cumsum(weights[order]) / weights.sum()
        low, high = (
            float(hz[order][np.searchsorted(fraction, f)]) for f in (RANGE_TAIL, 1 - RANGE_TAIL)
        )
        return {
            "amplitude": float(np.mean(amplitude / unit) * unit),
            "followed_hz": float(np.average(hz, weights=weights)),
            "lowest_hz": low,
            "highest_hz": high,
        }
