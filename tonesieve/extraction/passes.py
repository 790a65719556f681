"""An extractor run over a recording, block by block, in constant memory.

The way is chosen once, in `_Run.blocks`, by what is asked for and what the source states of itself.
Axes: C channels, T samples, K tones, N = C x K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.extraction.channel_lines import shared_channels
from tonesieve.extraction.interferers import interferers
from tonesieve.extraction.tone_line import ToneLine
from tonesieve.extractors.input_scaling import InputScaling
from tonesieve.extractors.protocol import BlockSmoother, Extractor, ToneBlock
from tonesieve.extractors.source import Source
from tonesieve.extractors.streaming import Stream
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.resampling import resample
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.statistics import ChannelStats

# Derived: floats that a channel's state and output take for a sample, about; many channels have
# shorter blocks.
FLOATS_PER_SAMPLE = 16
# Guard: an extractor that needs the whole record gets at most this many samples at once;
# neighbouring stretches overlap, and fade from one into the other. Chosen, not tuned.
STRETCH, OVERLAP = 2**20, 2**16
# Guard: at another rate than its extractor's, a recording is resampled in one piece, in memory.
MAX_RESAMPLED = 2**25

OnSamples = Callable[[int], None]
StartAndSamples = tuple[int, Float[np.ndarray, "C T"]]


class ExtractedTones(NamedTuple):
    """Tones of a recording in its own unit, as rows of C x K numbers; bands are half-widths.

    ``shares``: by tone that channels have in common, the share of the channels' pattern.
    """

    tones: Spool
    band: Spool | None
    shares: Mapping[int, float] = MappingProxyType({})


def run_over_recording(
    recording: Recording,
    stats: list[ChannelStats],
    source: Source,
    *,
    causal: bool,
    lines: list[list[ToneLine]],
    scratch: Path,
    on_samples: OnSamples = lambda n: None,
) -> ExtractedTones:
    """Extract every tone of the source, and its band where the extractor gives one.

    ``lines`` are those of every channel and tone. ``scratch`` is a folder for what does not fit
    into memory; ``on_samples`` is called with the number of samples done, of `n_steps`.
    """
    n_columns = len(recording.channels) * len(source.frequencies_hz)
    tones, band = Spool(n_columns, scratch), None
    shares: dict[int, float] = {}
    run = _Run(recording, stats, source, lines, scratch, on_samples, shares)
    for block in run.blocks(causal=causal):
        tones.append(_rows(block.tones))
        if block.band is not None:
            band = Spool(n_columns, scratch) if band is None else band
            band.append(_rows(block.band))
    return ExtractedTones(tones, band, shares)


def n_steps(recording: Recording, source: Source, *, causal: bool) -> int:
    """Samples that `run_over_recording` processes; twice as many in two directions."""
    twice = joins_directions(source, causal=causal) and recording.rate_hz == source.data.rate_hz
    return recording.n_samples * (1 + twice)


def joins_directions(source: Source, *, causal: bool) -> bool:
    """Whether estimates from the past and from the future are averaged.

    With unknown phase a record is as likely backwards. Each direction is weighted by its age.
    """
    return source.extractor.causal and not causal and source.data.regime == "free"


def run_over_array(
    source: Source, mixture: Float[np.ndarray, "C T"], *, causal: bool
) -> Float[np.ndarray, "C T K"]:
    """The extractor's output for samples that are scaled already, in memory."""
    forward = source.extractor.extract(mixture)
    if not joins_directions(source, causal=causal):
        return forward
    backward = source.extractor.extract(np.ascontiguousarray(mixture[:, ::-1]))[:, ::-1]
    return _joined(source, 0, mixture.shape[1], forward, backward)


def delay_of(extractor: Extractor, n_samples: int) -> int:
    """Samples that an extractor takes to settle, of ``n_samples`` at most."""
    return n_samples if extractor.delay is None else extractor.delay


