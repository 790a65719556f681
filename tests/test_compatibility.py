"""Files that an earlier commit wrote are still read, and give the numbers that they gave then.

Streams of the pretrained extractor are refused: its filters have another state today.

`data/format_0/README.md` says what they are, and how they were made. Names in files (settings,
tensors, states, columns) must not change without a format version and a reader for the old ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

REPOSITORY = Path(__file__).parent.parent
OLD = Path(__file__).parent / "data" / "format_0"
N_BEFORE = 500  # samples before the states were saved

# On the machine that made the files the numbers are the same to the last bit. Another processor
# has vector instructions of another width, fused or not, so that sums are rounded otherwise: over
# some hundred samples by less than 1e-9 of the result in double precision. Networks compute in
# single precision, 5e8 times as coarse: 1e-5.
DOUBLE, SINGLE = 1e-9, 1e-5

# Until the compiled core of networks is loaded, NumPy computes the outputs, to rounding the same;
# which of the two it is would depend on the load of the machine. Here it is waited for.
WITH_CORE = """
import runpy, sys, threading
import numpy as np, tonesieve
tonesieve.pull(np.sin(np.arange(3000) / 50), 1000.0, [8.0], with_=sys.argv.pop(1))
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join()
runpy.run_module("tonesieve", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the files: states and runs are written to."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def tonesieve(folder: Path, *words: str, lines: str = "", network: bool = False) -> str:
    """Standard output of the command line in that folder, with the package of this repository."""
    done = run(folder, *words, lines=lines, network=network)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(
    folder: Path, *words: str, lines: str = "", network: bool = False
) -> subprocess.CompletedProcess[str]:
    """The command line in that folder, once it has ended."""
    start = ["-c", WITH_CORE, "run"] if network else ["-m", "tonesieve"]
    return subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def assert_close(numbers: Any, expected: Any, tolerance: float) -> None:
    """Equal but for the rounding, relative to the largest of the expected numbers."""
    largest = np.nanmax(np.abs(expected))
    np.testing.assert_allclose(numbers, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize(("name", "tolerance"), [("tracker", DOUBLE), ("network", SINGLE)])
def test_a_saved_stream_continues(old: Path, name: str, tolerance: float) -> None:
    words = ["stream", "--rate", "1000", "--state", f"{name}.safetensors"]
    words += ["--with", "run"] if name == "network" else ["--with", name, "--hz", "50"]
    last = "".join((old / "lines.txt").read_text().splitlines(keepends=True)[N_BEFORE:])
    text = tonesieve(old, *words, lines=last, network=name == "network")
    expected = np.loadtxt(old / f"{name}.txt", delimiter=",")
    assert len(expected) == 200
    assert_close(np.loadtxt(text.splitlines(), delimiter=","), expected, tolerance)


def test_a_stream_of_the_first_pretrained_extractor_is_refused(old: Path) -> None:
    before = (old / "pretrained.safetensors").read_bytes()
    done = run(old, "stream", "--rate", "1000", "--hz", "50", "--state", "pretrained.safetensors",
               lines="1\n2\n")  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.strip().splitlines()
    assert "the state of another stream" in line
    assert "another version of pretrained" in line
    assert (old / "pretrained.safetensors").read_bytes() == before


def test_a_run_extracts(old: Path) -> None:
    tonesieve(old, "extract", "mixture.csv", "--with", "run", "--full", "--out", "new.csv",
              network=True)  # fmt: skip
    new, expected = pd.read_csv(old / "new.csv"), pd.read_csv(old / "mixture.tone.csv")
    assert list(new) == list(expected)
    for name in expected:
        assert_close(new[name], expected[name], SINGLE)
    mine, theirs = (
        json.loads((old / f"{name}.json").read_text()) for name in ("new.csv", "mixture.tone.csv")
    )
    assert mine.keys() >= theirs.keys()
    for key in ("with", "samples", "rate_hz", "extractor_rate_hz", "causal", "columns"):
        assert mine[key] == theirs[key]
    assert_alike(mine["channels"], theirs["channels"])
    # Later versions say more of each tone.
    for own, old_one in zip(mine["tones"], theirs["tones"], strict=True):
        assert own.keys() >= old_one.keys()
        assert_alike({key: own[key] for key in old_one}, old_one)


def test_a_run_is_evaluated(old: Path) -> None:
    expected = json.loads((old / "run" / "metrics.json").read_text())
    result = json.loads(tonesieve(old, "evaluate", "run", "--json", network=True))
    assert result.pop("run") == "run"
    assert_alike(result, expected)
    assert_alike(json.loads((old / "run" / "metrics.json").read_text()), expected)


def assert_alike(value: Any, expected: Any) -> None:
    """The same keys, words and whole numbers; other numbers but for the rounding."""
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key in expected:
            assert_alike(value[key], expected[key])
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for one, other in zip(value, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        # Differences of figures near 1 are among them, so that the scale is 1 at least.
        assert value == pytest.approx(expected, rel=SINGLE, abs=SINGLE)
    else:
        assert value == expected
