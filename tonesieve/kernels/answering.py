"""From samples to tones, as they come: steps, evidence, weights and what follows from them.

Everything of a group of tones in one go, so that a single sample costs little more than its
arithmetic. Axes: B streams, T samples, N steps, K tones, R frames, M candidates, H hidden.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.arithmetic import FAST
from tonesieve.kernels.lanes import WIDTH, load, total
from tonesieve.kernels.listening import FRAME, age_place, listen, n_features
from tonesieve.kernels.thinning import thin
from tonesieve.kernels.weighing import base, line_up, shares, think

_age_place, _n_features = njit(age_place), njit(n_features)


@njit(**FAST)
def answer(
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

    ``first`` is the number of the first sample. All from ``memory`` to ``widest`` goes on: of a stream what thins (B, ...) and listens (B, S),
    the hidden state (B, K, H), the weights in force (B, K, M), the logarithm of the band (B, K),
    the last phasor and the running sum of turns (B, K), how far samples have been from the first
    one (B). ``turns`` (K) are cycles a sample; the rest as for `listen`, `thin`, `weigh`.
    """
    n_streams, n_samples = samples.shape
    k_tones = len(turns)
    turn = 2 * np.pi * factor * turns
    n_steps = (first + n_samples) // factor - first // factor
    steps = samples
    if factor > 1:
        steps = np.empty((n_streams, n_steps))
        thin(samples, first, memory, sums, window, factor, steps)
    age = int(listening[0, _age_place(k_tones)]) if n_streams else 0
    n_frames = (age + n_steps) // FRAME - age // FRAME
    heard = np.empty((n_streams, n_steps, k_tones, 2, WIDTH))
    features = np.empty((n_streams, n_frames, k_tones, _n_features()))
    variances = np.empty((n_streams, n_frames, k_tones, WIDTH))
    listen(steps, listening, turn, gains, farthest, table, heard, features, variances)
    room, out = np.empty(WIDTH + 1), np.empty(head.shape[0] * WIDTH)
    one, two = np.empty(taken.shape[0] * WIDTH), np.empty(taken.shape[0] * WIDTH)
    scale = 1 / math.hypot(gains[0, 0], gains[0, 1])
    for b in range(n_streams):
        for k in range(k_tones):
            own, level, slope = weights[b, k], phasor[b, k], turning[b, k]
            frame, step, band = 0, 0, math.exp(sure[b, k])
            angle, far = math.atan2(slope.imag, slope.real), widest[b]
            for t in range(n_samples):
                if not np.isnan(samples[b, t]):
                    far = max(far, abs(samples[b, t]) * scale)
                if (first + t + 1) % factor == 0:
                    place = heard[b, step, k]
                    if (age + step + 1) % FRAME == 0:
                        think(features[b, frame, k], hidden[b, k], taken, carried, one, two)
                        line_up(hidden[b, k], head, out)
                        shares(out, WIDTH + 1, room)
                        own[:] = room[:WIDTH]
                        sure[b, k] = out[WIDTH + 1] + base(
                            own, place[0], place[1], variances[b, frame, k]
                        )
                        band = math.exp(sure[b, k])
                        frame += 1
                    now = complex(
                        total(load(place[0], 0) * load(own, 0)),
                        total(load(place[1], 0) * load(own, 0)),
                    )
                    slope = kept * slope + now * level.conjugate()
                    angle = math.atan2(slope.imag, slope.real)
                    level = now
                    step += 1
                phasors[b, t, k], turned[b, t, k] = level, angle
                # Before the first verdict nothing is known but how far the samples go.
                bands[b, t, k] = band if band < np.inf else far
            phasor[b, k], turning[b, k] = level, slope
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                widest[b] = max(widest[b], abs(samples[b, t]) * scale)


@njit(**FAST)
def sound(phasors: np.ndarray, first: int, turns: np.ndarray, tones: np.ndarray) -> None:
    """Tones (B, T, K) of their phasors, from sample ``first`` on."""
    n_streams, n_samples, k_tones = phasors.shape
    for t in range(n_samples):
        for k in range(k_tones):
            cycles = (first + t) * turns[k]
            angle = 2 * np.pi * (cycles - math.floor(cycles))
            c, s = math.cos(angle), math.sin(angle)
            for b in range(n_streams):
                tones[b, t, k] = phasors[b, t, k].real * s + phasors[b, t, k].imag * c
