"""Causal down-conversion of the tones of a comb, and the way back.

Tone k of stream b has the carrier exp(i theta_k[n]) with theta_k[n] = 2 pi (f_k n + o_k r_b[n]):
its nominal frequency f_k in cycles a sample, its order o_k, and the phase r_b of order 1 over the
nominal one, in cycles, which grows by the same number every sample. Every D samples

    z_k = sum over j of h[j] x[n - j] exp(-i theta_k[n - j]) / sum of h[j] over observed samples

and the stream 2 Re(z_k i^m) holds the tone at a quarter of the steps' rate, m being the step. The
tone is Im(Z_k exp(i theta_k)) with the phasor Z_k of the last step.

Axes: B streams, T samples, K tones, L taps, M steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def down_convert(
    samples: np.ndarray,  # B T
    start: int,  # index of the first sample
    since: int,  # samples from where `relative` holds to the one before the first
    relative: np.ndarray,  # B, cycles
    advance: np.ndarray,  # B, cycles a sample
    freq_cycles: np.ndarray,  # K
    orders: np.ndarray,  # K
    taps: np.ndarray,  # L
    factor: int,
    min_coverage: float,
    mixed: np.ndarray,  # B K L, complex; sample n is at n mod L; changed
    observed: np.ndarray,  # B L; changed
    steps: np.ndarray,  # B K M; filled
) -> None:
    """Mix samples down, and fill the steps that end in them; NaN where too few are observed."""
    n_streams, n = samples.shape
    n_tones, n_taps = len(freq_cycles), len(taps)
    for b in range(n_streams):
        q = 0
        for i in range(n):
            index = start + i
            at = index % n_taps
            x = samples[b, i]
            is_observed = math.isfinite(x)
            observed[b, at] = 1.0 if is_observed else 0.0
            r = relative[b] + advance[b] * (since + i + 1)
            for k in range(n_tones):
                if is_observed:
                    cycles = (freq_cycles[k] * index) % 1.0 + orders[k] * r
                    angle = 2 * math.pi * cycles
                    mixed[b, k, at] = complex(x * math.cos(angle), -x * math.sin(angle))
                else:
                    mixed[b, k, at] = 0.0
            if (index + 1) % factor:
                continue
            coverage = 0.0
            for j in range(n_taps):
                coverage += taps[j] * observed[b, (at - j) % n_taps]
            m = (index + 1) // factor - 1
            for k in range(n_tones):
                if coverage < min_coverage:
                    steps[b, k, q] = math.nan
                    continue
                z = 0.0j
                for j in range(n_taps):
                    z += taps[j] * mixed[b, k, (at - j) % n_taps]
                quarter = m % 4
                if quarter == 0:
                    value = z.real
                elif quarter == 1:
                    value = -z.imag
                elif quarter == 2:
                    value = -z.real
                else:
                    value = z.imag
                steps[b, k, q] = 2 * value / coverage
            q += 1


@njit(cache=True, nogil=True)
def hold_phasors(
    start: int,
    since: int,
    relative: np.ndarray,  # B
    advance: np.ndarray,  # B
    orders: np.ndarray,  # K
    factor: int,
    before: np.ndarray,  # B K, complex; phasors before the first sample
    at_steps: np.ndarray,  # B K M, complex
    phasors: np.ndarray,  # B T K, complex; filled
) -> None:
    """Fill the phasors, relative to the nominal carriers, at every sample: of the last step."""
    n_streams, n, n_tones = phasors.shape
    for b in range(n_streams):
        q = -1
        for i in range(n):
            if (start + i + 1) % factor == 0:
                q += 1
            r = relative[b] + advance[b] * (since + i + 1)
            for k in range(n_tones):
                angle = 2 * math.pi * (orders[k] * r)
                z = before[b, k] if q < 0 else at_steps[b, k, q]
                phasors[b, i, k] = z * complex(math.cos(angle), math.sin(angle))
