"""Many trackers of the same tones at once, and the evidence for each: what a network judges by.

Every candidate is a Kalman filter of oscillators with a memory of its own; six of them follow
their tones' frequencies by phase-locked loops. All hear the same samples: cleaned of what no noise
would do, and whitened by an autoregression that is fitted to what the tones leave. A candidate with
a long memory that foretells worse than the next shorter one begins anew from there (a CUSUM of
their likelihood ratio). Axes: B streams, N steps, K tones, M candidates, D = 2 K + 1 coefficients
(sines, cosines, level), P orders of the autoregression.

A tone is Im(Z exp(i theta)), theta its nominal phase, Z its phasor.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.features import gating_features, posterior_weights, update_spread
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    AR_DC_GAIN,
    CUSUM,
    DC_OFFSET,
    FILTER_AGE,
    HAS_SHORTER,
    LIKELIHOOD_GAIN,
    LIKELIHOOD_WINDOW,
    LOG_WEIGHT,
    MEAN,
    MEMORY,
    MISSING_RATE,
    N_OBSERVED,
    N_WARM_UP,
    NOISE_VAR,
    ORDER,
    PEAK,
    PRIOR_VAR_TONE,
    PROCESS_NOISE,
    REJECT_RATE,
    TINY,
    TRACKS_FREQUENCY,
    WEIGHT,
    unpack,
)
from tonesieve.kernels.kalman_bank.whitening import update_ar_moments
from tonesieve.kernels.simd import (
    WIDTH,
    any_above,
    horizontal_sum,
    lane_shift,
    load,
    maximum,
    minimum,
    splat,
    store,
)

GATING_INTERVAL = 8  # steps between two looks at the evidence
# The loop's gain beside the filter's; growth of a coefficient's variance while a frequency is told.
PLL_GAIN_RATIO, PLL_PROCESS_NOISE, UNINFORMED_RATIO = 0.375, 24.0, 20.0
# A frequency is mostly nearer to its name than it may go, by this factor.
OFFSET_PRIOR_RATIO = 8.0
# The level follows what is slower than the lowest tone by this factor.
DC_CORNER_RATIO = 8.0
# Beyond so many standard deviations a sample is no noise, unless so large a share of the last is.
GATE_SIGMA, MAX_REJECT_RATE = 4.5, 0.35
MAX_LOG_LIKELIHOOD = 50.0  # as a log-likelihood: more tells no more
# Evidence at which a candidate begins anew; memory of the odds by which the tones are taken off.
CUSUM_THRESHOLD, WEIGHT_MEMORY = 10.0, 100.0
NOISE_VAR_MEMORY = 64.0
# A sample that comes after a gap is at most so uncertain, over the noise.
MAX_IMPUTED_VAR = 1e12
# No tone is so many times as large as the largest sample: its candidate has lost itself.
DIVERGENCE_RATIO = 1e6
# No noise is weaker than this, over the square of the largest sample: nothing is ever certain.
NOISE_VAR_FLOOR = 1e-10


@njit(**JIT_OPTIONS)
def run_kalman_bank(
    samples: np.ndarray,
    state: np.ndarray,
    turn: np.ndarray,
    gains: np.ndarray,
    farthest: np.ndarray,
    table: np.ndarray,
    phasors: np.ndarray,
    features: np.ndarray,
    variances: np.ndarray,
) -> None:
    """Phasors (B, N, K, 2, M); of every frame that ends, features and variances (B, R, K, ...).

    samples (B, N), NaN in gaps; ``state`` (B, S) goes on. Of every tone ``turn`` (K), rad a step,
    ``gains`` (K, 2) and how far it may go, ``farthest`` (K), rad a step. ``table``: what the
    candidates are. Frames end where the age is a multiple of `GATING_INTERVAL`.
    """
    n_streams, n_steps = samples.shape
    k_tones = len(turn)
    d = 2 * k_tones + 1
    # Rows, reach and shares of trust: of every candidate, and of a sample.
    room, vector = np.empty(3 * d * WIDTH), np.empty(d + ORDER + 1)
    steps = np.empty((k_tones, 2))
    for k in range(k_tones):
        steps[k, 0], steps[k, 1] = math.cos(turn[k]), math.sin(turn[k])
    drift = (turn.min() / DC_CORNER_RATIO) ** 2
    for b in range(n_streams):
        own = state[b]
        numbers, past, left, blurred, model, carrier, noise = unpack(own, k_tones)
        frame = 0
        for t in range(n_steps):
            x = samples[b, t]
            heard = not np.isnan(x)
            if heard and np.isnan(numbers[DC_OFFSET]):
                numbers[DC_OFFSET] = x
            # A stream that stands still has not begun.
            heard = heard and (numbers[N_OBSERVED] > 0 or x != numbers[DC_OFFSET])
            x -= numbers[DC_OFFSET]
            foreseen = _predict(own, numbers, carrier, farthest, table, drift, room)
            tones = horizontal_sum(load(own, WEIGHT * WIDTH) * foreseen)
            expected, unsure = _ar_predict(tones, model, past, blurred)
            error = x - expected
            whole = _innovation_variance(own, room, d, unsure)
            wide = max(horizontal_sum(load(own, WEIGHT * WIDTH) * whole), unsure)
            heard, error = _gate_innovation(numbers, heard, error, wide)
            if heard:
                numbers[PEAK] = max(numbers[PEAK], abs(x))
                surprise = tones + error - foreseen
                whole = 1.0 / maximum(whole, unsure)
                _update_pll(own, farthest, whole * surprise, room)
                _update(own, whole, surprise, room, d)
                _update_likelihoods(own, numbers, table, surprise, error, unsure, k_tones)
            if not heard:  # nothing is foretold to be larger than what has been
                x = min(max(expected, -numbers[PEAK]), numbers[PEAK])
            rest = x - _mixture_estimate(own, carrier, gains, phasors[b, t])
            update_spread(own, numbers, table, k_tones)
            if heard:
                update_ar_moments(
                    own, numbers, left, model, carrier, noise, rest, unsure, turn, gains, vector
                )
            for i in range(ORDER - 1, 0, -1):
                past[i], left[i], blurred[i] = past[i - 1], left[i - 1], blurred[i - 1]
            past[0], left[0], blurred[0] = x, rest, 0.0 if heard else unsure
            numbers[AGE] += 1
            if numbers[AGE] % GATING_INTERVAL == 0:
                _reset_diverged(own, DIVERGENCE_RATIO * numbers[PEAK], gains)
                posterior_weights(own)
                for k in range(k_tones):
                    gating_features(
                        k, own, numbers, turn, features[b, frame, k], variances[b, frame, k]
                    )
                frame += 1
            _advance_carrier(carrier, steps)


@njit(inline="always", **JIT_OPTIONS)
def _predict(
    own: np.ndarray, numbers: np.ndarray, carrier: np.ndarray, farthest: np.ndarray,
    table: np.ndarray, drift: float, room: np.ndarray,
) -> Any:  # fmt: skip
    """What every candidate foretells; into ``room`` its regressors, and how far it trusts its loop.

    On the way the phasors turn as far as they follow, and all variances grow.
    """
    k_tones = len(farthest)
    d = 2 * k_tones + 1
    spread, offset = MEAN + d, MEAN + d + d * d
    response = offset + k_tones
    ages = load(own, FILTER_AGE * WIDTH)
    level = splat(numbers[AR_DC_GAIN])
    store(room, (d - 1) * WIDTH, level)
    foreseen = load(own, (MEAN + d - 1) * WIDTH) * level
    at = (spread + d * d - 1) * WIDTH
    store(own, at, load(own, at) + drift)
    for k in range(k_tones):
        c, s = carrier[k, 0], carrier[k, 1]
        x = load(own, (response + 2 * k) * WIDTH)
        y = load(own, (response + 2 * k + 1) * WIDTH)
        first, second = x * s + y * c, x * c - y * s
        store(room, 2 * k * WIDTH, first)
        store(room, (2 * k + 1) * WIDTH, second)
        strong = x * x + y * y + TINY
        turned = load(own, (offset + k) * WIDTH)
        half = turned * turned
        one = 1.0 - half * (0.5 - half * (1.0 / 24))
        two = turned * (1.0 - half * (1.0 / 6 - half * (1.0 / 120)))
        x, y = load(own, (MEAN + 2 * k) * WIDTH), load(own, (MEAN + 2 * k + 1) * WIDTH)
        p, q = x * one - y * two, x * two + y * one
        store(own, (MEAN + 2 * k) * WIDTH, p)
        store(own, (MEAN + 2 * k + 1) * WIDTH, q)
        foreseen = foreseen + first * p + second * q
        # A coefficient walks, and more so while its frequency is being found out.
        i, a = (spread + 2 * k * (d + 1)) * WIDTH, (spread + (2 * k + 1) * (d + 1)) * WIDTH
        wide = load(own, i) + load(own, a)
        loud = p * p + q * q
        doubt = (
            4.0 * wide * (numbers[NOISE_VAR] + UNINFORMED_RATIO / PRIOR_VAR_TONE * strong * loud)
            + TINY
        )
        sure = loud / (loud + doubt)
        likely = farthest[k] / OFFSET_PRIOR_RATIO
        shown = likely * likely / (1.0 + likely * likely * ages * ages)
        sure = sure * sure * load(table, TRACKS_FREQUENCY * WIDTH)
        more = (load(table, PROCESS_NOISE * WIDTH) + sure * (PLL_PROCESS_NOISE * shown)) / strong
        store(own, i, load(own, i) + more)
        store(own, a, load(own, a) + more)
        store(room, (2 * d + k) * WIDTH, sure)
    return foreseen


@njit(inline="always", **JIT_OPTIONS)
def _ar_predict(
    tones: float, model: np.ndarray, past: np.ndarray, blurred: np.ndarray
) -> tuple[float, float]:
    """What a sample is expected to be, tones and all, and how uncertain that is over the noise."""
    expected, unsure = tones, 1.0
    for i in range(ORDER):
        expected -= model[i + 1] * past[i]
        # What of the past was only foretold makes the next sample as uncertain.
        unsure += model[i + 1] * model[i + 1] * blurred[i]
    return expected, min(unsure, MAX_IMPUTED_VAR)


@njit(inline="always", **JIT_OPTIONS)
def _innovation_variance(own: np.ndarray, room: np.ndarray, d: int, unsure: float) -> Any:
    """How uncertain each candidate's forecast is; into ``room``, what it lets a sample tell of."""
    spread, reach = MEAN + d, d
    whole = splat(unsure)
    for i in range(d):
        at = (spread + i * d) * WIDTH
        far = load(own, at) * load(room, 0)
        for a in range(1, d):
            far = far + load(own, at + a * WIDTH) * load(room, a * WIDTH)
        whole = whole + far * load(room, i * WIDTH)
        store(room, (reach + i) * WIDTH, far)
    return whole


