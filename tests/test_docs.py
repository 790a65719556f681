"""Every command and code block in the documents runs, in order, in a folder of its own."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tonesieve.cli import app
from tonesieve.config.presets import shipped_experiments
from tonesieve.sweeping.plan import read_plan

REPOSITORY = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Run elsewhere: these are how the tests themselves were started.
MAKE = ("make run", "make test", "pip install")
# Whole trainings are for `make test-all`; here they are cut short.
CUT = {
    "examples/seismometer/mains.yaml": [
        "training.epochs=2", "training.record_s=2", "evaluation.shifted_records=2",
    ],
    "window10": ["training.epochs=1", "data.duration_s=1", "training.patience=null"],
    "clock": ["training.epochs=2"],
    "examples/seismometer/seismometer_200hz.csv": [
        "training.epochs=1", "training.batches_per_epoch=4", "data.duration_s=3",
        "evaluation.settle_s=1", "evaluation.shifted_records=2",
    ],
    "limit10": ["training.batches_per_epoch=5", "evaluation.shifted_records=2"],
}  # fmt: skip
# Sweeps that look for what a claim may have come from.
EVIDENCE = {"window10-suspects"}
DOCUMENTS = [
    "README.md",
    "docs/limit.md",
    "examples/seismometer/README.md",
    "examples/polar_motion/README.md",
]


def blocks(document: str) -> list[tuple[str, str]]:
    return BLOCK.findall((REPOSITORY / document).read_text(encoding="utf-8"))


def commands(document: str) -> list[list[str]]:
    consoles = [block for kind, block in blocks(document) if kind == "console"]
    return [words for block in consoles for words in typed(block)]


def typed(block: str) -> list[list[str]]:
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return [
        ["bash", "-c", line] if "|" in line else shlex.split(line)
        for line in lines
        if not line.startswith(MAKE)
    ]


def tonesieve(words: list[str], folder: Path) -> str:
    """Run a command in this process: the imports, seconds of them, are paid once."""
    if words[0] == "bash":
        return in_a_shell(words, folder)
    assert words[0] == "tonesieve"
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setattr(sys, "argv", words)
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as caught:
            app.main()
    assert not caught.value.code, f"{words}: {err.getvalue()}"
    return out.getvalue()


def in_a_shell(words: list[str], folder: Path) -> str:
    """Pipes are the shell's."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", *words[1:]],
        cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def tonesieve_alone(words: list[str], folder: Path) -> str:
    """Run a command in a process of its own, as a user would: whole trainings."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def shortened(words: list[str]) -> list[str]:
    cut = next((CUT[w] for w in words if w in CUT), []) if words[1] == "run" else []
    return [*words, *cut]


def verdict(folder: str, workplace: Path) -> str:
    words = ["tonesieve", "probe", folder, "--json"]
    return str(json.loads(tonesieve(words, workplace))["verdict"])


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    sweep = tmp_path / "examples" / "sweep.yaml"
    text = sweep.read_text(encoding="utf-8")
    assert "training.epochs: 2\n" in text
    short = "training.epochs: 2\n  training.batches_per_epoch: 20\n"
    sweep.write_text(text.replace("training.epochs: 2\n", short), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_documents_run(document: str, workplace: Path) -> None:
    assert commands(document)
    for kind, block in blocks(document):
        if kind == "python":
            with chdir(workplace):
                exec(compile(block, document, "exec"), {"__name__": "__main__"})
        for words in typed(block) if kind == "console" else ():
            tonesieve(shortened(words), workplace)


@pytest.mark.slow
def test_the_worked_examples_run(tmp_path: Path) -> None:
    script = REPOSITORY / "examples" / "worked.py"
    words = [sys.executable, str(script), "--short", "--docs", str(tmp_path)]
    subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads((tmp_path / "results" / "examples.json").read_text())
    assert list(found) == ["mains", "wobble", "edf"]
    for name, one in found.items():
        best = {r["causal"]: r["nmse_db"] for r in one["rows"] if r["method"] == "tracker"}
        usual = {r["causal"]: r["nmse_db"] for r in one["rows"] if "usual width" in r["method"]}
        assert all(best[causal] < usual[causal] for causal in (True, False)), name
        assert (tmp_path / "figures" / f"example-{name}.png").stat().st_size > 50_000
    hum, (chandler, annual) = found["mains"]["tones"][0], found["wobble"]["tones"]
    assert hum["followed_hz"] == pytest.approx(49.936, abs=0.005)
    assert chandler["followed_hz"] == pytest.approx(365.25 / 433, rel=0.005)
    assert annual["followed_hz"] == pytest.approx(1.0, rel=0.001)


def test_the_page_of_examples_is_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples"))
    results = json.loads((REPOSITORY / "docs" / "results" / "examples.json").read_text())
    page = (REPOSITORY / "docs" / "examples.md").read_text(encoding="utf-8")
    assert page == importlib.import_module("worked").page(results)


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such preset"):
        tonesieve(["tonesieve", "presets", "nonsense"], tmp_path)


@pytest.mark.slow
def test_the_hum_is_extracted_from_the_seismometer(workplace: Path) -> None:
    training, extracting = commands("examples/seismometer/README.md")[:2]
    tonesieve_alone(training, workplace)
    (tone,) = json.loads(tonesieve([*extracting, "--json"], workplace))["tones"]
    assert tone["reduction_db"] <= -10
    assert tone["outside_band_share"] <= 0.01


@pytest.mark.slow
def test_the_default_run_is_as_good_as_the_readme_says(workplace: Path) -> None:
    result = json.loads(tonesieve_alone(["tonesieve", "run", "--json"], workplace))
    assert result["shifted"]["settled_mse"] <= 1e-4
    assert not result["shifted"]["beats_limit"]
    assert verdict(result["run"], workplace) == "filter"


@pytest.mark.slow
def test_a_clock_and_an_unlearnable_task_are_detected(workplace: Path) -> None:
    clock = ["tonesieve", "run", "clock", "--out", "clock", "--json"]
    result = json.loads(tonesieve_alone(clock, workplace))
    # Far better than any model that follows its input could be at phase_scale 1.0.
    assert result["test"]["mse"] < 0.05 < 0.4 < result["shifted"]["limit"]
    assert "probe" in result["warnings"][0]
    assert verdict("clock", workplace) == "clock"
    unlearnable = ["tonesieve", "run", "window10", "data.phase_scale=1.0", "training.epochs=5"]
    tonesieve_alone([*unlearnable, "--out", "unlearnable"], workplace)
    assert verdict("unlearnable", workplace) == "neither"


def test_the_documents_name_what_is_there() -> None:
    pages = [
        "docs/benchmarks.md",
        "docs/exercise.md",
        "docs/own-noise.md",
        "docs/model-card.md",
        "docs/kinds.md",
        "docs/peers.md",
        "docs/combs.md",
        "docs/find.md",
        "CONTRIBUTING.md",
    ]
    pages.append("CHANGELOG.md")
    for document in [*DOCUMENTS, *pages]:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (REPOSITORY / document).parent.joinpath(target).exists(), target


def test_the_readme_lists_every_verb_and_preset() -> None:
    from tonesieve import presets
    from tonesieve.cli import app

    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    verbs = {command.name or command.callback.__name__ for command in app.app.registered_commands}
    assert {verb for verb in verbs if f"`tonesieve {verb}" not in text} == set()
    assert {name for name in presets() if name not in text} == set()


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts that write the documents, to be imported by name."""
    for folder in ("docs", "benchmarks"):
        monkeypatch.syspath_prepend(str(REPOSITORY / folder))


