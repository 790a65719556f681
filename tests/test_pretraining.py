"""Pretraining: batches, the gating network, its training and its weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import tonesieve
from tonesieve.cli import app
from tonesieve.errors import UserError
from tonesieve.evaluation.benchmark import TEST_SEED
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.filter_table import FIXED_MEMORIES, NO_RESTART_MEMORIES
from tonesieve.extractors.pretrained.front_end import BankOutput, ToneGroup
from tonesieve.extractors.pretrained.smoother import smooth_blocks
from tonesieve.inference.weights import (
    load_pretrained,
    load_weights,
    read_tensors,
    save_pretrained,
    write_tensors,
)
from tonesieve.kernels.kalman_bank.gating import MIN_VARIANCE
from tonesieve.kernels.kalman_bank.state import GATING_INTERVAL
from tonesieve.learning.data.prefetch import prefetch_processes
from tonesieve.learning.pretraining import dataset, gating_network
from tonesieve.learning.pretraining.dataset import BatchSpec, draw_batch
from tonesieve.learning.pretraining.gating_network import (
    GatingNetwork,
    compute_losses,
    mixture_mean,
    to_tensors,
)
from tonesieve.learning.pretraining.train import calibration_offset
from tonesieve.learning.pretraining.training_state import train_step
from tonesieve.signals.scenes import Scene, draw_scene
from tonesieve.util.progress import Reporter, Task

SIZES = (BatchSpec(40, 3, 0.5), BatchSpec(64, 2, 0.5))
# Index of the filter of infinite memory.
INFINITE = len(FIXED_MEMORIES) + NO_RESTART_MEMORIES.index(np.inf)
TINY = {
    "n_steps": 6, "n_hidden": 16, "sizes": SIZES, "n_calibrating": 1, "n_validating": 1,
    "n_workers": 0, "save_every": 2,
}  # fmt: skip


class Interrupting(Reporter):
    """Raises KeyboardInterrupt after a number of steps."""

    def __init__(self, at: int) -> None:
        self._at = at

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        task = Task()

        def update(n_done: int) -> None:
            if title == "pretraining" and n_done == self._at:
                raise KeyboardInterrupt

        task.update = update  # type: ignore[method-assign]
        yield task


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("pretrained") / "tiny.safetensors"
    return out, tonesieve.pretrain(out, **TINY)


@pytest.fixture(scope="module")
def few() -> dataset.Batch:
    return draw_batch((3, 0, 0), (BatchSpec(64, 8, 1.0),))


def test_a_batch_is_the_same_for_the_same_seed_alone() -> None:
    one, again, other = (draw_batch((5, 0, number), SIZES[:1]) for number in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.features, other.features)
    assert one.features.shape[:3] == (3, 3, 40)
    assert one.smoothing_phasors.shape[:3] == (3, 2, 40)
    assert all(np.isfinite(part).all() for part in one)


def test_no_seed_of_a_training_draws_a_scene_of_the_tests() -> None:
    assert TEST_SEED not in (dataset.SCENES, dataset.CHOICES)


@pytest.mark.parametrize("with_course", [True, False])
def test_all_is_over_the_tones_rms_and_padded(with_course: bool) -> None:
    scene = draw_scene(
        1, 1000, freq_cycles=0.1, plain=True, dynamics="steady", noise="white", snr_db=30.0
    )
    (record,) = dataset.records_of(scene, 200, with_course=with_course)
    assert record.n_intervals == 1000 // GATING_INTERVAL
    assert record.settled == 200 // GATING_INTERVAL
    assert not record.features[:, 125:].any()
    np.testing.assert_allclose((record.causal_targets[:, :125] ** 2).sum(-1), 1.0, rtol=1e-6)
    # The filter of infinite memory finds the tone in every pass, and from either side.
    for phasors, targets in (
        (record.causal_phasors, record.causal_targets),
        (record.smoothing_phasors[0], record.smoothing_targets),
        (record.smoothing_phasors[1], record.smoothing_targets),
    ):
        error = phasors[..., 40:80, :, :, INFINITE] - targets[..., 40:80, :, :]
        assert (error**2).sum(-1).mean() < 1e-3


@pytest.mark.parametrize("freq", [0.1, 0.03])
def test_later_passes_follow_the_course_and_their_targets_with_them(
    freq: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = draw_scene(
        1, 1600, freq_cycles=freq, plain=True, dynamics="steady", noise="white", snr_db=30.0
    )
    group = ToneGroup(scene.freq_cycles)

    def chirp(samples: np.ndarray, group: ToneGroup, at: np.ndarray) -> np.ndarray:
        """The course of another line, whose offset grows to 0.02 rad a step."""
        steps = np.arange(len(at))
        return np.asarray(0.01 * steps**2 / len(at))[:, None]

    steady, turned = (
        dataset.records_of(scene, 150, with_course=with_course)[0]
        for with_course in (False, True)
        if monkeypatch.setattr(dataset, "find_courses", chirp) is None
    )
    n = int(steady.n_intervals)
    # Causal: at the nominal frequency, whatever the course.
    np.testing.assert_array_equal(turned.causal_phasors[0], steady.causal_phasors[0])
    np.testing.assert_array_equal(turned.causal_targets[0], steady.causal_targets[0])
    ends = np.arange(n) * GATING_INTERVAL + GATING_INTERVAL - 1
    last = n * GATING_INTERVAL - 1
    for side, places in ((1, ends + dataset.CAUSAL_STEPS[0]), (2, last - ends - 1)):
        phase = 0.01 * np.clip(places, 0, last) ** 2 / (n * GATING_INTERVAL)
        before, after = (
            record.causal_targets[side, :n, 0] @ np.array([1, 1j]) for record in (steady, turned)
        )
        np.testing.assert_allclose(after, before * np.exp(-1j * phase), atol=1e-5)
    # And a short filter follows its carrier along it: the tone is then a chirp the other way.
    assert group.factor == (1 if freq == 0.1 else 5)
    if group.factor == 1:
        error = turned.causal_phasors[1:, 40:80, :, :, 0] - turned.causal_targets[1:, 40:80]
        assert (error**2).sum(-1).mean() < 3e-2


def test_short_scenes_are_left_out() -> None:
    assert dataset.records_of(draw_scene(1, 200, freq_cycles=0.1), 200) == []


def test_processes_draw_the_same_in_the_same_order() -> None:
    keys = list(range(7))
    with prefetch_processes(np.arange, keys, 2) as drawn:
        assert [len(item) for item in drawn] == keys


def test_what_fails_in_a_process_is_raised_here() -> None:
    with prefetch_processes(np.arange, ["no number"], 1) as drawn, pytest.raises(TypeError):
        list(drawn)


def test_the_loss_falls_on_one_batch(few: dataset.Batch) -> None:
    torch.manual_seed(0)
    network = GatingNetwork(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    batch = to_tensors(few)
    losses = [train_step(network, optimizer, batch) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.5
    assert losses[-1] < min(losses[:6])


def test_the_loss_of_both_directions_trains_the_fusion_network_alone(few: dataset.Batch) -> None:
    network = GatingNetwork(16)
    compute_losses(network, to_tensors(few))[1].loss.backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {"mix.weight", "mix.bias", "two.weight", "two.bias"}


def test_padding_has_no_loss(few: dataset.Batch) -> None:
    network = GatingNetwork(16)
    last = few.n_intervals.min() - 10
    short = few._replace(n_intervals=np.full_like(few.n_intervals, last))
    other = short._replace(
        features=short.features.copy(),
        causal_targets=short.causal_targets.copy(),
        smoothing_targets=short.smoothing_targets.copy(),
    )
    other.features[:, :, last:] = 7.0
    other.causal_targets[:, :, last:] = 7.0
    other.smoothing_targets[:, last - 1 :] = 7.0
    for a, b in zip(
        *(compute_losses(network, to_tensors(batch)) for batch in (short, other)), strict=True
    ):
        assert float(a.loss.detach()) == pytest.approx(float(b.loss.detach()), abs=1e-5)


def test_bands_are_calibrated_to_hold_nine_in_ten(few: dataset.Batch) -> None:
    with torch.no_grad():
        causal, _ = compute_losses(GatingNetwork(16), to_tensors(few))
    calibrated = causal._replace(log_ratio=causal.log_ratio - calibration_offset([causal]))
    assert float(calibrated.covered.mean()) == pytest.approx(0.9, abs=1e-3)
    assert calibration_offset([calibrated]) == pytest.approx(0.0, abs=1e-6)


def test_errors_in_db() -> None:
    power, there = torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool)
    error = torch.tensor([[0.01], [1000.0]]).expand(2, 4)
    assert gating_network.settled_db(error, power, there).tolist() == pytest.approx(
        [-20, gating_network.MAX_DB], abs=1e-3
    )
    none = torch.zeros(2, 4, dtype=torch.bool)
    early = gating_network.early_db(error, power, none)
    assert early.tolist() == pytest.approx([-20, -20], abs=0.1)


def test_harm_costs_more_than_what_is_not_gained() -> None:
    rest = (torch.zeros(1), torch.zeros(()), torch.zeros(1, 1, 1, 2), torch.ones(1, 1).bool())
    loss = [
        float(gating_network.LossTerms(torch.tensor([db]), *rest).loss)
        for db in (-2.0, -1.0, 1.0, 2.0)
    ]
    assert loss[1] - loss[0] == pytest.approx(1.0)
    assert loss[3] - loss[2] == pytest.approx(1 + gating_network.HARM_WEIGHT)


@pytest.mark.slow
def test_a_training_is_the_same_to_the_last_bit(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, result = trained
    again = tmp_path / "again.safetensors"
    by_processes = {**TINY, "n_workers": 1}
    repeated = tonesieve.pretrain(again, **by_processes)
    assert again.read_bytes() == out.read_bytes()
    assert repeated["figures"] == result["figures"]
    other = tmp_path / "other.safetensors"
    tonesieve.pretrain(other, seed=1, **TINY)
    assert other.read_bytes() != out.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "other.safetensors"]


def test_an_interrupted_training_ends_as_an_unbroken_one(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    for at in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            tonesieve.pretrain(out, reporter=Interrupting(at), **TINY)
    part = tmp_path / "out.safetensors.part"
    assert part.exists()
    with pytest.raises(UserError, match=r"was begun with n_steps 6, not 7; .* --force to begin"):
        tonesieve.pretrain(out, **{**TINY, "n_steps": 7})
    with pytest.raises(UserError, match="not the weights of a pretrained extractor"):
        load_pretrained(part)
    tensors, about = read_tensors(part)
    write_tensors(part, {n: t for n, t in tensors.items() if n != "weigher.head.bias"}, about)
    with pytest.raises(UserError, match="not a whole pretraining; remove it, or --force"):
        tonesieve.pretrain(out, **TINY)
    write_tensors(part, tensors, about)
    tonesieve.pretrain(out, **TINY)
    assert out.read_bytes() == trained[0].read_bytes()
    assert not part.exists()


def test_force_begins_anew_where_nothing_fits(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, part = tmp_path / "out.safetensors", tmp_path / "out.safetensors.part"
    part.write_bytes(b"rubbish")
    with pytest.raises(UserError, match="cut short, or not a checkpoint"):
        tonesieve.pretrain(out, **TINY)
    tonesieve.pretrain(out, force=True, **TINY)
    assert out.read_bytes() == trained[0].read_bytes()
    with pytest.raises(UserError, match="exists; choose another --out, or --force"):
        tonesieve.pretrain(out, **TINY)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"seed": -1}, "seed -1: must be 0 or more"),
        ({"n_steps": 0}, "n_steps 0: must be 1 or more"),
        ({"n_hidden": 0}, "n_hidden 0: must be 1 or more"),
        ({"sizes": (BatchSpec(8, 1, 1.0),)}, "sizes: 8 gating intervals; must be 32 or more"),
        ({"device": "toaster"}, "device toaster: no such thing"),
        ({"device": "meta"}, "device meta: cannot be used"),
        ({"device": "cuda:99"}, "device cuda:99: is not here; choose cpu"),
    ],
)
def test_bad_input_gets_a_line(wrong: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        tonesieve.pretrain(tmp_path / "out.safetensors", **{**TINY, **wrong})
    assert not list(tmp_path.iterdir())


def test_metadata_say_how_the_weights_were_made(trained: tuple[Path, dict[str, Any]]) -> None:
    tensors, notes = load_pretrained(trained[0])
    assert all(array.dtype == np.float32 for array in tensors.values())
    assert notes["recipe"]["n_steps"] == 6
    assert notes["recipe"]["sizes"] == [list(size) for size in SIZES]
    assert {"commit", "tonesieve", "torch", "device"} <= notes.keys()
    for direction in ("causal", "both_ways"):
        metrics = notes["figures"][direction]
        assert -60 <= metrics["nmse_db"] <= 10
        assert 0.5 < metrics["covered"] <= 1


def test_weights_that_are_something_else(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no such file; `tonesieve pretrain` makes one"):
        load_pretrained(tmp_path / "none.safetensors")
    tensors, notes = load_pretrained(trained[0])
    path = tmp_path / "bad.safetensors"
    save_file(tensors, path)
    with pytest.raises(UserError, match="not a checkpoint of tonesieve"):
        load_pretrained(path)
    path.write_bytes(trained[0].read_bytes()[:-100])
    with pytest.raises(UserError, match="cut short"):
        load_pretrained(path)
    save_pretrained(path, {**tensors, "head.bias": tensors["head.bias"][:-1]}, notes)
    with pytest.raises(UserError, match=r"head\.bias is not as in a pretrained"):
        load_pretrained(path)
    save_pretrained(path, {n: t for n, t in tensors.items() if n != "two.bias"}, notes)
    with pytest.raises(UserError, match=r"two\.bias is not as in a pretrained"):
        load_pretrained(path)
    save_pretrained(path, {**tensors, "head.bias": tensors["head.bias"] * np.nan}, notes)
    with pytest.raises(UserError, match="not finite"):
        load_pretrained(path)
    with pytest.raises(UserError, match="not a checkpoint of tonesieve"):
        load_weights(trained[0])


@pytest.fixture(scope="module")
def lively(trained: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that prefer some filters to others, as those of a long training do."""
    tensors, notes = load_pretrained(trained[0])
    path = tmp_path_factory.mktemp("lively") / "lively.safetensors"
    rng = np.random.default_rng(0)
    louder = {n: t + 0.3 * rng.standard_normal(t.shape) for n, t in tensors.items()}
    save_pretrained(path, louder, notes)
    return path


