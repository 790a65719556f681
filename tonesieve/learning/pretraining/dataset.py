"""Training data of the gating network: the filter bank's output on scenes with known tones.

A record is one tone of a scene, filtered forwards, and again forwards and backwards with the noise
model of the first pass (`ToneGroup.warm_banks`), as a whole recording is. Causal weights of a
gating interval count for the steps after it; weights of both directions, at a place between two
intervals, for the steps about it. All is over the tone's rms. There is no PyTorch here, so that the
processes that draw batches start sooner.

Axes: B records, D passes (forwards; forwards and backwards with the noise known), R gating
intervals, F features, M filters, P points, N steps, K tones of a group; the axis of 2 before M, or
last, is real and imaginary part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Float32, Int64

from tonesieve.extractors.pretrained.front_end import BankOutput, ToneGroup, group_by_span
from tonesieve.kernels.kalman_bank.state import GATING_INTERVAL
from tonesieve.signals.baseband import Baseband, default_within_hz
from tonesieve.signals.distributions import log_uniform
from tonesieve.signals.dynamics import DYNAMICS
from tonesieve.signals.line_course import find_course
from tonesieve.signals.noise_models import NOISES
from tonesieve.signals.scenes import MIN_STEPS, Scene, draw_scene, samples_per_step

# Guard: the first numbers of every seed, of scenes and of choices. Test scenes have another one
# (`evaluation.benchmark`), so no training seed draws any of them.
SCENES, CHOICES = 161803, 141421
# Derived from `GATING_INTERVAL`: steps after an interval's end at which its weights are evaluated.
# They hold until the next one ends, 8 steps later.
CAUSAL_STEPS = (1, 5)
# Derived: steps about the place between two intervals, from the last one before it.
SMOOTHING_STEPS = (-2, 2)
MIN_INTERVALS = 32  # guard: records with fewer gating intervals are left out
# Steps before a record counts as settled, as in `evaluation.benchmark`; at most this part of it.
SETTLING_STEPS, SETTLING_PART = 200, 4
# Frequencies (cycles a sample) and their share of the scenes; chosen, not tuned. Slower tones cost
# more time, and after decimation are what faster ones are.
FAST, FAST_SHARE, SLOW, SLOW_SHARE = (0.02, 0.49), 0.8, (0.008, 0.02), 0.18
OTHER = (0.001, 0.008)
# Share of steady tones in white noise at their nominal frequency; chosen, not tuned. They are rare
# in the family, but the first that users try.
PLAIN_SHARE = 0.1
# Share of the scenes whose later passes follow the course that a search finds; chosen, not tuned:
# the search takes as long as the passes.
COURSE_SHARE = 0.4
# Guards: bounds of phasors over the tone's rms, and of variances over its power.
MAX_PHASOR, MIN_VARIANCE, MAX_VARIANCE = 1e3, 1e-12, 1e6


class BatchSpec(NamedTuple):
    """Size of a batch: gating intervals and records, and its share of all batches."""

    intervals: int
    records: int
    share: float


# Batches of equal work; chosen, not tuned. Short records, since most errors are made in the first
# thousands of steps; long ones, since long memories are of use only then.
SIZES = (BatchSpec(256, 64, 0.2), BatchSpec(512, 32, 0.55), BatchSpec(2560, 8, 0.25))


class Batch(NamedTuple):
    """Records of equal length, padded with zeros."""

    features: Float32[np.ndarray, "B D R F"]
    phasors: Float32[np.ndarray, "B D R 2 M"]  # of the filters at the ends of intervals
    variances: Float32[np.ndarray, "B D R M"]
    causal_phasors: Float32[np.ndarray, "B D R P 2 M"]  # after the interval, in its direction
    causal_targets: Float32[np.ndarray, "B D R P 2"]
    smoothing_phasors: Float32[np.ndarray, "B 2 R P 2 M"]  # about the place after each interval
    smoothing_targets: Float32[np.ndarray, "B R P 2"]
    n_intervals: Int64[np.ndarray, " B"]  # without padding
    settled: Int64[np.ndarray, " B"]  # index of the first settled interval


def draw_batch(seed: Sequence[int], sizes: Sequence[BatchSpec] = SIZES) -> Batch:
    """Draw a batch; a seed of two numbers or more determines it to the last bit."""
    shares = np.array([size.share for size in sizes])
    rng = np.random.default_rng((CHOICES, *seed))
    n_intervals, n_records, _ = sizes[int(rng.choice(len(sizes), p=shares / shares.sum()))]
    records: list[Batch] = []
    number = 0
    while len(records) < n_records:
        scene = draw_training_scene((*seed, number), n_intervals)
        with_course = bool(rng.random() < COURSE_SHARE)
        records += records_of(scene, n_intervals, with_course=with_course)
        number += 1
    return Batch(*(np.stack(parts) for parts in zip(*records[:n_records], strict=True)))


def draw_training_scene(seed: Sequence[int], n_intervals: int) -> Scene:
    """Draw a scene of the pretraining family, as long as a record of so many intervals needs."""
    rng = np.random.default_rng((CHOICES, *seed))
    speed, plain = rng.random(2)
    fast, slow, other = (log_uniform(limits, rng) for limits in (FAST, SLOW, OTHER))
    freq = fast if speed < FAST_SHARE else slow if speed < FAST_SHARE + SLOW_SHARE else other
    samples = n_intervals * GATING_INTERVAL * ToneGroup((freq,)).factor
    n_steps = max(round(samples / samples_per_step(freq)), MIN_STEPS)
    if plain < PLAIN_SHARE:
        return draw_scene(
            (SCENES, *seed), n_steps, plain=True, dynamics=DYNAMICS[0], noise=NOISES[0],
            freq_cycles=freq,
        )  # fmt: skip
    return draw_scene((SCENES, *seed), n_steps, freq_cycles=freq)


def find_courses(
    samples: Float[np.ndarray, "1 T"], group: ToneGroup, at: np.ndarray
) -> Float[np.ndarray, "N K"]:
    """Phases of the courses that a search finds, from the first of some samples on, in rad."""
    phases = []
    ranges = group.max_offset[0] / (2 * np.pi * group.factor)
    for freq_cycles, largest in zip(group.freq_cycles, ranges, strict=True):
        within = min(default_within_hz(freq_cycles, samples.shape[1]), float(largest))
        baseband = Baseband(freq_cycles, 1.0, within)
        baseband.update(samples)
        (phasors,), (weights,) = baseband.finish()
        course = find_course(phasors, weights, baseband.step_s, within)
        cycles = course.phase_cycles(at.astype(float))
        phases.append(2 * np.pi * (cycles - cycles[0]))
    return np.stack(phases, axis=1)


def records_of(scene: Scene, n_intervals: int, *, with_course: bool = True) -> list[Batch]:
    """Records (axes without B) of the tones in the first tone's group; none if it is too short.

    With a course, the passes of both directions follow what a search finds, as those of a whole
    recording do.
    """
    tones = next(group for group in group_by_span(scene.freq_cycles) if 0 in group)
    group = ToneGroup(tuple(scene.freq_cycles[k] for k in tones))
    factor = group.factor
    samples = np.ascontiguousarray(scene.samples[None, : n_intervals * GATING_INTERVAL * factor])
    steps, _ = group.decimate(samples, group.initial_state(1))
    n = steps.shape[1] // GATING_INTERVAL * GATING_INTERVAL
    if n < MIN_INTERVALS * GATING_INTERVAL:
        return []
    steps = np.ascontiguousarray(steps[:, :n])
    # A step is at its last sample.
    last_samples = factor - 1 + factor * np.arange(n)
    targets = scene.phasors[last_samples][:, tones]
    course_rad = find_courses(samples, group, last_samples) if with_course else np.zeros((n, 0))
    passes = run_all_passes(group, steps, course_rad)
    records = []
    for k, tone in enumerate(tones):
        power = np.mean(np.abs(targets[:, k]) ** 2)
        if power < 1e-300:  # a burst that lies outside
            continue
        sides = [_of_tone(output, k, float(power)) for output in passes]
        settling = (
            SETTLING_STEPS * samples_per_step(scene.freq_cycles[tone]) / factor / GATING_INTERVAL
        )
        settled = min(int(settling), n // GATING_INTERVAL // SETTLING_PART)
        target = targets[:, k] / np.sqrt(power)
        turned = target * np.exp(-1j * course_rad[:, k]) if with_course else target
        records.append(_record(sides, target, turned, settled, n_intervals))
    return records


class _Direction(NamedTuple):
    """One tone in one direction, over its rms; phasors in the order of the recording."""

    features: Float[np.ndarray, "R F"]
    phasors: Float[np.ndarray, "N 2 M"]  # times ``unit``
    variances: Float[np.ndarray, "R M"]
    unit: float

    def at(self, steps: np.ndarray) -> Float32[np.ndarray, "*R 2 M"]:
        """Phasors at some steps, clipped; NaN is 0."""
        chosen = (self.phasors[steps] / self.unit).astype(np.float32)
        np.clip(chosen, -MAX_PHASOR, MAX_PHASOR, out=chosen)
        return np.nan_to_num(chosen, copy=False)


def run_all_passes(
    group: ToneGroup, steps: Float[np.ndarray, "1 N"], course_rad: Float[np.ndarray, "N K"]
) -> tuple[BankOutput, BankOutput, BankOutput]:
    """Run the bank forwards, and forwards and backwards with the noise known.

    Carriers of the latter two follow ``course_rad``, 0 at the first step; (N, 0) for none. Phasors
    are forward ones, in the order of the steps.
    """
    course = backward_course = None
    last_rad: Float[np.ndarray, "1 K"] | float = 0.0
    if course_rad.shape[1]:
        offsets = np.diff(course_rad, axis=0)
        course = np.concatenate([np.zeros_like(offsets[:1]), offsets])[None]
        backward_course = np.concatenate([offsets, np.zeros_like(offsets[:1])])[None, ::-1]
        last_rad = course_rad[None, -1]
    cold, learned = group.run_bank(steps, group.initial_state(1).banks)
    reversed_steps = np.ascontiguousarray(steps[:, ::-1])
    backward, learned = group.run_bank(
        reversed_steps, group.warm_banks(learned, backwards=True), course=backward_course,
        backwards=True,
    )  # fmt: skip
    forward, _ = group.run_bank(steps, group.warm_banks(learned), course=course)
    backward = group.to_forward_phasors(backward, steps.shape[1], last_rad)
    return cold, forward, backward._replace(phasors=backward.phasors[:, ::-1])


def _of_tone(output: BankOutput, k: int, power: float) -> _Direction:
    variances = np.clip(output.variances[0, :, k] / power, MIN_VARIANCE, MAX_VARIANCE)
    return _Direction(
        output.features[0, :, k], output.phasors[0, :, k], variances, math.sqrt(power)
    )


def _record(
    sides: Sequence[_Direction], target: Complex[np.ndarray, " N"],
    turned: Complex[np.ndarray, " N"], settled: int, n_intervals: int,
) -> Batch:  # fmt: skip
    """One record; ``turned`` is the target relative to the course that the later passes follow."""
    cold, past, future = sides
    last = len(target) - 1
    ends = np.arange(GATING_INTERVAL - 1, len(target), GATING_INTERVAL)
    # Backwards an interval ends at its first step.
    ends_back = last - ends
    later = np.minimum(ends[:, None] + np.array(CAUSAL_STEPS), last)
    earlier = np.maximum(ends_back[:, None] - np.array(CAUSAL_STEPS), 0)
    about = ends[:-1, None] + np.array(SMOOTHING_STEPS)

    def padded(array: np.ndarray) -> Float32[np.ndarray, ...]:
        full = np.zeros((n_intervals, *array.shape[1:]), np.float32)
        full[: len(array)] = array
        return full

    def all_of(*parts: np.ndarray) -> Float32[np.ndarray, ...]:
        return np.stack([padded(part) for part in parts])

    forwards = (cold, past)
    return Batch(
        features=all_of(*(side.features for side in sides)),
        phasors=all_of(*(side.at(ends) for side in forwards), future.at(ends_back)),
        variances=all_of(*(side.variances for side in sides)),
        causal_phasors=all_of(*(side.at(later) for side in forwards), future.at(earlier)),
        causal_targets=all_of(
            _parts(target[later]), _parts(turned[later]), _parts(turned[earlier])
        ),
        # Backwards, the phasors that exclude a step's own sample are those of the step after it.
        smoothing_phasors=all_of(past.at(about), future.at(about + 1)),
        smoothing_targets=padded(_parts(turned[about])),
        n_intervals=np.array(len(ends)),
        settled=np.array(settled),
    )


def _parts(phasors: Complex[np.ndarray, "*R"]) -> Float[np.ndarray, "*R 2"]:
    """Real and imaginary parts."""
    return np.stack([phasors.real, phasors.imag], axis=-1)
