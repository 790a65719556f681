"""Run directories: their files, resuming, and the errors for what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from matplotlib.image import imread

import tonesieve
from tonesieve.commands.run_files import load_run
from tonesieve.errors import UserError
from tonesieve.inference.weights import load_weights, save_weights
from tonesieve.signals.synthesis import draw_exercise
from tonesieve.util.progress import Reporter

SHORT = (
    "data.duration_s=0.5",
    "training.epochs=2",
    "training.batches_per_epoch=null",
    "training.batch_size=8",
    "training.record_s=0.25",
    "evaluation.settle_s=0.1",
    "evaluation.shifted_records=3",
    "model.hidden_size=8",
    "visualisation.dpi=40",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "short"
    tonesieve.run("sieve", SHORT, out=out)
    return out


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def untimed(folder: Path) -> dict:
    figures = metrics(folder)
    figures["training"].pop("seconds")
    return figures


def test_files_of_a_run_directory(finished: Path) -> None:
    assert {p.name for p in finished.iterdir() if p.name != ".lock"} == {
        "config.yaml", "metrics.json", "history.csv", "weights.safetensors", "figures",
    }  # fmt: skip
    assert {p.stem for p in (finished / "figures").iterdir()} == {
        "single", "components", "training", "spectrum", "errors",
    }  # fmt: skip
    for picture in (finished / "figures").iterdir():
        assert picture.suffix == ".png"
        assert imread(picture).std() > 0


def test_metrics_have_their_names(finished: Path) -> None:
    figures = metrics(finished)
    for split in ("train", "test"):
        assert figures[split]["mse"] > 0
        for component in figures[split]["per_component"]:
            assert {"hz", "mse", "r2", "correlation", "gap"} <= component.keys()
    assert {"ratio", "gap"} <= figures["generalisation"].keys()
    assert {"mse", "stderr", "limit", "ratio", "settled_mse"} <= figures["shifted"].keys()
    assert {"seconds", "epochs", "best_epoch", "parameters"} <= figures["training"].keys()
    mean = np.mean([c["mse"] for c in figures["test"]["per_component"]])
    assert figures["test"]["mse"] == pytest.approx(mean)


def test_history_and_config(finished: Path) -> None:
    history = pd.read_csv(finished / "history.csv")
    assert list(history.columns) == [
        "epoch", "train_loss", "validation_loss", "learning_rate", "seconds",
    ]  # fmt: skip
    assert list(history["epoch"]) == [1, 2]
    config = tonesieve.load_config(finished)
    assert config == tonesieve.load_config("sieve", SHORT)


@pytest.mark.usefixtures("no_pictures")
def test_the_configuration_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    tonesieve.run(finished / "config.yaml", out=tmp_path / "again")
    assert untimed(tmp_path / "again") == untimed(finished)


def test_metrics_are_the_extractors_own(finished: Path) -> None:
    loaded = load_run(finished)
    record = draw_exercise(loaded.config.data, seed=2)
    error = loaded.extractor.extract(record.mixture) - record.targets
    assert metrics(finished)["test"]["mse"] == pytest.approx(np.mean(error**2))


def test_evaluate_gives_the_same_metrics_again(finished: Path) -> None:
    before = metrics(finished)
    (finished / "figures" / "single.png").unlink()
    result = tonesieve.evaluate(finished)
    assert metrics(finished) == before
    assert result == {"run": str(finished), **before}
    assert (finished / "figures" / "single.png").exists()


@pytest.mark.slow
def test_two_runs_in_one_picture(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "w10"
    w10 = ("model.window=10", "name=w10", "training.batch_size=64")
    tonesieve.run("sieve", (*SHORT, *w10), out=other)
    tonesieve.evaluate(other, against=finished)
    assert (other / "figures" / "against.png").exists()
    alone = tmp_path / "alone"
    tonesieve.run("sieve", (*SHORT, "data.frequencies_hz=[2]", "training.epochs=1"), out=alone)
    with pytest.raises(UserError, match="different frequencies or rates"):
        tonesieve.evaluate(alone, against=finished)


def test_resuming_a_finished_run_only_reads_it(finished: Path) -> None:
    before = (finished / "weights.safetensors").stat().st_mtime_ns
    assert tonesieve.resume(finished)["test"] == metrics(finished)["test"]
    assert (finished / "weights.safetensors").stat().st_mtime_ns == before


class RecordedWarnings(Reporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.usefixtures("no_pictures")
def test_warnings_reach_the_reporter(tmp_path: Path) -> None:
    reporter = RecordedWarnings()
    overrides = (*SHORT, "data.test_seed=1")
    tonesieve.run("sieve", overrides, out=tmp_path / "r", reporter=reporter)
    assert [w.split(" ")[0] for w in reporter.warnings] == ["data.test_seed"]


def test_refusals(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists; choose another --out, or continue: --resume"):
        tonesieve.run("sieve", SHORT, out=finished)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="exists"):
        tonesieve.run("sieve", SHORT, out=tmp_path / "file")
    with pytest.raises(UserError, match="cannot be made: "):
        tonesieve.run("sieve", SHORT, out=tmp_path / "file" / "run")
    with pytest.raises(UserError, match="not a run directory"):
        tonesieve.evaluate(tmp_path)
    with pytest.raises(UserError, match="not a run directory"):
        tonesieve.resume(tmp_path / "nowhere")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_evaluation_follows_the_current_configuration(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    settings = folder / "config.yaml"
    settings.write_text(settings.read_text().replace("dpi: 40", "dpi: 80"))
    small = imread(folder / "figures" / "single.png").shape
    tonesieve.evaluate(folder)
    large = imread(folder / "figures" / "single.png").shape
    assert (large[0], large[1]) == (2 * small[0], 2 * small[1])
    settings.write_text(settings.read_text().replace("phase_scale: 0.01", "phase_scale: 0.02"))
    with pytest.raises(UserError, match="trained under other settings"):
        tonesieve.evaluate(folder)


def test_two_processes_do_not_share_a_run(finished: Path) -> None:
    with FileLock(finished / ".lock"), pytest.raises(UserError, match="another process"):
        tonesieve.evaluate(finished)


def test_describe_counts_and_looks_inside(finished: Path) -> None:
    plan = tonesieve.describe("deep50")
    assert plan["parameters"] == 201_345
    assert plan["parameters"] == sum(layer["parameters"] for layer in plan["layers"])
    assert plan["batch"]["inputs"] == [64, 50, 1]
    assert plan["batch"]["selector"] == [64, 4]
    assert "weights" not in plan
    inside = tonesieve.describe(finished)
    assert set(inside["activations"]) == {"lstm", "readout"}
    assert inside["weights"]["readout.bias"]["std"] >= 0
    assert tonesieve.describe("guide")["warnings"][0].startswith("data.phase_scale")


def test_weights_that_diverged_are_refused(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "broken")
    tensors, config, _ = load_weights(folder / "weights.safetensors")
    tensors["readout.bias"][0] = np.nan
    save_weights(folder / "weights.safetensors", tensors, config)
    for use in (tonesieve.describe, tonesieve.evaluate):
        with pytest.raises(UserError, match=r"readout.bias holds numbers that are not finite"):
            use(folder)


def test_a_run_killed_at_any_moment_resumes_to_the_same_metrics(tmp_path: Path) -> None:
    overrides = [*SHORT, "training.epochs=12", "training.chunk_samples=5"]
    tonesieve.run("sieve", tuple(overrides), out=tmp_path / "uninterrupted")
    folder = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tonesieve", "run", "sieve", *overrides, "--out", str(folder)]
    for n_epochs in (1, 6):  # early and late
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            history = folder / "history.csv"
            if history.exists() and len(history.read_text().splitlines()) > n_epochs:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "metrics.json").exists()
        command = [sys.executable, "-m", "tonesieve", "run", "--resume", str(folder)]
    tonesieve.resume(folder)
    assert untimed(folder) == untimed(tmp_path / "uninterrupted")
    weights = [
        (f / "weights.safetensors").read_bytes() for f in (folder, tmp_path / "uninterrupted")
    ]
    assert weights[0] == weights[1]
    left = {p.name for p in folder.iterdir() if p.name != ".lock"}
    assert left == {"config.yaml", "metrics.json", "history.csv", "weights.safetensors", "figures"}
