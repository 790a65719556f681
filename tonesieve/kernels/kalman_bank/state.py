"""The state of the bank of Kalman filters: one flat buffer a stream, named by `BankState`.

Saved streams hold these buffers, so the order of the fields and their shapes is a file format.
Axes: B streams, K tones, M = `WIDTH` filters, D = 2 K + 1 states of a filter (in-phase and
quadrature part of every tone, then the DC level), V = D + `ORDER` + 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable

from tonesieve.kernels.buffer import buffer_size, split_buffer
from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.simd import WIDTH

ORDER = 16  # highest order of the AR prewhitener; chosen, not tuned
# P[0] over the noise variance, of a tone's parts and of the DC level; chosen, not tuned: a tone up
# to ten times, a level up to a hundred times the noise counts as usual.
PRIOR_VAR_TONE, PRIOR_VAR_DC = 100.0, 1e4
# Observed samples before the noise variance is trusted; chosen, not tuned.
N_WARM_UP = 12.0
TINY = 1e-300  # guard: no division by zero, no logarithm of zero

# Compiler options of functions that get a state: counting references to its arrays at every access
# would double their time, and their callers hold the buffers. What allocates counts again.
BORROWING: Any = {**JIT_OPTIONS, "_nrt": False}
ALLOCATING: Any = {**JIT_OPTIONS, "_nrt": True}

# Elements of `BankState.scalars`.
(
    AGE,  # steps so far
    NEXT_AR_FIT,  # observed steps at which the AR model is fitted next
    NOISE_VAR,  # variance of the whitened noise
    REJECT_RATE,  # recent fraction of samples that the gate rejected
    MISSING_RATE,  # recent fraction of samples that were missing or rejected
    AR_ORDER,
    DC_OFFSET,  # the first sample, subtracted from all; NaN before it
    AR_DC_GAIN,  # of the whitening filter
    N_OBSERVED,  # steps observed and not rejected
    PEAK,  # largest sample, as a magnitude
) = range(10)
N_SCALARS = 10
# Rows of the table of filters (N_TABLE, M); see `front_end.filter_table`.
PROCESS_NOISE, TRACKS_FREQUENCY, HAS_SHORTER, LIKELIHOOD_WINDOW, SPREAD_WINDOW, MEMORY, N_TABLE = (
    range(7)
)


class BankState(NamedTuple):
    """One stream's state: first what every filter has, then what all filters share."""

    log_weight: np.ndarray  # (M): log-likelihood with forgetting
    weight: np.ndarray  # (M): posterior weights, from `log_weight`
    cusum: np.ndarray  # (M): CUSUM against the next shorter filter
    likelihood_gain: np.ndarray  # (M): recent log-likelihood below the mixture's
    filter_age: np.ndarray  # (M): samples since the filter began or restarted
    x: np.ndarray  # (D, M): state estimates
    P: np.ndarray  # (D, D, M): their covariances over the noise variance
    freq_offset: np.ndarray  # (K, M): followed minus nominal frequency, rad a step
    response: np.ndarray  # (K, 2, M): gain of a tone in whitened samples, real and imaginary
    spread: np.ndarray  # (K, 2, M): squared distance to the next shorter filter, and expected
    scalars: np.ndarray  # (N_SCALARS)
    sample_history: np.ndarray  # (ORDER): last samples, the latest first
    residual_history: np.ndarray  # (ORDER): what the tones left of them
    imputed_var: np.ndarray  # (ORDER): their variance where they were imputed, else 0
    ar: np.ndarray  # (ORDER + 1): whitening filter, 1 first
    carrier: np.ndarray  # (K, 2): cosine and sine of the nominal phase
    ar_moments: np.ndarray  # (V, V): second moments that the AR model is fitted to


class BankModel(NamedTuple):
    """What does not change while a bank runs."""

    omega: np.ndarray  # (K): nominal frequency, rad a step
    gains: np.ndarray  # (K, 2): complex gain of a tone in the samples, real and imaginary
    max_offset: np.ndarray  # (K): largest frequency offset, rad a step
    table: np.ndarray  # (N_TABLE, M)


@register_jitable
def bank_shapes(n_tones: int):  # type: ignore[no-untyped-def]  # a tuple that Numba can type
    """Shapes of the fields of `BankState`, in their order."""
    k, d = n_tones, 2 * n_tones + 1
    v = d + ORDER + 1
    return (
        (WIDTH,), (WIDTH,), (WIDTH,), (WIDTH,), (WIDTH,), (d, WIDTH), (d, d, WIDTH),
        (k, WIDTH), (k, 2, WIDTH), (k, 2, WIDTH), (N_SCALARS,), (ORDER,), (ORDER,), (ORDER,),
        (ORDER + 1,), (k, 2), (v, v),
    )  # fmt: skip


@register_jitable
def unpack(buffer: np.ndarray, n_tones: int) -> BankState:
    """The state in a stream's flat buffer, as views."""
    return BankState(*split_buffer(buffer, bank_shapes(n_tones)))


def state_size(n_tones: int) -> int:
    """Numbers in a stream's buffer."""
    return buffer_size(bank_shapes(n_tones))


@njit(**JIT_OPTIONS)
def init_state(buffers: np.ndarray, gains: np.ndarray) -> None:
    """Write the state before the first sample into buffers (B, S); ``gains`` (K, 2)."""
    buffers[:] = 0
    for b in range(len(buffers)):
        _init_stream(unpack(buffers[b], len(gains)), gains)


@njit(**JIT_OPTIONS)
def _init_stream(state: BankState, gains: np.ndarray) -> None:
    scalars, d = state.scalars, len(state.x)
    scalars[NEXT_AR_FIT], scalars[AR_DC_GAIN], scalars[DC_OFFSET] = N_WARM_UP, 1.0, np.nan
    state.ar[0] = 1.0
    state.carrier[:, 0] = 1.0
    state.weight[:] = 1.0 / WIDTH
    for i in range(d):
        state.P[i, i, :] = PRIOR_VAR_TONE if i < d - 1 else PRIOR_VAR_DC
    for k in range(len(gains)):
        state.response[k, 0, :] = gains[k, 0]
        state.response[k, 1, :] = gains[k, 1]
