"""Many trackers of the same tones at once, and the evidence for each: what a network judges by.

Every candidate is a Kalman filter of oscillators with a memory of its own; half of them follow
their tones' frequencies by phase-locked loops. All hear the same samples: cleaned of what no noise
would do, and whitened by an autoregression that is fitted to what the tones leave. A candidate with
a long memory that foretells worse than the next shorter one begins anew from there (a CUSUM of
their likelihood ratio). Axes: B streams, N steps, K tones, M candidates, D = 2 K + 1 coefficients
(sines, cosines, level), P orders of the autoregression.

A tone is Im(Z exp(i theta)), theta its nominal phase, Z its phasor.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.arithmetic import FAST
from tonesieve.kernels.lanes import (
    WIDTH,
    any_above,
    largest,
    load,
    shifted,
    smallest,
    store,
    total,
)

ORDER = 16  # of the autoregression, at most
FRAME = 8  # steps between two looks at the evidence
# Variances expected of a coefficient and of the level, over the noise's.
TONE, LEVEL = 100.0, 1e4
# The loop's gain beside the filter's; growth of a coefficient's variance while a frequency is told.
LOOP, GROWTH, UNTOLD = 0.375, 24.0, 20.0
# A frequency is mostly nearer to its name than it may go, by this factor.
LIKELY = 8.0
# The level follows what is slower than the lowest tone by this factor.
BELOW = 8.0
# Beyond so many standard deviations a sample is no noise, unless so large a share of the last is;
# it takes so many samples to know what is usual.
OUTLIER, OFTEN, USUAL = 4.5, 0.35, 12.0
UNHEARD_OF = 50.0  # as a log-likelihood: more tells no more
# Evidence at which a candidate begins anew; memory of the odds by which the tones are taken off.
ENOUGH, LATELY = 10.0, 100.0
# Memory of the autoregression; what each of its coefficients must explain (a log-likelihood, x 2).
NOISE_MEMORY, PRICE = 2000.0, 4.0
SCALE_MEMORY = 64.0
# No noise is whiter than this: of its power, so much is left unexplained.
FLOOR = 1e-11
EXTRAS = 8  # features that are of no candidate
TINY = 1e-300
# No variance is more than so many times what was expected at first.
MOST = 100.0
# A sample that comes after a gap is at most so uncertain, over the noise.
UNKNOWN = 1e12

# Rows of a stream's state that hold a number a candidate; the coefficients' means come next, and
# then their covariances, offsets, responses (K, 2), and distances to the neighbour (K, 2).
ODDS, SHARES, CUSUM, ADVANTAGE, AGES, MEAN = range(6)
# Numbers of the stream.
AGE, NEXT, POWER, OUTLIERS, GAPS, FITTED, ORIGIN, LEVEL_RESPONSE, HEARD = range(9)
N_NUMBERS = 9
# Rows of the table that says what the candidates are.
WALK, FOLLOWS, CHAINED, TOLD, SEEN, MEMORY = range(6)


def n_state(n_tones: int) -> int:
    """Numbers in a stream's state."""
    k, d = n_tones, 2 * n_tones + 1
    v = d + ORDER + 1
    return WIDTH * (MEAN + d + d * d + 5 * k) + N_NUMBERS + 4 * ORDER + 1 + 2 * k + v * v


def age_place(n_tones: int) -> int:
    """Where in a stream's state the steps so far are counted."""
    d = 2 * n_tones + 1
    return WIDTH * (MEAN + d + d * d + 5 * n_tones) + AGE


def n_features() -> int:
    """Of a tone: four of every candidate, and what is of none."""
    return 4 * WIDTH + EXTRAS


@njit(inline="always", **FAST)
def _parts(own: np.ndarray, k: int) -> tuple:
    """What of a stream's state is of no candidate."""
    d = 2 * k + 1
    v = d + ORDER + 1
    at = WIDTH * (MEAN + d + d * d + 5 * k)
    numbers = own[at : at + N_NUMBERS]
    at += N_NUMBERS
    past = own[at : at + ORDER]
    at += ORDER
    left = own[at : at + ORDER]
    at += ORDER
    blurred = own[at : at + ORDER]
    at += ORDER
    model = own[at : at + ORDER + 1]
    at += ORDER + 1
    carrier = own[at : at + 2 * k].reshape(k, 2)
    at += 2 * k
    return numbers, past, left, blurred, model, carrier, own[at : at + v * v].reshape(v, v)


