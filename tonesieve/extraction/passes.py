"""An extractor's way through a recording: once as it comes, or both ways, in constant memory.

Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.extractors.gap_filling import GapFiller
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.smoother import smooth_blocks
from tonesieve.extractors.protocol import CausalExtractor, Extractor, is_causal
from tonesieve.extractors.source import Source
from tonesieve.extractors.streaming import EXTREME, Stream
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.resampling import resample
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.statistics import ChannelStats, power_of_two
from tonesieve.signals.signal_model import input_rms

# Numbers of a channel's state and answer, about: so many samples less are taken of many channels.
WIDTH = 16
# What needs the future takes so many samples at once; neighbouring stretches share so many.
STRETCH, SHARED = 2**20, 2**16
# At another rate than its own, a recording is resampled in one piece.
MOST_RESAMPLED = 2**25

OnSamples = Callable[[int], None]


class ExtractedTones(NamedTuple):
    """Tones of a recording, in its unit: rows of C x K numbers."""

    tones: Spool
    band: Spool | None  # the half-widths of their bands, where the extractor tells them


def run_over_recording(
    recording: Recording,
    surveys: list[ChannelStats],
    source: Source,
    *,
    causal: bool,
    scratch: Path,
    on_samples: OnSamples = lambda n: None,
) -> ExtractedTones:
    """Every tone that the source knows.

    ``on_samples`` hears how many samples are done, of `n_steps`.
    """
    n, n_tones = recording.n_samples, len(source.frequencies_hz)
    tones = Spool(len(recording.channels) * n_tones, scratch)
    if isinstance(source.extractor, PretrainedExtractor):
        if causal and source.extractor.ahead_s is not None:
            raise UserError(f"{source.name}: looks ahead, and --causal forbids it; drop one")
        band = Spool(tones.n_columns, scratch)
        told = (
            _told(recording, source)
            if causal
            else _past_and_future(recording, surveys, source, source.extractor, on_samples)
        )
        for start, one, half in told:
            tones.append(_flat(one))
            band.append(_flat(half))
            on_samples(start + one.shape[1] if causal else n + start + one.shape[1])
        return ExtractedTones(tones, band)
    if recording.rate_hz != source.data.rate_hz:
        tones.append(_flat(_resampled(recording, surveys, source, on_samples)))
    elif causal:
        stream = Stream(source, len(recording.channels))
        block = rows_in_block(WIDTH * len(recording.channels))
        for start in range(0, n, block):
            tones.append(_flat(stream.process(recording.read(start, start + block))))
            on_samples(min(start + block, n))
    elif is_causal(source.extractor):
        _both_ways(recording, surveys, source, source.extractor, tones, on_samples)
    else:
        _in_stretches(recording, surveys, source, tones, on_samples)
    return ExtractedTones(tones, None)


Block = tuple[int, Float[np.ndarray, "C T K"], Float[np.ndarray, "C T K"]]


def _told(recording: Recording, source: Source) -> Iterator[Block]:
    """First sample, tones and bands of blocks in turn, each from what came before."""
    n_channels = len(recording.channels)
    stream, block = Stream(source, n_channels), rows_in_block(WIDTH * n_channels)
    for start in range(0, recording.n_samples, block):
        told = stream.process_detailed(recording.read(start, start + block))
        yield start, told.tones, told.band


def _past_and_future(
    recording: Recording,
    surveys: list[ChannelStats],
    source: Source,
    extractor: PretrainedExtractor,
    on_samples: OnSamples,
) -> Iterator[Block]:
    """The same from all of the recording, or from so much of the future as was asked for."""
    # Not the mean, nor the largest as the unit: one wild sample must not drown all others.
    n_channels = len(recording.channels)
    origin, unit = np.array([_first_told(recording, c) for c in range(n_channels)]).T[:, :, None]

    def read(start: int, stop: int) -> Float[np.ndarray, "C T"]:
        with np.errstate(over="ignore"):
            samples = recording.read(start, stop) / unit - origin / unit
        return np.where(np.abs(samples) < EXTREME, samples, np.nan)

    ahead = None
    if extractor.ahead_s is not None:
        ahead = round(min(extractor.ahead_s * recording.rate_hz, recording.n_samples))
    answers = smooth_blocks(
        extractor,
        read,
        recording.n_samples,
        n_channels,
        ahead=ahead,
        on_samples=on_samples,
    )
    scale = (unit * source.gain)[..., None]
    for start, (phasors, band) in answers:
        yield start, extractor.tones(phasors, start) * scale, band * scale


def _first_told(recording: Recording, c: int) -> tuple[float, float]:
    """A channel's first sample, and a unit: a power of two where squares were no numbers.

    By the first sample that is another, as in a stream.
    """
    origin = np.nan
    for start in range(0, recording.n_samples, STRETCH):
        samples = recording.channel(c, start, min(start + STRETCH, recording.n_samples))
        good = samples[np.isfinite(samples)]
        if good.size and np.isnan(origin):
            origin = float(good[0])
        others = good[good != origin]
        if others.size:
            away = abs(float(others[0]) / 2 - origin / 2)
            return origin, 1.0 if 1 / EXTREME < away < EXTREME else power_of_two(away)
    return float(np.nan_to_num(origin)), 1.0


def n_steps(recording: Recording, source: Source, *, causal: bool) -> int:
    """Samples that `run_over_recording` goes through, each as often as it does."""
    twice = reads_both_ways(source, causal=causal) and recording.rate_hz == source.data.rate_hz
    return recording.n_samples * (1 + twice)


def reads_both_ways(source: Source, *, causal: bool) -> bool:
    """Whether the estimate from the past is joined with the one from the future.

    In the free regime a record is as likely read backwards: each direction is weighed by how
    long it has listened.
    """
    return source.extractor.causal and not causal and source.data.regime == "free"


def extract_array(
    source: Source, mixture: Float[np.ndarray, "C T"], *, causal: bool
) -> Float[np.ndarray, "C T K"]:
    """What the extractor answers to arrays that it hears as they are."""
    forward = source.extractor.extract(mixture)
    if not reads_both_ways(source, causal=causal):
        return forward
    backward = source.extractor.extract(np.ascontiguousarray(mixture[:, ::-1]))[:, ::-1]
    return _joined(source, 0, mixture.shape[1], forward, backward)


class InputScaling:
    """What an extractor that knows the whole recording hears of it, and what its answers are."""

    def __init__(self, recording: Recording, surveys: list[ChannelStats], source: Source) -> None:
        self._recording, self._hears_gaps = recording, source.handles_nan
        column = np.array(
            [[s.mean, s.rms, source.unit or power_of_two(_largest(s))] for s in surveys]
        )
        mean, rms, unit = column.T[:, :, None]
        self._unit, self._mean = unit, mean / unit
        self._times = np.ones_like(unit)
        self.scale = unit * source.gain
        if not source.linear:
            level = np.where(rms > 0, rms / unit, 1.0)
            self._times = np.where(rms > 0, input_rms(source.data) / level, 0.0)
            self.scale = rms * source.gain / input_rms(source.data)
        self._bridge = GapFiller(source.frequencies_hz, recording.rate_hz)
        self._state = self._bridge.initial_state(len(surveys))

    def read(self, start: int, stop: int) -> Float[np.ndarray, "C T"]:
        """Centred, in the extractor's units; gaps still there."""
        samples = self._recording.read(start, stop)
        return (samples / self._unit - self._mean) * self._times

    def bridged(self, mixture: Float[np.ndarray, "C T"]) -> Float[np.ndarray, "C T"]:
        """Without gaps, for what has learned of none; blocks in turn, one way only."""
        if self._hears_gaps:
            return mixture
        filled, self._state = self._bridge.step(np.ascontiguousarray(mixture), self._state)
        return filled


