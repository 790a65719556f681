"""Search for a line near each nominal frequency; filters that track the frequency begin at it.

Whitened samples without the other tones, v[n] = nu[n] + (what the mixture predicts of tone k), are
mixed down by the tone's carrier and summed over blocks of `SEARCH_BLOCK` steps. Every
`SEARCH_INTERVAL` blocks a periodogram of the last blocks is evaluated over the offsets of the
range, for two lengths:

    I(delta) = |sum_b s_b exp(-i delta b)|^2 / sum_b |s_b|^2

In white noise I is exponentially distributed with mean 1, so that the largest of m independent ones
exceeds I with probability m exp(-I). A line is found where this is below `FALSE_ALARM`, inside the
range. A filter that tracks the frequency, and whose own offset lies off the line and explains much
less, restarts at the line: with its offset, and with the phasor that the periodogram implies.

Reference: D. C. Rife, R. R. Boorstyn, Single-tone parameter estimation from discrete-time
observations, IEEE Trans. Information Theory 20 (1974) 591-598.

Axes: K tones, M filters, C blocks.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.kalman_bank.state import (
    AGE,
    BORROWING,
    MEMORY,
    N_SEARCH_BLOCKS,
    SEARCH_BLOCK,
    TINY,
    TRACKS_FREQUENCY,
    BankModel,
    BankState,
)
from tonesieve.kernels.simd import WIDTH

# Blocks between two searches, and blocks of the periodograms. Chosen, not tuned.
SEARCH_INTERVAL, LENGTHS = 8, (16, N_SEARCH_BLOCKS)
# Largest probability that noise alone is taken for a line, in one search; chosen, not tuned.
FALSE_ALARM = 1e-4
# A filter restarts if the line explains more than its own offset by this much of I, which is twice
# a log-likelihood ratio of exp(5). Chosen, not tuned.
MIN_ADVANTAGE = 10.0
# Shortest memory (steps) of a filter that restarts; shorter ones find a line by themselves. Chosen,
# not tuned.
MIN_MEMORY = 80.0


@njit(**BORROWING)
def update_search(state: BankState, model: BankModel) -> None:
    """Take over the sums of a block of the likelihoods at its end; search at times."""
    age = int(state.scalars[AGE])
    ends = age % SEARCH_BLOCK == 0
    for k in range(len(model.omega)):
        for part in range(2):
            state.search_sum[k, part] += state.block_sum[k, part]
            if ends:
                row = state.search_blocks[k, part]
                for i in range(N_SEARCH_BLOCKS - 1, 0, -1):
                    row[i] = row[i - 1]
                row[0] = state.search_sum[k, part]
                state.search_sum[k, part] = 0.0
        n_blocks = age // SEARCH_BLOCK
        if ends and n_blocks % SEARCH_INTERVAL == 0:
            _search(state, model, k, min(n_blocks, N_SEARCH_BLOCKS))


@njit(**BORROWING)
def _transform(blocks: np.ndarray, n: int, offset: float) -> tuple[float, float]:
    """The sum of the last n blocks, turned by an offset (rad a step) to the latest one's middle."""
    c, s = math.cos(SEARCH_BLOCK * offset), math.sin(SEARCH_BLOCK * offset)
    x, y, cosine, sine = 0.0, 0.0, 1.0, 0.0
    for i in range(n):
        # Of a block i earlier, the phase is i blocks behind.
        x += blocks[0, i] * cosine - blocks[1, i] * sine
        y += blocks[0, i] * sine + blocks[1, i] * cosine
        cosine, sine = cosine * c - sine * s, cosine * s + sine * c
    return x, y


@njit(**BORROWING)
def _search(state: BankState, model: BankModel, k: int, n_filled: int) -> None:
    """Look for a line near tone k, and restart filters at it."""
    blocks = state.search_blocks[k]
    found_offset, found_length, best = 0.0, 0, 0.0
    for length in LENGTHS:
        if length > n_filled:
            continue
        energy = TINY
        for i in range(length):
            energy += blocks[0, i] ** 2 + blocks[1, i] ** 2
        spacing = np.pi / (SEARCH_BLOCK * length)  # half of what the periodogram resolves
        n_side = max(int(model.max_offset[0, k] / spacing), 1)
        largest, at, before, after, last = 0.0, -n_side - 1, 0.0, 0.0, 0.0
        for i in range(-n_side, n_side + 1):
            x, y = _transform(blocks, length, i * spacing)
            power = (x * x + y * y) / energy
            if at == i - 1:
                after = power
            if power > largest:
                largest, at, before = power, i, last
            last = power
        is_inside = -n_side < at < n_side
        excess = largest - math.log((n_side + 1) / FALSE_ALARM)
        if is_inside and excess > best:
            # The vertex of a parabola through the largest and its neighbours.
            curvature = 2 * largest - before - after
            shift = 0.5 * (after - before) / curvature if curvature > 0 else 0.0
            found_offset, found_length, best = (at + shift) * spacing, length, excess
    state.found[k, 0], state.found[k, 1] = found_offset, best
    if found_length:
        _restart_at_line(state, model, k, found_offset, found_length)


@njit(**BORROWING)
def _restart_at_line(
    state: BankState, model: BankModel, k: int, offset: float, length: int
) -> None:
    """Filters that track the frequency of tone k and lost the line begin at it."""
    blocks = state.search_blocks[k]
    n_steps = SEARCH_BLOCK * length
    energy = TINY
    for i in range(length):
        energy += blocks[0, i] ** 2 + blocks[1, i] ** 2
    x, y = _transform(blocks, length, offset)
    explained = (x * x + y * y) / energy
    # From the middle of the latest block to the present step.
    angle = 0.5 * SEARCH_BLOCK * offset
    x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    for j in range(WIDTH):
        own = state.freq_offset[k, j]
        if (
            model.table[TRACKS_FREQUENCY, j] == 0
            or model.table[MEMORY, j] < MIN_MEMORY
            or abs(own - offset) * n_steps < np.pi
        ):
            continue
        x_own, y_own = _transform(blocks, length, own)
        if explained - (x_own * x_own + y_own * y_own) / energy < MIN_ADVANTAGE:
            continue
        # The sum is n_steps G Z / 2i, with G the response of the tone.
        g_real, g_imaginary = state.response[k, 0, j], state.response[k, 1, j]
        scale = 2.0 / (n_steps * (g_real * g_real + g_imaginary * g_imaginary) + TINY)
        p, q = 2 * k, 2 * k + 1
        state.x[p, j] = -scale * (y * g_real - x * g_imaginary)
        state.x[q, j] = scale * (x * g_real + y * g_imaginary)
        state.freq_offset[k, j] = offset
        state.filter_age[j] = float(n_steps)
        state.cusum[j] = 0.0
        for i in range(len(state.x)):
            for a in (p, q):
                state.P[i, a, j], state.P[a, i, j] = 0.0, 0.0
        state.P[p, p, j] = state.P[q, q, j] = 2 * scale
