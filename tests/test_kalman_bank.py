"""The candidates against plain least squares, known noise and invariances; the weigher against
PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from tonesieve.extractors.pretrained.extractor import GatingWeights
from tonesieve.extractors.pretrained.front_end import (
    FIXED_MEMORIES,
    NO_RESTART_MEMORIES,
    TABLE,
    TRACKING_MEMORIES,
    BankOutput,
    ToneGroup,
)
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.gating import (
    N_OUTPUTS,
    gate_outputs,
    mix_phasors,
    pack_dense,
    run_gru,
)
from tonesieve.kernels.kalman_bank.whitening import NOISE_MEMORY
from tonesieve.kernels.simd import WIDTH

TURN = 0.047  # cycles a sample: every sample is a step
# Where candidates stand among all.
FIXED, ENDLESS = (
    FIXED_MEMORIES.index(300.0),
    len(FIXED_MEMORIES) + NO_RESTART_MEMORIES.index(np.inf),
)


def heard(samples: np.ndarray, turns: tuple[float, ...] = (TURN,)) -> tuple[np.ndarray, BankOutput]:
    """Phasors (B, N, K, M) of every candidate, and all the evidence."""
    one = ToneGroup(turns)
    evidence, _ = one.run_bank(np.ascontiguousarray(samples), one.initial_state(len(samples))[3])
    return evidence.phasors[..., 0, :] + 1j * evidence.phasors[..., 1, :], evidence


def tones(n: int, n_streams: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Phasors (B) of size 1 and any phase, and their tones (B, N)."""
    phasors = np.exp(2j * np.pi * np.random.default_rng(seed).random(n_streams))
    return phasors, (phasors[:, None] * np.exp(2j * np.pi * TURN * np.arange(n))).imag


def noise(n: int, n_streams: int = 24, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_streams, n))


def least_squares(samples: np.ndarray) -> np.ndarray:
    """Phasors (B) of the fit of a sine, a cosine and a constant."""
    angle = 2 * np.pi * TURN * np.arange(samples.shape[1])
    rows = np.stack([np.sin(angle), np.cos(angle), np.ones(angle.size)], axis=1)
    fit = np.linalg.lstsq(rows, samples.T, rcond=None)[0]
    return np.asarray(fit[0] + 1j * fit[1])


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.abs(array) ** 2)))


def test_there_are_as_many_candidates_as_lanes() -> None:
    assert len(FIXED_MEMORIES) + len(NO_RESTART_MEMORIES) + len(TRACKING_MEMORIES) == WIDTH
    assert TABLE.shape == (6 * WIDTH,)


@pytest.mark.parametrize("n", [600, 1500, 3000])
def test_what_never_forgets_is_least_squares(n: int) -> None:
    phasors, tone = tones(n)
    samples = 0.5 * tone + 7 + noise(n)
    fit = least_squares(samples)
    off = heard(samples)[0][:, -1, 0, ENDLESS] - fit
    # Whitening noise that is white, and a level that may drift, cost two hundredths of the power.
    assert rms(off) < 0.15 * rms(fit - 0.5 * phasors)


def test_the_autoregression_of_the_noise_is_found() -> None:
    one, two, n, n_streams = 1.2, -0.6, 8000, 16
    samples = lfilter([1.0], [1.0, -one, -two], noise(n, n_streams)) + tones(n, n_streams)[1]
    hearing = ToneGroup((TURN,))
    _, state = hearing.run_bank(samples, hearing.initial_state(n_streams)[3])
    place = state.age_place(1) + state.N_NUMBERS + 3 * state.ORDER
    model = state[:, place : place + state.ORDER + 1]
    # Of a fit to n samples, either coefficient is uncertain by so much.
    error = np.sqrt((1 - two**2) / NOISE_MEMORY)
    np.testing.assert_array_equal(model[:, 0], 1.0)
    np.testing.assert_allclose(model[:, 1:3], [[-one, -two]] * n_streams, atol=4 * error)
    mean = 3 * error / np.sqrt(n_streams)
    np.testing.assert_allclose(model[:, 1:3].mean(axis=0), [-one, -two], atol=mean)
    assert np.abs(model[:, 3:]).mean() < error / 2


def dyadic(samples: np.ndarray) -> np.ndarray:
    """Numbers of few digits: an offset takes none of them."""
    return np.round(samples * 2.0**20) / 2.0**20