def _both_ways(
    recording: Recording,
    surveys: list[ChannelStats],
    source: Source,
    extractor: CausalExtractor,
    tones: Spool,
    on_samples: OnSamples,
) -> None:
    """Backwards first, kept on the way; then forwards, the two joined as they meet."""
    n, n_channels = recording.n_samples, len(recording.channels)
    block, done = rows_in_block(WIDTH * n_channels), 0
    backward = None
    if reads_both_ways(source, causal=False):
        backward = Spool(tones.n_columns, tones.folder)
        prepared = InputScaling(recording, surveys, source)
        state = extractor.initial_state(n_channels)
        for stop in range(n, 0, -block):
            heard = prepared.read(max(0, stop - block), stop)[:, ::-1]
            answer, state = extractor.step(prepared.bridged(np.ascontiguousarray(heard)), state)
            backward.append(_flat(answer))
            done += heard.shape[1]
            on_samples(done)
    prepared = InputScaling(recording, surveys, source)
    state = extractor.initial_state(n_channels)
    for start in range(0, n, block):
        heard = prepared.bridged(prepared.read(start, start + block))
        answer, state = extractor.step(heard, state)
        if backward is not None:
            other = backward.read(n - start - heard.shape[1], n - start)[::-1]
            shaped = other.reshape(-1, n_channels, answer.shape[2]).transpose(1, 0, 2)
            answer = _joined(source, start, n, answer, shaped)
        tones.append(_flat(answer * prepared.scale[..., None]))
        done += heard.shape[1]
        on_samples(done)
    if backward is not None:
        backward.close()