@pytest.mark.usefixtures("makers")
def test_the_tables_are_those_of_the_kept_results() -> None:
    import tables

    shown = 0
    for document in tables.DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert tables.rewritten(text) == text
        shown += text.count("<!-- made by")
    assert shown == len(tables.TABLES)


@pytest.mark.usefixtures("makers")
@pytest.mark.parametrize(
    "name", ["sweep_tables", "claims", "page", "own_noise", "pretrained", "kinds", "find_rates"]
)
def test_the_pages_are_those_of_the_kept_results(name: str) -> None:
    maker = importlib.import_module(name)
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page()


@pytest.mark.usefixtures("makers")
def test_every_shipped_sweep_has_its_results_and_every_claim_its_row() -> None:
    import claims
    import sweep_tables

    shipped = shipped_experiments()
    assert {p.stem for p in sweep_tables.KEPT.glob("*.csv")} == set(shipped)
    said = {entry.get("sweep") for entry in claims.entries()}
    assert {name for name in shipped if read_plan(name)[0].claims} <= said | EVIDENCE


@pytest.mark.usefixtures("makers")
def test_a_verdict_on_a_claim() -> None:
    import claims

    def compared(claimed: float, here: float, stateful: bool = False, alone: bool = False) -> str:
        known = {"test_mse": here, "limit": 0.2}
        case = claims.Case("x", {"test_mse": claimed}, known, 1, stateful, [])
        return str(claims.verdict(case, input_only=alone))

    assert compared(0.05, 0.22) == "impossible"
    assert compared(0.05, 0.22, stateful=True) == "not reproduced"
    assert compared(0.05, 0.22, stateful=True, alone=True) == "not reproduced; only by a clock"
    assert compared(0.05, 0.05, stateful=True, alone=True) == "reproduced; only by a clock"
    assert compared(0.25, 0.22) == "reproduced"
    assert compared(0.30, 0.22) == "better"
    assert compared(0.21, 0.30) == "not reproduced"
    by_r2 = claims.Case("x", {"r2": 0.35}, {"test_mse": 0.3, "limit": 0.04}, 1, False, [])
    assert claims.verdict(by_r2) == "reproduced"


