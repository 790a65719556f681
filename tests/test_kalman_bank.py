"""The filters of the bank against least squares, known noise and invariances; the gating network
against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from tonesieve.extractors.pretrained.filter_table import (
    FIXED_MEMORIES,
    NO_RESTART_MEMORIES,
    TABLE,
    TRACKING_MEMORIES,
)
from tonesieve.extractors.pretrained.front_end import BankOutput, ToneGroup
from tonesieve.extractors.pretrained.gate import GatingWeights
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.gating import (
    N_OUTPUTS,
    gate_outputs,
    mix_phasors,
    pack_dense,
    run_gru,
)
from tonesieve.kernels.kalman_bank.state import AR_ORDER, unpack
from tonesieve.kernels.kalman_bank.whitening import LOADING, NOISE_MEMORY
from tonesieve.kernels.simd import WIDTH

FREQ = 0.12  # cycles a sample: every sample is a step
# Indices of filters.
FIXED, INFINITE = (
    FIXED_MEMORIES.index(300.0),
    len(FIXED_MEMORIES) + NO_RESTART_MEMORIES.index(np.inf),
)


def filtered(
    samples: np.ndarray, freq_cycles: tuple[float, ...] = (FREQ,)
) -> tuple[np.ndarray, BankOutput]:
    """Phasors (B, N, K, M) of every filter, and the whole output."""
    group = ToneGroup(freq_cycles)
    banks = group.initial_state(len(samples)).banks
    output, _ = group.run_bank(np.ascontiguousarray(samples), banks)
    return output.phasors[..., 0, :] + 1j * output.phasors[..., 1, :], output


def tones(n: int, n_streams: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Phasors (B) of size 1 and any phase, and their tones (B, N)."""
    phasors = np.exp(2j * np.pi * np.random.default_rng(seed).random(n_streams))
    return phasors, (phasors[:, None] * np.exp(2j * np.pi * FREQ * np.arange(n))).imag


def noise(n: int, n_streams: int = 24, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_streams, n))


def least_squares(samples: np.ndarray) -> np.ndarray:
    """Phasors (B) of the fit of a sine, a cosine and a constant."""
    angle = 2 * np.pi * FREQ * np.arange(samples.shape[1])
    rows = np.stack([np.sin(angle), np.cos(angle), np.ones(angle.size)], axis=1)
    fit = np.linalg.lstsq(rows, samples.T, rcond=None)[0]
    return np.asarray(fit[0] + 1j * fit[1])


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.abs(array) ** 2)))


def test_there_are_as_many_filters_as_lanes() -> None:
    assert len(FIXED_MEMORIES) + len(NO_RESTART_MEMORIES) + len(TRACKING_MEMORIES) == WIDTH
    assert TABLE.shape == (6, WIDTH)


@pytest.mark.parametrize("n", [600, 1500, 3000])
def test_a_filter_of_infinite_memory_is_least_squares(n: int) -> None:
    phasors, tone = tones(n)
    samples = 0.5 * tone + 7 + noise(n)
    fit = least_squares(samples)
    difference = filtered(samples)[0][:, -1, 0, INFINITE] - fit
    # Whitening noise that is white, and a DC level that may drift, cost 0.02 of the power.
    assert rms(difference) < 0.15 * rms(fit - 0.5 * phasors)


def loaded_fit(ar_1: float, ar_2: float, order: int, loading: float) -> np.ndarray:
    """Yule-Walker fit of AR(2) noise plus white noise of ``loading`` times its density."""
    response = lfilter([1.0], [1.0, -ar_1, -ar_2], np.eye(1, 2000)[0])
    autocovariance = np.array([response[: 2000 - k] @ response[k:] for k in range(order + 1)])
    turn = np.exp(-2j * np.pi * FREQ)
    autocovariance[0] += loading / abs(1 - ar_1 * turn - ar_2 * turn**2) ** 2
    fit: np.ndarray = solve_toeplitz(autocovariance[:-1], -autocovariance[1:])
    return fit


# Noise with its peak at the tone, so that the load is larger than the noise elsewhere, and noise
# with its peak far from the tone, so that there is hardly any load.
@pytest.mark.parametrize("ar_1", [1.2, -1.2])
def test_the_ar_model_is_that_of_the_noise_and_its_load(ar_1: float) -> None:
    ar_2, n, n_streams = -0.6, 8000, 16
    samples = lfilter([1.0], [1.0, -ar_1, -ar_2], noise(n, n_streams)) + tones(n, n_streams)[1]
    group = ToneGroup((FREQ,))
    _, banks = group.run_bank(samples, group.initial_state(n_streams).banks)
    states = [unpack(bank, 1) for bank in banks]
    orders = np.array([state.scalars[AR_ORDER] for state in states])
    order = int(np.median(orders))
    assert 2 <= order <= 6
    # The criterion chooses a far higher order at times.
    usual = orders == order
    assert usual.mean() >= 0.7
    ar = np.stack([state.ar for state in states])[usual]
    # Standard error of either coefficient, fitted to n samples.
    error = np.sqrt((1 - ar_2**2) / NOISE_MEMORY)
    # The mixture takes some of the noise at the tone, 1 dB, off the residual.
    fits = [loaded_fit(ar_1, ar_2, order, part * LOADING) for part in (0.79, 1.0)]
    low, high = np.minimum(*fits), np.maximum(*fits)
    np.testing.assert_array_equal(ar[:, 0], 1.0)
    coefficients = ar[:, 1 : order + 1]
    assert (low - 4 * error <= coefficients).all()
    assert (coefficients <= high + 4 * error).all()
    mean, tolerance = coefficients.mean(axis=0), 3 * error / np.sqrt(len(ar))
    assert (low - tolerance <= mean).all()
    assert (mean <= high + tolerance).all()
    assert not ar[:, order + 1 :].any()


