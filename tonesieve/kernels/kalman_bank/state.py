"""The state of the bank of Kalman filters: one flat buffer a stream, named by `BankState`.

Saved streams hold these buffers, so the order of the fields and their shapes is a file format.
Axes: B streams, K tones, M = `WIDTH` filters, D = 2 K + 2 states of a filter (in-phase and
quadrature part of every tone, then the DC level and its slope), V = 2 K + 1 + `ORDER` + 1
regressors of the AR model, C = `N_SEARCH_BLOCKS`.
"""

from __future__ import annotations

import math
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
# Derived: the level counts as smooth over a radian of the lowest tone, so the prior variance of its
# slope is that of the level times omega^2 (`_init_stream`).
# Observed samples before the noise variance is trusted; chosen, not tuned.
N_WARM_UP = 12.0
# Steps of a block, between two runs of the gating network; chosen, not tuned: about a period.
GATING_INTERVAL = 8
# The line search: steps of a block, and the latest blocks, over which it looks for a line near the
# nominal frequency. Chosen, not tuned: 1024 steps are about 130 periods.
SEARCH_BLOCK, N_SEARCH_BLOCKS = 16, 64
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
    AR_SLOPE_GAIN,  # of the whitening filter, for a ramp of slope 1 that is 0 at the sample
    REJECT_ENERGY,  # sum of the squares of the last rejected innovations
    DENSITY_RATIO,  # spectral density of the whitened noise at the tones over its variance
    BLOCK_WEIGHT,  # sum of the inverse variances of the present block's samples
    N_SCALARS,
) = range(15)
# Rows of the table of filters (N_TABLE, M); see `extractors.pretrained.filter_table`.
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
    gains: np.ndarray  # (K, 2): complex gain of a tone in the samples, real and imaginary
    course: np.ndarray  # (K): carrier minus nominal frequency, rad a step
    coherence: np.ndarray  # (K, 4): sums of the last rejected innovations over the carrier
    silence_gain: np.ndarray  # (K, 2): recent log-likelihood ratio of the tone to none
    block_x: np.ndarray  # (K, 2, M): phasors before the present block
    block_sum: np.ndarray  # (K, 2): of whitened samples over the carrier, in the present block
    block_double: np.ndarray  # (K, 2): of exp(-2 i theta)
    search_sum: np.ndarray  # (K, 2): of whitened samples, in the search's present block
    search_blocks: np.ndarray  # (K, 2, C): of the last blocks, the latest first
    found: np.ndarray  # (K, 2): offset of the line that the search found (rad a step), statistic
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
    gains: np.ndarray  # (K, 2): complex gain of a tone at it, real and imaginary
    gain_slope: np.ndarray  # (K, 2): its logarithm's derivative by the frequency, steps
    max_offset: np.ndarray  # (2, K): largest offset of a search and of a filter, rad a step
    table: np.ndarray  # (N_TABLE, M)


@register_jitable
def bank_shapes(n_tones: int):  # type: ignore[no-untyped-def]  # a tuple that Numba can type
    """Shapes of the fields of `BankState`, in their order."""
    k, d = n_tones, 2 * n_tones + 2
    v = d + ORDER
    return (
        (WIDTH,), (WIDTH,), (WIDTH,), (WIDTH,), (WIDTH,), (d, WIDTH), (d, d, WIDTH),
        (k, WIDTH), (k, 2, WIDTH), (k, 2, WIDTH), (k, 2), (k,), (k, 4), (k, 2),
        (k, 2, WIDTH), (k, 2), (k, 2), (k, 2), (k, 2, N_SEARCH_BLOCKS), (k, 2), (N_SCALARS,),
        (ORDER,), (ORDER,), (ORDER,), (ORDER + 1,), (k, 2), (v, v),
    )  # fmt: skip


@register_jitable
def unpack(buffer: np.ndarray, n_tones: int) -> BankState:
    """The state in a stream's flat buffer, as views."""
    return BankState(*split_buffer(buffer, bank_shapes(n_tones)))


def state_size(n_tones: int) -> int:
    """Numbers in a stream's buffer."""
    return buffer_size(bank_shapes(n_tones))


class Scratch(NamedTuple):
    """Memory of one step."""

    buffer: np.ndarray  # of the others, which do not keep it in memory
    H: np.ndarray  # (D, M)
    Ph: np.ndarray  # (D, M): P H^T
    confidence: np.ndarray  # (K, M): in the phasor; 0 where no frequency is followed
    rotation: np.ndarray  # (K, 2): cosine and sine of omega
    regressors: np.ndarray  # (V): of the AR model
    contribution: np.ndarray  # (K): of each tone of the mixture to the predicted sample