@pytest.mark.usefixtures("makers")
def test_a_goal_of_the_model_card_is_met_or_missed_by_its_figure() -> None:
    import pretrained
    import pretrained_page as card

    kept = json.loads(pretrained.KEPT.read_text(encoding="utf-8"))
    before = {goal.wanted: goal for goal in card.goals(kept)}
    assert len(before) == 19
    n_cells = len(kept["cells"])

    def changed(wanted: str) -> card.Goal:
        return next(goal for goal in card.goals(kept) if wanted in goal.wanted)

    for row in kept["summary"]:
        if row["extractor"] == "pretrained":
            row["nmse_db"] = -50.0
    assert changed("causal: no worse than the oracle").met
    for row in kept["curve"]:
        row["pretrained"] = row["kalman told"] + 0.4
    assert changed("steady tones").met
    kept["curve"][3]["pretrained"] += 0.2
    assert not changed("steady tones").met
    assert "27 of 28" in changed("steady tones").found
    for number, row in enumerate(kept["cells"]):
        row["causal"] |= {"over_db": 0.9, "covered": 0.9}
        row["whole"] |= {"over_db": 9.0 if number == 5 else -1.0, "stderr_db": 1.0}
    assert changed("causal: no cell").met
    assert not changed("whole record: no cell").met
    assert changed("whole record: no cell").found.startswith(f"1 of {n_cells} cells are (1 by more")
    assert changed("causal: the band holds 80").met
    kept["cells"][7]["causal"]["covered"] = 0.98
    assert f"outside in 1 of {n_cells}" in changed("causal: the band holds 80").found
    kept["covered"]["whole"] = 0.93
    assert not changed("whole record: the band holds 88").met
    kept["cells"][5]["whole"]["stderr_db"] = 4.1
    assert changed("whole record: no cell").met
    kept["cost"]["memory_mb"] = 51.0
    assert not changed("MB over the data").met
    kept["cost"]["rows"][0]["median"] = 3.1
    assert not changed("one sample a call").met
    kept["cost"]["first_answer_s"]["median"] = 1.1
    assert not changed("first estimate").met


@pytest.mark.usefixtures("makers")
def test_the_model_card_lists_all_that_the_family_draws() -> None:
    import pretrained_page as card

    from tonesieve.signals import dynamics, noise_models, scenes

    assert [name for name, _ in card._listed(dynamics)] == list(dynamics.DYNAMICS)
    assert [name for name, _ in card._listed(noise_models)] == list(noise_models.NOISES)
    rows = dict(card._listed(scenes))
    assert len(rows) == 13
    assert rows["SNR"].endswith("only the stationary floor is counted")


@pytest.mark.usefixtures("makers")
def test_a_scene_in_the_figures_of_the_model_card() -> None:
    import numpy as np
    import pandas as pd
    import pretrained_evaluation

    rows = [
        {"scene": scene, "snr_bin": "0 to 5", "dynamics": "steady", "noise": "white",
         "snr_db": 1.0, "turn": turn, "n_tones": 1, "n_samples": 900, "digest": 3.0 + scene,
         "extractor": name, "setting": setting, "kind": kind, "causal": causal,
         "nmse_db": base - 10 * scene}
        for scene, turn in enumerate((0.1, 0.005))
        for causal in (True, False)
        for name, setting, kind, base in (
            ("tracker", "a", "classical", -1.0), ("tracker", "b", "classical", -2.0),
            ("told", "", "told", -4.0), ("pretrained", "", "candidate", -3.0 + scene),
        )
    ]  # fmt: skip
    cell = {"snr_bin": "0 to 5", "dynamics": "steady", "noise": "white"}
    within = pd.DataFrame([{"scene": n, "covered": 0.8 + 0.2 * n, **cell} for n in range(2)])
    bands = dict.fromkeys(("causal", "whole"), within)
    found = pretrained_evaluation.family_figures(pd.DataFrame(rows), bands, {1})
    assert found["covered"] == pytest.approx({"causal": 0.9, "whole": 0.9})
    assert found["unclipped"]["whole"]["covered"] == pytest.approx(0.8)
    (cell,) = found["cells"]
    assert cell["causal"]["over_db"] == pytest.approx(-0.5)
    assert cell["causal"]["stderr_db"] == pytest.approx(np.sqrt(0.5) / np.sqrt(2))
    assert found["lost"]["whole"]["0"] == 0
    by = {row["frequency"]: row for row in found["by_axis"]["frequency"]}
    assert by["slow"]["causal pretrained"] == pytest.approx(-12.0)
    assert by["slow"]["causal best"] == by["slow"]["causal oracle"] == pytest.approx(-12.0)
    assert [row["scene"] for row in found["worst"]["causal"]] == [0, 1]
