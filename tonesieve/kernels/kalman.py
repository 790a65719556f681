"""Kalman filters of oscillators, one sample at a time.

Model, with the samples z, the coefficients x (sine and cosine of every tone), known rows H:

    z[t] = H[t] x[t] + v[t],    v ~ N(0, R)
    x[t] = x[t-1] + w[t],       w ~ N(0, diag(Q))

    predict   P <- P + diag(Q)
    update    innovation = z - H x,  S = H P H' + R,  K = P H' / S
              x <- x + K innovation,  P <- (I - K H) P (I - K H)' + K R K'

Sources: B. D. O. Anderson and J. B. Moore, Optimal Filtering, Prentice-Hall 1979, chapter 3; the
form of the last line, which keeps P symmetric and positive, is P. D. Joseph's (R. S. Bucy and
P. D. Joseph, Filtering for Stochastic Processes, Wiley 1968). A sample that is NaN predicts only.

Axes: B streams, T samples, K tones, D coefficients.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.pll import PLL_GAIN_RATIO, PLL_PROCESS_NOISE, UNINFORMED_RATIO

# Guard: the fastest that the running power of the innovation forgets, a sample.
MAX_FORGETTING = 0.5
# Guard: log odds beyond these leave one filter with no weight that matters.
MAX_LOG_ODDS = 50.0


@njit(inline="always")
def _predict_sample(
    x: np.ndarray, P: np.ndarray, H: np.ndarray, R: float, sample: float, Ph: np.ndarray
) -> tuple[float, float]:
    """Innovation of a sample and its variance S; ``Ph`` (D) becomes P H'."""
    S = R
    innovation = sample
    for i in range(len(x)):
        Ph[i] = 0.0
        for j in range(len(x)):
            Ph[i] += P[i, j] * H[j]
        S += H[i] * Ph[i]
        innovation -= H[i] * x[i]
    return innovation, S


@njit(cache=True, nogil=True)
def _joseph_update(P: np.ndarray, K: np.ndarray, Ph: np.ndarray, S: float) -> None:
    """Covariance after a sample, in Joseph's form: P - K (P H')' - (P H') K' + K S K'."""
    for i in range(len(K)):
        for j in range(i + 1):
            reduction = K[i] * Ph[j] + Ph[i] * K[j]
            updated = P[i, j] - reduction + K[i] * S * K[j]
            P[i, j] = updated
            P[j, i] = updated


@njit(cache=True, nogil=True)
def kalman(
    samples: np.ndarray,
    design: np.ndarray,
    x: np.ndarray,
    P: np.ndarray,
    Q: np.ndarray,
    R: float,
    path: np.ndarray,
) -> None:
    """Kalman filter of coefficients that walk at random.

    ``samples`` (B, T), ``design`` (T, D) the rows H, ``Q`` (D) variance a sample. ``x`` (B, D) and
    ``P`` (B, D, D) are updated in place; ``path`` (B, T, D) takes x after each sample.
    """
    n_streams, n_samples = samples.shape
    n = design.shape[1]
    Ph = np.empty(n)
    K = np.empty(n)
    for b in range(n_streams):
        x_b, P_b = x[b], P[b]
        for t in range(n_samples):
            for i in range(n):
                P_b[i, i] += Q[i]
            if not np.isnan(samples[b, t]):
                innovation, S = _predict_sample(x_b, P_b, design[t], R, samples[b, t], Ph)
                if S > 0.0:
                    for i in range(n):
                        K[i] = Ph[i] / S
                        x_b[i] += K[i] * innovation
                    _joseph_update(P_b, K, Ph, S)
            for i in range(n):
                path[b, t, i] = x_b[i]


