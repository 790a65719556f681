"""The most probable path of a line through frames of a spectrum.

A line of frequency state k is on or off in every frame j. On, its amplitude is complex Gaussian
with the power s over the noise's, so that the power P of a frame over the noise's is exponential,
and the logarithm of its likelihood ratio to noise alone is

    P s / (1 + s) - log(1 + s);

off, it is 0. The state moves by up to R a frame, with a stated probability for each move, and turns
on and off with stated probabilities. The path maximises the sum of both logarithms.

Axes: J frames, K frequency states, 2 R + 1 moves.

References
----------
G. D. Forney, The Viterbi algorithm, Proc. IEEE 61, 1973. R. L. Streit, R. F. Barrett, Frequency
line tracking using hidden Markov models, IEEE Trans. ASSP 38, 1990.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS


@njit(**JIT_OPTIONS)
def best_path(
    power: np.ndarray, temper: float, snr: float, log_move: np.ndarray, log_turn: np.ndarray,
    path: np.ndarray, is_on: np.ndarray,
) -> float:  # fmt: skip
    """Write the path (J) and whether it is on (J); return the logarithm of its probability ratio.

    ``power`` (J, K) is over the noise's, NaN in gaps; ``temper`` is the share of a frame that is
    independent of the others; ``log_move`` has 7 moves at most; ``log_turn`` (2, 2) has the
    logarithm of the probability to go from off or on (row) to off or on (column).
    """
    n_frames, n_states = power.shape
    reach = len(log_move) // 2
    gain, cost = temper * snr / (1.0 + snr), temper * np.log1p(snr)
    score = np.full((2, n_states), -np.log(2.0 * n_states))
    moved = np.empty((2, n_states))
    # A byte a state, since there are many: the best move from off (3 bits) and from on (3 bits),
    # and where off (1 bit) and on (1 bit) came from.
    came_from = np.zeros((n_frames, n_states), dtype=np.uint8)
    for j in range(n_frames):
        if j > 0:
            for k in range(n_states):
                low, high = max(-reach, -k), min(reach, n_states - 1 - k)
                packed = 0
                for before in range(2):
                    top, top_move = -np.inf, 0
                    for d in range(low, high + 1):
                        value = score[before, k + d] + log_move[reach + d]
                        if value > top:
                            top, top_move = value, reach + d
                    moved[before, k] = top
                    packed |= top_move << (3 * before)
                for now in range(2):
                    if moved[1, k] + log_turn[1, now] > moved[0, k] + log_turn[0, now]:
                        packed |= 64 << now
                came_from[j, k] = packed
            for k in range(n_states):
                off, on = moved[0, k], moved[1, k]
                for now in range(2):
                    score[now, k] = max(off + log_turn[0, now], on + log_turn[1, now])
        for k in range(n_states):
            if not np.isnan(power[j, k]):
                score[1, k] += gain * power[j, k] - cost
    last_on, last = 0, 0
    for now in range(2):
        for k in range(n_states):
            if score[now, k] > score[last_on, last]:
                last_on, last = now, k
    total = score[last_on, last]
    for j in range(n_frames - 1, -1, -1):
        path[j], is_on[j] = last, last_on == 1
        if j > 0:
            packed = int(came_from[j, last])
            last_on = (packed >> (6 + last_on)) & 1
            last += ((packed >> (3 * last_on)) & 7) - reach
    return total