@njit(inline="always", **JIT_OPTIONS)
def _gate_innovation(
    numbers: np.ndarray, heard: bool, error: float, wide: float
) -> tuple[bool, float]:
    """Whether the sample is one that the noise would make, and its error; counts what was heard."""
    power = numbers[NOISE_VAR]
    usual = (
        numbers[N_OBSERVED] <= N_WARM_UP or error * error <= GATE_SIGMA * GATE_SIGMA * power * wide
    )
    numbers[REJECT_RATE] += ((0.0 if usual or not heard else 1.0) - numbers[REJECT_RATE]) / 8
    heard = heard and (usual or numbers[REJECT_RATE] >= MAX_REJECT_RATE)
    numbers[MISSING_RATE] += ((0.0 if heard else 1.0) - numbers[MISSING_RATE]) / min(
        64.0, numbers[AGE] + 1.0
    )
    if not heard:
        return False, 0.0
    numbers[N_OBSERVED] += 1
    age, squared = min(numbers[N_OBSERVED], NOISE_VAR_MEMORY), error * error / wide
    if usual and age > N_WARM_UP:
        squared = min(squared, 9.0 * power) * 1.02
    least = NOISE_VAR_FLOOR * numbers[PEAK] * numbers[PEAK]
    numbers[NOISE_VAR] = max(power + (squared - power) / age, least)
    return True, error


