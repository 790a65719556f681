"""The family of scenes: any tone in any noise, to train and evaluate a general extractor on.

The rate is 1: frequencies are in cycles a sample. A scene's natural unit is the step, a sample or
a sixteenth of the tone's period, whichever is longer; what changes over time does so at rates per
step, so that slow tones are to an extractor what fast ones are.

==============  =================================================================================
property        what is drawn (the ranges are in `dynamics`, `noise_models` and here)
==============  =================================================================================
frequency       3 in 4: log-uniform 0.01 to 0.49 cycles a sample; else 0.0001 to 0.01
SNR             -15 to 30 dB: the tone's power (bursts: where on) over that of white noise as
                strong as the noise at the tone, averaged over a step; only the stationary
                floor is counted
dynamics        steady, walk, rhythm, steps, fades, bursts, drift; the frequency is wrong by a
                constant in half of the steady scenes, and in 3 of 5 of all others without drift
noise           white, red, low-passed, lines, comb, impulses, pulses, transients, mixture; what is
                stationary is at most 90 dB over the tone on average
known tones     7 in 10: one; else two to four: near, far or harmonics, -20 to 20 dB, mild dynamics
offset          1 in 2: 0.01 to 1000 times the rms of all the rest
trend           1 in 3: linear or quadratic, 0.1 to 100 times the rms
ramp            1 in 6: 0.1 to 100 amplitudes of the tone a period
level steps     1 in 8: 1 to 4 of 0.5 to 100 amplitudes of the tone
clipping        8 in 100: at the 0.5 to 0.95 quantile of the distance to the mean
quantisation    1 in 10: 3 to 10 bits over the range; more where they would bury the tone
gaps            15 in 100: 1 to 8 of 1 to 300 steps, and up to 5% of the samples lost singly
scale           everything times 10 to a power from -6 to 6
==============  =================================================================================

Axes: T samples, K tones. All ranges are chosen, not tuned: they define the family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.errors import UserError
from tonesieve.signals.distributions import Rng, log_uniform
from tonesieve.signals.dynamics import DYNAMICS, PLAIN_DYNAMICS, draw_detuning, draw_envelope
from tonesieve.signals.noise_models import NOISES, PLAIN_NOISES, draw_noise
from tonesieve.signals.nuisances import add_nuisances

About = dict[str, float | str | bool]

# Guards: samples of a scene at most, and its steps at least: two periods of the fastest tones.
MAX_SAMPLES, MIN_STEPS = 2**18, 4
STEPS_PER_PERIOD = 16
# Frequencies of fast and slow tones, cycles a sample, and the fraction of the fast.
FAST, SLOW, FAST_FRACTION = (0.01, 0.49), (1e-4, 0.01), 0.75
SNR_DB = (-15.0, 30.0)
# Known tones: fraction of scenes with one alone, most of them, distance of near ones over the
# frequency and in multiples of 1 / T, power over the first's (dB), ratio of harmonics, and
# fractions of near ones, harmonics and others.
ALONE, MAX_TONES = 0.7, 4
NEAR, NEAR_BINS = (0.005, 0.1), 6
LEVEL_DB = (-20.0, 20.0)
MULTIPLES = (1 / 3, 1 / 2, 2.0, 3.0, 4.0, 5.0)
PLACEMENTS = (0.5, 0.25, 0.25)
# Guard: places that are tried for a tone, and its highest frequency, cycles a sample.
N_TRIALS, MAX_FREQ_CYCLES = 20, 0.495
# Mild dynamics of the tones beside the first.
MILD = ("steady", "steady", "walk", "fades")
SCALE_DECADES = (-6.0, 6.0)


@dataclass(frozen=True)
class Scene:
    """Samples, and their ground truth.

    Tone k is the imaginary part of its phasor times its carrier. Where the first frequency is wrong
    or drifts, its phasor rotates.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        The mixture; NaN in gaps.
    freq_cycles : tuple of float
        Nominal frequencies of the K tones, cycles a sample.
    phasors : ndarray of complex, shape (T, K)
        Complex amplitudes.
    snr_db : float
        Of the first tone.
    dynamics : str
        Of the first tone, one of `DYNAMICS`.
    noise : str
        One of `NOISES`.
    noise_variance : float
        Variance of white noise as strong at the tone as the noise.
    walk_variance : float
        Mean variance that each of the first tone's two coefficients gains a sample by its
        dynamics, without the effect of a wrong frequency.
    about : dict
        Every other number that was drawn.
    """

    samples: Float[np.ndarray, " T"]
    freq_cycles: tuple[float, ...]
    phasors: Complex[np.ndarray, "T K"]
    snr_db: float
    dynamics: str
    noise: str
    noise_variance: float
    walk_variance: float
    about: About

    @property
    def tones(self) -> Float[np.ndarray, "T K"]:
        """The tones themselves."""
        return synthesise(self.phasors, self.freq_cycles)

    @property
    def step(self) -> float:
        """Samples in a step."""
        return samples_per_step(self.freq_cycles[0])


def samples_per_step(freq_cycles: float) -> float:
    """The natural unit of a tone's scene: a sample or a sixteenth of a period.

    Parameters
    ----------
    freq_cycles : float
        Frequency, cycles a sample.

    Returns
    -------
    float
        Samples, at least 1.
    """
    return max(1.0, 1 / (STEPS_PER_PERIOD * freq_cycles))


def synthesise(
    phasors: Complex[np.ndarray, "T K"], freq_cycles: Sequence[float]
) -> Float[np.ndarray, "T K"]:
    """Modulate carriers by complex amplitudes.

    Parameters
    ----------
    phasors : ndarray of complex, shape (T, K)
        Complex amplitudes.
    freq_cycles : sequence of float
        Frequencies of the K carriers, cycles a sample.

    Returns
    -------
    ndarray, shape (T, K)
        The tones.
    """
    cycles = np.arange(len(phasors))[:, None] * np.array(freq_cycles) % 1.0
    return (phasors * np.exp(2j * np.pi * cycles)).imag


def draw_scene(
    seed: int | Sequence[int],
    n_steps: int,
    *,
    snr_db: float | None = None,
    dynamics: str | None = None,
    noise: str | None = None,
    freq_cycles: float | None = None,
    plain: bool = False,
) -> Scene:
    """Draw a scene of the family.

    The same seed gives the same scene to the bit; a property that is given leaves the others as
    they were.

    Parameters
    ----------
    seed : int or sequence of int
        Of the scene.
    n_steps : int
        Its length, steps; at most 2^18 samples.
    snr_db, dynamics, noise, freq_cycles : optional
        As of `Scene`; what is None is drawn.
    plain : bool
        One tone of exactly its nominal frequency, no impulses, no nuisances, and white noise
        without colour (default False).

    Returns
    -------
    Scene
        Samples and ground truth.

    Raises
    ------
    UserError
        For words and numbers that the family does not have.

    Examples
    --------
    >>> scene = draw_scene(1, 1000, snr_db=10.0, dynamics="steady", freq_cycles=0.1)
    >>> scene.samples.shape, scene.phasors.shape[0], scene.dynamics
    ((1000,), 1000, 'steady')
    """
    _check(n_steps, dynamics, noise, freq_cycles, plain)
    # A generator for each part: what is given instead of drawn leaves the other parts alone.
    seeds = np.random.default_rng(seed).spawn(5)
    labels_rng, tone_rng, others_rng, noise_rng, nuisance_rng = seeds
    snr_db, dynamics, noise, freq_cycles = _draw_labels(
        labels_rng, snr_db, dynamics, noise, freq_cycles, plain
    )
    step = samples_per_step(freq_cycles)
    n = min(round(n_steps * step), MAX_SAMPLES)
    # In units of the noise at the tone until the end.
    power = 10 ** (snr_db / 10) / step
    amplitude = math.sqrt(2 * power) * np.exp(2j * np.pi * tone_rng.random())
    envelope, about = draw_envelope(dynamics, n, freq_cycles, step, rng=tone_rng)
    walk_variance = 2 * power * _walk_variance(envelope)
    deviation, detuning = None, About()
    if not plain:
        deviation, detuning = draw_detuning(dynamics, n, step, freq_cycles, rng=tone_rng)
    first = amplitude * envelope
    # Phase of a steady tone of the same frequency.
    cycles = freq_cycles * np.arange(n) + np.angle(amplitude) / (2 * np.pi)
    if deviation is not None:
        deviation = np.cumsum(deviation) - deviation
        first, cycles = first * np.exp(2j * np.pi * deviation), cycles + deviation
    frequencies, others, about_others = _draw_others(freq_cycles, n, step, power, plain, others_rng)
    phasors = np.stack([first, *others], axis=1)
    mixture, about_noise = draw_noise(
        noise, n, freq_cycles, tone_power=power, occupied=frequencies[1:], cycles=cycles,
        plain=plain, rng=noise_rng,
    )  # fmt: skip
    mixture = mixture + synthesise(phasors, frequencies).sum(axis=1)
    scale = 10 ** nuisance_rng.uniform(*SCALE_DECADES)
    nuisances: About = {}
    if not plain:
        mixture, nuisances = add_nuisances(
            mixture, step, freq_cycles, math.sqrt(2 * power), rng=nuisance_rng
        )
    about = {**about, **detuning, **about_others, **about_noise, **nuisances, "scale": scale}
    if "impulse_variance" in about:
        about["impulse_variance"] = float(about["impulse_variance"]) * scale**2
    return Scene(
        mixture * scale, frequencies, phasors * scale, snr_db, dynamics, noise,
        scale**2, walk_variance * scale**2, about,
    )  # fmt: skip


def _check(
    n_steps: int,
    dynamics: str | None,
    noise: str | None,
    freq_cycles: float | None,
    plain: bool,
) -> None:
    if n_steps < MIN_STEPS:
        raise UserError(f"n_steps {n_steps}: must be {MIN_STEPS} or more")
    if dynamics is not None and dynamics not in DYNAMICS:
        raise UserError(f"dynamics {dynamics}: must be one of {', '.join(DYNAMICS)}")
    if noise is not None and noise not in NOISES:
        raise UserError(f"noise {noise}: must be one of {', '.join(NOISES)}")
    if freq_cycles is not None and not 0 < freq_cycles < 0.5:
        raise UserError(f"freq_cycles {freq_cycles}: must lie between 0 and 0.5 cycles a sample")
    if plain and dynamics not in (None, *PLAIN_DYNAMICS):
        raise UserError(f"plain: there is no plain {dynamics}")
    if plain and noise not in (None, *PLAIN_NOISES):
        raise UserError(f"plain: there are no plain scenes with {noise} noise")


def _draw_labels(
    rng: Rng,
    snr_db: float | None,
    dynamics: str | None,
    noise: str | None,
    freq_cycles: float | None,
    plain: bool,
) -> tuple[float, str, str, float]:
    """What is not given; all of it is drawn, so that what is given leaves the others alone."""
    drawn_db = rng.uniform(*SNR_DB)
    fast = rng.random() < FAST_FRACTION
    drawn_frequency = log_uniform(FAST if fast else SLOW, rng)
    all_dynamics, all_noises = (PLAIN_DYNAMICS, PLAIN_NOISES) if plain else (DYNAMICS, NOISES)
    drawn_dynamics = all_dynamics[int(rng.random() * len(all_dynamics))]
    drawn_noise = all_noises[int(rng.random() * len(all_noises))]
    return (
        drawn_db if snr_db is None else float(snr_db),
        dynamics or drawn_dynamics,
        noise or drawn_noise,
        freq_cycles or drawn_frequency,
    )


def _walk_variance(envelope: Complex[np.ndarray, " T"]) -> float:
    """Mean variance that each coefficient of an envelope gains a sample."""
    increments = np.diff(envelope)
    return float(np.mean(increments.real**2 + increments.imag**2) / 2)


def _draw_others(
    freq_cycles: float, n: int, step: float, power: float, plain: bool, rng: Rng
) -> tuple[tuple[float, ...], list[Complex[np.ndarray, " T"]], About]:
    """Frequencies of all known tones, the phasors of those beside the first, what was drawn."""
    frequencies, phasors, about = [freq_cycles], [], About()
    alone = plain or rng.random() < ALONE
    for number in range(0 if alone else int(rng.integers(1, MAX_TONES))):
        frequency = _draw_frequency(freq_cycles, n, frequencies, rng)
        if frequency is None:
            continue
        level_db, dynamics = rng.uniform(*LEVEL_DB), str(rng.choice(MILD))
        envelope, _ = draw_envelope(dynamics, n, frequency, step, mild=True, rng=rng)
        amplitude = math.sqrt(2 * power * 10 ** (level_db / 10))
        frequencies.append(frequency)
        phasors.append(amplitude * np.exp(2j * np.pi * rng.random()) * envelope)
        about |= {f"tone_{number + 1}_db": level_db, f"tone_{number + 1}_dynamics": dynamics}
    return tuple(frequencies), phasors, about


def _draw_frequency(
    freq_cycles: float, n: int, occupied: Sequence[float], rng: Rng
) -> float | None:
    """A frequency for a further tone, near the first, a multiple of it or anywhere."""
    lowest = NEAR_BINS / n
    for _ in range(N_TRIALS if lowest < FAST[1] else 0):
        sign = rng.choice([-1, 1])
        near = freq_cycles + sign * max(freq_cycles * log_uniform(NEAR, rng), lowest)
        multiple = freq_cycles * float(rng.choice(MULTIPLES))
        far = log_uniform((max(freq_cycles / 30, lowest), FAST[1]), rng)
        frequency = float(rng.choice([near, multiple, far], p=PLACEMENTS))
        is_clear = all(abs(frequency - other) >= 0.999 * NEAR_BINS / n for other in occupied)
        if is_clear and lowest <= frequency <= MAX_FREQ_CYCLES:
            return frequency
    return None
