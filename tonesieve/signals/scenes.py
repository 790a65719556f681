"""The family of signals that a general extractor is trained and judged on: any tone in any noise.

The rate is 1: frequencies are cycles a sample, "turns". A scene's natural unit is the step, a
sample or a sixteenth of the tone's period, whichever is longer; what changes over time does so at
rates a step, so that slow tones are to an extractor what fast ones are.

==============  =================================================================================
axis            what is drawn (the limits stand beside the names in `courses`, `noises` and here)
==============  =================================================================================
frequency       3 in 4: log-uniform 0.01 to 0.49 cycles a sample; else 0.0001 to 0.01
SNR             -15 to 30 dB: the tone's power (bursts: where on) over that of white noise as
                strong as the noise at the tone, averaged over a step; impulses are not counted
dynamics        steady, walk, steps, fades, bursts, drift (`courses`); the frequency is wrong by a
                constant in 2 of 5 scenes of walk, steps, fades and bursts
noise           white, red, lines, impulses (`noises`), at most 90 dB over the tone on average
known tones     7 in 10: one; else two to four: near, far or harmonics, -20 to 20 dB, mild dynamics
offset          1 in 2: 0.01 to 1000 times the rms of all the rest
trend           1 in 3: linear or quadratic, 0.1 to 100 times the rms
clipping        8 in 100: at the 0.5 to 0.95 quantile of the distance to the mean
quantisation    1 in 10: 3 to 10 bits over the range; more where they would bury the tone
gaps            15 in 100: 1 to 8 of 1 to 300 steps, and up to 5% of the samples lost singly
scale           everything times 10 to a power from -6 to 6
==============  =================================================================================

Axes: T samples, K tones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.errors import UserError
from tonesieve.signals.backgrounds import Rng
from tonesieve.signals.dynamics import DYNAMICS, draw_detuning, draw_envelope
from tonesieve.signals.noise_models import NOISES, draw_noise, log_uniform

About = dict[str, float | str | bool]

MOST_SAMPLES, FEWEST_STEPS = 2**18, 16
STEPS_A_PERIOD = 16
# Frequencies of fast and slow tones, cycles a sample, and the share of the fast.
FAST, SLOW, FAST_SHARE = (0.01, 0.49), (1e-4, 0.01), 0.75
SNR_DB = (-15.0, 30.0)
# Known tones: share of scenes with one alone, most of them, distance of near ones over the
# frequency and in multiples of 1 / T, level over the first (dB).
ALONE, MOST_TONES = 0.7, 4
NEAR, NEAR_BINS = (0.005, 0.1), 6
LEVEL_DB = (-20.0, 20.0)
MULTIPLES = (1 / 3, 1 / 2, 2.0, 3.0, 4.0, 5.0)
# Mild dynamics of the tones beside the first.
MILD = ("steady", "steady", "walk", "fades")
# Nuisances: share of the scenes, and size over the rms of all the rest.
OFFSET, OFFSET_SIZE = 0.5, (0.01, 1000.0)
TREND, TREND_SIZE = 1 / 3, (0.1, 100.0)
CLIPPING, CLIP_QUANTILE = 0.08, (0.5, 0.95)
# The noise of rounding is at most so many times the noise at the tone.
QUANTISATION, BITS, COARSEST = 0.1, (3, 10), 10.0
GAPS, MOST_GAPS, GAP_STEPS, LOST, LONGEST_GAP = 0.15, 8, (1.0, 300.0), 0.05, 1 / 16
SCALE_DECADES = (-6.0, 6.0)


@dataclass(frozen=True)
class Scene:
    """What is heard, and the truth: tone k is the imaginary part of its phasor times its carrier.

    ``turns`` are as the caller names them, cycles a sample; where the first is wrong or drifts, its
    phasor turns. ``noise_variance`` is that of white noise as strong at the tone as the noise.
    ``walk_variance`` is the mean variance that each of the first tone's two coefficients gains a
    sample by its dynamics, without what a wrong frequency does.
    """

    samples: Float[np.ndarray, " T"]  # NaN in gaps
    freq_cycles: tuple[float, ...]
    phasors: Complex[np.ndarray, "T K"]
    snr_db: float
    dynamics: str
    noise: str
    noise_variance: float
    walk_variance: float
    about: About  # every other number drawn

    @property
    def tones(self) -> Float[np.ndarray, "T K"]:
        """The tones themselves."""
        return synthesise(self.phasors, self.freq_cycles)

    @property
    def step(self) -> float:
        """Samples in a step."""
        return samples_a_step(self.freq_cycles[0])


def samples_a_step(turn: float) -> float:
    """The natural unit of a tone's scene: a sample or a sixteenth of a period."""
    return max(1.0, 1 / (STEPS_A_PERIOD * turn))