@njit(inline="always", **JIT_OPTIONS)
def _update_pll(own: np.ndarray, farthest: np.ndarray, moved: Any, room: np.ndarray) -> None:
    """Every loop turns its frequency by what a sample turns its phasor."""
    k_tones = len(farthest)
    d = 2 * k_tones + 1
    spread, offset = MEAN + d, MEAN + d + d * d
    response = offset + k_tones
    for k in range(k_tones):
        i, a = 2 * k, 2 * k + 1
        x, y = load(own, (MEAN + i) * WIDTH), load(own, (MEAN + a) * WIDTH)
        wide = load(own, (spread + i * (d + 1)) * WIDTH)
        wide = wide + load(own, (spread + a * (d + 1)) * WIDTH)
        p, q = load(own, (response + i) * WIDTH), load(own, (response + a) * WIDTH)
        rate = minimum(0.25 * wide * (p * p + q * q), 0.5)
        p, q = load(room, (d + i) * WIDTH), load(room, (d + a) * WIDTH)
        turned = (x * q - y * p) * moved / (x * x + y * y + TINY)
        at = (offset + k) * WIDTH
        found = load(own, at) + PLL_GAIN_RATIO * rate * load(room, (2 * d + k) * WIDTH) * turned
        store(own, at, minimum(maximum(found, -farthest[k]), farthest[k]))