@njit(**FAST)
def begin(state: np.ndarray, gains: np.ndarray) -> None:
    """Streams (B, S) that have heard nothing; ``gains`` (K, 2): how a tone stands in samples."""
    k = len(gains)
    d = 2 * k + 1
    state[:] = 0
    for b in range(len(state)):
        own = state[b]
        numbers, _, _, _, model, carrier, _ = _parts(own, k)
        numbers[NEXT], numbers[LEVEL_RESPONSE], numbers[ORIGIN] = USUAL, 1.0, np.nan
        model[0] = 1.0
        carrier[:, 0] = 1.0
        own[SHARES * WIDTH : (SHARES + 1) * WIDTH] = 1.0 / WIDTH
        spread, response = MEAN + d, MEAN + d + d * d + k
        for j in range(WIDTH):
            for i in range(d):
                own[(spread + i * d + i) * WIDTH + j] = TONE if i < d - 1 else LEVEL
            for i in range(k):
                own[(response + 2 * i) * WIDTH + j] = gains[i, 0]
                own[(response + 2 * i + 1) * WIDTH + j] = gains[i, 1]


@njit(**FAST)
def _respond(own: np.ndarray, model: np.ndarray, turn: np.ndarray, gains: np.ndarray) -> None:
    """How the whitened samples answer each candidate's tones."""
    k_tones = len(turn)
    d = 2 * k_tones + 1
    offset = MEAN + d + d * d
    response = offset + k_tones
    for k in range(k_tones):
        for j in range(WIDTH):
            angle = turn[k] + own[(offset + k) * WIDTH + j]
            c, s = math.cos(angle), math.sin(angle)
            x, y = 1.0, 0.0
            real, imaginary = 0.0, 0.0
            for i in range(ORDER + 1):
                real += model[i] * x
                imaginary += model[i] * y
                x, y = x * c + y * s, y * c - x * s
            one, two = gains[k, 0], gains[k, 1]
            own[(response + 2 * k) * WIDTH + j] = one * real - two * imaginary
            own[(response + 2 * k + 1) * WIDTH + j] = one * imaginary + two * real


@njit(**FAST)
def _fit_noise(numbers: np.ndarray, model: np.ndarray, noise: np.ndarray, d: int) -> float:
    """The autoregression that the residuals ask for; answers its noise power."""
    v = d + ORDER + 1
    root = np.zeros((v, v))
    n_heard = min(0.75 * numbers[HEARD], NOISE_MEMORY)
    for i in range(v):
        for j in range(i + 1):
            rest = noise[i, j]
            for k in range(j):
                rest -= root[i, k] * root[j, k]
            if i == j:
                root[i, i] = math.sqrt(max(rest, FLOOR * noise[i, i]) + TINY)
            else:
                root[i, j] = rest / root[j, j]
    # What is left unexplained with the constant and the tones, and with 1, 2, ... samples past.
    unexplained = noise[v - 1, v - 1]
    for k in range(d):
        unexplained -= root[v - 1, k] ** 2
    floor = FLOOR * noise[v - 1, v - 1] + TINY
    unexplained = max(unexplained, floor)
    most = min(ORDER, int(n_heard / 6))
    white = unexplained
    best, order, power = n_heard * math.log(unexplained), 0, unexplained
    for q in range(1, most + 1):
        unexplained = max(unexplained - root[v - 1, d + q - 1] ** 2, floor)
        worth = n_heard * math.log(unexplained) + PRICE * q
        if worth < best:
            best, order, power = worth, q, unexplained
    numbers[FITTED] = order
    model[:] = 0
    model[0] = 1.0
    n = d + order
    for i in range(n - 1, d - 1, -1):
        rest = root[v - 1, i]
        for k in range(i + 1, n):
            rest += root[k, i] * model[k - d + 1]
        model[i - d + 1] = -rest / root[i, i]
    # No polynomial whose roots lie within the circle has larger coefficients: these are rounding.
    if not np.abs(model).sum() <= 8.0 * 2.0**order:
        model[1:] = 0
        numbers[FITTED], power, n = 0.0, white, d
    return power * n_heard / max(n_heard - n, 1.0)