def synthesise(
    phasors: Complex[np.ndarray, "T K"], turns: Sequence[float]
) -> Float[np.ndarray, "T K"]:
    """Tones of these complex amplitudes at these frequencies, cycles a sample."""
    cycles = np.arange(len(phasors))[:, None] * np.array(turns) % 1.0
    return (phasors * np.exp(2j * np.pi * cycles)).imag


def draw_scene(
    seed: int | Sequence[int],
    n_steps: int,
    *,
    snr_db: float | None = None,
    dynamics: str | None = None,
    noise: str | None = None,
    turn: float | None = None,
    plain: bool = False,
) -> Scene:
    """Draw a scene of the family; what is None is drawn, too.

    The same seed gives the same scene to the bit. A scene has ``n_steps`` steps, at most 2^18
    samples. ``plain``: one tone, exactly named, no impulses and no nuisance, and white noise is
    without colour. Raises `UserError` for words and numbers that the family does not have.

    Example:
        >>> scene = draw_scene(1, 1000, snr_db=10.0, dynamics="steady", turn=0.1)
        >>> scene.samples.shape, scene.phasors.shape[0], scene.dynamics
        ((1000,), 1000, 'steady')
    """
    _check(n_steps, dynamics, noise, turn, plain)
    # A generator for each part: what is given instead of drawn leaves the other parts alone.
    cell, courses, others, noises, nuisances = np.random.default_rng(seed).spawn(5)
    snr_db, dynamics, noise, turn = _cell(cell, snr_db, dynamics, noise, turn, plain)
    step = samples_a_step(turn)
    n = min(round(n_steps * step), MOST_SAMPLES)
    # In units of the noise at the tone until the end.
    power = 10 ** (snr_db / 10) / step
    amplitude = math.sqrt(2 * power) * np.exp(2j * np.pi * courses.random())
    course, about = draw_envelope(dynamics, n, step, rng=courses)
    walk_variance = 2 * power * _walk_variance(course)
    first, detuned = _detuned(amplitude * course, dynamics, step, turn, plain, courses)
    turns, beside, known = _others(turn, n, step, power, plain, others)
    phasors = np.stack([first, *beside], axis=1)
    heard, drawn = draw_noise(
        noise, n, turn, tone_power=power, taken=turns, plain=plain, rng=noises
    )
    heard = heard + synthesise(phasors, turns).sum(axis=1)
    scale = 10 ** nuisances.uniform(*SCALE_DECADES)
    spoilt: About = {}
    if not plain:
        heard, spoilt = _spoil(heard, step, nuisances)
    about = {**about, **detuned, **known, **drawn, **spoilt, "scale": scale}
    if "impulse_variance" in about:
        about["impulse_variance"] = float(about["impulse_variance"]) * scale**2
    return Scene(
        heard * scale, turns, phasors * scale, snr_db, dynamics, noise,
        scale**2, walk_variance * scale**2, about,
    )  # fmt: skip


def _check(
    n_steps: int, dynamics: str | None, noise: str | None, turn: float | None, plain: bool
) -> None:
    if n_steps < FEWEST_STEPS:
        raise UserError(f"n_steps {n_steps}: must be {FEWEST_STEPS} or more")
    if dynamics is not None and dynamics not in DYNAMICS:
        raise UserError(f"dynamics {dynamics}: must be one of {', '.join(DYNAMICS)}")
    if noise is not None and noise not in NOISES:
        raise UserError(f"noise {noise}: must be one of {', '.join(NOISES)}")
    if turn is not None and not 0 < turn < 0.5:
        raise UserError(f"turn {turn}: must lie between 0 and 0.5 cycles a sample")
    if plain and (dynamics == "drift" or noise == "impulses"):
        raise UserError("plain: there is no plain drift, and there are no plain impulses")


def _cell(
    rng: Rng,
    snr_db: float | None,
    dynamics: str | None,
    noise: str | None,
    turn: float | None,
    plain: bool,
) -> tuple[float, str, str, float]:
    """What is not given; all of it is drawn, so that nothing given moves the others."""
    drawn_db = rng.uniform(*SNR_DB)
    fast = rng.random() < FAST_SHARE
    drawn_turn = log_uniform(FAST if fast else SLOW, rng)
    # The last of both tables are what no plain scene has.
    drawn_dynamics = DYNAMICS[int(rng.random() * (len(DYNAMICS) - plain))]
    drawn_noise = NOISES[int(rng.random() * (len(NOISES) - plain))]
    return (
        drawn_db if snr_db is None else float(snr_db),
        dynamics or drawn_dynamics,
        noise or drawn_noise,
        turn or drawn_turn,
    )


def _walk_variance(course: Complex[np.ndarray, " T"]) -> float:
    """Mean variance that each coefficient of a course gains a sample."""
    gained = np.diff(course)
    return float(np.mean(gained.real**2 + gained.imag**2) / 2)


