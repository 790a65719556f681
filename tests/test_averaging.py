"""The bank's compiled averages beside weighted least squares written plainly."""

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


def averaged(
    samples: np.ndarray, whitening: tuple[float, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Every fit's tones (T, K, M), and the features."""
    tables = bank_tables(ModelSettings(kind="bank", selector="readout", whitening=whitening), DATA)
    n, k = len(samples), len(HZ)
    state = np.zeros((1, state_size(k, N_TIMES, len(whitening))))
    features = np.empty((1, n, k, n_features(N_TIMES)), dtype=np.float32)
    averages = np.empty((1, n, k, N_FITS * N_TIMES, 2), dtype=np.float32)
    carriers = np.empty((1, n, k, 2), dtype=np.float32)
    arrays = [tables[name] for name in TABLES]
    fit(samples[None].astype(float), state, *arrays, features, averages, carriers)
    levels = averages[0, ..., 0] + 1j * averages[0, ..., 1]
    carrier = carriers[0, ..., 0] + 1j * carriers[0, ..., 1]
    return (levels * carrier[..., None]).real, features[0]


def rows(n_samples: int, answered: np.ndarray) -> np.ndarray:
    """Regressors of every sample: how the tones come through the whitening filter, and 1."""
    phasors = np.exp(2j * np.pi * np.outer(np.arange(n_samples), HZ) / RATE) * answered
    pairs = np.stack([phasors.real, -phasors.imag], axis=2).reshape(n_samples, -1)
    return np.concatenate([pairs, np.ones((n_samples, 1))], axis=1)


@pytest.mark.parametrize("n", [1, 3, 40, 400])
@pytest.mark.parametrize("order", ORDERS)
def test_a_fit_is_weighted_least_squares(n: int, order: int) -> None:
    samples = np.random.default_rng(n).normal(size=n)
    share = bank_tables(ModelSettings(kind="bank", selector="readout"), DATA)["shares"][1]
    lag = np.arange(n)[::-1]
    weights = share**order * comb(lag + order - 1, order - 1) * (1 - share) ** lag
    x = rows(n, np.ones(2))
    ridge = RIDGE * weights.sum() * max(share, 1 / n)
    given = samples - samples[0]
    fit = np.linalg.solve((x.T * weights) @ x + ridge * np.eye(5), (x.T * weights) @ given)
    expected = [x[-1, 2 * k : 2 * k + 2] @ fit[2 * k : 2 * k + 2] for k in range(2)]
    tones, _ = averaged(samples)
    np.testing.assert_allclose(tones[-1, :, N_FITS + ORDERS.index(order)], expected, atol=1e-9)


def test_neither_another_tone_nor_an_offset_leaks_in() -> None:
    t = np.arange(4000)
    turns = 2 * np.pi * np.outer(t, HZ) / RATE
    wanted = np.sin(turns + np.array([0.3, 1.1])) * np.array([1.0, 5.0])
    tones, _ = averaged(wanted.sum(axis=1) + 20.0)
    late = slice(2000, None)
    error = np.abs(tones[late] - wanted[late, :, None]).max(axis=0)
    assert error[:, -N_FITS:-1].max() < 0.02
    # The plain lock-in of the same span lets the louder tone through.
    share = bank_tables(ModelSettings(kind="bank", selector="readout"), DATA)["shares"][2]
    shifted = 2 * wanted.sum(axis=1) * np.exp(-1j * turns[:, 0])
    weights = (1 - share) ** np.arange(4000)[::-1]
    level = (weights * shifted).sum() / weights.sum()
    lock_in = (level * np.exp(1j * turns[-1, 0])).real
    assert abs(lock_in - wanted[-1, 0]) > 5 * np.abs(tones[-1, 0, 2 * N_FITS] - wanted[-1, 0])


def test_a_whitened_tone_comes_out_as_it_is() -> None:
    tone = 2.0 * np.sin(2 * np.pi * HZ[0] / RATE * np.arange(3000) + 0.5)
    tones, features = averaged(tone, (-1.5, 0.7))
    # The ridge takes a little off.
    np.testing.assert_allclose(tones[2000:, 0, -N_FITS], tone[2000:], atol=1e-3)
    assert not features[:2].any()  # the filter still looks at what was before


def test_the_drawn_fit_is_smaller_in_noise_and_the_same_without() -> None:
    noise = np.random.default_rng(1).normal(size=3000)
    tone = np.sin(2 * np.pi * HZ[0] / RATE * np.arange(3000))
    plain, drawn = ((N_TIMES - 3) * N_FITS, (N_TIMES - 3) * N_FITS + 3)
    power = [np.mean(averaged(noise)[0][500:, 0, at] ** 2) for at in (plain, drawn)]
    assert power[1] < 0.7 * power[0]
    power = [np.mean(averaged(tone + 1e-3 * noise)[0][500:, 0, at] ** 2) for at in (plain, drawn)]
    assert power[1] == pytest.approx(power[0], rel=0.02)


def test_features_do_not_tell_scale_or_phase() -> None:
    noise = np.random.default_rng(2).normal(size=500)
    plain = averaged(noise)[1]
    np.testing.assert_allclose(averaged(-1e5 * noise)[1], plain, atol=1e-12)
    assert np.isfinite(plain).all()
    assert np.abs(plain).max() < 20
    assert max(ORDERS) == STAGES
