"""Sweeps: what a file asks for, that nothing is done twice or lost, and searches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pandas as pd
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem

import tonesieve
from tonesieve.cli import app
from tonesieve.config.config import to_yaml
from tonesieve.config.presets import shipped_experiments
from tonesieve.errors import UserError
from tonesieve.sweeping import executors, optuna_search, sweep, worker
from tonesieve.sweeping.optuna_search import open_study, run_trial
from tonesieve.sweeping.plan import Plan, points_of, read_plan
from tonesieve.sweeping.results import check_metric, sweep_text
from tonesieve.sweeping.storage import ResultStore
from tonesieve.sweeping.worker import Outcome, Task

TINY: dict[str, Any] = {
    "name": "tiny",
    "base": "sieve",
    "settings": {
        "data.duration_s": 0.4,
        "training.record_s": None,
        "training.batches_per_epoch": None,
        "training.epochs": 2,
        "training.batch_size": 8,
        "training.chunk_samples": 100,
        "evaluation.shifted_records": 2,
        "evaluation.settle_s": 0,
    },
    "grid": {"model.hidden_size": [2, 4]},
}


class InProcess(executors.Engine):
    """One task after the other, here; and what was asked of it."""

    n_workers, n_queued = 2, 3

    def __init__(self) -> None:
        self.names: list[str] = []
        self.most_open = 0
        self._open: list[Task] = []

    def submit(self, task: Task) -> None:
        self._open.append(task)
        self.most_open = max(self.most_open, len(self._open))

    def wait(self) -> list[executors.Finished]:
        task = self._open.pop(0)
        self.names.append(task.name)
        return [(task, run_trial(task))]

    def close(self) -> None:
        self._open.clear()


@pytest.fixture
def engine_and_pictures(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    one = InProcess()
    monkeypatch.setattr(sweep, "open_engine", lambda name, **options: one)
    return one


@pytest.fixture
def engine(engine_and_pictures: InProcess, no_pictures: None) -> InProcess:
    return engine_and_pictures


def write(folder: Path, plan: dict[str, Any]) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def plan_of(**changes: Any) -> dict[str, Any]:
    return {**TINY, **changes}


def test_grid_and_variants_are_crossed_and_the_first_seed_comes_first(tmp_path: Path) -> None:
    variants = {"small": {"model.hidden_size": 2}, "large": {"model.hidden_size": 9}}
    grid = {"model.n_layers": [1, 2]}
    plan, base = read_plan(write(tmp_path, plan_of(variants=variants, grid=grid, seeds=[5, 7])))
    points = points_of(plan, base, where="x")
    assert [(p.label, p.seed) for p in points] == [
        (f"{size}, {n}", seed) for seed in (5, 7) for size in variants for n in (1, 2)
    ]
    last = points[-1].config
    assert (last.model.hidden_size, last.model.n_layers, last.training.seed) == (9, 2, 7)
    assert last.data.duration_s == 0.4
    assert len({p.name for p in points}) == 8


def test_what_takes_long_may_have_fewer_seeds(tmp_path: Path) -> None:
    path = write(tmp_path, plan_of(seeds=[5, 7, 9], seeds_of={"4": 1}))
    points = points_of(*read_plan(path), where="x")
    assert [(p.label, p.seed) for p in points] == [("2", 5), ("4", 5), ("2", 7), ("2", 9)]


def test_the_base_may_be_a_file_beside_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("model: {hidden_size: 3}\ndata: {duration_s: 2}\n")
    path = write(tmp_path, {"name": "a", "base": "own.yaml", "grid": {"training.epochs": [1]}})
    plan, base = read_plan(path)
    (point,) = points_of(plan, base, where="x")
    assert (point.config.model.hidden_size, point.config.data.duration_s) == (3, 2)


@pytest.mark.parametrize("name", shipped_experiments())
def test_shipped_sweeps_can_be_run(name: str) -> None:
    plan, base = read_plan(name)
    assert plan.name == name
    check_metric(plan, where=name)
    if plan.search is None:
        assert points_of(plan, base, where=name)


SEARCH = {"space": {"model.hidden_size": {"choice": [2, 4]}}, "trials": 3}
WRONG: dict[str, dict[str, Any]] = {
    "grids: no such key; did you mean grid": {"grids": {}},
    "nothing varies": {"grid": {}},
    "search: cannot be combined with grid": {"search": SEARCH},
    "grid.model.hidden_size: list should have at least 1": {"grid": {"model.hidden_size": []}},
    "hiden_size: no such key; did you mean hidden_size": {"grid": {"model.hiden_size": [1]}},
    "many: model.hidden_size: .*integer.*; model.hidden_size: .*'auto'": {
        "grid": {"model.hidden_size": [4, "many"]}
    },
    "give either choice, or low and high": {
        "grid": {}, "search": {"space": {"model.hidden_size": {"low": 4}}},
    },
    "model is a section": {"settings": {"model": 3}},
    "base: .*no such preset": {"base": "sive"},
    "seeds": {"seeds": 0},
    "metric: test.mse: no such column": {"metric": "test.mse"},
    "claims: 5: no such point; 2, 4": {"claims": {"5": {"test_mse": 0.1}}},
    "seeds_of: 5: no such point; 2, 4": {"seeds_of": {"5": 1}},
    "seeds_of.4": {"seeds_of": {"4": 0}},
    "seeds_of: a search has no points": {"grid": {}, "search": SEARCH, "seeds_of": {"4": 1}},
    "claims: 4: mse: no such column": {"claims": {"4": {"mse": 0.1}}},
    "share the folder a-b-seed0": {
        "grid": {}, "variants": {"a b": {"model.n_layers": 1}, "a/b": {"model.n_layers": 2}},
    },
    "low: 4 is not below high": {
        "grid": {}, "search": {"space": {"model.hidden_size": {"low": 4, "high": 2}}},
    },
    "low: 0; on a logarithmic scale": {
        "grid": {}, "search": {"space": {"model.dropout": {"low": 0, "high": 2, "log": True}}},
    },
    "search.sampler": {"grid": {}, "search": {**SEARCH, "sampler": "psychic"}},
    "seeds: a search has one": {"grid": {}, "search": SEARCH, "seeds": 2},
    "name": {"name": "../x"},
    r"settings.training\.seed: is set by the sweep": {"settings": {"training.seed": 5}},
    r"grid.training\.seed: is set by the sweep": {"grid": {"training.seed": [5]}},
    "seeds_of.4: 9; there are 1 seeds": {"seeds_of": {"4": 9}},
    "two points would be called 2": {"grid": {"model.hidden_size": [2, 2]}},
    "metric: r2: a search minimises its metric": {"grid": {}, "search": SEARCH, "metric": "r2"},
    "space.*hiden_size|hiden_size: no such key": {
        "grid": {}, "search": {**SEARCH, "space": {"model.hiden_size": {"choice": [1]}}},
    },
    "many": {
        "grid": {}, "search": {**SEARCH, "space": {"model.hidden_size": {"choice": [2, "many"]}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_is_refused_before_anything_is_done(message: str, tmp_path: Path) -> None:
    path = write(tmp_path, plan_of(**WRONG[message]))
    message = message.removeprefix("base: .*")
    with pytest.raises(UserError, match=message) as caught:
        tonesieve.sweep(path, out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_sweep_is_resumed_where_it_was_interrupted(engine: InProcess, tmp_path: Path) -> None:
    path, out = write(tmp_path, plan_of(seeds=2)), tmp_path / "out"
    result = tonesieve.sweep(path, out=out)
    assert engine.names == ["2-seed0", "4-seed0", "2-seed1", "4-seed1"]
    assert (result["runs"], result["finished"], result["begun_now"]) == (4, 4, 4)
    rows = pd.read_csv(out / "results.csv")
    assert list(rows["label"]) == [2, 4, 2, 4]
    assert list(rows["parameters"]) == [2 * 4 * 5 + 12, 4 * 4 * 7 + 20] * 2
    for row in result["rows"]:
        metrics = json.loads((out / "runs" / f"{row['label']}-seed{row['seed']}" / "metrics.json")
                             .read_text())  # fmt: skip
        assert row["test_mse"] == metrics["test"]["mse"]
        assert row["limit"] == metrics["shifted"]["limit"]
        tones = metrics["test"]["per_component"]
        assert row["r2"] == pytest.approx(np.mean([tone["r2"] for tone in tones]))
        assert row["us_per_sample"] > 0
    assert (out / "figures" / "sweep.png").stat().st_size > 5000
    (point, _) = result["points"]
    seeds = [r["shifted_mse"] for r in result["rows"] if r["label"] == "2"]
    assert point["shifted_mse"] == pytest.approx(np.mean(seeds))
    assert (point["lowest"], point["highest"]) == (min(seeds), max(seeds))

    (out / "runs" / "4-seed0" / "outcome.json").unlink()
    (out / "runs" / "4-seed0" / "metrics.json").unlink()
    again = tonesieve.sweep(path, out=out)
    assert engine.names[4:] == ["4-seed0"]
    assert (again["finished"], again["begun_now"]) == (4, 1)
    assert engine.most_open == 3  # as many as the engine queues
    for before, after in zip(result["rows"], again["rows"], strict=True):
        assert before["test_mse"] == after["test_mse"]
    assert tonesieve.sweep(path, out=out)["begun_now"] == 0
    assert len((out / "sweep.log").read_text().splitlines()) == 5


def test_another_sweep_in_the_same_folder_is_refused(engine: InProcess, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tonesieve.sweep(write(tmp_path, plan_of(grid={"model.hidden_size": [2]})), out=out)
    with pytest.raises(UserError, match="holds another sweep"):
        tonesieve.sweep(write(tmp_path, plan_of(grid={"model.hidden_size": [3]})), out=out)
    (out / "sweep.yaml").unlink()
    with pytest.raises(UserError, match=r"holds runs but no sweep\.yaml"):
        tonesieve.sweep(write(tmp_path, plan_of()), out=out)


def test_a_run_that_fails_is_reported_and_tried_again(engine: InProcess, tmp_path: Path) -> None:
    changes = {"training.learning_rate": 1e12, "training.clip_norm": None,
               "training.optimizer": "sgd"}  # fmt: skip
    path = write(tmp_path, plan_of(grid={}, variants={"good": {}, "wild": changes}))
    result = tonesieve.sweep(path, out=tmp_path / "out")
    assert (result["finished"], len(result["unfinished"])) == (1, 1)
    assert "diverged" in result["unfinished"][0]["reason"]
    assert "failed: wild, seed 0: TrainingDiverged" in sweep_text(result)
    engine.names.clear()
    assert tonesieve.sweep(path, out=tmp_path / "out")["finished"] == 1
    assert engine.names == ["wild-seed0"]


def test_whatever_ends_a_run_is_reported_and_the_rest_continues(
    engine: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(config: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    path, out = write(tmp_path, plan_of()), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(worker, "run", full)
        result = tonesieve.sweep(path, out=out)
    reasons = [row["reason"] for row in result["unfinished"]]
    assert reasons == ["OSError: [Errno 28] No space left on device"] * 2
    assert tonesieve.sweep(path, out=out)["finished"] == 2


def test_a_sweep_with_unfinished_runs_exits_with_1(
    engine: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(config: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker, "run", full)
    path = write(tmp_path, plan_of())
    monkeypatch.setattr(
        sys, "argv", ["tonesieve", "sweep", str(path), "--out", str(tmp_path / "o")]
    )
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert caught.value.code == 1
    assert "failed: 2, seed 0: OSError: " in capsys.readouterr().out


def test_runs_of_another_base_are_not_mixed_in(engine: InProcess, tmp_path: Path) -> None:
    own = {**TINY["settings"], "model.hidden_size": 3}
    (tmp_path / "own.yaml").write_text("training: {learning_rate: 0.01}\n")
    path = write(tmp_path, plan_of(base="own.yaml", grid={"model.n_layers": [1]}, settings=own))
    tonesieve.sweep(path, out=tmp_path / "out")
    (tmp_path / "own.yaml").write_text("training: {learning_rate: 0.02}\n")
    with pytest.raises(UserError, match=r"1-seed0 was run under other settings"):
        tonesieve.sweep(path, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("message", "options"),
    {
        "--engine spark: no such engine": {"engine": "spark"},
        "--workers 0: must be 1 or more": {"workers": 0},
        "--cpus -2: must be 0 or more": {"engine": "ray", "cpus_per_run": -2},
        "are for --engine ray": {"gpus_per_run": 1},
        "--storage: is for a search": {"storage": "sqlite:///x.db"},
    }.items(),
)
def test_options_that_would_be_ignored_are_refused(
    message: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        tonesieve.sweep(write(tmp_path, plan_of()), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """An object store, where no folder is without a file."""

    protocol = "bucket"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        found: list[Any] = super().ls(path, detail, **options)
        if not found:
            raise FileNotFoundError(path)
        return found


def test_results_may_live_where_there_are_no_empty_folders(
    engine: InProcess, tmp_path: Path
) -> None:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    address = f"bucket://{tmp_path.name}"
    path = write(tmp_path, plan_of(grid={"model.hidden_size": [2]}))
    assert tonesieve.sweep(path, out=address)["finished"] == 1
    assert ResultStore(address).runs() == ["2-seed0"]


def test_results_may_live_at_an_address(engine_and_pictures: InProcess, tmp_path: Path) -> None:
    address = f"memory://{tmp_path.name}/deep/sweep"
    path = write(tmp_path, plan_of(grid={"model.hidden_size": [2]}))
    result = tonesieve.sweep(path, out=address)
    assert result["finished"] == 1
    store = ResultStore(address)
    assert store.runs() == ["2-seed0"]
    assert "test_mse" in str(store.read("results.csv"))
    with store.working_directory("2-seed0") as (folder, _):
        assert {p.name for p in folder.iterdir()} >= {"weights.safetensors", "figures"}
        assert (folder / "figures" / "single.png").stat().st_size > 1000
    assert tonesieve.sweep(path, out=address)["begun_now"] == 0
    with pytest.raises(UserError, match="unknown kind of address"):
        tonesieve.sweep(path, out="nonsense://x")


@pytest.mark.usefixtures("no_pictures")
def test_a_stored_checkpoint_at_an_address_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, base = read_plan(write(tmp_path, plan_of(grid={"model.hidden_size": [2]})))
    (point,) = points_of(plan, base, where="x")
    address = f"memory://{tmp_path.name}"
    task = Task(address, point.name, to_yaml(point.config))
    monkeypatch.setattr(worker, "UPLOAD_EVERY_S", 0.0)

    class Killed(BaseException):
        pass

    def die(history: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        worker.work(task, die)
    assert worker.outcome_of(ResultStore(address), point.name) is None
    epochs: list[int] = []
    outcome = worker.work(task, lambda history: epochs.append(len(history)))
    assert outcome.status == "finished"
    assert epochs == [1, 2]  # the first was read, not trained again
    history = ResultStore(address).read(f"runs/{point.name}/history.csv")
    assert history is not None
    assert len(history.splitlines()) == 3


def test_a_search_learns_prunes_and_is_resumed(engine: InProcess, tmp_path: Path) -> None:
    space = {
        "model.hidden_size": {"choice": [2, 4]},
        "training.learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
        "model.n_layers": {"low": 1, "high": 2, "integer": True},
    }
    plan = plan_of(grid={}, search={"space": space, "trials": 3})
    out = tmp_path / "out"
    result = tonesieve.sweep(write(tmp_path, plan), out=out)
    assert engine.names == [f"trial-000{n}-seed0" for n in range(3)]
    assert engine.most_open == 2  # none is asked for before a worker is free for it
    assert (result["finished"], result["search"]) == (3, True)
    study = open_study(str(out / "study.journal"), "tiny")
    for row, trial in zip(result["rows"], study.trials, strict=True):
        assert trial.value == row["shifted_mse"]
        assert trial.params == {key: row[key] for key in space}
        assert list(trial.intermediate_values) == [1, 2]
    text = sweep_text(result)
    assert "best for us/sample" in text
    assert (out / "figures" / "sweep.png").exists()
    assert tonesieve.sweep(tmp_path / "plan.yaml", out=out)["begun_now"] == 0


def test_an_interrupted_trial_is_resumed_with_its_own_settings(
    engine: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(grid={}, search={**SEARCH, "trials": 2})
    out = tmp_path / "out"

    class Killed(BaseException):
        pass

    def die(task: Task) -> Outcome:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(sys.modules[__name__], "run_trial", die)
        with pytest.raises(Killed):
            tonesieve.sweep(write(tmp_path, plan), out=out)
    before = open_study(str(out / "study.journal"), "tiny").trials
    assert [trial.state.name for trial in before] == ["RUNNING", "RUNNING"]
    result = tonesieve.sweep(tmp_path / "plan.yaml", out=out)
    assert result["finished"] == 2
    after = open_study(str(out / "study.journal"), "tiny").trials
    assert [t.params for t in after] == [t.params for t in before]


def test_a_trial_that_is_too_slow_is_not_trained(engine: InProcess, tmp_path: Path) -> None:
    search = {**SEARCH, "trials": 1, "most_us_per_sample": 1e-6}
    result = tonesieve.sweep(write(tmp_path, plan_of(grid={}, search=search)), out=tmp_path / "o")
    assert (result["pruned"], result["finished"]) == (1, 0)
    assert "us a sample" in result["rows"][0]["reason"]
    assert not list((tmp_path / "o" / "runs").glob("*/weights.safetensors"))


def test_a_poor_trial_is_pruned(tmp_path: Path) -> None:
    # Median pruning: the others reached 0.1 at every epoch, this one does not.
    plan = plan_of(grid={}, search=SEARCH, settings={**TINY["settings"], "training.epochs": 9})
    parsed = Plan.model_validate(plan)
    storage = str(tmp_path / "study.journal")
    study = open_study(storage, "tiny", search=parsed.search)
    for _ in range(6):
        trial = study.ask()
        for epoch in range(1, 10):
            trial.report(1e-9, epoch)
        study.tell(trial, 1e-9)
    number = study.ask({}).number
    _, base = read_plan(write(tmp_path, plan))
    config = points_of(Plan.model_validate(plan_of()), base, where="x")[0].config
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"epochs": 9})}
    )
    task = Task(str(tmp_path / "out"), "trial", to_yaml(config),
                trial=worker.Trial(storage, "tiny", number, "median"))  # fmt: skip
    outcome = run_trial(task)
    assert (outcome.status, outcome.reason) == ("pruned", "pruned after epoch 3")
    assert run_trial(task) == outcome  # and is not started again


def test_a_database_that_is_not_there(engine: InProcess, tmp_path: Path) -> None:
    path = write(tmp_path, plan_of(grid={}, search=SEARCH))
    with pytest.raises(UserError, match=r"--storage sqlite:////nowhere/x\.db: cannot be opened"):
        tonesieve.sweep(path, out=tmp_path / "out", storage="sqlite:////nowhere/x.db")
    with pytest.raises(UserError, match="needs --storage"):
        tonesieve.sweep(path, out=f"memory://{tmp_path.name}")


def test_a_database_serves_as_well_as_a_file(engine: InProcess, tmp_path: Path) -> None:
    path = write(tmp_path, plan_of(grid={}, search={**SEARCH, "trials": 1}))
    address = f"sqlite:///{tmp_path}/study.db"
    assert tonesieve.sweep(path, out=tmp_path / "out", storage=address)["finished"] == 1
    assert len(open_study(address, "tiny").trials) == 1
    assert not (tmp_path / "out" / "study.journal").exists()


def test_a_search_may_need_what_it_varies(engine: InProcess, tmp_path: Path) -> None:
    # Three heads share no hidden_size of 64, which the base has.
    settings = {**TINY["settings"], "model.attention": "heads", "model.n_heads": 3}
    space = {"model.hidden_size": {"choice": [6, 9]}}
    path = write(
        tmp_path, plan_of(grid={}, settings=settings, search={"space": space, "trials": 2})
    )
    assert tonesieve.sweep(path, out=tmp_path / "out")["finished"] == 2


@pytest.mark.slow
def test_settings_that_cannot_be_combined_are_counted(engine: InProcess, tmp_path: Path) -> None:
    space = {"model.hidden_size": {"choice": [4, 6]}, "model.n_heads": {"choice": [2, 3]}}
    settings = {**TINY["settings"], "model.attention": "heads"}
    search = {"space": space, "trials": 8, "sampler": "random"}
    path = write(tmp_path, plan_of(grid={}, settings=settings, search=search))
    result = tonesieve.sweep(path, out=tmp_path / "out")
    assert 0 < result["refused"] < 8
    assert result["refused"] + result["finished"] == 8
    assert f"{result['refused']} with settings that cannot be combined" in sweep_text(result)


def test_a_trial_interrupted_before_it_was_drawn_is_dropped(
    engine: InProcess, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = write(tmp_path, plan_of(grid={}, search={**SEARCH, "trials": 2}))
    out.mkdir()
    study = open_study(str(out / "study.journal"), "tiny", search=read_plan(path)[0].search)
    study.ask()  # and then killed
    result = tonesieve.sweep(path, out=out)
    assert (result["finished"], result["refused"]) == (1, 1)


def test_an_address_of_a_database_names_its_driver_and_hides_the_password() -> None:
    assert optuna_search._with_driver("postgresql://u:p@h/d") == "postgresql+psycopg://u:p@h/d"
    assert optuna_search._with_driver("sqlite:///x.db") == "sqlite:///x.db"
    assert (
        optuna_search._without_password("postgresql://u:secret@h:5432/d")
        == "postgresql://u:***@h:5432/d"
    )
    assert optuna_search._without_password("sqlite:////a/b.db") == "sqlite:////a/b.db"


# Real processes: what a kill leaves behind.


def wait_until(true: Callable[[], object], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(child) for child in listed]
    return found + [below for child in found for below in children(child)]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    settings = {**TINY["settings"], "training.epochs": 40, "data.duration_s": 1.0}
    write(tmp_path, plan_of(settings=settings))
    begun: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tonesieve", "sweep", "plan.yaml", "--out", "out",
                 "--workers", "2", "--json"]  # fmt: skip
        begun.append(subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                                      env={**os.environ, "PYTHONPATH": os.getcwd()}))  # fmt: skip
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_killed_workers_and_drivers_lose_nothing(
    driver: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "runs"
    first = driver()
    wait_until(lambda: len(list(folder.glob("*/checkpoint.safetensors"))) == 2)
    below = children(first.pid)
    for pid in below:  # every worker, in the middle of its run
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(children(first.pid)) - set(below)) >= 2)
    time.sleep(5)
    orphans = children(first.pid)
    first.kill()  # and then the driver itself
    first.wait()
    # No worker outlives its driver, so none holds the runs.
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists()
                               and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in orphans),
               seconds=30)  # fmt: skip
    last = driver()
    output, _ = last.communicate(timeout=200)
    result = json.loads(output)
    assert last.returncode == 0
    assert (result["finished"], result["runs"]) == (2, 2)
    for row in result["rows"]:
        alone = tonesieve.run(
            tmp_path / "out" / "runs" / f"{row['label']}-seed0" / "config.yaml",
            out=tmp_path / f"alone-{row['label']}",
        )
        assert alone["test"]["mse"] == row["test_mse"]


def end_or_die(task: Task) -> Outcome:
    """In a worker: done at once, or the end of it."""
    if task.name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if task.name == "broken":
        raise OSError(5, "Input/output error")
    return Outcome("finished", os.environ["OMP_NUM_THREADS"])


@pytest.mark.slow
def test_a_deadly_task_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "run_trial", end_or_die)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    engine = executors.Local(2)
    found: dict[str, Outcome] = {}
    try:
        tasks = [Task("x", name, "") for name in ("first", "deadly", "broken", "last")]
        executors.run_all(engine, tasks, lambda task, outcome: found.update({task.name: outcome}))
        for worker in engine._free:  # killed with nothing to do
            for pid in list(worker._processes or {}):
                os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        more = [Task("x", "late", "")]
        executors.run_all(engine, more, lambda task, outcome: found.update({task.name: outcome}))
    finally:
        engine.close()
    assert {name: outcome.status for name, outcome in found.items()} == {
        "first": "finished", "deadly": "failed", "broken": "failed", "last": "finished",
        "late": "finished",
    }  # fmt: skip
    assert found["deadly"].reason == "its worker was killed 3 times"
    assert found["broken"].reason == "OSError: [Errno 5] Input/output error"
    assert found["first"].reason == "1"  # one thread
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    write(tmp_path, plan_of())
    script = tmp_path / "script.py"
    script.write_text(
        "import tonesieve\nprint(tonesieve.sweep('plan.yaml', workers=1)['finished'])\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("2", 0), done.stderr