@njit(**FAST)
def _renew_model(
    own: np.ndarray, numbers: np.ndarray, model: np.ndarray, noise: np.ndarray,
    turn: np.ndarray, gains: np.ndarray,
) -> None:  # fmt: skip
    """A new autoregression, and what the candidates know in its terms.

    As many samples as before are worth what they would be now; where the noise has turned out to
    be far less than it seemed, they are worth what they were.
    """
    k_tones = len(turn)
    d = 2 * k_tones + 1
    spread, response = MEAN + d, MEAN + d + d * d + k_tones
    strong = np.empty((k_tones, WIDTH))
    for k in range(k_tones):
        for j in range(WIDTH):
            at = (response + 2 * k) * WIDTH + j
            strong[k, j] = own[at] ** 2 + own[at + WIDTH] ** 2
    before = numbers[LEVEL_RESPONSE]
    power = _fit_noise(numbers, model, noise, d) * numbers[POWER]
    _respond(own, model, turn, gains)
    numbers[LEVEL_RESPONSE] = model.sum()
    fall = numbers[POWER] / max(power, TINY)
    least = math.sqrt(fall) if fall > 1.5 else 0.0
    if fall > 1.5:
        numbers[POWER] = power
    level = min(max(abs(before) / max(abs(numbers[LEVEL_RESPONSE]), 1e-9), 1e-3), 1e3)
    for j in range(WIDTH):
        for i in range(d):
            wider, most = level, MOST * LEVEL
            if i < d - 1:
                k = i // 2
                at = (response + 2 * k) * WIDTH + j
                now = own[at] ** 2 + own[at + WIDTH] ** 2 + TINY
                wider, most = math.sqrt(strong[k, j] / now), MOST * TONE / now
            at = (spread + i * (d + 1)) * WIDTH + j
            wider = min(max(wider, least), math.sqrt(most / (own[at] + TINY)))
            for a in range(d):
                own[(spread + i * d + a) * WIDTH + j] *= wider
                own[(spread + a * d + i) * WIDTH + j] *= wider


@njit(**FAST)
def _restart(own: np.ndarray, n_rows: int, table: np.ndarray) -> None:
    """Candidates that foretell worse than the next shorter one go on from where that stands."""
    for j in range(1, WIDTH):
        if own[CUSUM * WIDTH + j] > ENOUGH:
            for row in range(AGES, n_rows):
                own[row * WIDTH + j] = own[row * WIDTH + j - 1]
            shorter = table[MEMORY * WIDTH + j - 1]
            own[AGES * WIDTH + j] = min(own[AGES * WIDTH + j - 1], shorter)
            own[CUSUM * WIDTH + j] = 0.0