@pytest.mark.parametrize("change", ["scale", "offset", "sign"])
def test_scale_offset_and_sign_only_do_what_they_do(change: str) -> None:
    samples = dyadic(tones(1500, 4)[1] + noise(1500, 4))
    samples[:, 700:720] = np.nan
    times = {"scale": 2.0**12, "offset": 1.0, "sign": -1.0}[change]
    once, before = heard(samples)
    again, after = heard(samples * times + (1024.0 if change == "offset" else 0.0))
    np.testing.assert_array_equal(again, times * once)
    np.testing.assert_array_equal(after.features, before.features)
    np.testing.assert_array_equal(after.variances, times**2 * before.variances)


def test_a_steady_tones_phase_makes_no_difference() -> None:
    # The same noise, turned along: another sample of the same errors.
    errors = []
    for seed in (2, 3):
        phasors, tone = tones(2000, 48, seed)
        found = heard(tone + noise(2000, 48, seed + 10))[0][:, 1000:, 0, FIXED]
        errors.append(rms(found - phasors[:, None]))
    assert errors[0] == pytest.approx(errors[1], rel=0.15)


def test_impulses_change_little() -> None:
    phasors, tone = tones(4000)
    samples, rng = tone + noise(4000), np.random.default_rng(5)
    struck = 30.0 * rng.choice([-1, 1], samples.shape) * (rng.random(samples.shape) < 0.005)
    struck[:, :50] = 0.0
    clean, found = heard(samples)[0], heard(samples + struck)[0]
    for candidate in (2, FIXED, ENDLESS):
        error = rms(clean[:, 500:, 0, candidate] - phasors[:, None])
        assert rms((found - clean)[:, 500:, 0, candidate]) < 0.2 * error
    # A plain fit is thrown: they have several times the power of the noise.
    assert rms(least_squares(samples + struck) - phasors) > 1.5 * rms(
        least_squares(samples) - phasors
    )


def test_a_gap_in_red_noise_throws_no_one() -> None:
    phasors, tone = tones(3000)
    samples = 10 * tone + lfilter([1.0], [1.0, -0.999], noise(3000))
    samples[:, 2000:2300] = np.nan
    found = heard(samples)[0][..., 0, FIXED] - 10 * phasors[:, None]
    usual = rms(found[:, 1000:2000])
    assert usual < 1
    assert rms(found[:, 2000:2300]) < 1.2 * usual
    assert rms(found[:, 2300:2400]) < 2 * usual
    assert rms(found[:, 2400:]) < 1.2 * usual


@pytest.mark.parametrize("after", [-1.0, 5.0])
def test_after_a_jump_a_long_memory_begins_anew(after: float) -> None:
    phasors, tone = tones(2400)
    size = np.where(np.arange(2400) < 2000, 1.0, after)
    samples = size * tone + 0.3 * noise(2400)
    error = np.abs(heard(samples)[0][:, -1, 0] - after * phasors[:, None])
    long, fixed = rms(error[:, FIXED_MEMORIES.index(3500.0)]), rms(error[:, FIXED])
    assert long < 1.2 * fixed
    # One that never begins anew is still far off.
    assert rms(error[:, ENDLESS]) > 10 * long


def test_a_strong_neighbour_does_not_leak() -> None:
    phasors, tone = tones(4000)
    beside = 100 * np.sin(2 * np.pi * 1.02 * TURN * np.arange(4000) + 1)
    both = heard(tone + beside + noise(4000), (TURN, 1.02 * TURN))[0][:, 2000:, 0, FIXED]
    alone = heard(tone + noise(4000))[0][:, 2000:, 0, FIXED]
    errors = [rms(found - phasors[:, None]) for found in (both, alone)]
    assert errors[0] < 1.5 * errors[1]


# The network that weighs.