def _joined(
    source: Source,
    start: int,
    n: int,
    forward: Float[np.ndarray, "C T K"],
    backward: Float[np.ndarray, "C T K"],
) -> Float[np.ndarray, "C T K"]:
    at = np.arange(start, start + forward.shape[1])
    past = np.minimum(at + 1, source.memory_samples)[:, None]
    future = np.minimum(n - at, source.memory_samples)[:, None]
    return np.asarray((past * forward + future * backward) / (past + future))


def _in_stretches(
    recording: Recording,
    surveys: list[ChannelStats],
    source: Source,
    tones: Spool,
    on_samples: OnSamples,
) -> None:
    """Stretches that share their ends, faded from one into the other."""
    n = recording.n_samples
    prepared = InputScaling(recording, surveys, source)
    held: np.ndarray | None = None
    start = 0
    while start < n:
        stop = n if n - start <= STRETCH + SHARED else start + STRETCH
        heard = prepared.read(start, stop)
        if not source.handles_nan:
            heard = InputScaling(recording, surveys, source).bridged(heard)
        answer = source.extractor.extract(heard) * prepared.scale[..., None]
        if held is not None:
            fade = ((np.arange(SHARED) + 0.5) / SHARED)[:, None]
            answer[:, :SHARED] = (1 - fade) * held + fade * answer[:, :SHARED]
        last = stop == n
        tones.append(_flat(answer if last else answer[:, :-SHARED]))
        held = None if last else answer[:, -SHARED:]
        on_samples(stop)
        start = n if last else stop - SHARED


def _resampled(
    recording: Recording, surveys: list[ChannelStats], source: Source, on_samples: OnSamples
) -> Float[np.ndarray, "C T K"]:
    n, rate = recording.n_samples, recording.rate_hz
    if n * max(1.0, source.data.rate_hz / rate) > MOST_RESAMPLED:
        raise UserError(
            f"{recording.path}: {n:,} samples at {rate:g} Hz are too many to resample to "
            f"{source.data.rate_hz:g} Hz for {source.name}; bring the recording to that rate first"
        )
    prepared = InputScaling(recording, surveys, source)
    mixture = prepared.bridged(prepared.read(0, n))
    there = np.stack([resample(row, rate, source.data.rate_hz) for row in mixture])
    answer = extract_array(source, there, causal=False)
    back = [
        [resample(tone, source.data.rate_hz, rate, n_out=n) for tone in channel.T]
        for channel in answer
    ]
    on_samples(n)
    return np.array(back).transpose(0, 2, 1) * prepared.scale[..., None]


def _flat(tones: Float[np.ndarray, "C T K"]) -> Float[np.ndarray, "T N"]:
    return tones.transpose(1, 0, 2).reshape(tones.shape[1], -1)


def _largest(found: ChannelStats) -> float:
    return max(abs(found.lowest), abs(found.highest))


def delay_of(extractor: Extractor, n_samples: int) -> int:
    """How long an extractor goes on settling, in samples."""
    return n_samples if extractor.delay is None else extractor.delay