def dyadic(samples: np.ndarray) -> np.ndarray:
    """Round to few digits, so that an offset takes none of them."""
    return np.round(samples * 2.0**20) / 2.0**20


@pytest.mark.parametrize("change", ["scale", "offset", "sign"])
def test_scale_offset_and_sign_pass_through(change: str) -> None:
    samples = dyadic(tones(1500, 4)[1] + noise(1500, 4))
    samples[:, 700:720] = np.nan
    factor = {"scale": 2.0**12, "offset": 1.0, "sign": -1.0}[change]
    phasors, output = filtered(samples)
    offset = 1024.0 if change == "offset" else 0.0
    changed_phasors, changed = filtered(samples * factor + offset)
    np.testing.assert_array_equal(changed_phasors, factor * phasors)
    np.testing.assert_array_equal(changed.features, output.features)
    np.testing.assert_array_equal(changed.variances, factor**2 * output.variances)


def test_a_steady_tones_phase_makes_no_difference() -> None:
    # Another draw of the same errors.
    errors = []
    for seed in (2, 3):
        phasors, tone = tones(2000, 48, seed)
        estimates = filtered(tone + noise(2000, 48, seed + 10))[0][:, 1000:, 0, FIXED]
        errors.append(rms(estimates - phasors[:, None]))
    assert errors[0] == pytest.approx(errors[1], rel=0.15)


def test_impulses_change_little() -> None:
    phasors, tone = tones(4000)
    samples, rng = tone + noise(4000), np.random.default_rng(5)
    impulses = 30.0 * rng.choice([-1, 1], samples.shape) * (rng.random(samples.shape) < 0.005)
    impulses[:, :50] = 0.0
    clean, disturbed = filtered(samples)[0], filtered(samples + impulses)[0]
    for index in (2, FIXED, INFINITE):
        error = rms(clean[:, 500:, 0, index] - phasors[:, None])
        assert rms((disturbed - clean)[:, 500:, 0, index]) < 0.2 * error
    # A plain fit is disturbed: they have several times the power of the noise.
    assert rms(least_squares(samples + impulses) - phasors) > 1.5 * rms(
        least_squares(samples) - phasors
    )


def test_a_gap_in_red_noise_disturbs_little() -> None:
    phasors, tone = tones(3000)
    samples = 10 * tone + lfilter([1.0], [1.0, -0.999], noise(3000))
    samples[:, 2000:2300] = np.nan
    errors = filtered(samples)[0][..., 0, FIXED] - 10 * phasors[:, None]
    before = rms(errors[:, 1000:2000])
    assert before < 1
    assert rms(errors[:, 2000:2300]) < 1.2 * before
    assert rms(errors[:, 2300:2400]) < 2 * before
    assert rms(errors[:, 2400:]) < 1.2 * before


@pytest.mark.parametrize("after", [-1.0, 5.0])
def test_after_a_jump_a_long_memory_restarts(after: float) -> None:
    phasors, tone = tones(2400)
    size = np.where(np.arange(2400) < 2000, 1.0, after)
    samples = size * tone + 0.3 * noise(2400)
    error = np.abs(filtered(samples)[0][:, -1, 0] - after * phasors[:, None])
    long, fixed = rms(error[:, FIXED_MEMORIES.index(3500.0)]), rms(error[:, FIXED])
    assert long < 1.2 * fixed
    # One that never restarts is still far off.
    assert rms(error[:, INFINITE]) > 10 * long


def test_a_strong_neighbour_does_not_leak() -> None:
    phasors, tone = tones(4000)
    neighbour = 100 * np.sin(2 * np.pi * 1.02 * FREQ * np.arange(4000) + 1)
    both = filtered(tone + neighbour + noise(4000), (FREQ, 1.02 * FREQ))[0][:, 2000:, 0, FIXED]
    alone = filtered(tone + noise(4000))[0][:, 2000:, 0, FIXED]
    errors = [rms(estimates - phasors[:, None]) for estimates in (both, alone)]
    assert errors[0] < 1.5 * errors[1]


# The gating network.


