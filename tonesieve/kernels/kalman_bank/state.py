"""How the candidates of the pretrained extractor lie in memory, and how they begin.

A stream's state is one flat array. First come rows of one number a candidate: odds, shares, the
CUSUM against the next shorter one, how much better than all together it foretells, its age; the
means of its D coefficients, their covariances (D, D), how far each tone's frequency has been
followed (K), how whitened samples answer each tone (K, 2), and how far the tone is from the
neighbour's, as found and as expected (K, 2). Then what is of no candidate: numbers, the last
samples, residuals and doubts, the whitening filter, the carriers (K, 2), and the products that the
filter is fitted to. Axes: B streams, K tones, M candidates, D = 2 K + 1 coefficients.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.simd import WIDTH

ORDER = 16  # of the whitening filter, at most
# Variances expected of a coefficient and of the level, over the noise's.
PRIOR_VAR_TONE, PRIOR_VAR_DC = 100.0, 1e4
# Samples that it takes to know what is usual.
N_WARM_UP = 12.0
TINY = 1e-300

LOG_WEIGHT, WEIGHT, CUSUM, LIKELIHOOD_GAIN, FILTER_AGE, MEAN = range(6)
(
    AGE,
    NEXT_AR_FIT,
    NOISE_VAR,
    REJECT_RATE,
    MISSING_RATE,
    AR_ORDER,
    DC_OFFSET,
    AR_DC_GAIN,
    N_OBSERVED,
    PEAK,
) = range(10)
N_NUMBERS = 10
# Rows of the table that says what the candidates are.
PROCESS_NOISE, TRACKS_FREQUENCY, HAS_SHORTER, LIKELIHOOD_WINDOW, SPREAD_WINDOW, MEMORY, N_TABLE = (
    range(7)
)


def state_size(n_tones: int) -> int:
    """Numbers in a stream's state."""
    k, d = n_tones, 2 * n_tones + 1
    v = d + ORDER + 1
    return WIDTH * (MEAN + d + d * d + 5 * k) + N_NUMBERS + 4 * ORDER + 1 + 2 * k + v * v


def age_index(n_tones: int) -> int:
    """Where in a stream's state the steps so far are counted."""
    d = 2 * n_tones + 1
    return WIDTH * (MEAN + d + d * d + 5 * n_tones) + AGE


@njit(inline="always", **JIT_OPTIONS)
def unpack(own: np.ndarray, k: int) -> tuple:
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


@njit(**JIT_OPTIONS)
def init_state(state: np.ndarray, gains: np.ndarray) -> None:
    """Streams (B, S) that have heard nothing; ``gains`` (K, 2): how a tone stands in samples."""
    k = len(gains)
    d = 2 * k + 1
    state[:] = 0
    for b in range(len(state)):
        own = state[b]
        numbers, _, _, _, model, carrier, _ = unpack(own, k)
        numbers[NEXT_AR_FIT], numbers[AR_DC_GAIN], numbers[DC_OFFSET] = N_WARM_UP, 1.0, np.nan
        model[0] = 1.0
        carrier[:, 0] = 1.0
        own[WEIGHT * WIDTH : (WEIGHT + 1) * WIDTH] = 1.0 / WIDTH
        spread, response = MEAN + d, MEAN + d + d * d + k
        for j in range(WIDTH):
            for i in range(d):
                own[(spread + i * d + i) * WIDTH + j] = (
                    PRIOR_VAR_TONE if i < d - 1 else PRIOR_VAR_DC
                )
            for i in range(k):
                own[(response + 2 * i) * WIDTH + j] = gains[i, 0]
                own[(response + 2 * i + 1) * WIDTH + j] = gains[i, 1]
