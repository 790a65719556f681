"""Batches against plain loops, which are readable and too slow to use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tonesieve.config.config import Config, make_config
from tonesieve.config.presets import load_config
from tonesieve.learning.data.batches import count_batches, epoch_batches, training_record
from tonesieve.learning.data.features import Batch, tap_features
from tonesieve.learning.data.lanes import lanes, row_order, segments

CPU = torch.device("cpu")
SMALL = {"duration_s": 0.25}  # 250 samples


def small(**sections: dict[str, object]) -> Config:
    base: dict[str, dict[str, object]] = {
        "data": dict(SMALL),
        "evaluation": {"settle_s": 0},
        "training": {"batch_size": 8},
    }
    for name, changes in sections.items():
        base[name] = base.get(name, {}) | changes
    return make_config(base)


def batches(config: Config, epoch: int = 1) -> list[Batch]:
    return list(epoch_batches(config, epoch=epoch, device=CPU))


@given(st.integers(1, 200), st.integers(1, 20), st.booleans())
def test_lanes_hold_every_row_once(n_rows: int, n_lanes: int, strided: bool) -> None:
    lane_rows = lanes(n_rows, n_lanes, strided=strided)
    present = lane_rows[lane_rows >= 0]
    assert sorted(present) == list(range(n_rows))
    # only the last step is smaller, and what is left are the first lanes
    alive = lane_rows >= 0
    assert alive[:, :-1].all() or n_rows < n_lanes
    n_last = int(alive[:, -1].sum())
    assert alive[:n_last, -1].all()
    step = n_lanes if strided else 1
    for lane in lane_rows:
        assert (np.diff(lane[lane >= 0]) == step).all()


def test_strided_lanes_are_what_an_unshuffled_loader_gives() -> None:
    lane_rows = lanes(10, 4, strided=True)
    loader = torch.utils.data.DataLoader(list(range(10)), batch_size=4)
    for step, expected in enumerate(loader):
        assert lane_rows[: len(expected), step].tolist() == expected.tolist()


def test_interleaved_rows_by_a_loop() -> None:
    rows = row_order(3, 7, interleave=2)
    expected = [
        (c, n)
        for start in range(0, 7, 2)
        for c in range(3)
        for n in range(start, min(start + 2, 7))
    ]
    assert list(zip(rows.component, rows.time, strict=True)) == expected


@given(
    st.integers(1, 4), st.integers(2, 40), st.integers(1, 9), st.integers(1, 11),
    st.booleans(), st.booleans(), st.none() | st.integers(1, 9),
)  # fmt: skip
def test_segments_by_a_loop(
    n_blocks: int, n_times: int, n_lanes: int, chunk: int, strided: bool, reset: bool,
    interleave: int | None,
) -> None:  # fmt: skip
    rows = row_order(n_blocks, n_times, interleave=interleave)
    lane_rows = lanes(len(rows.time), n_lanes, strided=strided)
    index = np.where(lane_rows < 0, np.roll(lane_rows, 1, axis=1), lane_rows)
    component = rows.component[index]
    cuts = segments(lane_rows, component, chunk=chunk, reset_on_change=reset)
    # every step once, in order, in chunks that are not too long
    assert [t for c in cuts for t in range(c.start, c.stop)] == list(range(lane_rows.shape[1]))
    assert all(c.stop - c.start <= chunk for c in cuts)
    resets = {(lane, c.start) for c in cuts for lane in np.flatnonzero(c.reset)}
    for cut in cuts:
        for t in range(cut.start, cut.stop):
            assert cut.n_lanes == (lane_rows[:, t] >= 0).sum()
            for lane in range(cut.n_lanes):
                changed = t > 0 and component[lane, t] != component[lane, t - 1]
                assert not (changed and t != cut.start)
                assert ((lane, t) in resets) == (t == 0 or (reset and changed))


def test_guide_counts_1125_batches() -> None:
    # docs/exercise.md, "Layouts of the data": 36,000 training rows in batches of 32
    config = load_config("guide")
    n_samples = sum(len(b) for b in batches(config))
    assert n_samples == 36_000
    # a few more than 1,125: a batch that straddles two components is still one, nothing is cut
    assert count_batches(config) == len(batches(config)) == 1125


def test_deep50_counts_its_windows() -> None:
    config = load_config("deep50")
    assert 4 * config.n_train == 35_820
    assert 4 * config.n_rows == 4 * 9951
    assert count_batches(config) == -(-35_820 // 64)


def test_an_epoch_may_be_cut_after_a_number_of_batches() -> None:
    whole = load_config("deep50", ["data.duration_s=0.2"])
    cut = load_config("deep50", ["data.duration_s=0.2", "training.batches_per_epoch=3"])
    assert count_batches(cut) == len(batches(cut)) == 3 < count_batches(whole)
    for one, other in zip(batches(cut), batches(whole)[:3], strict=True):
        assert torch.equal(one.inputs, other.inputs)
    longer = load_config("deep50", ["data.duration_s=0.2", "training.batches_per_epoch=999"])
    assert count_batches(longer) == len(batches(longer)) == count_batches(whole)


def test_a_straddling_batch_resets_only_the_lanes_that_change() -> None:
    # 225 training rows a component in 8 strided lanes: 225 = 28 * 8 + 1
    config = small(training={"lanes": "strided", "chunk_samples": 1})
    step = batches(config)[28]
    assert step.reset.tolist() == [False] + [True] * 7
    assert step.selector.argmax(dim=1).tolist() == [0] + [1] * 7
    following = batches(config)[29]
    assert following.reset.tolist() == [True] + [False] * 7


def test_without_resets_only_the_epoch_starts_anew() -> None:
    config = small(training={"lanes": "strided", "chunk_samples": 1, "state_reset": "epoch"})
    resets = [bool(b.reset.any()) for b in batches(config)]
    assert resets == [True] + [False] * (len(resets) - 1)


@pytest.mark.parametrize("lane_kind", ["strided", "contiguous"])
@pytest.mark.parametrize("order", ["blocks", "interleaved"])
def test_rows_carry_their_own_sample_target_and_selector(lane_kind: str, order: str) -> None:
    config = small(
        training={"lanes": lane_kind, "order": order, "chunk_samples": 7, "interleave_samples": 20}
    )
    record = training_record(config)
    seen = []
    for batch in batches(config):
        for lane in range(len(batch)):
            k = int(batch.selector[lane].argmax())
            for s, y in zip(batch.inputs[lane, :, 0], batch.targets[lane, :, 0], strict=True):
                seen.append((k, float(s), float(y)))
    expected = [
        (k, float(np.float32(record.mixture[0, n])), float(np.float32(record.targets[0, n, k])))
        for k in range(4)
        for n in range(config.n_train)
    ]
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("selector", ["input", "readout", "none"])
def test_windows_by_a_loop(selector: str) -> None:
    config = small(
        model={"window": 10, "selector": selector, "taps": 1}, training={"shuffle": False}
    )
    record = training_record(config)
    padded = np.pad(record.mixture[0], 1).astype(np.float32)
    got = batches(config)
    inputs = torch.cat([b.inputs for b in got])
    targets = torch.cat([b.targets for b in got])
    blocks = 1 if selector == "readout" else 4
    assert len(inputs) == blocks * 216  # floor(0.9 * 241)
    for i in (0, 5, 215, len(inputs) - 1):
        k, start = divmod(i, 216)
        for j in range(10):
            n = start + j
            np.testing.assert_array_equal(inputs[i, j], padded[n : n + 3])
            wanted = record.targets[0, n] if selector == "readout" else record.targets[0, n, [k]]
            np.testing.assert_allclose(targets[i, j], wanted, atol=1e-6)


def test_shuffling_keeps_the_windows_and_follows_the_seed() -> None:
    config = small(model={"window": 10})
    one, again, other = batches(config, 1), batches(config, 1), batches(config, 2)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0].inputs, other[0].inputs)
    values = [torch.cat([b.inputs for b in e]).sum(dim=(1, 2)).sort().values for e in (one, other)]
    torch.testing.assert_close(*values)


def test_taps_by_a_loop_with_gaps_as_zeros() -> None:
    mixture = np.array([[1.0, 2.0, np.nan, 4.0]])
    features = tap_features(mixture, 2)
    padded = [0, 0, 1, 2, 0, 4, 0, 0]
    np.testing.assert_array_equal(features[0], [padded[n : n + 5] for n in range(4)])
    assert tap_features(np.empty((2, 0)), 2).shape == (2, 0, 5)


@pytest.mark.parametrize("window", [1, 10])
def test_frozen_noise_stays_and_fresh_noise_changes(window: int) -> None:
    for noise, same in (("frozen", True), ("fresh", False)):
        config = small(
            data={"noise": noise, "duration_s": 0.25},
            model={"window": window},
            training={"shuffle": False},
        )
        first, second = batches(config, 1)[0].inputs, batches(config, 2)[0].inputs
        assert torch.equal(first, second) == same
        assert torch.equal(first, batches(config, 1)[0].inputs)


def test_fresh_records_are_reset_and_balanced() -> None:
    config = small(
        data={"noise": "fresh", "start": "random", "duration_s": 0.25},
        training={"record_s": 0.1, "chunk_samples": 40, "batch_size": 8},
    )
    got = batches(config)
    assert len(got) == count_batches(config) == 2 * 3
    assert [b.inputs.shape[1] for b in got] == [40, 40, 20] * 2
    assert [bool(b.reset.all()) for b in got] == [True, False, False] * 2
    assert torch.equal(got[0].selector.sum(dim=0), torch.full((4,), 2.0))


@pytest.mark.parametrize("size", [1, 6])
def test_every_component_gets_its_turn_whatever_the_batch(size: int) -> None:
    config = small(
        data={"noise": "fresh", "start": "random", "duration_s": 0.25},
        model={"window": 10},
        training={"batch_size": size},
    )
    counts = sum(b.selector.sum(dim=0) for b in batches(config))
    expected = count_batches(config) * size / 4
    assert ((counts - expected).abs() < 5 * np.sqrt(expected)).all()


def test_online_windows_with_fixed_start_lie_within_the_record() -> None:
    config = small(
        data={"noise": "fresh", "phase_scale": 0, "amplitude_range": (1, 1), "duration_s": 0.25},
        model={"window": 20, "selector": "readout"},
    )
    truth = training_record(config).targets[0].astype(np.float32)
    starts = [
        int(np.argmin(np.abs(truth[:231] - w[0].numpy()).sum(axis=1)))
        for b in batches(config)
        for w in b.targets
    ]
    assert len(set(starts)) > 50
    assert max(starts) <= 230
    one = batches(config)[0]
    np.testing.assert_allclose(one.inputs[0, :, 0], one.targets[0].numpy().mean(axis=1), atol=1e-6)