@dataclass(frozen=True)
class _Run:
    """One extractor over one recording."""

    recording: Recording
    stats: list[ChannelStats]
    source: Source
    lines: list[list[ToneLine]]
    scratch: Path
    on_samples: OnSamples
    shares: dict[int, float]

    def blocks(self, *, causal: bool) -> Iterator[ToneBlock]:
        """Blocks in turn, in the recording's unit."""
        source, smoother = self.source, self.source.smoother
        if self.recording.rate_hz != source.data.rate_hz:
            return self._resampled()
        if causal:
            if smoother is not None and smoother.ahead_s is not None:
                raise UserError(f"{source.name}: looks ahead, and --causal forbids it; drop one")
            return self._forward(Stream(source, self._n_channels))
        if smoother is not None:
            return self._smoothed(smoother)
        if joins_directions(source, causal=causal):
            return self._both_directions()
        if source.extractor.causal:
            return self._forward(self._stream())
        return self._in_stretches()

    def _read(self, n_before: int = 0, *, backwards: bool = False) -> Iterator[StartAndSamples]:
        """First sample and samples of blocks in turn; backwards the last sample comes first.

        Progress is reported once a block is processed, after ``n_before`` samples done before.
        """
        n, block = self.recording.n_samples, rows_in_block(FLOATS_PER_SAMPLE * self._n_channels)
        for done in range(0, n, block):
            stop = min(done + block, n)
            if backwards:
                yield n - stop, self.recording.read(n - stop, n - done)[:, ::-1]
            else:
                yield done, self.recording.read(done, stop)
            self.on_samples(n_before + stop)

    @property
    def _n_channels(self) -> int:
        return len(self.recording.channels)

    def _scaling(self) -> InputScaling:
        return InputScaling.from_statistics(self.source, self.recording.rate_hz, self.stats)

    def _stream(self) -> Stream:
        """One whose offset and scale follow from the whole recording."""
        return Stream(self.source, self._n_channels, scaling=self._scaling())

    def _forward(self, stream: Stream) -> Iterator[ToneBlock]:
        """Each estimate from the past alone."""
        for start, samples in self._read():
            if stream.is_detailed:
                estimate = stream.process_detailed(samples)
                yield ToneBlock(start, estimate.tones, estimate.band)
            else:
                yield ToneBlock(start, stream.process(samples), None)

    def _both_directions(self) -> Iterator[ToneBlock]:
        """Backwards first, kept on the way; then forwards, and both joined."""
        n, stream = self.recording.n_samples, self._stream()
        backward = Spool(self._n_channels * len(self.source.frequencies_hz), self.scratch)
        for _, samples in self._read(backwards=True):
            backward.append(_rows(stream.process_unscaled(samples)[0]))
        stream = self._stream()
        for start, samples in self._read(n):
            tones, scale = stream.process_unscaled(samples)
            rows = backward.read(n - start - samples.shape[1], n - start)[::-1]
            later = rows.reshape(-1, self._n_channels, tones.shape[2]).transpose(1, 0, 2)
            yield ToneBlock(start, _joined(self.source, start, n, tones, later) * scale, None)
        backward.close()

    def _smoothed(self, smoother: BlockSmoother) -> Iterator[ToneBlock]:
        """Joined by the extractor's own smoother."""
        n, rate_hz = self.recording.n_samples, self.recording.rate_hz
        block = rows_in_block(self._n_channels)
        scaling = InputScaling.from_first_samples(
            self.source,
            rate_hz,
            (self.recording.read(start, start + block) for start in range(0, n, block)),
        )
        state, scale = scaling.initial_state(self._n_channels), scaling.scale[..., None]

        def read(start: int, stop: int) -> Float[np.ndarray, "C T"]:
            return scaling.step(self.recording.read(start, stop), state)[0]

        beside = interferers(self.lines, self.recording.duration_s, rate_hz / 2)
        courses = [
            [line.course for line in channel] + [one.courses[c] for one in beside]
            for c, channel in enumerate(self.lines)
        ]
        for start, tones, band in smoother.run_blocks(
            read, n, self._n_channels, courses=courses,
            shared=shared_channels(self.lines),
            interferers_hz=[one.hz for one in beside],
            has_gaps=any(one.gaps.n_samples for one in self.stats),
            scratch=self.scratch, on_samples=self.on_samples, on_pattern=self.shares.__setitem__,
        ):  # fmt: skip
            yield ToneBlock(start, tones * scale, None if band is None else band * scale)

    def _in_stretches(self) -> Iterator[ToneBlock]:
        """Of an extractor that needs the whole record: overlapping stretches, faded together."""
        n, scaling = self.recording.n_samples, self._scaling()
        faded_out: np.ndarray | None = None
        start = 0
        while start < n:
            stop = n if n - start <= STRETCH + OVERLAP else start + STRETCH
            mixture, scale, _ = scaling.step(
                self.recording.read(start, stop), scaling.initial_state(self._n_channels)
            )
            tones = self.source.extractor.extract(mixture) * scale[..., None]
            if faded_out is not None:
                fade = ((np.arange(OVERLAP) + 0.5) / OVERLAP)[:, None]
                tones[:, :OVERLAP] = (1 - fade) * faded_out + fade * tones[:, :OVERLAP]
            last = stop == n
            yield ToneBlock(start, tones if last else tones[:, :-OVERLAP], None)
            faded_out = None if last else tones[:, -OVERLAP:]
            self.on_samples(stop)
            start = n if last else stop - OVERLAP

    def _resampled(self) -> Iterator[ToneBlock]:
        """At the extractor's rate, and back again, in one piece."""
        recording, source = self.recording, self.source
        n, rate_hz, own_hz = recording.n_samples, recording.rate_hz, source.data.rate_hz
        if n * max(1.0, own_hz / rate_hz) > MAX_RESAMPLED:
            raise UserError(
                f"{recording.path}: {n:,} samples at {rate_hz:g} Hz are too many to resample to "
                f"{own_hz:g} Hz for {source.name}; bring the recording to that rate first"
            )
        scaling = self._scaling()
        mixture, scale, _ = scaling.step(
            recording.read(0, n), scaling.initial_state(self._n_channels)
        )
        resampled = np.stack([resample(row, rate_hz, own_hz) for row in mixture])
        tones = np.array(
            [
                [resample(tone, own_hz, rate_hz, n_out=n) for tone in channel.T]
                for channel in run_over_array(source, resampled, causal=False)
            ]
        )
        self.on_samples(n)
        yield ToneBlock(0, tones.transpose(0, 2, 1) * scale[..., None], None)


def _joined(
    source: Source,
    start: int,
    n_samples: int,
    forward: Float[np.ndarray, "C T K"],
    backward: Float[np.ndarray, "C T K"],
) -> Float[np.ndarray, "C T K"]:
    """Weighted by the samples that each direction rests on, its memory at most."""
    at = np.arange(start, start + forward.shape[1])
    n_past = np.minimum(at + 1, source.memory_samples)[:, None]
    n_future = np.minimum(n_samples - at, source.memory_samples)[:, None]
    return np.asarray((n_past * forward + n_future * backward) / (n_past + n_future))


def _rows(tones: Float[np.ndarray, "C T K"]) -> Float[np.ndarray, "T N"]:
    return tones.transpose(1, 0, 2).reshape(tones.shape[1], -1)