@njit(inline="always", **JIT_OPTIONS)
def _update(own: np.ndarray, inverse: Any, surprise: Any, room: np.ndarray, d: int) -> None:
    """Means and covariances after a sample."""
    spread = MEAN + d
    for i in range(d):
        far = load(room, (d + i) * WIDTH)
        gain = far * inverse
        at = (MEAN + i) * WIDTH
        store(own, at, load(own, at) + gain * surprise)
        for a in range(i):
            at = (spread + i * d + a) * WIDTH
            renewed = load(own, at) - gain * load(room, (d + a) * WIDTH)
            store(own, at, renewed)
            store(own, (spread + a * d + i) * WIDTH, renewed)
        at = (spread + i * (d + 1)) * WIDTH
        store(own, at, maximum(load(own, at) - gain * far, 1e-12))


@njit(inline="always", **JIT_OPTIONS)
def _update_likelihoods(
    own: np.ndarray, numbers: np.ndarray, table: np.ndarray, surprise: Any, error: float,
    unsure: float, k_tones: int,
) -> None:  # fmt: skip
    """What the sample says for every candidate; who is far behind begins anew."""
    ages = load(own, FILTER_AGE * WIDTH) + 1.0
    store(own, FILTER_AGE * WIDTH, ages)
    inverse = 1.0 / (2 * numbers[NOISE_VAR] * unsure + TINY)
    gone = surprise * surprise * inverse
    more = minimum((gone - lane_shift(gone)) * load(table, HAS_SHORTER * WIDTH), MAX_LOG_LIKELIHOOD)
    store(own, CUSUM * WIDTH, maximum(load(own, CUSUM * WIDTH) + more, 0.0))
    gone = minimum(gone, MAX_LOG_LIKELIHOOD)
    store(own, LOG_WEIGHT * WIDTH, load(own, LOG_WEIGHT * WIDTH) * (1 - 1 / WEIGHT_MEMORY) - gone)
    at = LIKELIHOOD_GAIN * WIDTH
    kept = minimum(load(table, LIKELIHOOD_WINDOW * WIDTH), ages + 10.0)
    better = gone - min(error * error * inverse, MAX_LOG_LIKELIHOOD) - load(own, at)
    store(own, at, load(own, at) + better / kept)
    if any_above(load(own, CUSUM * WIDTH), CUSUM_THRESHOLD):
        d = 2 * k_tones + 1
        _restart_from_shorter(own, MEAN + d + d * d + 5 * k_tones, table)


