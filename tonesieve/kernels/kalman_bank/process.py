"""From samples to tones, as they come: steps, evidence, weights and what follows from them.

Everything of a group of tones in one go, so that a single sample costs little more than its
arithmetic. Axes: B streams, T samples, N steps, K tones, R frames, M candidates, H hidden.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.decimator import N_MEMORY, N_STAGES, decimate
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.filter import GATING_INTERVAL, run_kalman_bank
from tonesieve.kernels.kalman_bank.gating import UNHEARD, dense, gru_step, mixture_log_std, softmax
from tonesieve.kernels.kalman_bank.state import N_TABLE, age_index, state_size
from tonesieve.kernels.simd import WIDTH, horizontal_sum, load

_age_place, _n_features, _n_state = njit(age_index), njit(n_features), njit(state_size)


@njit(**JIT_OPTIONS)
def process_block(
    samples: np.ndarray,
    first: int,
    memory: np.ndarray,
    sums: np.ndarray,
    listening: np.ndarray,
    hidden: np.ndarray,
    weights: np.ndarray,
    sure: np.ndarray,
    phasor: np.ndarray,
    turning: np.ndarray,
    widest: np.ndarray,
    window: np.ndarray,
    factor: int,
    turns: np.ndarray,
    gains: np.ndarray,
    farthest: np.ndarray,
    table: np.ndarray,
    taken: np.ndarray,
    carried: np.ndarray,
    head: np.ndarray,
    kept: float,
    phasors: np.ndarray,
    bands: np.ndarray,
    turned: np.ndarray,
) -> None:
    """Phasors, half-widths of bands and radians a step, (B, T, K), of samples (B, T).

    ``first`` is the number of the first sample. What is from ``memory`` to ``widest`` goes on: of a
    stream what thins (B, ...) and listens (B, S), the hidden state (B, K, H), the weights in force
    (B, K, M), the logarithm of the band (B, K), the last phasor and the running sum of turns
    (B, K), the largest sample (B). ``turns`` (K) are cycles a sample; the rest as for `run_kalman_bank`,
    `decimate`, `weigh`.
    """
    n_streams, n_samples = samples.shape
    k_tones = len(turns)
    turn = 2 * np.pi * factor * turns
    n_steps = (first + n_samples) // factor - first // factor
    steps = samples
    if factor > 1:
        steps = np.empty((n_streams, n_steps))
        decimate(samples, first, memory, sums, window, factor, steps)
    age = int(listening[0, _age_place(k_tones)]) if n_streams else 0
    n_frames = (age + n_steps) // GATING_INTERVAL - age // GATING_INTERVAL
    heard = np.empty((n_streams, n_steps, k_tones, 2, WIDTH))
    features = np.empty((n_streams, n_frames, k_tones, _n_features()))
    variances = np.empty((n_streams, n_frames, k_tones, WIDTH))
    run_kalman_bank(steps, listening, turn, gains, farthest, table, heard, features, variances)
    # Most single samples end no frame, and room for thought would cost them a tenth.
    n_lines = taken.shape[0] if n_frames else 0
    room = np.empty(WIDTH + 1 + (head.shape[0] + 2 * n_lines) * WIDTH)
    out = room[WIDTH + 1 : WIDTH + 1 + head.shape[0] * WIDTH]
    one = room[WIDTH + 1 + head.shape[0] * WIDTH :][: n_lines * WIDTH]
    two = room[WIDTH + 1 + (head.shape[0] + n_lines) * WIDTH :]
    scale = 1 / math.hypot(gains[0, 0], gains[0, 1])
    for b in range(n_streams):
        for k in range(k_tones):
            own, level, slope = weights[b, k], phasor[b, k], turning[b, k]
            frame, step, band = 0, 0, math.exp(sure[b, k])
            angle, far = math.atan2(slope.imag, slope.real), widest[b]
            angle = min(max(angle, -farthest[k]), farthest[k])
            for t in range(n_samples):
                if not np.isnan(samples[b, t]):
                    far = max(far, abs(samples[b, t]) * scale)
                if (first + t + 1) % factor == 0:
                    place = heard[b, step, k]
                    if (age + step + 1) % GATING_INTERVAL == 0:
                        gru_step(features[b, frame, k], hidden[b, k], taken, carried, one, two)
                        dense(hidden[b, k], head, out)
                        softmax(out, WIDTH + 1, room)
                        own[:] = room[:WIDTH]
                        sure[b, k] = out[WIDTH + 1] + mixture_log_std(
                            own, place[0], place[1], variances[b, frame, k]
                        )
                        if variances[b, frame, k].max() < UNHEARD:
                            sure[b, k] = np.inf
                        band = math.exp(sure[b, k])
                        frame += 1
                    now = complex(
                        horizontal_sum(load(place[0], 0) * load(own, 0)),
                        horizontal_sum(load(place[1], 0) * load(own, 0)),
                    )
                    slope = kept * slope + now * level.conjugate()
                    # No candidate follows farther.
                    angle = math.atan2(slope.imag, slope.real)
                    angle = min(max(angle, -farthest[k]), farthest[k])
                    level = now
                    step += 1
                phasors[b, t, k], turned[b, t, k] = level, angle
                # Before the first verdict nothing is known but how far the samples go.
                bands[b, t, k] = band if band < np.inf else far
            phasor[b, k], turning[b, k] = level, slope
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                widest[b] = max(widest[b], abs(samples[b, t]) * scale)


@njit(**JIT_OPTIONS)
def synthesise(phasors: np.ndarray, first: int, turns: np.ndarray, tones: np.ndarray) -> None:
    """Tones (B, T, K) of their phasors, from sample ``first`` on."""
    n_streams, n_samples, k_tones = phasors.shape
    for t in range(n_samples):
        for k in range(k_tones):
            cycles = (first + t) * turns[k]
            angle = 2 * np.pi * (cycles - math.floor(cycles))
            c, s = math.cos(angle), math.sin(angle)
            for b in range(n_streams):
                tones[b, t, k] = phasors[b, t, k].real * s + phasors[b, t, k].imag * c


# Before all else in a stepper's one array: tones, hidden cells, weights of the window, samples a
# step, what is kept of the running turn, samples so far, the sample.
HEADER = 7


@njit(**JIT_OPTIONS)
def process_sample(whole: np.ndarray, sample: float) -> None:
    """One sample of one stream of one group, all state and constants in one flat array.

    Its last numbers are the answers: tones, bands, radians a step (K each), and phasors (K, 2).
    """
    k, h, w, factor = int(whole[0]), int(whole[1]), int(whole[2]), int(whole[3])
    # What is not finite, or so large that its square is not, is a gap.
    whole[6] = sample if abs(sample) < 1e100 else np.nan
    at = HEADER
    memory = whole[at : at + N_MEMORY].reshape(1, N_MEMORY)
    at += N_MEMORY
    sums = whole[at : at + 2 * N_STAGES].reshape(1, N_STAGES, 2)
    at += 2 * N_STAGES
    n = _n_state(k)
    listening = whole[at : at + n].reshape(1, n)
    at += n
    hidden = whole[at : at + k * h].reshape(1, k, h)
    at += k * h
    weights = whole[at : at + k * WIDTH].reshape(1, k, WIDTH)
    at += k * WIDTH
    sure = whole[at : at + k].reshape(1, k)
    at += k
    phasor = whole[at : at + 2 * k].view(np.complex128).reshape(1, k)
    at += 2 * k
    turning = whole[at : at + 2 * k].view(np.complex128).reshape(1, k)
    at += 2 * k
    widest = whole[at : at + 1]
    at += 1
    window = whole[at : at + w]
    at += w
    turns = whole[at : at + k]
    at += k
    gains = whole[at : at + 2 * k].reshape(k, 2)
    at += 2 * k
    farthest = whole[at : at + k]
    at += k
    table = whole[at : at + N_TABLE * WIDTH]
    at += N_TABLE * WIDTH
    lines, f = -(-3 * h // WIDTH), _n_features() + 1
    taken = whole[at : at + lines * f * WIDTH].reshape(lines, f, WIDTH)
    at += lines * f * WIDTH
    carried = whole[at : at + lines * (h + 1) * WIDTH].reshape(lines, h + 1, WIDTH)
    at += lines * (h + 1) * WIDTH
    head = whole[at : at + 2 * (h + 1) * WIDTH].reshape(2, h + 1, WIDTH)
    at += 2 * (h + 1) * WIDTH
    tones = whole[at : at + k].reshape(1, 1, k)
    bands = whole[at + k : at + 2 * k].reshape(1, 1, k)
    turned = whole[at + 2 * k : at + 3 * k].reshape(1, 1, k)
    phasors = whole[at + 3 * k : at + 5 * k].view(np.complex128).reshape(1, 1, k)
    first = int(whole[5])
    process_block(
        whole[6:7].reshape(1, 1), first, memory, sums, listening, hidden, weights, sure, phasor,
        turning, widest, window, factor, turns, gains, farthest, table, taken, carried, head,
        whole[4], phasors, bands, turned,
    )  # fmt: skip
    synthesise(phasors, first, turns, tones)
    whole[5] += 1
