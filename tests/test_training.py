"""The training loop: its steps, its schedules, and that resuming equals one run."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tonesieve.config.config import Config, make_config
from tonesieve.errors import UserError
from tonesieve.learning.data.batches import epoch_batches
from tonesieve.learning.loop.history import Epoch, best_epoch
from tonesieve.learning.loop.schedules import learning_rate
from tonesieve.learning.loop.training import TrainingDiverged, TrainingResult, train
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.learning.network_files import save_network
from tonesieve.signals.synthesis import draw_exercise


def tiny(**sections: dict[str, object]) -> Config:
    base: dict[str, dict[str, object]] = {
        "data": {"duration_s": 0.4, "phase_scale": 0},
        "model": {"hidden_size": 8},
        "training": {"batch_size": 8, "epochs": 3, "learning_rate": 0.01, "chunk_samples": 10},
        "evaluation": {"settle_s": 0, "shifted_records": 2},
    }
    for name, changes in sections.items():
        base[name] = base.get(name, {}) | changes
    return make_config(base)


CASES = {
    "rows": tiny(),
    "strided": tiny(training={"lanes": "strided", "chunk_samples": 1, "learning_rate": 0.003}),
    "windows": tiny(
        model={"window": 10, "n_layers": 2, "dropout": 0.3}, training={"batch_size": 32}
    ),
    "value": tiny(model={"window": 10}, training={"positions": "last", "batch_size": 32}),
    "fresh": tiny(data={"noise": "fresh", "start": "random"}, model={"selector": "readout"}),
    "fresh windows": tiny(
        data={"noise": "fresh"}, model={"window": 10}, training={"batch_size": 64}
    ),
    "at the limit": tiny(
        data={"noise": "fresh", "start": "random"},
        model={"selector": "readout", "hidden_size": 16},
        training={
            "optimizer": "soap",
            "teacher": "posterior",
            "balance": "age",
            "record_lengths": "log-uniform",
            "record_s": 0.2,
            "chunk_samples": 20,
            "warmup_batches": 3,
        },
    ),
    "observer": tiny(
        data={"noise": "fresh", "regime": "free"},
        model={"kind": "observer", "selector": "readout"},
        training={"optimizer": "soap", "teacher": "posterior", "balance": "age"},
    ),
    "balanced windows": tiny(
        data={"noise": "fresh", "start": "random"},
        model={"selector": "readout", "window": 20},
        training={"teacher": "posterior", "balance": "age", "batch_size": 64},
    ),
    "free": tiny(data={"noise": "fresh", "regime": "free"}, training={"record_s": 0.2}),
    "initial state": tiny(model={"selector": "initial_state"}),
    "sgd": tiny(training={"optimizer": "sgd", "weight_decay": 0.01, "clip_norm": None}),
    "interleaved": tiny(training={"order": "interleaved", "interleave_samples": 40}),
    "taps": tiny(model={"taps": 2, "window": 10, "selector": "none"}, training={"batch_size": 32}),
    "shuffled rows": tiny(training={"shuffle": True, "batch_size": 32}),
    "cut epochs": tiny(model={"window": 10}, training={"batches_per_epoch": 50}),
    "auxiliary tasks": tiny(
        model={"window": 10, "tasks": ["identity", "phase"]}, training={"batch_size": 32}
    ),
    "tasks at L=1": tiny(data={"noise": "fresh"}, model={"tasks": ["phase"]}),
    "bidirectional": tiny(model={"bidirectional": True}),
    "attention": tiny(model={"attention": "memory", "recurrent_dropout": 0.2}),
    "lru": tiny(model={"kind": "lru", "selector": "film"}),
    "learned window": tiny(model={"kind": "adaptive", "context": 12}),
}


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def losses_and_rates(history: tuple[Epoch, ...]) -> list[tuple[float, ...]]:
    return [(e.epoch, e.train_loss, e.validation_loss, e.learning_rate) for e in history]


@functools.cache
def trained_whole(case: str) -> TrainingResult:
    """A case trained without an interruption, once for all tests."""
    return train(CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_every_case_lowers_its_loss(case: str) -> None:
    trained = trained_whole(case)
    losses = [e.train_loss for e in trained.history]
    assert all(math.isfinite(x) for x in losses)
    assert losses[-1] < losses[0]
    assert not same(weights(trained.network), weights(build_network(CASES[case])))


class Killed(BaseException):
    """Stands for kill -9: nothing in the loop may catch it."""


def train_until(config: Config, checkpoint: Path, n_epochs: int, n_batches: int) -> None:
    """Train, and be killed after a number of epochs and batches."""

    def kill(*done: int) -> None:
        if done == (n_epochs, n_batches):
            raise Killed

    with pytest.raises(Killed):
        train(config, checkpoint=checkpoint, on_batch=kill)


@pytest.mark.parametrize("case", CASES)
def test_resuming_equals_one_run(case: str, tmp_path: Path) -> None:
    config, checkpoint = CASES[case], tmp_path / "checkpoint.safetensors"
    whole = trained_whole(case)
    train_until(config, checkpoint, 1, 2)
    resumed = train(config, checkpoint=checkpoint)
    assert losses_and_rates(resumed.history) == losses_and_rates(whole.history)
    assert same(weights(resumed.network), weights(whole.network))


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "step"])
def test_resuming_keeps_the_schedule_and_the_best_weights(schedule: str, tmp_path: Path) -> None:
    settings = {"schedule": schedule, "schedule_epochs": 1, "epochs": 8, "learning_rate": 1.0}
    config, checkpoint = tiny(training=settings), tmp_path / "checkpoint.safetensors"
    whole = train(config)
    assert whole.best.epoch < 8  # or the best weights would not be put to the test
    train_until(config, checkpoint, whole.best.epoch, 1)
    resumed = train(config, checkpoint=checkpoint)
    assert losses_and_rates(resumed.history) == losses_and_rates(whole.history)
    assert same(weights(resumed.network), weights(whole.network))


def test_one_step_is_plain_autograd() -> None:
    # Two chunks by hand: state carried, detached between them, Adam, clipping at norm 1.
    config = tiny(training={"epochs": 1, "chunk_samples": 90, "clip_norm": 0.01})
    network = build_network(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    state = None
    for batch in epoch_batches(config, epoch=1, device=torch.device("cpu")):
        fresh = network.initial_state(len(batch), batch.selector)
        if state is None:
            state = fresh
        else:
            keep = ~batch.reset[:, None, None]
            pairs = zip(fresh, (s[: len(batch)] for s in state), strict=True)
            state = tuple(f * ~keep + s * keep for f, s in pairs)
        outputs, after = network(batch.inputs, batch.selector, state)
        optimizer.zero_grad()
        ((outputs - batch.targets) ** 2).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.01)
        optimizer.step()
        state = tuple(s.detach() for s in after)
    trained = weights(train(config).network)
    for name, expected in weights(network).items():
        torch.testing.assert_close(trained[name], expected)


def test_gradient_flows_through_the_state_within_a_chunk() -> None:
    # Detached before the pass, the recurrent weights get no gradient from a chunk of one sample;
    # within a longer chunk they must.
    def recurrent_gradient(chunk: int) -> torch.Tensor:
        config = tiny(training={"chunk_samples": chunk, "epochs": 1})
        network = build_network(config)
        batch = next(epoch_batches(config, epoch=1, device=torch.device("cpu")))
        state = network.initial_state(len(batch), batch.selector)
        outputs, _ = network(batch.inputs, batch.selector, state)
        (outputs[:, -1] ** 2).mean().backward()
        return network.parts["lstm"].cell.weight_hh_l0.grad

    assert float(recurrent_gradient(1).abs().max()) == 0  # the first state is zero
    assert float(recurrent_gradient(20).abs().max()) > 0


def test_a_checkpoint_of_other_settings_or_none_is_refused(tmp_path: Path) -> None:
    config, checkpoint = tiny(), tmp_path / "checkpoint.safetensors"
    train(config, checkpoint=checkpoint)
    with pytest.raises(UserError, match=r"under other settings \(training\)"):
        train(tiny(training={"learning_rate": 0.02}), checkpoint=checkpoint)
    save_network(build_network(config), config, checkpoint)
    with pytest.raises(UserError, match="not a whole checkpoint of a training"):
        train(config, checkpoint=checkpoint)


def history_of(losses: list[float]) -> tuple[Epoch, ...]:
    return tuple(Epoch(i + 1, 1.0, loss, 0.1, 0.0) for i, loss in enumerate(losses))


def rate_after(losses: list[float], share: float = 0.0, **training: object) -> float:
    config = tiny(training={"learning_rate": 0.1, "epochs": 10, **training})
    return learning_rate(config, history_of(losses))(share)


def test_schedules_have_their_closed_forms() -> None:
    assert rate_after([1.0] * 5) == 0.1
    assert rate_after([], schedule="cosine") == 0.1
    assert rate_after([1.0] * 5, schedule="cosine") == pytest.approx(0.05)
    assert rate_after([1.0] * 9, 1.0, schedule="cosine") == pytest.approx(0, abs=1e-12)
    step = {"schedule": "step", "schedule_epochs": 3, "schedule_factor": 0.2}
    assert rate_after([1.0] * 2, **step) == 0.1
    assert rate_after([1.0] * 3, **step) == pytest.approx(0.02)
    plateau = {"schedule": "plateau", "schedule_epochs": 2}
    assert rate_after([1.0, 0.9, 0.8, 0.7], **plateau) == 0.1
    assert rate_after([0.7, 0.8, 0.8, 0.8], **plateau) == pytest.approx(0.05)


def test_early_stopping_and_best_weights() -> None:
    config = tiny(training={"epochs": 50, "patience": 2, "learning_rate": 0.5})
    trained = train(config)
    best = best_epoch(trained.history)
    assert len(trained.history) == best.epoch + 2 < 50
    again = train(
        config.model_copy(
            update={"training": config.training.model_copy(update={"epochs": best.epoch})}
        )
    )
    assert same(weights(trained.network), weights(again.network))


def test_max_seconds_ends_after_the_current_epoch() -> None:
    assert len(train(tiny(training={"max_seconds": 1e-6, "epochs": 50})).history) == 1


def test_divergence_raises() -> None:
    config = tiny(training={"optimizer": "sgd", "learning_rate": 1e12, "clip_norm": None})
    with pytest.raises(TrainingDiverged, match=r"lower training.learning_rate"):
        train(config)


def test_validation_is_the_end_of_the_record() -> None:
    config = tiny(training={"epochs": 1})
    trained = train(config)
    record = draw_exercise(config.data, seed=config.data.train_seed)
    error = as_extractor(trained.network, config).extract(record.mixture) - record.targets
    assert config.n_train == 360
    assert trained.best.validation_loss == pytest.approx(np.mean(error[:, 360:] ** 2))


def test_a_tone_without_noise_is_learned() -> None:
    config = tiny(
        data={"frequencies_hz": [25.0], "amplitude_range": (1, 1), "noise": "fresh",
              "start": "random", "duration_s": 2.0},
        model={"hidden_size": 16, "selector": "readout"},
        training={"epochs": 12, "record_s": 0.2, "chunk_samples": 20, "learning_rate": 0.02,
                  "schedule": "cosine", "patience": None},
    )  # fmt: skip
    # With one clean tone the estimate is the input itself: any error is the training's.
    assert train(config).best.validation_loss < 2e-3
