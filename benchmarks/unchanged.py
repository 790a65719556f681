"""Show that a refactor leaves all outputs unchanged: run the same cases at two commits, compare.

    python benchmarks/unchanged.py make DIR [--tree CHECKOUT] [--only PART ...]
    python benchmarks/unchanged.py compare DIR_A DIR_B

``make`` runs every case with the package of CHECKOUT (default: this repository), every step in a
process of its own on one thread, and writes all outputs into DIR, a folder a case. ``compare``
prints a line a case, and exits with 1 if anything differs. Only the command line and what the
package exports at its top level are used, so that one script serves both commits. Both have to run
on the same machine with the same libraries: another processor or PyTorch may round otherwise.

Two things are kept from disturbing the comparison. The compiled core of trained networks is waited
for at most half a second, and until then NumPy computes the outputs, which rounds otherwise: steps
that need the core load it first (`WITH_CORE`). And what cannot be the same twice, or is prose, is
not compared: `unchanged_files` has all of it, with the reasons.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import shutil
import string
import subprocess
import sys
import time
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from unchanged_files import IGNORED_FILES, compare_files

REPOSITORY = Path(__file__).resolve().parent.parent
# Of DIR: what cases read, and a network that serves only to load the compiled core.
INPUTS, WARM_UP = "inputs", "warm_up"

SMALL = (
    "data.duration_s=2 training.batches_per_epoch=4 training.batch_size=8 training.epochs=2 "
    "evaluation.shifted_records=2 evaluation.settle_s=0.1 visualisation.dpi=40"
)
MANY_HZ = (5, 11, 23, 47, 91, 130, 171, 222, 301, 400)
WORDS = {
    "SMALL": SMALL,
    "SHORT": f"sieve {SMALL} training.record_s=1 model.hidden_size=16",
    "OWN": "training.epochs=1 training.batches_per_epoch=3 training.batch_size=8",
    "NOISY": "data.pink_snr_db=3 data.impulse_rate_hz=5 data.gap_fraction=0.1",
    "HUM": "extract inputs/hum.csv --hz 50",
    "GAPS": "extract inputs/gaps.csv --hz 50",
    "MANY": "extract inputs/many.csv " + " ".join(f"--hz {f}" for f in MANY_HZ),
    "SEVERAL": "extract inputs/several.csv --column all --hz 80",
    "LONG": "extract inputs/long.npz --rate 1000 --column all",
    "LONGER": "extract inputs/longer.npz --rate 1000",
    "SEISMOMETER": "extract inputs/seismometer_200hz.csv",
    "POLE": "extract inputs/polar_motion_daily.csv --column x_arcsec --column y_arcsec",
    "LIVE": "stream --hz 50 --rate 1000",
    "STATE": "stream --hz 50 --rate 1000 --state $OUT/state.safetensors",
    "LRU": "stream --with train_lru/run --remove --hz 5 --state $OUT/state.safetensors",
}
MOST_SHOWN = 3  # files of a case that differ
CASES = Path(__file__).with_name("unchanged_cases.txt")

# Loads the compiled core of trained networks by a thread, and waits until that thread has ended.
WITH_CORE = f"""
import runpy, sys, threading
import numpy as np, tonesieve
tonesieve.pull(np.sin(np.arange(3000) / 50), 1000.0, [3.0], with_="{WARM_UP}/run")
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join()
sys.argv[0] = "tonesieve"
runpy.run_module("tonesieve", run_name="__main__", alter_sys=True)
"""
PULL = """
import numpy as np, tonesieve
samples = np.loadtxt("inputs/lines.txt")
holes = np.where(np.arange(samples.size) % 400 < 60, np.nan, samples)
found = {}
for name, row, hz, options in (
    ("whole", samples, 50.0, {}),
    ("causal", samples, [50, 52], {"causal": True}),
    ("gaps", holes, [50.0, 3.0], {}),
    ("gaps_causal", holes, [50.0], {"causal": True}),
    ("ahead", samples, [50.0], {"with_": "pretrained:ahead_s=0.5"}),
    ("large", 1e120 * samples, [50.0], {}),
    ("tracker", holes, [50.0], {"with_": "tracker"}),
    ("wiener", samples, [50.0], {"with_": "wiener"}),
):
    tones, bands = tonesieve.pull(row, 1000.0, hz, **options)[:2]  # the lines are new
    found[name + "_tones"] = tones
    if bands is not None:
        found[name + "_bands"] = bands