def network_of(path: Path) -> GatingNetwork:
    tensors, _ = load_pretrained(path)
    network = GatingNetwork(tensors["gru.weight_hh_l0"].shape[1])
    network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return network.double()


def gated(network: GatingNetwork, side: BankOutput, flipped: bool) -> gating_network.GateOutput:
    """The network's output for all tones, at the ends of gating intervals."""
    phasors = side.phasors[0, ::-1] if flipped else side.phasors[0]
    at_ends = phasors[GATING_INTERVAL - 1 :: GATING_INTERVAL]
    parts = (side.features[0], at_ends, side.variances[0])
    by_tone = (torch.from_numpy(np.moveaxis(part, 1, 0).copy()) for part in parts)
    return network(*by_tone)


def filtered(scene: Scene) -> tuple[ToneGroup, np.ndarray, tuple[BankOutput, ...]]:
    """All passes: causal; forwards and backwards with the noise known."""
    group = ToneGroup(scene.freq_cycles)
    steps, _ = group.decimate(scene.samples[None], group.initial_state(1))
    return group, steps, dataset.run_all_passes(group, steps, np.empty((steps.shape[1], 0)))


@pytest.mark.parametrize(("turn", "seed"), [(0.11, 12), (0.02, 3)])
@torch.no_grad()
def test_the_kernels_compute_what_the_network_does(lively: Path, turn: float, seed: int) -> None:
    scene = draw_scene(seed, 1024, freq_cycles=turn, dynamics="walk", noise="red", snr_db=10.0)
    group, _, (forward, *_) = filtered(scene)
    assert (group.factor > 1) == (turn < 0.08)
    expected = gated(network_of(lively), forward, flipped=False)
    extractor = PretrainedExtractor(scene.freq_cycles, 1.0, weights=str(lively))
    gate = extractor.gating.run(forward, extractor.gating.initial_output(extractor.n_tones))
    np.testing.assert_allclose(gate.weights[:, 1:], expected.weights[..., :-1], atol=1e-5)
    # The tone may begin late; until then no filter has observed a sample.
    begun = forward.variances[0].max(axis=2).T >= MIN_VARIANCE
    assert begun.mean() > 0.8
    np.testing.assert_allclose(gate.log_std[:, 1:][begun], expected.log_std[begun], atol=1e-5)

    done = (1 + np.arange(len(scene.samples))) // group.factor
    late = done >= GATING_INTERVAL
    phasors = np.moveaxis(forward.phasors[0, done[late] - 1], 1, 0).copy()
    mixed = mixture_mean(
        expected.weights[:, done[late] // GATING_INTERVAL - 1], torch.from_numpy(phasors)
    ).numpy()
    cycles = np.arange(len(scene.samples))[late, None] * np.array(scene.freq_cycles)
    tones = ((mixed[..., 0] + 1j * mixed[..., 1]).T * np.exp(2j * np.pi * cycles)).imag
    estimate, _ = extractor.step(scene.samples[None], extractor.initial_state(1))
    np.testing.assert_allclose(estimate[0, late], tones, atol=1e-5 * np.abs(tones).max())


@torch.no_grad()
def test_in_both_directions_the_kernels_compute_what_the_network_does(lively: Path) -> None:
    # Two tones of one group.
    scenes = (
        draw_scene(seed, 1024, freq_cycles=0.11, dynamics="walk", noise="red") for seed in range(99)
    )
    scene = next(s for s in scenes if len(s.freq_cycles) == 2 and min(s.freq_cycles) > 0.09)
    _, steps, (_, *sides) = filtered(scene)
    network, n = network_of(lively), steps.shape[1]
    past, back = (gated(network, s, f) for s, f in zip(sides, (False, True), strict=True))
    # After interval r the future is the backward interval that ends at the next one's first step.
    past = gating_network.GateOutput(*(part[:, :-1] for part in past))
    future = gating_network.GateOutput(*(part.flip(1)[:, 1:] for part in back))
    ends = np.arange(GATING_INTERVAL - 1, n - 1, GATING_INTERVAL)
    at_places = np.stack([sides[0].phasors[0, ends], sides[1].phasors[0, ends + 1]])
    variances = np.stack([sides[0].variances[0, :-1], sides[1].variances[0, ::-1][1:]])
    by_tone = (torch.from_numpy(np.moveaxis(part, 2, 0).copy()) for part in (at_places, variances))
    fused = network.fuse(past, future, *by_tone)

    inner = np.arange(GATING_INTERVAL, n - GATING_INTERVAL)
    place = (inner + GATING_INTERVAL // 2) // GATING_INTERVAL - 1
    both = np.concatenate([sides[0].phasors[0, inner], sides[1].phasors[0, inner + 1]], axis=-1)
    phasors = torch.from_numpy(np.moveaxis(both, 1, 0).copy())
    mixed = mixture_mean(fused.weights[:, place], phasors).numpy()

    extractor = PretrainedExtractor(scene.freq_cycles, 1.0, weights=str(lively))
    read = scene.samples[None]
    ((_, estimate),) = smooth_blocks(extractor, lambda a, b: read[:, a:b], n, 1)
    scale = np.abs(mixed).max()
    smoothed = estimate.phasors[0, inner].T
    np.testing.assert_allclose(smoothed.real, mixed[..., 0], atol=1e-5 * scale)
    np.testing.assert_allclose(smoothed.imag, mixed[..., 1], atol=1e-5 * scale)
    np.testing.assert_allclose(
        np.log(estimate.band[0, inner].T), fused.log_std[:, place].numpy(), atol=1e-5
    )


def test_the_command_says_what_came_out(
    trained: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: dict[str, Any] = {}

    def pretrain(out: Path, **words: Any) -> dict[str, Any]:
        given.update(words, out=out)
        return trained[1]

    monkeypatch.setattr(tonesieve, "pretrain", pretrain)
    monkeypatch.setattr(sys, "argv", ["tonesieve", "pretrain", "--steps", "9", "--hidden", "16"])
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert not caught.value.code
    assert "whole recording" in capsys.readouterr().out
    assert (given["n_steps"], given["n_hidden"], given["seed"]) == (9, 16, 0)
    assert given["out"] == Path("pretrained.safetensors")