def _detuned(
    phasor: Complex[np.ndarray, " T"],
    dynamics: str,
    step: float,
    turn: float,
    plain: bool,
    rng: Rng,
) -> tuple[Complex[np.ndarray, " T"], About]:
    """The phasor as it stands to the frequency that is named."""
    if plain:
        return phasor, {}
    deviation, about = draw_detuning(dynamics, len(phasor), step, turn, rng=rng)
    if deviation is None:
        return phasor, about
    cycles = np.cumsum(deviation) - deviation
    return phasor * np.exp(2j * np.pi * cycles), about


def _others(
    turn: float, n: int, step: float, power: float, plain: bool, rng: Rng
) -> tuple[tuple[float, ...], list[Complex[np.ndarray, " T"]], About]:
    """Frequencies of all known tones, the phasors of those beside the first, what was drawn."""
    turns, phasors, about = [turn], [], About()
    alone = plain or rng.random() < ALONE
    for index in range(0 if alone else int(rng.integers(1, MOST_TONES))):
        place = _place(turn, n, turns, rng)
        if place is None:
            continue
        level_db, dynamics = rng.uniform(*LEVEL_DB), str(rng.choice(MILD))
        course, _ = draw_envelope(dynamics, n, step, mild=True, rng=rng)
        amplitude = math.sqrt(2 * power * 10 ** (level_db / 10))
        turns.append(place)
        phasors.append(amplitude * np.exp(2j * np.pi * rng.random()) * course)
        about |= {f"tone_{index + 1}_db": level_db, f"tone_{index + 1}_dynamics": dynamics}
    return tuple(turns), phasors, about


def _place(turn: float, n: int, taken: Sequence[float], rng: Rng) -> float | None:
    """A frequency for a further tone, near the first, a multiple of it or anywhere."""
    for _ in range(20):
        near = turn + rng.choice([-1, 1]) * max(turn * log_uniform(NEAR, rng), NEAR_BINS / n)
        multiple = turn * float(rng.choice(MULTIPLES))
        far = log_uniform((max(turn / 30, NEAR_BINS / n), 0.49), rng)
        place = float(rng.choice([near, multiple, far], p=[0.5, 0.25, 0.25]))
        clear = all(abs(place - other) >= 0.999 * NEAR_BINS / n for other in taken)
        if clear and NEAR_BINS / n <= place <= 0.495:
            return place
    return None


def _spoil(
    heard: Float[np.ndarray, " T"], step: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Offset, trend, clipping, quantisation and gaps, each where the draw says so."""
    about: About = {}
    rms, place = float(np.sqrt(np.mean(heard * heard))), np.linspace(-1.0, 1.0, len(heard))
    sizes = log_uniform(OFFSET_SIZE, rng), log_uniform(TREND_SIZE, rng)
    signs, chances = rng.choice([-1.0, 1.0], 2), rng.random(5)
    if chances[0] < OFFSET:
        about["offset"] = float(signs[0] * sizes[0] * rms)
        heard = heard + about["offset"]
    if chances[1] < TREND:
        about["trend"], power = float(signs[1] * sizes[1] * rms), int(rng.integers(1, 3))
        about["trend_power"] = float(power)
        heard = heard + about["trend"] * place**power
    if chances[2] < CLIPPING:
        heard, about["clip_quantile"] = _clipped(heard, rng)
    if chances[3] < QUANTISATION:
        heard, about["bits"] = _quantised(heard, rng)
    if chances[4] < GAPS:
        heard, about["lost"] = _with_gaps(heard, step, rng)
    return heard, about


def _clipped(heard: Float[np.ndarray, " T"], rng: Rng) -> tuple[Float[np.ndarray, " T"], float]:
    share, mean = rng.uniform(*CLIP_QUANTILE), heard.mean()
    reach = np.quantile(np.abs(heard - mean), share)
    return np.clip(heard, mean - reach, mean + reach), share


def _quantised(heard: Float[np.ndarray, " T"], rng: Rng) -> tuple[Float[np.ndarray, " T"], float]:
    """Rounded to whole multiples of a quantum; the noise at the tone has variance 1."""
    bits, span = int(rng.integers(BITS[0], BITS[1] + 1)), float(np.ptp(heard))
    quantum = min(span / 2**bits, math.sqrt(12 * COARSEST))
    return quantum * np.round(heard / quantum), math.log2(span / quantum)


def _with_gaps(
    heard: Float[np.ndarray, " T"], step: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], float]:
    """NaN in some stretches and, in half of these scenes, at single samples."""
    n = len(heard)
    lost = rng.random(n) < (rng.uniform(0.0, LOST) if rng.random() < 0.5 else 0.0)
    for _ in range(int(rng.integers(1, MOST_GAPS + 1))):
        length = min(step * log_uniform(GAP_STEPS, rng), LONGEST_GAP * n)
        start = int(rng.integers(0, n))
        lost[start : start + max(1, round(length))] = True
    return np.where(lost, np.nan, heard), float(lost.mean())
