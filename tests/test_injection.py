"""Known tones in held-out noise: the truth has its SNR, errors are counted right, runs work."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy.signal import periodogram

import tonesieve
from tests.recordings import TONE_HZ, hum, write_csv
from tonesieve.cli import app
from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.evaluation import injection, injection_scores
from tonesieve.inference.run_directory import CONFIG
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.recordings.recording import read_recording
from tonesieve.signals.synthesis import background_of

SHORT = (
    "training.epochs=2",
    "training.batches_per_epoch=6",
    "training.batch_size=6",
    "training.chunk_samples=128",
    "training.record_s=5",
    "model.hidden_size=16",
    "evaluation.shifted_records=2",
    "visualisation.dpi=40",
)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("own") / "hum.csv", hum(8000))


@pytest.fixture(scope="module")
def finished(recording: Path) -> Path:
    out = recording.parent / "run"
    tonesieve.run(overrides=SHORT, recording=recording, hz=[10.0], out=out)
    return out


@pytest.fixture(scope="module")
def trained(finished: Path) -> Config:
    return tonesieve.load_config(finished)


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_relative_error_of_a_known_one() -> None:
    targets = np.random.default_rng(1).normal(size=(3, 400, 2))
    estimate = targets * np.array([1.1, 0.9])  # an error of 10%, which is -20 dB
    np.testing.assert_allclose(injection.relative_db(estimate, targets), -20.0)
    estimate[:, :100] = 1e6  # the start-up does not count
    np.testing.assert_allclose(injection.relative_db(estimate, targets), -20.0)
    np.testing.assert_allclose(injection.relative_db(0 * targets, targets), 0.0)
    estimate[1, 300] = np.inf
    assert injection.relative_db(estimate, targets)[1] == 300.0


def test_what_was_put_in_has_the_snr_asked_for(trained: Config) -> None:
    background = background_of(trained.data)
    test = injection.draw_test(trained.data, background)
    tone_power = np.mean(test.records.targets[..., 0] ** 2, axis=1)
    frequencies, density = periodogram(background.samples, 100.0, window="hann")
    hz = trained.data.frequencies_hz[0]
    inside = (frequencies > 0.8 * hz) & (frequencies < 1.25 * hz)
    noise_power = density[inside].sum() * frequencies[1]
    np.testing.assert_allclose(10 * np.log10(tone_power / noise_power), test.snr_db, atol=0.2)
    assert len(np.unique(test.snr_db)) >= 5


def test_the_noise_under_test_was_never_trained_on(trained: Config) -> None:
    background = background_of(trained.data)
    test = injection.draw_test(trained.data, background)
    noise = test.records.mixture - test.records.targets[..., 0]
    part = background.part("test")
    for row in noise[:: len(noise) // 5]:
        start = int(np.argmax(np.correlate(part - part.mean(), row - row.mean(), mode="valid")))
        segment = part[start : start + len(row)]
        np.testing.assert_allclose(row - row.mean(), segment - segment.mean(), atol=1e-6)


def test_the_oracle_is_at_least_as_good_as_any_one_setting(finished: Path) -> None:
    table = pd.read_csv(finished / "injected.csv")
    wide = table.pivot_table(index=["extractor", "snr_db"], columns="knobs", values="nmse_db")
    both = wide.dropna(subset=["hindsight", "tuned"])
    assert len(both) >= 30
    assert (both["hindsight"] <= both["tuned"] + 1e-9).all()
    assert (both["hindsight"] <= both["by SNR"] + 1e-9).all()
    assert (both["by SNR"] <= both["tuned"] + 1e-9).all()
    assert (both["by SNR"] <= both["default"] + 1e-9).all()
    averaged = both.groupby("extractor")[["tuned", "default"]].mean()
    assert (averaged["tuned"] <= averaged["default"] + 1e-9).all()


def test_the_table_is_what_the_filters_give(finished: Path, trained: Config) -> None:
    test = injection.draw_test(trained.data, background_of(trained.data))
    by_hand = injection.nmse_db(
        tonesieve.extractors.filters.registry.build_filter(
            "lock-in", trained.data.frequencies_hz, 100.0
        ),
        test,
    )
    table = pd.read_csv(finished / "injected.csv").query("extractor == 'lock-in'")
    for _, row in table.query("knobs == 'default'").iterrows():
        mine = by_hand[test.snr_db == row["snr_db"]]
        assert row["median_db"] == pytest.approx(np.median(mine))
        assert row["nmse_db"] == pytest.approx(mine.mean())


@pytest.mark.parametrize(
    ("over", "stderr", "summary"),
    [(-2.0, 0.5, "better (2.0 dB at 5 dB)"), (2.0, 0.5, "worse (2.0 dB at 5 dB)"),
     (0.5, 0.5, "not clearly different (+0.5 +- 0.5 dB at 5 dB)")],
)  # fmt: skip
def test_the_summary_is_what_the_metrics_are(over: float, stderr: float, summary: str) -> None:
    row = {"snr_db": 5.0}
    for choice in injection_scores.CHOICES:
        row |= {f"over_{choice}_db": over, f"over_{choice}_stderr_db": stderr}
    assert all(
        text.endswith(f"the network is {summary}")
        for text in injection_scores.summarise_comparison([row], 9.0)
    )


def test_a_run_in_own_noise_holds_what_it_should(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    assert {"background.npz", "recording.json", "injected.csv", "metrics.json"} <= names
    assert imread(finished / "figures" / "injected.png").std() > 0
    figures = metrics(finished)
    assert figures["recording"]["tones"][0]["hz"] == pytest.approx(TONE_HZ, abs=0.01)
    assert figures["injected"]["recording_snr_db"][0] == pytest.approx(
        figures["recording"]["tones"][0]["snr_db"], abs=0.01
    )
    names = {row["extractor"] for row in figures["injected"]["rows"]}
    assert names == {"network", *injection.filter_names()}
    rough = figures["injected"]["independent_stretches"] < 4
    assert len(figures["injected"]["says"]) == 3 + rough
    assert figures["test"]["band"] is None
    assert figures["generalisation"]["ratio"] is None
    assert figures["shifted"]["limit"] is None
    assert "data.background" in figures["shifted"]["limit_note"]


@pytest.mark.usefixtures("no_pictures")
def test_runs_move_and_are_evaluated_again(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved)
    before = metrics(moved)
    assert tonesieve.evaluate(moved) == {"run": str(moved), **before}
    assert tonesieve.resume(moved)["injected"] == before["injected"]
    assert tonesieve.describe(moved)["parameters"] == before["training"]["parameters"]
    for verb in (tonesieve.probe, lambda run: tonesieve.compare([run])):
        with pytest.raises(UserError, match="trained in a recording's noise; `tonesieve evaluate"):
            verb(moved)
    (moved / "background.npz").unlink()
    with pytest.raises(UserError, match="no such file; the background"):
        tonesieve.evaluate(moved)


@pytest.mark.usefixtures("no_pictures")
def test_the_configuration_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    tonesieve.run(finished / CONFIG, out=again)
    assert metrics(again)["injected"] == metrics(finished)["injected"]


@pytest.mark.usefixtures("no_pictures")
def test_a_killed_run_continues(recording: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"

    class Killed(Exception):
        pass

    def kill(history: tuple) -> None:
        raise Killed

    with pytest.raises(Killed):
        tonesieve.run(overrides=SHORT, recording=recording, hz=[10.0], out=out, on_epoch=kill)
    assert tonesieve.resume(out)["injected"] == metrics(finished)["injected"]


def test_the_tone_comes_back_in_the_recordings_unit(finished: Path, tmp_path: Path) -> None:
    samples = hum(3000, seed=9)
    for factor in (1.0, 1e-3):
        path = write_csv(tmp_path / f"r{factor}.csv", factor * samples)
        out = tmp_path / f"t{factor}.csv"
        tonesieve.extract(path, with_=finished, causal=True, out=out)
    one, small = (read_recording(tmp_path / f"t{f}.csv").samples for f in (1.0, 1e-3))
    np.testing.assert_allclose(1e3 * small, one, atol=2e-2 * np.std(one))
    tone = samples - hum(3000, amplitude=0.0, seed=9)
    assert np.mean((one - tone)[1000:] ** 2) < 0.1 * np.mean(tone[1000:] ** 2)


@pytest.fixture
def untrained(trained: Config) -> object:
    return as_extractor(build_network(trained), trained)


def test_a_bank_does_not_see_scale_or_offset(untrained) -> None:
    x = hum(1500)[None]
    plain = untrained.extract(x)
    np.testing.assert_allclose(untrained.extract(1e4 * x) / 1e4, plain, atol=1e-4)
    np.testing.assert_allclose(untrained.extract(x + 1000), plain, atol=2e-3)
    np.testing.assert_allclose(untrained.extract(-x), -plain, atol=1e-4)


def test_a_bank_finds_a_steady_tone_whatever_its_weights(untrained, trained: Config) -> None:
    # All averages agree, so any weights will do, but for the correction and what goes to nothing.
    hz = trained.data.frequencies_hz[0]
    tone = 3.0 * np.sin(2 * np.pi * hz / 100.0 * np.arange(4000) + 0.4)
    estimate = untrained.extract(tone[None])[0, 2000:, 0]
    ratio = estimate / np.where(np.abs(tone[2000:]) > 1, tone[2000:], np.nan)
    assert np.nanmin(ratio) > 0.6
    assert np.nanmax(ratio) < 1.4


CALLS = {
    "--recording: give the nominal frequency": ["--recording", "hum.csv"],
    "--hz, --column, --rate, --time: are for a --recording": ["--hz", "10"],
    "no such file": ["--recording", "none.csv", "--hz", "10"],
    "half the rate": ["--recording", "hum.csv", "--hz", "70"],
}


@pytest.mark.parametrize("message", CALLS)
def test_the_command_line_refuses_in_one_line(
    message: str, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(recording.parent)
    monkeypatch.setattr(sys, "argv", ["tonesieve", "run", *CALLS[message]])
    with pytest.raises(SystemExit) as caught:
        app.main()
    err = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("no_pictures")
def test_the_command_line_shows_the_table(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    words = ["run", "--recording", str(recording), "--hz", "10", *SHORT]
    monkeypatch.setattr(sys, "argv", ["tonesieve", *words, "--out", str(tmp_path / "r")])
    with pytest.raises(SystemExit) as caught:
        app.main()
    out = capsys.readouterr().out
    assert not caught.value.code
    assert "NMSE, dB" in out
    assert "result:" in out
    assert "dB above the noise" in out
