"""Several devices train what one does: against a single process, and streams by their counts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

import tonesieve
from tonesieve.config.config import Config, make_config
from tonesieve.errors import UserError
from tonesieve.learning.data.features import Batch
from tonesieve.learning.loop.history import History
from tonesieve.learning.loop.training import TrainingDiverged, train, train_worker
from tonesieve.learning.network_files import load_network
from tonesieve.learning.runtime.distributed import (
    Report,
    check_devices,
    run_distributed,
    shard_batch,
)
from tonesieve.util.progress import Reporter, Task

Trained = tuple[dict[str, np.ndarray], History]


def tiny(**sections: dict[str, object]) -> Config:
    base: dict[str, dict[str, object]] = {
        "data": {"duration_s": 0.4},
        "model": {"hidden_size": 6},
        "training": {"batch_size": 7, "epochs": 2, "learning_rate": 0.01, "device": "cpu"},
        "evaluation": {"settle_s": 0, "shifted_records": 2},
    }
    for name, changes in sections.items():
        base[name] = base.get(name, {}) | changes
    return make_config(base)


# Lanes and windows that do not divide: shards are unequal, and the last batch of 22 lanes or of
# 100 windows leaves the second process without streams.
CASES = {
    "lanes": tiny(training={"chunk_samples": 20, "clip_norm": 0.05}),
    "strided": tiny(training={"batch_size": 22, "lanes": "strided", "chunk_samples": 1}),
    "windows": tiny(model={"window": 10}, training={"batch_size": 100}),
    "fresh": tiny(
        data={"noise": "fresh", "start": "random"},
        model={"selector": "readout"},
        training={"record_s": 0.2, "chunk_samples": 20},
    ),
    "fresh windows": tiny(
        data={"noise": "fresh"},
        model={"window": 10},
        training={"batch_size": 101, "positions": "last"},
    ),
    # Its learned start has no part in the batches that carry the state on.
    "initial state": tiny(model={"selector": "initial_state"}, training={"chunk_samples": 40}),
}
DIVERGING = tiny(training={"optimizer": "sgd", "learning_rate": 1e12, "clip_norm": None})


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


def kill_in_epoch_2(name: str, *values: Any) -> None:
    if (name, values) == ("batch", (1, 2)):
        raise Killed


def train_all(fabric: Fabric, report: Report, config: Config, folder: Path) -> None:
    """All cases in one group of processes, for each group takes seconds to start."""
    for case in CASES:
        report("trained", case, train_worker(fabric, report, CASES[case], None))
    with pytest.raises(Killed):
        train_worker(fabric, kill_in_epoch_2, config, folder / "checkpoint")
    report("trained", "resumed", train_worker(fabric, report, config, folder / "checkpoint"))
    train_worker(fabric, report, DIVERGING, None)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes report: of every case, of a resumed one, and how they end."""
    results: dict[str, Any] = {"batches": [], "epochs": []}
    handlers = {
        "trained": results.__setitem__,
        "batch": lambda *done: results["batches"].append(done),
        "epoch": lambda history: results["epochs"].append(len(history)),
    }
    config = CASES["lanes"].model_copy(
        update={"training": CASES["lanes"].training.model_copy(update={"devices": 2})}
    )
    with pytest.raises(TrainingDiverged) as caught:
        run_distributed(train_all, config, tmp_path_factory.mktemp("devices"), handlers=handlers)
    return {**results, "error": str(caught.value)}


def distance(trained: Trained, network: torch.nn.Module) -> float:
    expected = network.state_dict()
    return max(float(np.abs(a - expected[n].numpy()).max()) for n, a in trained[0].items())


@pytest.mark.parametrize("case", CASES)
def test_two_devices_train_what_one_does(case: str, reported: dict[str, Any]) -> None:
    one = train(CASES[case])
    assert distance(reported[case], one.network) < 1e-5
    for epoch, expected in zip(reported[case][1], one.history, strict=True):
        assert epoch.train_loss == pytest.approx(expected.train_loss, rel=1e-5)
        assert epoch.validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)


def test_another_seed_trains_other_weights(reported: dict[str, Any]) -> None:
    settings = CASES["lanes"].training.model_copy(update={"seed": 1})
    other = train(CASES["lanes"].model_copy(update={"training": settings}))
    assert distance(reported["lanes"], other.network) > 0.01