@register_jitable
def scratch_shapes(k: int):  # type: ignore[no-untyped-def]
    """Shapes of the fields of `Scratch` but the first."""
    d = 2 * k + 2
    return (d, WIDTH), (d, WIDTH), (k, WIDTH), (k, 2), (d + ORDER,), (k,)


@njit(**JIT_OPTIONS)
def init_state(buffers: np.ndarray, omega: np.ndarray, gains: np.ndarray) -> None:
    """Write the state before the first sample into buffers (B, S); ``gains`` (K, 2)."""
    buffers[:] = 0
    for b in range(len(buffers)):
        _init_stream(unpack(buffers[b], len(gains)), omega, gains)


@njit(**JIT_OPTIONS)
def _init_stream(state: BankState, omega: np.ndarray, gains: np.ndarray) -> None:
    scalars, d = state.scalars, len(state.x)
    scalars[NEXT_AR_FIT], scalars[AR_DC_GAIN], scalars[DC_OFFSET] = N_WARM_UP, 1.0, np.nan
    scalars[DENSITY_RATIO] = 1.0
    state.ar[0] = 1.0
    state.carrier[:, 0] = 1.0
    state.weight[:] = 1.0 / WIDTH
    for i in range(d - 2):
        state.P[i, i, :] = PRIOR_VAR_TONE
    state.P[d - 2, d - 2, :] = PRIOR_VAR_DC
    state.P[d - 1, d - 1, :] = PRIOR_VAR_DC * omega.min() ** 2
    state.gains[:] = gains
    for k in range(len(gains)):
        state.response[k, 0, :] = gains[k, 0]
        state.response[k, 1, :] = gains[k, 1]


@njit(**JIT_OPTIONS)
def tone_response(
    ar: np.ndarray, omega: float, g_real: float, g_imaginary: float
) -> tuple[float, float]:
    """Real and imaginary part of g A(omega), the complex gain of a tone in whitened samples."""
    c, s = math.cos(omega), math.sin(omega)
    x, y = 1.0, 0.0
    real, imaginary = 0.0, 0.0
    for i in range(ORDER + 1):
        real += ar[i] * x
        imaginary += ar[i] * y
        x, y = x * c + y * s, y * c - x * s
    return g_real * real - g_imaginary * imaginary, g_real * imaginary + g_imaginary * real


@njit(**JIT_OPTIONS)
def warm_start(
    buffers: np.ndarray, learned: np.ndarray, omega: np.ndarray, gains: np.ndarray
) -> None:
    """As `init_state`, with the noise model that another pass over the same record has learned."""
    init_state(buffers, omega, gains)
    for b in range(len(buffers)):
        _take_noise_model(unpack(buffers[b], len(gains)), unpack(learned[b], len(gains)), omega)


@njit(**JIT_OPTIONS)
def _take_noise_model(state: BankState, learned: BankState, omega: np.ndarray) -> None:
    scalars, other = state.scalars, learned.scalars
    if other[N_OBSERVED] <= N_WARM_UP or other[NOISE_VAR] <= 0:
        return
    for i in (
        NEXT_AR_FIT, NOISE_VAR, AR_ORDER, DC_OFFSET, AR_DC_GAIN, N_OBSERVED, PEAK, AR_SLOPE_GAIN,
        DENSITY_RATIO,
    ):  # fmt: skip
        scalars[i] = other[i]
    state.ar[:] = learned.ar
    state.ar_moments[:] = learned.ar_moments
    # Nothing is known of the samples before the first one.
    state.imputed_var[:] = other[PEAK] ** 2 / other[NOISE_VAR]
    level_gain = math.hypot(other[AR_DC_GAIN], other[AR_SLOPE_GAIN])
    response = np.empty((len(omega), 2))
    for k in range(len(omega)):
        response[k, 0], response[k, 1] = tone_response(
            state.ar, omega[k], state.gains[k, 0], state.gains[k, 1]
        )
    for j in range(WIDTH):
        for k in range(len(state.gains)):
            for part in range(2):
                state.response[k, part, j] = response[k, part]
            power = response[k, 0] ** 2 + response[k, 1] ** 2 + TINY
            state.P[2 * k, 2 * k, j] /= power
            state.P[2 * k + 1, 2 * k + 1, j] /= power
        for i in range(len(state.x) - 2, len(state.x)):
            state.P[i, i, j] /= level_gain * level_gain + TINY
