"""What the pretrained extractor learns from: the evidence that scenes of the family leave.

A record is one known tone of a scene, heard forwards and backwards over the same steps; a frame's
weights count for the steps that come after it, and between two frames, both directions', for the
steps beside the place. Everything is over the tone's rms. No PyTorch here: the processes that draw
batches start the sooner.

Axes: B records, D directions (forwards, backwards), R frames, F features, M candidates, P points,
N steps, K tones heard together; the axis of 2 before M, or last, is real and imaginary part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float, Float32, Int64

from tonesieve.extractors.pretrained.front_end import BankOutput, ToneGroup, group_by_span
from tonesieve.kernels.kalman_bank.filter import GATING_INTERVAL
from tonesieve.signals.distributions import log_uniform
from tonesieve.signals.dynamics import DYNAMICS
from tonesieve.signals.noise_models import NOISES
from tonesieve.signals.scenes import Scene, draw_scene, samples_per_step

# The first numbers of every seed, of scenes and of what is chosen beside them; the tests' scenes
# have another one (`evaluation.benchmark`), so that no seed of a training draws any of them.
SCENES, CHOICES = 161803, 141421
# Steps after a frame's end at which its weights are judged: what holds until the next must be good
# to its end.
AFTER = (1, 5)
# Steps about the place between two frames, from the last one before it.
BESIDE = (-2, 2)
# Records with fewer frames than this teach nothing.
FEWEST_FRAMES = 32
# Steps that are not judged as settled, as in `evaluation.benchmark`; of a record, at most this share.
SETTLING_STEPS, SETTLING_SHARE = 200, 4
# A scene is so much longer than its record: of tones that are heard together, the highest decides
# how long a step is, and slow tones have up to 16 steps a period drawn for 12 heard.
LONGER = 4 / 3
# Frequencies (cycles a sample): most of them any that need not be thinned, some slow enough to be
# thinned, but so little that it costs no more time; the rest as the family has them.
FAST, FAST_SHARE, SLOW, SLOW_SHARE = (0.01, 0.49), 0.78, (0.003, 0.02), 0.14
# White noise about a steady tone, exactly named: rare in the family, and what all try first.
PLAIN_SHARE = 0.1
# Bounds of phasors and variances, over the tone's rms and its power.
FARTHEST, LEAST, MOST = 1e3, 1e-12, 1e6


class BatchSpec(NamedTuple):
    """Frames and records of a batch, and which share of the batches are so."""

    frames: int
    records: int
    share: float


# As much work a batch each time. Short records: most of what is heard is heard by the first
# thousands of steps; long ones, since long memories show their worth only then; most in between.
SIZES = (BatchSpec(256, 64, 0.2), BatchSpec(512, 32, 0.55), BatchSpec(2560, 8, 0.25))


class Batch(NamedTuple):
    """Records, padded with zeros to as many frames."""

    features: Float32[np.ndarray, "B D R F"]
    phasors: Float32[np.ndarray, "B D R 2 M"]  # of the candidates at the frames' ends
    variances: Float32[np.ndarray, "B D R M"]
    after: Float32[np.ndarray, "B D R P 2 M"]  # phasors after the frame, in its direction
    after_true: Float32[np.ndarray, "B D R P 2"]
    beside: Float32[np.ndarray, "B D R P 2 M"]  # about the place after each frame, forwards
    beside_true: Float32[np.ndarray, "B R P 2"]
    n_frames: Int64[np.ndarray, " B"]
    settled: Int64[np.ndarray, " B"]  # the first frame that counts as settled


def draw_batch(seed: Sequence[int], sizes: Sequence[BatchSpec] = SIZES) -> Batch:
    """Draw a batch; the same seed, two numbers or more, gives the same to the bit."""
    shares = np.array([size.share for size in sizes])
    rng = np.random.default_rng((CHOICES, *seed))
    n_frames, n_records, _ = sizes[int(rng.choice(len(sizes), p=shares / shares.sum()))]
    records: list[Batch] = []
    number = 0
    while len(records) < n_records:
        scene = draw((*seed, number), round(n_frames * GATING_INTERVAL * LONGER))
        records += records_of(scene, n_frames)
        number += 1
    return Batch(*(np.stack(parts) for parts in zip(*records[:n_records], strict=True)))


def draw(seed: Sequence[int], n_steps: int) -> Scene:
    """A scene to learn from."""
    rng = np.random.default_rng((CHOICES, *seed))
    place, plain = rng.random(2)
    fast, slow = log_uniform(FAST, rng), log_uniform(SLOW, rng)
    turn = fast if place < FAST_SHARE else slow if place < FAST_SHARE + SLOW_SHARE else None
    if plain < PLAIN_SHARE:
        return draw_scene(
            (SCENES, *seed), n_steps, plain=True, dynamics=DYNAMICS[0], noise=NOISES[0],
            freq_cycles=turn,
        )  # fmt: skip
    return draw_scene((SCENES, *seed), n_steps, freq_cycles=turn)


def records_of(scene: Scene, n_frames: int) -> list[Batch]:
    """The tones that are heard with the first one, as records (axes without B)."""
    own = next(group for group in group_by_span(scene.freq_cycles) if 0 in group)
    hearing = ToneGroup(tuple(scene.freq_cycles[k] for k in own))
    factor = hearing.factor
    samples = np.ascontiguousarray(scene.samples[None, : n_frames * GATING_INTERVAL * factor])
    steps, _ = hearing.decimate(samples, hearing.initial_state(1))
    n = steps.shape[1] // GATING_INTERVAL * GATING_INTERVAL
    if n < FEWEST_FRAMES * GATING_INTERVAL:
        return []
    steps = np.ascontiguousarray(steps[:, :n])
    # A step stands where its last sample does.
    true = scene.phasors[factor - 1 :: factor, own][:n]
    heard = _heard(hearing, steps)
    found = []
    for k, tone in enumerate(own):
        power = np.mean(np.abs(true[:, k]) ** 2)
        if power < 1e-300:  # a burst that never came
            continue
        sides = [_of_tone(side, k, float(power)) for side in heard]
        settling = (
            SETTLING_STEPS * samples_per_step(scene.freq_cycles[tone]) / factor / GATING_INTERVAL
        )
        settled = min(int(settling), n // GATING_INTERVAL // SETTLING_SHARE)
        found.append(_record(sides, true[:, k] / np.sqrt(power), settled, n_frames))
    return found


class _Side(NamedTuple):
    """One tone in one direction, over its rms; phasors in the order of the recording."""

    features: Float[np.ndarray, "R F"]
    phasors: Complex[np.ndarray, "N M"]
    variances: Float[np.ndarray, "R M"]


def _heard(hearing: ToneGroup, steps: Float[np.ndarray, "1 N"]) -> tuple[BankOutput, BankOutput]:
    """The steps forwards and backwards; all phasors as they stand forwards, in that order."""
    forwards, _ = hearing.run_bank(steps, hearing.initial_state(1)[3])
    begun = hearing.initial_state(1, backwards=True)[3]
    turned = np.ascontiguousarray(steps[:, ::-1])
    backwards, _ = hearing.run_bank(turned, begun, backwards=True)
    stood = hearing.to_forward_phasors(backwards, steps.shape[1])
    return forwards, stood._replace(phasors=stood.phasors[:, ::-1])


def _of_tone(side: BankOutput, k: int, power: float) -> _Side:
    phasors = (side.phasors[0, :, k, 0] + 1j * side.phasors[0, :, k, 1]) / np.sqrt(power)
    variances = np.clip(side.variances[0, :, k] / power, LEAST, MOST)
    return _Side(side.features[0, :, k], phasors, variances)


def _record(
    sides: Sequence[_Side], true: Complex[np.ndarray, " N"], settled: int, n_frames: int
) -> Batch:
    past, future = sides
    last = len(true) - 1
    ends = np.arange(GATING_INTERVAL - 1, len(true), GATING_INTERVAL)
    # Backwards a frame ends at its first step.
    ends_back = last - ends
    later = np.minimum(ends[:, None] + np.array(AFTER), last)
    sooner = np.maximum(ends_back[:, None] - np.array(AFTER), 0)
    about = ends[:-1, None] + np.array(BESIDE)

    def padded(array: np.ndarray) -> Float32[np.ndarray, ...]:
        """To as many frames; the frames are the last axis but as many as come after them."""
        whole = np.zeros((n_frames, *array.shape[1:]), np.float32)
        whole[: len(array)] = array
        return whole

    def both(one: np.ndarray, two: np.ndarray) -> Float32[np.ndarray, ...]:
        return np.stack([padded(one), padded(two)])

    return Batch(
        features=both(past.features, future.features),
        phasors=both(_parts(past.phasors[ends]), _parts(future.phasors[ends_back])),
        variances=both(past.variances, future.variances),
        after=both(_parts(past.phasors[later]), _parts(future.phasors[sooner])),
        after_true=both(*(_parts(true[at][..., None])[..., 0] for at in (later, sooner))),
        # What is heard after a step tells of it as much as what is heard up to it.
        beside=both(_parts(past.phasors[about]), _parts(future.phasors[about + 1])),
        beside_true=padded(_parts(true[about][..., None])[..., 0]),
        n_frames=np.array(len(ends)),
        settled=np.array(settled),
    )


def _parts(phasors: Complex[np.ndarray, "*R M"]) -> Float[np.ndarray, "*R 2 M"]:
    """Real and imaginary parts, none out of bounds."""
    parts = np.stack([phasors.real, phasors.imag], axis=-2)
    return np.nan_to_num(np.clip(parts, -FARTHEST, FARTHEST))