def test_resuming_equals_one_run(reported: dict[str, Any]) -> None:
    for name, array in reported["resumed"][0].items():
        np.testing.assert_array_equal(array, reported["lanes"][0][name])
    losses = [[epoch.train_loss for epoch in reported[case][1]] for case in ("resumed", "lanes")]
    assert losses[0] == losses[1]


def test_progress_and_failure_are_reported(reported: dict[str, Any]) -> None:
    n_cases = len(CASES)
    assert reported["batches"][:2] == [(0, 1), (0, 2)]
    assert reported["epochs"] == [1, 2] * n_cases + [
        1,
        2,
    ]  # the resumed one: restored, then trained
    assert "lower training.learning_rate" in reported["error"]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("n_devices", [1, 2, 3, 5])
@pytest.mark.parametrize("n_streams", [1, 2, 7, 8])
def test_shards_make_the_batch(n_devices: int, n_streams: int) -> None:
    config = tiny(training={"batch_size": 8})
    marks = torch.arange(n_streams)
    batch = Batch(marks[:, None, None] * 1.0, marks[:, None, None] * 1.0, None, marks > 0, marks)
    sharded, fractions = [], []
    for rank in range(n_devices):
        shard, fraction = shard_batch(batch, config, rank, n_devices)
        assert len(shard) == max(1, round(fraction * n_streams))
        assert shard.selector is None
        if fraction:
            streams = shard.inputs[:, 0, 0].int().tolist()
            assert all(8 * rank // n_devices <= s < 8 * (rank + 1) // n_devices for s in streams)
            assert shard.reset is not None
            assert shard.reset.tolist() == [s > 0 for s in streams]
            sharded += streams
        fractions.append(fraction)
    assert sharded == marks.tolist()
    assert sum(fractions) == pytest.approx(1)


def test_missing_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(tiny(training={"devices": 3}))
    with pytest.raises(UserError, match=r"training.devices: 8 for batches of 7; choose at most"):
        tiny(training={"devices": 8})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda", "auto"):
        check_devices(tiny(training={"devices": 2, "device": device}))
        with pytest.raises(UserError, match=r"training.devices: 3 asked for, and cuda has 2"):
            check_devices(tiny(training={"devices": 3, "device": device}))


SHORT = (
    "data.duration_s=0.5",
    "training.epochs=2",
    "training.batches_per_epoch=null",
    "training.batch_size=8",
    "training.record_s=0.25",
    "training.device=cpu",
    "evaluation.settle_s=0.1",
    "evaluation.shifted_records=3",
    "model.hidden_size=8",
    "visualisation.dpi=40",
)


@pytest.mark.slow
def test_a_run_on_two_devices(tmp_path: Path) -> None:
    # Adam: where gradients have had no part in a direction yet, rounding chooses SOAP's bases.
    short = (*SHORT, "training.optimizer=adam")
    result = tonesieve.run("sieve", (*short, "training.devices=2"), out=tmp_path / "two")
    one = train(tonesieve.load_config("sieve", short))
    assert result["training"]["best_epoch"] == one.best.epoch
    best = result["training"]["best_validation_loss"]
    assert best == pytest.approx(one.best.validation_loss, rel=1e-4)
    network, _ = load_network(tmp_path / "two" / "weights.safetensors")
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, one.network.state_dict()[name], rtol=0, atol=1e-5)


class Impatient(Reporter):
    """Kills the run as soon as its second epoch has begun."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        def update(n_done: int) -> None:
            if n_done > total / 2:
                raise Killed

        task = Task()
        task.update = update  # type: ignore[method-assign]
        yield task


@pytest.mark.slow
def test_an_interrupted_run_on_two_devices_resumes(tmp_path: Path) -> None:
    two = (*SHORT, "training.devices=2")
    with pytest.raises(Killed):
        tonesieve.run("sieve", two, out=tmp_path / "broken", reporter=Impatient())
    assert multiprocessing.active_children() == []
    resumed = tonesieve.resume(tmp_path / "broken")
    one = tonesieve.run("sieve", SHORT, out=tmp_path / "one")
    assert resumed["test"]["mse"] == pytest.approx(one["test"]["mse"], rel=1e-4)