np.savez("pull/1.npz", **found)
"""
# By the function: the command line draws 64 batches to calibrate and validate, which take minutes.
PRETRAIN = """
import inspect, json, tonesieve
if __name__ == "__main__":
    size = inspect.signature(tonesieve.pretrain).parameters["sizes"].default[0]
    result = tonesieve.pretrain(
        "pretrain/weights.safetensors", n_steps=3, n_hidden=4, n_calibrating=1, n_validating=1,
        sizes=[type(size)(64, 8, 1.0)],  # by position: the names of the fields may change
    )
    open("pretrain/1.json", "w").write(json.dumps(result))
"""
SCRIPTS = {"pull": PULL, "pretrain": PRETRAIN}
SWEEP = f"""name: kinds
base: window10
settings: {{{", ".join(word.replace("=", ": ") for word in SMALL.split())}, model.hidden_size: 8}}
variants:
  transformer: {{model.kind: transformer, model.hidden_size: 16}}
  multi-scale: {{model.kind: multi-scale}}
seeds: 1
"""


def write_inputs(folder: Path) -> None:
    """Recordings, lines and settings that the cases read: examples, and drawn from one seed."""
    rng = np.random.default_rng(15)

    def noisy(n: int, rate_hz: float, *hz: float) -> np.ndarray:
        t = np.arange(n) / rate_hz
        tones = [np.sin(2 * np.pi * f * t + 0.02 * f * np.sin(t) + i) for i, f in enumerate(hz)]
        brown = np.cumsum(rng.standard_normal(n))
        return 3 * np.sum(tones, axis=0) + 0.3 * brown + rng.standard_normal(n)

    def table(name: str, rate_hz: float, *rows: slice, **columns: np.ndarray) -> None:
        times = np.arange(len(next(iter(columns.values())))) / rate_hz
        frame = pd.DataFrame({"time_s": times, **columns})
        for part in rows:
            frame = frame.drop(frame.index[part])
        frame.to_csv(folder / name, index=False)

    hum = noisy(4000, 1000, 50.03, 3.01, 420.5)
    angle = 2 * np.pi * np.arange(3000) / 1000
    mixture = np.mean([np.sin(f * angle) for f in (1, 3, 5, 7)], axis=0)
    mixture += 0.05 * rng.standard_normal(3000)
    table("hum.csv", 1000, x=hum)
    table("many.csv", 1000, x=noisy(3000, 1000, *MANY_HZ))
    table("slow.csv", 1000, x=noisy(20_000, 1000, 0.2, 0.31, 9.02))
    table("clipped.csv", 1000, x=np.clip(noisy(3000, 1000, 50.1), -4, 4))
    table("own.csv", 100, x=noisy(6000, 100, 10.03))
    table("mixture.csv", 1000, x=mixture)
    several = {name: noisy(2500, 1000, 50, 80.2) for name in "abc"}
    table("several.csv", 1000, **several)
    pd.DataFrame(several).assign(time_s=np.arange(2500) / 1000).to_parquet(
        folder / "several.parquet"
    )
    # Longer than the blocks (2**14, 2**16 samples) and stretches (2**20) that are read at a time.
    long = {name: noisy(140_000, 1000, 50.03, 3.01, 0.2) for name in "xy"}
    long["x"][60_000:75_000] = np.nan
    np.savez(folder / "long.npz", **long)
    np.savez(folder / "longer.npz", x=noisy(1_150_000, 1000, 50.03, 3.01))
    for name, samples in (("gaps.csv", hum), ("mixture_gaps.csv", mixture)):
        holed = samples.copy()
        for part in (slice(30), slice(500, 520), slice(-40, None)):
            holed[part] = np.nan
        table(name, 1000, slice(1000, 1700), slice(1200, 1203), x=holed)
    pd.DataFrame({"x": noisy(3000, 512.5, 25.1)}).to_csv(folder / "untimed.csv", index=False)
    when = pd.date_range("2008-01-01", periods=1500, freq="20ms").strftime("%Y-%m-%dT%H:%M:%S.%f")
    pd.DataFrame({"when": when, "x": noisy(1500, 50, 5)}).to_csv(folder / "dates.csv", index=False)
    with wave.open(str(folder / "hum.wav"), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(np.round(300 * hum).astype("<i2").tobytes())

    lines = [f"{x:.6g}" for x in hum[:2000]]
    bad = lines[:900]
    for i, text in enumerate(("abc", "", "nan", "inf", "1e200", "1_000", "1,2", "9" * 70_000)):
        bad[100 + 50 * i] = text
    bad[600:650] = ["-"] * 50
    pairs = [f"{x}{',; '[i % 3]}{y}" for i, (x, y) in enumerate(pairwise(lines))]
    pairs[200], pairs[300] = "1", "x,2"
    for name, text in (
        ("lines.txt", lines),
        ("first.txt", lines[:700]),
        ("last.txt", lines[700:1600]),
        ("bad_lines.txt", bad),
        ("two_channels.txt", pairs),
    ):
        (folder / name).write_text("\n".join(text), encoding="utf-8")  # the last one without end
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    for name in ("seismometer/seismometer_200hz.csv", "polar_motion/polar_motion_daily.csv"):
        shutil.copy(REPOSITORY / "examples" / name, folder)


def cases() -> dict[str, list[str]]:
    """The steps of every case: words of the command line; a script is empty words."""
    steps = {name: [""] for name in SCRIPTS}
    for line in CASES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, text = line.split(maxsplit=1)
            steps.setdefault(name, []).append(text)
    return steps


def _words(case: str, step: int, text: str) -> list[str]:
    """A line of `CASES`, written out."""
    for _ in range(2):  # what WORDS says may hold $OUT and others of them
        text = string.Template(text).substitute(WORDS, OUT=case)
    words = shlex.split(text)
    if words[0] == "extract" and "--out" not in words:
        words += ["--out", f"{case}/{step}.csv"]
    if words[0] == "run" and not {"--out", "--resume"} & set(words):
        words += ["--out", f"{case}/run"]
    return words if words[0] == "stream" else [*words, "--json"]


def _command(case: str, step: int, text: str) -> tuple[list[str], str]:
    """What to run, and the file for its standard input."""
    if case in SCRIPTS:
        path = Path(INPUTS) / f"{case}.py"  # a file, so that processes that it starts can import it
        return [sys.executable, str(path)], os.devnull
    text, _, stdin = text.partition(" < ")
    words = _words(case, step, text)
    runs = words[0] in ("run", "probe", "compare", "evaluate", "export") or "train_" in text
    started = ["-c", WITH_CORE] if runs and case != WARM_UP else ["-m", "tonesieve"]
    return [sys.executable, *started, *words], stdin or os.devnull


def make(folder: Path, tree: Path, only: list[str]) -> int:
    """Write the outputs of every case, or of those with one of these parts in their names."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder}: is not empty; name a new folder")
    (folder / INPUTS).mkdir(parents=True)
    write_inputs(folder / INPUTS)
    for name, script in SCRIPTS.items():
        (folder / INPUTS / f"{name}.py").write_text(script, encoding="utf-8")
    threads = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    environment = os.environ | {f"{name}_NUM_THREADS": "1" for name in threads}
    environment["PYTHONPATH"] = str(tree)
    options: dict[str, Any] = {"cwd": folder, "env": environment, "capture_output": True}
    where = [sys.executable, "-c", "import tonesieve; print(tonesieve.__file__)"]
    package = subprocess.run(where, check=True, **options).stdout.decode().strip()
    if not Path(package).is_relative_to(tree):
        sys.exit(f"{tree}: Python imports {package} instead")
    begun, n_failed = time.monotonic(), 0
    warm_up = {WARM_UP: ["run sieve $SMALL model.hidden_size=4"]}
    for case, steps in (warm_up | cases()).items():
        if only and case != WARM_UP and not any(part in case for part in only):
            continue
        (folder / case).mkdir(exist_ok=True)
        at, cpu = time.monotonic(), _cpu_seconds()
        for step, text in enumerate(steps, 1):
            command, stdin = _command(case, step, text)
            with (folder / stdin).open("rb") as file:
                done = subprocess.run(command, check=False, stdin=file, **options)
            if done.returncode != (2 if case.startswith("error_") else 0):
                n_failed += 1
                print(f"{case}, step {step}: exit code {done.returncode}:", done.stderr.decode())
            (folder / case / f"exit_code_{step}.txt").write_text(f"{done.returncode}\n")
            if done.stdout and case not in SCRIPTS:
                ending = "json" if done.stdout.startswith(b"{") else "txt"
                (folder / case / f"stdout_{step}.{ending}").write_bytes(done.stdout)
        wall, cpu = time.monotonic() - at, _cpu_seconds() - cpu
        print(f"{case:<22}{wall:6.1f} s, {cpu:6.1f} s of CPU", flush=True)
    wall = time.monotonic() - begun
    print(f"{'all':<22}{wall:6.1f} s, {_cpu_seconds():6.1f} s of CPU; {n_failed} wrong exit codes")
    return int(n_failed > 0)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare(one: Path, other: Path) -> int:
    """Print a line a case: are its files in both folders the same?"""
    n_differ = 0
    cases = {path.name for folder in (one, other) for path in folder.iterdir()} - {WARM_UP}
    for case in sorted(cases):
        paths = {
            path.relative_to(folder)
            for folder in (one, other)
            for path in (folder / case).rglob("*")
            if path.is_file() and path.name not in IGNORED_FILES
        }
        equal, bad = [], []
        for path in sorted(paths):
            missing = [str(folder) for folder in (one, other) if not (folder / path).exists()]
            if missing:
                bad.append(f"{path.relative_to(case)} is missing in {missing[0]}")
            elif difference := compare_files(one / path, other / path):
                bad.append(f"{path.relative_to(case)}: {difference}")
            elif (one / path).read_bytes() != (other / path).read_bytes():
                equal.append(path.name)
        n_differ += bool(bad)
        if len(bad) > MOST_SHOWN:
            bad[MOST_SHOWN:] = [f"and {len(bad) - MOST_SHOWN} files more"]
        text = f"numerically identical ({', '.join(equal)})" if equal else "identical bytes"
        print(f"{case:<22}{'DIFFERS: ' + '; '.join(bad) if bad else text}")
    print(f"{n_differ} of {len(cases)} cases differ")
    return int(n_differ > 0 or not cases)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="write the outputs of all cases")
    making.add_argument("folder", type=Path, help="an empty or a new folder")
    making.add_argument("--tree", type=Path, default=REPOSITORY, help="checkout to run")
    making.add_argument("--only", nargs="+", default=[], help="parts of the names of cases")
    comparing = verbs.add_parser("compare", help="compare the outputs of two commits")
    comparing.add_argument("folders", type=Path, nargs=2)
    given = parser.parse_args()
    if given.verb == "make":
        return make(given.folder.resolve(), given.tree.resolve(), given.only)
    for folder in given.folders:
        if not folder.is_dir():
            parser.error(f"{folder}: no such folder")
    return compare(*given.folders)


if __name__ == "__main__":
    sys.exit(main())
