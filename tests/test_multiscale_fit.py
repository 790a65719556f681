"""The compiled fits over several time scales beside weighted least squares written plainly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import comb

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.kernels.multiscale_fit import N_FITS, RIDGE, STAGES, fit, n_features, state_size
from tonesieve.learning.models.multiscale_bank import N_TIMES, TABLES, bank_tables

HZ, RATE = (3.0, 3.7), 50.0
DATA = DataSettings(frequencies_hz=HZ, rate_hz=RATE)
ORDERS = (1, 2, 4)


def fitted(samples: np.ndarray, whitening: tuple[float, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Every fit's tones (T, K, M), and the features."""
    tables = bank_tables(ModelSettings(kind="bank", selector="readout", whitening=whitening), DATA)
    n, k = len(samples), len(HZ)
    state = np.zeros((1, state_size(k, N_TIMES, len(whitening))))
    features = np.empty((1, n, k, n_features(N_TIMES)), dtype=np.float32)
    phasors = np.empty((1, n, k, N_FITS * N_TIMES, 2), dtype=np.float32)
    carriers = np.empty((1, n, k, 2), dtype=np.float32)
    arrays = [tables[name] for name in TABLES]
    fit(samples[None].astype(float), state, *arrays, features, phasors, carriers)
    unit_phasors = phasors[0, ..., 0] + 1j * phasors[0, ..., 1]
    carrier = carriers[0, ..., 0] + 1j * carriers[0, ..., 1]
    return (unit_phasors * carrier[..., None]).real, features[0]


def rows(n_samples: int, response: np.ndarray) -> np.ndarray:
    """Regressors of every sample: how the tones come through the whitening filter, and 1."""
    tones = np.exp(2j * np.pi * np.outer(np.arange(n_samples), HZ) / RATE) * response
    pairs = np.stack([tones.real, -tones.imag], axis=2).reshape(n_samples, -1)
    return np.concatenate([pairs, np.ones((n_samples, 1))], axis=1)


@pytest.mark.parametrize("n", [1, 3, 40, 400])
@pytest.mark.parametrize("order", ORDERS)
def test_a_fit_is_weighted_least_squares(n: int, order: int) -> None:
    samples = np.random.default_rng(n).normal(size=n)
    alpha = bank_tables(ModelSettings(kind="bank", selector="readout"), DATA)["shares"][1]
    lag = np.arange(n)[::-1]
    weights = alpha**order * comb(lag + order - 1, order - 1) * (1 - alpha) ** lag
    x = rows(n, np.ones(2))
    ridge = RIDGE * weights.sum() * max(alpha, 1 / n)
    centred = samples - samples[0]
    fit = np.linalg.solve((x.T * weights) @ x + ridge * np.eye(5), (x.T * weights) @ centred)
    expected = [x[-1, 2 * k : 2 * k + 2] @ fit[2 * k : 2 * k + 2] for k in range(2)]
    tones, _ = fitted(samples)
    np.testing.assert_allclose(tones[-1, :, N_FITS + ORDERS.index(order)], expected, atol=1e-9)


def test_neither_another_tone_nor_an_offset_leaks_in() -> None:
    t = np.arange(4000)
    angles = 2 * np.pi * np.outer(t, HZ) / RATE
    truth = np.sin(angles + np.array([0.3, 1.1])) * np.array([1.0, 5.0])
    tones, _ = fitted(truth.sum(axis=1) + 20.0)
    late = slice(2000, None)
    error = np.abs(tones[late] - truth[late, :, None]).max(axis=0)
    assert error[:, -N_FITS:-1].max() < 0.02
    # The plain lock-in of the same time constant lets the louder tone through.
    alpha = bank_tables(ModelSettings(kind="bank", selector="readout"), DATA)["shares"][2]
    shifted = 2 * truth.sum(axis=1) * np.exp(-1j * angles[:, 0])
    weights = (1 - alpha) ** np.arange(4000)[::-1]
    phasor = (weights * shifted).sum() / weights.sum()
    lock_in = (phasor * np.exp(1j * angles[-1, 0])).real
    assert abs(lock_in - truth[-1, 0]) > 5 * np.abs(tones[-1, 0, 2 * N_FITS] - truth[-1, 0])


def test_a_whitened_tone_comes_out_as_it_is() -> None:
    tone = 2.0 * np.sin(2 * np.pi * HZ[0] / RATE * np.arange(3000) + 0.5)
    tones, features = fitted(tone, (-1.5, 0.7))
    # The ridge takes a little off.
    np.testing.assert_allclose(tones[2000:, 0, -N_FITS], tone[2000:], atol=1e-3)
    assert not features[:2].any()  # the whitening filter still reaches before the stream


def test_the_ridge_fit_is_smaller_in_noise_and_the_same_without() -> None:
    noise = np.random.default_rng(1).normal(size=3000)
    tone = np.sin(2 * np.pi * HZ[0] / RATE * np.arange(3000))
    plain, ridge_fit = ((N_TIMES - 3) * N_FITS, (N_TIMES - 3) * N_FITS + 3)
    power = [np.mean(fitted(noise)[0][500:, 0, at] ** 2) for at in (plain, ridge_fit)]
    assert power[1] < 0.7 * power[0]
    power = [np.mean(fitted(tone + 1e-3 * noise)[0][500:, 0, at] ** 2) for at in (plain, ridge_fit)]
    assert power[1] == pytest.approx(power[0], rel=0.02)


def test_features_depend_on_neither_scale_nor_phase() -> None:
    noise = np.random.default_rng(2).normal(size=500)
    plain = fitted(noise)[1]
    np.testing.assert_allclose(fitted(-1e5 * noise)[1], plain, atol=1e-12)
    assert np.isfinite(plain).all()
    assert np.abs(plain).max() < 20
    assert max(ORDERS) == STAGES