@njit(**JIT_OPTIONS)
def _restart_from_shorter(own: np.ndarray, n_rows: int, table: np.ndarray) -> None:
    """Candidates that foretell worse than the next shorter one go on from where that stands."""
    for j in range(1, WIDTH):
        if own[CUSUM * WIDTH + j] > CUSUM_THRESHOLD:
            for row in range(FILTER_AGE, n_rows):
                own[row * WIDTH + j] = own[row * WIDTH + j - 1]
            shorter = table[MEMORY * WIDTH + j - 1]
            own[FILTER_AGE * WIDTH + j] = min(own[FILTER_AGE * WIDTH + j - 1], shorter)
            own[CUSUM * WIDTH + j] = 0.0


@njit(**JIT_OPTIONS)
def _reset_diverged(own: np.ndarray, most: float, gains: np.ndarray) -> None:
    """Candidates of absurd tones begin anew as the shortest, or, if that is one, from nothing.

    Of many tones that are hardly told apart, what follows one may drive off another.
    """
    k_tones = len(gains)
    d = 2 * k_tones + 1
    for j in range(WIDTH):
        sane = True
        for k in range(k_tones):
            x, y = own[(MEAN + 2 * k) * WIDTH + j], own[(MEAN + 2 * k + 1) * WIDTH + j]
            size = (x * x + y * y) * (gains[k, 0] ** 2 + gains[k, 1] ** 2)
            sane = sane and size <= most * most
        if not sane:
            for row in range(FILTER_AGE, MEAN + d + d * d + 5 * k_tones):
                own[row * WIDTH + j] = own[row * WIDTH]
            own[CUSUM * WIDTH + j] = 0.0
            if j == 0:
                for row in range(MEAN, MEAN + d):
                    own[row * WIDTH] = 0.0


@njit(inline="always", **JIT_OPTIONS)
def _mixture_estimate(
    own: np.ndarray, carrier: np.ndarray, gains: np.ndarray, phasors: np.ndarray
) -> float:
    """The tones in a sample by all candidates together; and the phasors (K, 2, M) of each."""
    shares, tones = load(own, WEIGHT * WIDTH), 0.0
    for k in range(len(gains)):
        p, q = load(own, (MEAN + 2 * k) * WIDTH), load(own, (MEAN + 2 * k + 1) * WIDTH)
        store(phasors[k, 0], 0, p)
        store(phasors[k, 1], 0, q)
        c, s = carrier[k, 0], carrier[k, 1]
        tones += horizontal_sum(shares * p) * (gains[k, 0] * s + gains[k, 1] * c)
        tones += horizontal_sum(shares * q) * (gains[k, 0] * c - gains[k, 1] * s)
    return tones


@njit(inline="always", **JIT_OPTIONS)
def _advance_carrier(carrier: np.ndarray, steps: np.ndarray) -> None:
    """The carriers a step on, held to length 1."""
    for k in range(len(carrier)):
        c = carrier[k, 0] * steps[k, 0] - carrier[k, 1] * steps[k, 1]
        s = carrier[k, 1] * steps[k, 0] + carrier[k, 0] * steps[k, 1]
        size = 1.5 - 0.5 * (c * c + s * s)
        carrier[k, 0], carrier[k, 1] = c * size, s * size