def random_weights(n_hidden: int = 12, n_mix: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of a pretrained extractor, at random."""
    rng, f = np.random.default_rng(seed), n_features()
    shapes = {
        "gru.weight_ih_l0": (3 * n_hidden, f), "gru.bias_ih_l0": (3 * n_hidden,),
        "gru.weight_hh_l0": (3 * n_hidden, n_hidden), "gru.bias_hh_l0": (3 * n_hidden,),
        "head.weight": (N_OUTPUTS, n_hidden), "head.bias": (N_OUTPUTS,),
        "mix.weight": (n_mix, 2 * n_hidden + 2 * (WIDTH + 1) + 4), "mix.bias": (n_mix,),
        "two.weight": (2 * WIDTH + 2, n_mix), "two.bias": (2 * WIDTH + 2,),
    }  # fmt: skip
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def gated(gating: GatingWeights, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states and outputs of features (S, R, F)."""
    n, r, h = *features.shape[:2], gating.n_hidden
    states, outputs = np.empty((n, r, h)), np.empty((n, r, N_OUTPUTS))
    weights = (gating.w_input, gating.w_hidden, gating.w_output)
    run_gru(features, np.zeros((n, h)), *weights, states, outputs)
    return states, outputs


@pytest.mark.parametrize("n_hidden", [12, 13, 48])
def test_the_gating_network_is_pytorchs_gru(n_hidden: int) -> None:
    torch = pytest.importorskip("torch")
    tensors = random_weights(n_hidden)
    features = np.random.default_rng(1).normal(0, 2, (3, 40, n_features()))
    states, outputs = gated(GatingWeights(tensors), features)
    unit = torch.nn.GRU(n_features(), n_hidden, batch_first=True).double()
    head = torch.nn.Linear(n_hidden, N_OUTPUTS).double()
    for module, name in ((unit, "gru."), (head, "head.")):
        own = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
        module.load_state_dict({key: torch.tensor(v).double() for key, v in own.items()})
    # Each step from the kernel's own state: the recurrence would amplify the rounding of its tanh.
    before = np.concatenate([np.zeros((3, 1, n_hidden)), states[:, :-1]], axis=1)
    steps, start = features.reshape(120, 1, -1), before.reshape(1, 120, n_hidden)
    with torch.no_grad():
        expected = unit(torch.tensor(steps), torch.tensor(start))[0].numpy().reshape(states.shape)
        np.testing.assert_allclose(states, expected, rtol=0, atol=1e-6)
        expected_outputs = head(torch.tensor(states)).numpy()
        np.testing.assert_allclose(outputs, expected_outputs, rtol=0, atol=1e-9)
        logits = torch.tensor(outputs[..., : WIDTH + 1])
        expected_weights = torch.softmax(logits, dim=-1)[..., :WIDTH].numpy()
    phasors, variances = noise(3 * 40 * 2 * WIDTH, 1), noise(3 * 40 * WIDTH, 1) ** 2
    phasors, variances = phasors.reshape(3, 40, 2, WIDTH), variances.reshape(3, 40, WIDTH)
    weights, log_std = np.empty((3, 40, WIDTH)), np.empty((3, 40))
    gate_outputs(outputs, phasors, variances, weights, log_std)
    np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=1e-12)
    # Mean and variance of the mixture of the filters and of silence, which has no variance.
    silence = 1 - expected_weights.sum(axis=2, keepdims=True)
    all_weights = np.concatenate([expected_weights, silence], axis=2)[:, :, None]
    values = np.concatenate([phasors, np.zeros((3, 40, 2, 1))], axis=3)
    mean = (all_weights * values).sum(axis=3, keepdims=True)
    variance = (all_weights * (values - mean) ** 2).sum(axis=(2, 3))
    variance += (expected_weights * variances).sum(axis=2)
    expected_log_std = outputs[..., WIDTH + 1] + 0.5 * np.log(0.5 * variance)
    np.testing.assert_allclose(log_std, expected_log_std, atol=1e-9)


def test_tones_are_gated_each_by_itself() -> None:
    gating = GatingWeights(random_weights())
    features = np.random.default_rng(2).normal(size=(4, 30, n_features()))
    states, outputs = gated(gating, features)
    for s in range(4):
        alone = gated(gating, features[s : s + 1])
        np.testing.assert_array_equal(states[s], alone[0][0])
        np.testing.assert_array_equal(outputs[s], alone[1][0])


@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 34])
def test_packed_weights_hold_all_outputs(n_out: int) -> None:
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(n_out, 5)), rng.normal(size=n_out)
    packed = pack_dense(weight, bias)
    assert packed.shape == (-(-n_out // WIDTH), 6, WIDTH)
    rows = packed.transpose(0, 2, 1).reshape(-1, 6)
    np.testing.assert_array_equal(rows[:n_out], np.column_stack([bias, weight]))
    assert not rows[n_out:].any()


def test_phasors_are_mixed_by_the_weights_of_their_interval() -> None:
    rng = np.random.default_rng(4)
    phasors, weights = rng.normal(size=(2, 9, 3, 2, WIDTH)), rng.random((2, 3, 4, WIDTH))
    intervals, mixed = np.sort(rng.integers(0, 4, 9)), np.empty((2, 9, 3, 2))
    mix_phasors(phasors, weights, intervals, mixed)
    expected = np.einsum("bnkim,bknm->bnki", phasors, weights[:, :, intervals])
    np.testing.assert_allclose(mixed, expected, atol=1e-12)
