"""Several devices train what one does: against the plain loop, and streams by their counts."""

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
from tonesieve.learning.data.batches import Batch
from tonesieve.learning.loop.history import History
from tonesieve.learning.loop.training import TrainingDiverged, train, train_part
from tonesieve.learning.network_files import load_network
from tonesieve.learning.runtime.distributed import (
    Report,
    check_devices,
    run_distributed,
    shard_batch,
)
from tonesieve.util.progress import Reporter, Task

Answer = tuple[dict[str, np.ndarray], History]


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


# Lanes and windows that do not divide: parts are unequal, and the last batch of 22 lanes or of
# 100 windows leaves the second process nothing.
WAYS = {
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
WILD = tiny(training={"optimizer": "sgd", "learning_rate": 1e12, "clip_norm": None})


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


def kill_in_epoch_2(name: str, *values: Any) -> None:
    if (name, values) == ("batch", (1, 2)):
        raise Killed


def every_way(fabric: Fabric, tell: Report, config: Config, folder: Path) -> None:
    """All ways in one group of processes, for each takes seconds to begin."""
    for way in WAYS:
        tell("trained", way, train_part(fabric, tell, WAYS[way], None))
    with pytest.raises(Killed):
        train_part(fabric, kill_in_epoch_2, config, folder / "checkpoint")
    tell("trained", "resumed", train_part(fabric, tell, config, folder / "checkpoint"))
    train_part(fabric, tell, WILD, None)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes answer: of every way, of a break, and how they end."""
    answers: dict[str, Any] = {"batches": [], "epochs": []}
    hear = {
        "trained": answers.__setitem__,
        "batch": lambda *done: answers["batches"].append(done),
        "epoch": lambda history: answers["epochs"].append(len(history)),
    }
    config = WAYS["lanes"].model_copy(
        update={"training": WAYS["lanes"].training.model_copy(update={"devices": 2})}
    )
    with pytest.raises(TrainingDiverged) as caught:
        run_distributed(every_way, config, tmp_path_factory.mktemp("devices"), hear=hear)
    return {**answers, "error": str(caught.value)}


def distance(answer: Answer, network: torch.nn.Module) -> float:
    own = network.state_dict()
    return max(float(np.abs(array - own[n].numpy()).max()) for n, array in answer[0].items())


@pytest.mark.parametrize("way", WAYS)
def test_two_devices_train_what_one_does(way: str, heard: dict[str, Any]) -> None:
    one = train(WAYS[way])
    assert distance(heard[way], one.network) < 1e-5
    for epoch, expected in zip(heard[way][1], one.history, strict=True):
        assert epoch.train_loss == pytest.approx(expected.train_loss, rel=1e-5)
        assert epoch.validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)


def test_another_seed_trains_something_else(heard: dict[str, Any]) -> None:
    settings = WAYS["lanes"].training.model_copy(update={"seed": 1})
    other = train(WAYS["lanes"].model_copy(update={"training": settings}))
    assert distance(heard["lanes"], other.network) > 0.01


def test_a_break_leaves_no_trace(heard: dict[str, Any]) -> None:
    for name, array in heard["resumed"][0].items():
        np.testing.assert_array_equal(array, heard["lanes"][0][name])
    losses = [[epoch.train_loss for epoch in heard[way][1]] for way in ("resumed", "lanes")]
    assert losses[0] == losses[1]


def test_progress_and_failure_come_out(heard: dict[str, Any]) -> None:
    n_ways = len(WAYS)
    assert heard["batches"][:2] == [(0, 1), (0, 2)]
    assert heard["epochs"] == [1, 2] * n_ways + [1, 2]  # the resumed one: restored, then trained
    assert "lower training.learning_rate" in heard["error"]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("n_devices", [1, 2, 3, 5])
@pytest.mark.parametrize("n_streams", [1, 2, 7, 8])
def test_parts_make_the_whole(n_devices: int, n_streams: int) -> None:
    config = tiny(training={"batch_size": 8})
    marks = torch.arange(n_streams)
    whole = Batch(marks[:, None, None] * 1.0, marks[:, None, None] * 1.0, None, marks > 0, marks)
    seen, shares = [], []
    for rank in range(n_devices):
        part, share = shard_batch(whole, config, rank, n_devices)
        assert len(part) == max(1, round(share * n_streams))
        assert part.selector is None
        if share:
            streams = part.inputs[:, 0, 0].int().tolist()
            assert all(8 * rank // n_devices <= s < 8 * (rank + 1) // n_devices for s in streams)
            assert part.reset is not None
            assert part.reset.tolist() == [s > 0 for s in streams]
            seen += streams
        shares.append(share)
    assert seen == marks.tolist()
    assert sum(shares) == pytest.approx(1)


def test_devices_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
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
    # Adam: where nothing is known of a direction yet, rounding chooses SOAP's bases.
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
def test_a_broken_run_on_two_devices_goes_on(tmp_path: Path) -> None:
    two = (*SHORT, "training.devices=2")
    with pytest.raises(Killed):
        tonesieve.run("sieve", two, out=tmp_path / "broken", reporter=Impatient())
    assert multiprocessing.active_children() == []
    resumed = tonesieve.resume(tmp_path / "broken")
    one = tonesieve.run("sieve", SHORT, out=tmp_path / "one")
    assert resumed["test"]["mse"] == pytest.approx(one["test"]["mse"], rel=1e-4)