@njit(**FAST)
def listen(
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
    candidates are. Frames end where the age is a multiple of `FRAME`.
    """
    n_streams, n_steps = samples.shape
    k_tones = len(turn)
    d = 2 * k_tones + 1
    v = d + ORDER + 1
    spread = MEAN + d
    offset = spread + d * d
    response, apart = offset + k_tones, offset + 3 * k_tones
    n_rows = offset + 5 * k_tones
    scratch = np.empty(3 * d * WIDTH)
    rows, reach, pull = 0, d * WIDTH, 2 * d * WIDTH
    vector, steps = np.empty(v), np.empty((k_tones, 2))
    drift = (turn.min() / BELOW) ** 2
    for k in range(k_tones):
        steps[k, 0], steps[k, 1] = math.cos(turn[k]), math.sin(turn[k])
    for b in range(n_streams):
        own = state[b]
        numbers, past, left, blurred, model, carrier, noise = _parts(own, k_tones)
        frame = 0
        for t in range(n_steps):
            heard = not np.isnan(samples[b, t])
            if heard and np.isnan(numbers[ORIGIN]):
                numbers[ORIGIN] = samples[b, t]
            # A stream that stands still has not begun.
            heard = heard and (numbers[HEARD] > 0 or samples[b, t] != numbers[ORIGIN])
            # Every candidate foretells.
            power, ages = numbers[POWER], load(own, AGES * WIDTH)
            foreseen = load(own, (MEAN + d - 1) * WIDTH) * numbers[LEVEL_RESPONSE]
            at = (spread + d * d - 1) * WIDTH
            store(own, at, load(own, at) + drift)
            for k in range(k_tones):
                c, s = carrier[k, 0], carrier[k, 1]
                x = load(own, (response + 2 * k) * WIDTH)
                y = load(own, (response + 2 * k + 1) * WIDTH)
                first, second = x * s + y * c, x * c - y * s
                store(scratch, rows + 2 * k * WIDTH, first)
                store(scratch, rows + (2 * k + 1) * WIDTH, second)
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
                doubt = 4.0 * wide * (power + UNTOLD / TONE * strong * loud) + TINY
                sure = loud / (loud + doubt)
                likely = farthest[k] / LIKELY
                shown = likely * likely / (1.0 + likely * likely * ages * ages)
                sure = sure * sure * load(table, FOLLOWS * WIDTH)
                more = (load(table, WALK * WIDTH) + sure * (GROWTH * shown)) / strong
                store(own, i, load(own, i) + more)
                store(own, a, load(own, a) + more)
                store(scratch, pull + k * WIDTH, sure)
            store(scratch, rows + (d - 1) * WIDTH, load(own, 0) * 0.0 + numbers[LEVEL_RESPONSE])
            # Is the sample one that the noise would make?
            shares = load(own, SHARES * WIDTH)
            expected = total(shares * foreseen)
            for i in range(ORDER):
                expected -= model[i + 1] * past[i]
            error = samples[b, t] - numbers[ORIGIN] - expected
            # What of the past was only foretold makes the next sample as uncertain.
            unsure = 1.0
            for i in range(ORDER):
                unsure += model[i + 1] * model[i + 1] * blurred[i]
            unsure = min(unsure, UNKNOWN)
            whole = load(own, 0) * 0.0 + unsure
            for i in range(d):
                at = (spread + i * d) * WIDTH
                far = load(own, at) * load(scratch, rows)
                for a in range(1, d):
                    far = far + load(own, at + a * WIDTH) * load(scratch, rows + a * WIDTH)
                whole = whole + far * load(scratch, rows + i * WIDTH)
                store(scratch, reach + i * WIDTH, far)
            # What an error is measured by: the noise, and what is not known of the tones yet.
            wide = max(total(shares * whole), unsure)
            usual = numbers[HEARD] <= USUAL or error * error <= OUTLIER * OUTLIER * power * wide
            numbers[OUTLIERS] += ((0.0 if usual or not heard else 1.0) - numbers[OUTLIERS]) / 8
            heard = heard and (usual or numbers[OUTLIERS] >= OFTEN)
            error = error if heard else 0.0
            numbers[GAPS] += ((0.0 if heard else 1.0) - numbers[GAPS]) / 64
            if heard:
                numbers[HEARD] += 1
                age, squared = min(numbers[HEARD], SCALE_MEMORY), error * error / wide
                if usual and age > USUAL:
                    squared = min(squared, 9.0 * power) * 1.02
                numbers[POWER] += (squared - power) / age
                inverse = 1.0 / (2 * numbers[POWER] * unsure + TINY)
                surprise = total(shares * foreseen) + error - foreseen
                whole = 1.0 / largest(whole, unsure)
                for k in range(k_tones):
                    i, a = 2 * k, 2 * k + 1
                    x, y = load(own, (MEAN + i) * WIDTH), load(own, (MEAN + a) * WIDTH)
                    p = load(own, (spread + i * (d + 1)) * WIDTH)
                    wide = p + load(own, (spread + a * (d + 1)) * WIDTH)
                    p, q = load(own, (response + i) * WIDTH), load(own, (response + a) * WIDTH)
                    rate = smallest(0.25 * wide * (p * p + q * q), 0.5)
                    p = load(scratch, reach + i * WIDTH)
                    q = load(scratch, reach + a * WIDTH)
                    turned = (x * q - y * p) * whole * surprise / (x * x + y * y + TINY)
                    sure = load(scratch, pull + k * WIDTH)
                    at = (offset + k) * WIDTH
                    moved = load(own, at) + LOOP * rate * sure * turned
                    store(own, at, smallest(largest(moved, -farthest[k]), farthest[k]))
                for i in range(d):
                    far = load(scratch, reach + i * WIDTH)
                    gain = far * whole
                    at = (MEAN + i) * WIDTH
                    store(own, at, load(own, at) + gain * surprise)
                    for a in range(i):
                        at = (spread + i * d + a) * WIDTH
                        renewed = load(own, at) - gain * load(scratch, reach + a * WIDTH)
                        store(own, at, renewed)
                        store(own, (spread + a * d + i) * WIDTH, renewed)
                    at = (spread + i * (d + 1)) * WIDTH
                    store(own, at, largest(load(own, at) - gain * far, 1e-12))
                ages = ages + 1.0
                store(own, AGES * WIDTH, ages)
                gone = surprise * surprise * inverse
                more = smallest((gone - shifted(gone)) * load(table, CHAINED * WIDTH), UNHEARD_OF)
                more = largest(load(own, CUSUM * WIDTH) + more, 0.0)
                store(own, CUSUM * WIDTH, more)
                gone = smallest(gone, UNHEARD_OF)
                at = ODDS * WIDTH
                store(own, at, load(own, at) * (1 - 1 / LATELY) - gone)
                at = ADVANTAGE * WIDTH
                kept = smallest(load(table, TOLD * WIDTH), ages + 10.0)
                better = gone - min(error * error * inverse, UNHEARD_OF) - load(own, at)
                store(own, at, load(own, at) + better / kept)
                if any_above(load(own, CUSUM * WIDTH), ENOUGH):
                    _restart(own, n_rows, table)
            # The tones together, and how far neighbours are apart.
            x0 = samples[b, t] - numbers[ORIGIN] if heard else expected
            rest = x0
            kept = 1.0 / smallest(load(table, SEEN * WIDTH), numbers[AGE] + 2.0)
            for k in range(k_tones):
                p, q = load(own, (MEAN + 2 * k) * WIDTH), load(own, (MEAN + 2 * k + 1) * WIDTH)
                store(phasors[b, t, k, 0], 0, p)
                store(phasors[b, t, k, 1], 0, q)
                c, s = carrier[k, 0], carrier[k, 1]
                rest -= total(shares * p) * (gains[k, 0] * s + gains[k, 1] * c)
                rest -= total(shares * q) * (gains[k, 0] * c - gains[k, 1] * s)
                vector[1 + 2 * k], vector[2 + 2 * k] = s, c
                p, q = p - shifted(p), q - shifted(q)
                at = (apart + 2 * k) * WIDTH
                store(own, at, load(own, at) + kept * (p * p + q * q - load(own, at)))
                wide = load(own, (spread + 2 * k * (d + 1)) * WIDTH)
                wide = wide + load(own, (spread + (2 * k + 1) * (d + 1)) * WIDTH)
                wider = shifted(wide)
                likely = largest(largest(wider - wide, wide - wider), 1e-3 * wider)
                at += WIDTH
                store(own, at, load(own, at) + kept * (likely * numbers[POWER] - load(own, at)))
            # The autoregression of what the tones leave.
            if heard:
                # What was heard while little was known counts less and less.
                fade = max(min(2.0 / (numbers[HEARD] + 1.0), 1.0), 1.0 / NOISE_MEMORY)
                loud = math.sqrt(numbers[POWER] * unsure + TINY)
                vector[0], vector[v - 1] = 1.0, rest
                for i in range(ORDER):
                    vector[d + i] = left[i]
                for i in range(v):
                    vector[i] /= loud
                for i in range(v):
                    for a in range(i + 1):
                        noise[i, a] += fade * (vector[i] * vector[a] - noise[i, a])
                if numbers[HEARD] >= numbers[NEXT]:
                    numbers[NEXT] += max(4.0, min(64.0, numbers[HEARD] / 4))
                    _renew_model(own, numbers, model, noise, turn, gains)
            for i in range(ORDER - 1, 0, -1):
                past[i], left[i], blurred[i] = past[i - 1], left[i - 1], blurred[i - 1]
            past[0], left[0], blurred[0] = x0, rest, 0.0 if heard else unsure
            numbers[AGE] += 1
            if numbers[AGE] % FRAME == 0:
                _share(own)
                for k in range(k_tones):
                    _tell(k, own, numbers, turn, features[b, frame, k], variances[b, frame, k])
                frame += 1
            for k in range(k_tones):
                c = carrier[k, 0] * steps[k, 0] - carrier[k, 1] * steps[k, 1]
                s = carrier[k, 1] * steps[k, 0] + carrier[k, 0] * steps[k, 1]
                size = 1.5 - 0.5 * (c * c + s * s)
                carrier[k, 0], carrier[k, 1] = c * size, s * size


@njit(**FAST)
def _share(own: np.ndarray) -> None:
    """Posterior shares of the candidates."""
    odds, shares = own[:WIDTH], own[SHARES * WIDTH : (SHARES + 1) * WIDTH]
    top, whole = odds.max(), 0.0
    for j in range(WIDTH):
        shares[j] = math.exp(max(odds[j] - top, -50.0))
        whole += shares[j]
    for j in range(WIDTH):
        shares[j] /= whole


@njit(inline="always", **FAST)
def _log(ratio: float) -> float:
    """A quarter of the logarithm, bounded."""
    return 0.25 * math.log(min(max(ratio, 1e-7), 1e7))


@njit(**FAST)
def _tell(
    k: int, own: np.ndarray, numbers: np.ndarray, turn: np.ndarray, features: np.ndarray,
    variances: np.ndarray,
) -> None:  # fmt: skip
    """What speaks for each candidate, for one tone."""
    k_tones = len(turn)
    d = 2 * k_tones + 1
    means, spread = (MEAN + 2 * k) * WIDTH, (MEAN + d + 2 * k * (d + 1)) * WIDTH
    response = (MEAN + d + d * d + k_tones + 2 * k) * WIDTH
    apart = (MEAN + d + d * d + 3 * k_tones + 2 * k) * WIDTH
    one, two, strong = 0.0, 0.0, 0.0
    for j in range(WIDTH):
        share = own[SHARES * WIDTH + j]
        one += share * own[means + j]
        two += share * own[means + WIDTH + j]
        strong += share * (own[response + j] ** 2 + own[response + WIDTH + j] ** 2)
    power = numbers[POWER] + TINY
    for j in range(WIDTH):
        variance = (own[spread + j] + own[spread + (d + 1) * WIDTH + j]) * power
        x, y = own[means + j], own[means + WIDTH + j]
        variances[j] = variance
        features[j] = _log((x * x + y * y) / (variance + TINY))
        features[WIDTH + j] = _log(own[apart + j] / (own[apart + WIDTH + j] + TINY))
        features[2 * WIDTH + j] = 0.5 * math.asinh(30 * own[ADVANTAGE * WIDTH + j])
        x, y = x - one, y - two
        features[3 * WIDTH + j] = _log((x * x + y * y) / (variance + TINY))
    at = 4 * WIDTH
    features[at] = math.log(min(numbers[AGE], 1e5)) / 6
    features[at + 1] = 4 * numbers[OUTLIERS]
    features[at + 2] = numbers[GAPS]
    features[at + 3] = numbers[FITTED] / ORDER
    features[at + 4] = _log((one * one + two * two) * strong / power)
    features[at + 5] = turn[k]
    features[at + 6] = _log(numbers[LEVEL_RESPONSE] ** 2 / (strong + TINY))
    features[at + 7] = 1.0 if k_tones > 1 else 0.0