def drawn(n_hidden: int = 12, between: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a pretrained extractor, at random."""
    rng, f = np.random.default_rng(seed), n_features()
    shapes = {
        "gru.weight_ih_l0": (3 * n_hidden, f), "gru.bias_ih_l0": (3 * n_hidden,),
        "gru.weight_hh_l0": (3 * n_hidden, n_hidden), "gru.bias_hh_l0": (3 * n_hidden,),
        "head.weight": (N_OUTPUTS, n_hidden), "head.bias": (N_OUTPUTS,),
        "mix.weight": (between, 2 * n_hidden + 2 * (WIDTH + 1) + 4), "mix.bias": (between,),
        "two.weight": (2 * WIDTH + 2, between), "two.bias": (2 * WIDTH + 2,),
    }  # fmt: skip
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def weighed(judge: GatingWeights, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states and outputs of features (S, R, F)."""
    n, r, h = *features.shape[:2], judge.n_hidden
    path, told = np.empty((n, r, h)), np.empty((n, r, N_OUTPUTS))
    run_gru(features, np.zeros((n, h)), judge.taken, judge.carried, judge.answer, path, told)
    return path, told


@pytest.mark.parametrize("n_hidden", [12, 13, 48])
def test_the_weigher_is_pytorchs_recurrent_unit(n_hidden: int) -> None:
    torch = pytest.importorskip("torch")
    tensors = drawn(n_hidden)
    features = np.random.default_rng(1).normal(0, 2, (3, 40, n_features()))
    path, told = weighed(GatingWeights(tensors), features)
    unit = torch.nn.GRU(n_features(), n_hidden, batch_first=True).double()
    head = torch.nn.Linear(n_hidden, N_OUTPUTS).double()
    for module, name in ((unit, "gru."), (head, "head.")):
        own = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
        module.load_state_dict({key: torch.tensor(v).double() for key, v in own.items()})
    with torch.no_grad():
        expected = unit(torch.tensor(features))[0]
        np.testing.assert_allclose(path, expected.numpy(), rtol=0, atol=1e-6)
        np.testing.assert_allclose(told, head(expected).numpy(), rtol=0, atol=5e-6)
        logits = torch.tensor(told[..., : WIDTH + 1])
        shares = torch.softmax(logits, dim=-1)[..., :WIDTH].numpy()
    phasors, variances = noise(3 * 40 * 2 * WIDTH, 1), noise(3 * 40 * WIDTH, 1) ** 2
    phasors, variances = phasors.reshape(3, 40, 2, WIDTH), variances.reshape(3, 40, WIDTH)
    weights, sure = np.empty((3, 40, WIDTH)), np.empty((3, 40))
    gate_outputs(told, phasors, variances, weights, sure)
    np.testing.assert_allclose(weights, shares, rtol=0, atol=1e-12)
    # Mean and variance of the mixture whose parts are the candidates, and silence, whose own
    # spread is none.
    nothing = 1 - shares.sum(axis=2, keepdims=True)
    everyone = np.concatenate([shares, nothing], axis=2)[:, :, None]
    values = np.concatenate([phasors, np.zeros((3, 40, 2, 1))], axis=3)
    mean = (everyone * values).sum(axis=3, keepdims=True)
    apart = (everyone * (values - mean) ** 2).sum(axis=(2, 3))
    whole = apart + (shares * variances).sum(axis=2)
    np.testing.assert_allclose(sure, told[..., WIDTH + 1] + 0.5 * np.log(0.5 * whole), atol=1e-9)


def test_tones_are_weighed_each_by_itself() -> None:
    judge = GatingWeights(drawn())
    features = np.random.default_rng(2).normal(size=(4, 30, n_features()))
    path, told = weighed(judge, features)
    for s in range(4):
        alone = weighed(judge, features[s : s + 1])
        np.testing.assert_array_equal(path[s], alone[0][0])
        np.testing.assert_array_equal(told[s], alone[1][0])


@pytest.mark.parametrize("n_out", [1, 15, 16, 17, 34])
def test_packed_weights_hold_all_lines(n_out: int) -> None:
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(n_out, 5)), rng.normal(size=n_out)
    lines = pack_dense(weight, bias)
    assert lines.shape == (-(-n_out // WIDTH), 6, WIDTH)
    whole = lines.transpose(0, 2, 1).reshape(-1, 6)
    np.testing.assert_array_equal(whole[:n_out], np.column_stack([bias, weight]))
    assert not whole[n_out:].any()


def test_phasors_are_combined_by_their_frames() -> None:
    rng = np.random.default_rng(4)
    phasors, weights = rng.normal(size=(2, 9, 3, 2, WIDTH)), rng.random((2, 3, 4, WIDTH))
    frames, found = np.sort(rng.integers(0, 4, 9)), np.empty((2, 9, 3, 2))
    mix_phasors(phasors, weights, frames, found)
    expected = np.einsum("bnkim,bknm->bnki", phasors, weights[:, :, frames])
    np.testing.assert_allclose(found, expected, atol=1e-12)