@njit(cache=True, nogil=True)
def kalman_smooth(
    samples: np.ndarray,
    design: np.ndarray,
    P: np.ndarray,
    Q: np.ndarray,
    R: float,
    path: np.ndarray,
) -> None:
    """Fixed-interval smoother: E(x[t] | all samples), from a prior mean of 0.

    ``samples`` (T), ``design`` (T, D), ``Q`` (D); ``P`` (D, D), the prior before the first sample,
    is updated in place; ``path`` (T, D) takes the smoothed coefficients. Disturbance smoother of
    S. J. Koopman (Biometrika 80, 1993): backwards, u = innovation / S - K' r and r <- r + H' u;
    forwards, x[t] = x[t-1] + diag(Q) r[t-1]. It stores no covariance and inverts none.
    """
    n_samples, n = design.shape
    gains, scaled_innovations = np.zeros((n_samples, n)), np.zeros(n_samples)
    Ph, x, r = np.empty(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        P[i, i] += Q[i]
    prior = P.copy()
    for t in range(n_samples):
        if not np.isnan(samples[t]):
            innovation, S = _predict_sample(x, P, design[t], R, samples[t], Ph)
            if S > 0.0:
                scaled_innovations[t] = innovation / S
                for i in range(n):
                    gains[t, i] = Ph[i] / S
                    x[i] += Ph[i] * scaled_innovations[t]
                _joseph_update(P, gains[t], Ph, S)
        for i in range(n):
            P[i, i] += Q[i]
    for t in range(n_samples - 1, -1, -1):
        u = scaled_innovations[t]
        for i in range(n):
            u -= gains[t, i] * r[i]
        for i in range(n):
            r[i] += design[t, i] * u
            path[t, i] = r[i]  # r[t-1] for now
    for i in range(n):
        x[i] = 0.0
        for j in range(n):
            x[i] += prior[i, j] * r[j]
    for t in range(n_samples):
        for i in range(n):
            if t > 0:
                x[i] += Q[i] * path[t, i]
            path[t, i] = x[i]


@njit(cache=True, nogil=True)
def kalman_pll(
    samples: np.ndarray,
    freq_cycles: np.ndarray,
    gain: complex,
    Q_tone: float,
    Q_dc: float,
    R: float,
    offset_sigma: np.ndarray,
    max_offset: np.ndarray,
    phase: np.ndarray,
    offset: np.ndarray,
    x: np.ndarray,
    P: np.ndarray,
    innovation_stats: np.ndarray,
    tones: np.ndarray,
    innovations: np.ndarray,
) -> None:
    """`kalman` with a phase-locked loop on every oscillator, and a DC level beside the tones.

    The phase step of an update, Im of the phasor's correction over the phasor, is the phase
    detector; ``PLL_GAIN_RATIO`` times the squared Kalman gain is the loop's frequency gain,
    weighted by the confidence in the tone. While the memory grows, process noise keeps the gains
    of a least-squares fit of phase and frequency (see `kernels.pll`), from the age on at which a
    frequency error of ``offset_sigma`` would show. The level takes up DC, trend, and noise far
    below the tones.

    ``samples`` (B, T); ``freq_cycles`` (K) nominal, cycles a sample; ``gain`` of the tones in the
    mixture; ``Q_tone``, ``Q_dc`` variance a sample; ``offset_sigma`` (K) prior frequency error, rad
    a sample; ``max_offset`` (K) cycles a sample. State, updated in place: ``phase`` (B, K) cycles;
    ``offset`` (B, K) from the nominal frequency, cycles a sample; ``x`` (B, D) sines, cosines, DC;
    ``P`` (B, D, D); ``innovation_stats`` (B, 3) running power of the innovation, its weight,
    samples observed. Outputs: ``tones`` (B, T, K), ``innovations`` (B, T), 0 in gaps.
    """
    n_streams, n_samples = samples.shape
    n_tones = freq_cycles.shape[0]
    n = 2 * n_tones + 1
    H, Ph, K, confidence = np.empty(n), np.empty(n), np.empty(n), np.zeros(n_tones)
    sines, cosines = np.empty(n_tones), np.empty(n_tones)
    gain_power = gain.real**2 + gain.imag**2
    for b in range(n_streams):
        x_b, P_b, stats = x[b], P[b], innovation_stats[b]
        for t in range(n_samples):
            for k in range(n_tones):
                theta = 2 * np.pi * phase[b, k]
                sines[k], cosines[k] = np.sin(theta), np.cos(theta)
                H[k] = gain.real * sines[k] + gain.imag * cosines[k]
                H[n_tones + k] = gain.real * cosines[k] - gain.imag * sines[k]
            H[n - 1] = 1.0
            P_b[n - 1, n - 1] += Q_dc
            n_observed = stats[2]
            for k in range(n_tones):
                Q = Q_tone
                power = x_b[k] ** 2 + x_b[n_tones + k] ** 2
                if power > 0.0 and stats[1] > 0.0:
                    P_tone = P_b[k, k] + P_b[n_tones + k, n_tones + k]
                    noise_ratio = stats[0] / stats[1] / R
                    # The first term is the noise's, the second that of unresolved tones.
                    uncertainty = 4 * P_tone * (noise_ratio + UNINFORMED_RATIO * power)
                    confidence[k] = (power / (power + uncertainty)) ** 2
                    rate = offset_sigma[k] ** 2 / (1 + (offset_sigma[k] * n_observed) ** 2)
                    Q += confidence[k] * PLL_PROCESS_NOISE * rate * R / gain_power
                P_b[k, k] += Q
                P_b[n_tones + k, n_tones + k] += Q
            if not np.isnan(samples[b, t]):
                innovation, S = _predict_sample(x_b, P_b, H, R, samples[b, t], Ph)
                for i in range(n):
                    K[i] = Ph[i] / S
                _joseph_update(P_b, K, Ph, S)
                slowest_rate = 1.0
                x_b[n - 1] += K[n - 1] * innovation
                for k in range(n_tones):
                    s, c = x_b[k], x_b[n_tones + k]
                    x_b[k] += K[k] * innovation
                    x_b[n_tones + k] += K[n_tones + k] * innovation
                    P_tone = P_b[k, k] + P_b[n_tones + k, n_tones + k]
                    rate = 0.25 * P_tone * gain_power / R
                    slowest_rate = min(slowest_rate, rate)
                    power = s * s + c * c
                    if power > 0.0:
                        # The tone is Re((c - i s) exp(i theta)).
                        phase_step = (s * K[n_tones + k] - c * K[k]) * innovation / power
                        loop_gain = PLL_GAIN_RATIO * rate * confidence[k]
                        moved = offset[b, k] + loop_gain * phase_step / (2 * np.pi)
                        offset[b, k] = min(max(moved, -max_offset[k]), max_offset[k])
                decay = 1.0 - min(slowest_rate, MAX_FORGETTING)
                stats[0] = decay * stats[0] + (1 - decay) * innovation * innovation
                stats[1] = decay * stats[1] + (1 - decay)
                stats[2] += 1
                innovations[b, t] = innovation
            else:
                innovations[b, t] = 0.0
            for k in range(n_tones):
                tones[b, t, k] = x_b[k] * sines[k] + x_b[n_tones + k] * cosines[k]
                phase[b, k] = (phase[b, k] + freq_cycles[k] + offset[b, k]) % 1.0


@njit(cache=True, nogil=True)
def two_model_odds(
    samples: np.ndarray,
    innovations_a: np.ndarray,
    innovations_b: np.ndarray,
    decay: float,
    state: np.ndarray,
    weight_a: np.ndarray,
) -> None:
    """Posterior weight (B, T) of the first of two filters, from their innovations (B, T).

    Each innovation is normal with the smaller of the two running powers as variance; the log odds
    are forgotten by ``decay`` a sample (two models of Bar-Shalom's static multiple-model
    estimator: Y. Bar-Shalom et al., Estimation with Applications to Tracking and Navigation, Wiley
    2001, section 11.6). ``state`` (B, 3): power, its weight, log odds; a gap leaves it as it is.
    """
    n_streams, n_samples = samples.shape
    for b in range(n_streams):
        power, power_weight, log_odds = state[b, 0], state[b, 1], state[b, 2]
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                power_a, power_b = innovations_a[b, t] ** 2, innovations_b[b, t] ** 2
                power = decay * power + (1 - decay) * min(power_a, power_b)
                power_weight = decay * power_weight + (1 - decay)
                log_odds *= decay
                if power > 0.0:
                    log_odds += (power_b - power_a) * power_weight / (2 * power)
            weight_a[b, t] = 1 / (1 + np.exp(-min(max(log_odds, -MAX_LOG_ODDS), MAX_LOG_ODDS)))
        state[b, 0], state[b, 1], state[b, 2] = power, power_weight, log_odds
