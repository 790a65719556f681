"""Sweeps on a real Ray cluster of two nodes, one of which is killed in the middle."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import tonesieve
from tonesieve.errors import UserError
from tonesieve.sweeping.optuna_search import open_study

pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and processes to the interpreter's end.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning",
                               "ignore::FutureWarning"),
]  # fmt: skip

PLAN: dict[str, Any] = {
    "name": "killed",
    "base": "sieve",
    "settings": {
        "data.duration_s": 1.0,
        "training.record_s": None,
        "training.batches_per_epoch": None,
        "training.epochs": 60,
        "training.batch_size": 8,
        "evaluation.shifted_records": 2,
        "evaluation.settle_s": 0,
    },
    "grid": {"model.hidden_size": [4, 8, 12]},
    "seeds": 2,
}


@pytest.fixture
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    utility = pytest.importorskip("ray.cluster_utils")
    one = utility.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield one
    ray.shutdown()
    one.shutdown()


def wait_until(true: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_killed_node_costs_no_run(cluster: Any, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    out, results = tmp_path / "out", {}

    def go() -> None:
        results["result"] = tonesieve.sweep(
            tmp_path / "plan.yaml", out=out, engine="ray", address=cluster.address
        )

    driver = threading.Thread(target=go)
    driver.start()
    # One run is done, and two are in the middle of their training: one on each node.
    runs = out / "runs"
    wait_until(lambda: len(list(runs.glob("*/outcome.json"))) >= 1, seconds=200)
    wait_until(lambda: len(list(runs.glob("*/checkpoint.safetensors"))) >= 2, seconds=60)
    done = {path: path.stat().st_mtime_ns for path in runs.glob("*/outcome.json")}
    cluster.remove_node(doomed, allow_graceful=False)
    driver.join(timeout=400)
    assert not driver.is_alive()
    result = results["result"]
    assert result["finished"] == result["runs"] == 6
    rows = pd.read_csv(out / "results.csv")
    assert sorted(zip(rows["label"], rows["seed"], strict=True)) == [
        (size, seed) for size in (4, 8, 12) for seed in (0, 1)
    ]
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    log = (out / "sweep.log").read_text()
    print(log)
    assert len(log.splitlines()) == 6
    # Asked again, nothing is left to do.
    again = tonesieve.sweep(tmp_path / "plan.yaml", out=out, engine="ray", address=cluster.address)
    assert (again["begun_now"], again["finished"]) == (0, 6)


def test_a_sweep_continues_after_its_driver_was_killed(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PLAN, "seeds": 1}))
    words = [sys.executable, "-m", "tonesieve", "sweep", "plan.yaml", "--out", "out",
             "--engine", "ray", "--address", cluster.address, "--json"]  # fmt: skip
    begin = functools.partial(
        subprocess.Popen, words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    runs = tmp_path / "out" / "runs"
    with begin() as first:
        wait_until(lambda: len(list(runs.glob("*/outcome.json"))) >= 1, seconds=200)
        wait_until(lambda: len(list(runs.glob("*/checkpoint.safetensors"))) >= 1, seconds=60)
        done = {path: path.stat().st_mtime_ns for path in runs.glob("*/outcome.json")}
        first.kill()
    with begin() as second:
        output, _ = second.communicate(timeout=400)
    result = json.loads(output)
    assert (second.returncode, result["finished"], result["runs"]) == (0, 3, 3)
    assert result["begun_now"] <= 3 - len(done)
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())


def test_a_search_waits_for_the_results_of_the_trials_before(cluster: Any, tmp_path: Path) -> None:
    search = {"space": {"model.hidden_size": {"choice": [2, 4]}}, "trials": 3}
    settings = {**PLAN["settings"], "training.epochs": 1}
    plan = {"name": "few", "base": "sieve", "settings": settings, "search": search}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    out = tmp_path / "out"
    result = tonesieve.sweep(tmp_path / "plan.yaml", out=out, engine="ray", address=cluster.address)
    assert result["finished"] == 3
    trials = open_study(str(out / "study.journal"), "few").trials
    # There is one CPU: each was asked for when the one before had ended.
    for before, after in itertools.pairwise(trials):
        assert before.datetime_complete <= after.datetime_start


@pytest.mark.parametrize("workers", [None, 2])
def test_what_no_node_has_is_refused(cluster: Any, workers: int | None, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    with pytest.raises(UserError, match="asks for 5 CPUs, and no node has more than 1"):
        tonesieve.sweep(
            tmp_path / "plan.yaml", out=tmp_path / "out", engine="ray",
            address=cluster.address, cpus_per_run=5, workers=workers,
        )  # fmt: skip


def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    with pytest.raises(UserError, match="no Ray cluster responds"):
        tonesieve.sweep(
            tmp_path / "plan.yaml", out=tmp_path / "out", engine="ray", address="127.0.0.1:1"
        )
