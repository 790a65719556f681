"""What the pretrained extractor costs: time a sample, memory, time to begin; as JSON.

``python docs/pretrained_cost.py [WEIGHTS]`` measures the package that it imports. So
``PYTHONPATH=OTHER`` measures another checkout with the same code, for a comparison in one run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tonesieve
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.inference.weights import PRETRAINED, load_pretrained

NAME = "pretrained"
# Seven times each, the median; samples of a measurement in chunks, and one by one.
TIMES, TIMED, TIMED_SINGLY = 7, 100_000, 20_000
RATE_HZ = 1000.0
# Memory: tones and samples of the recording, and the interval of the measurements (s).
MEMORY_TONES, MEMORY_SAMPLES, MEASURE_EVERY_S = (
    (50.0, 100.0, 150.0, 200.0, 250.0, 300.0),
    1_000_000,
    0.002,
)


def measured(weights: str) -> dict[str, Any]:
    """Measure all."""
    samples = np.random.default_rng(0).standard_normal((1, TIMED))
    rows = []
    for tones in ((50.0,), (50.0, 120.0), (50.0, 100.0, 150.0, 200.0), (0.5,)):
        made = PretrainedExtractor(tones, RATE_HZ, weights=weights)
        what = {"tones": len(tones), "lowest_hz": min(tones), "rate_hz": RATE_HZ}
        one_by_one = partial(_one_by_one, made, samples[0, :TIMED_SINGLY])
        rows.append({**what, "how": "one sample a call"} | _timed(one_by_one, TIMED_SINGLY))
        for chunk in (1000, TIMED):
            work = partial(_stepped, made, samples, chunk)
            rows.append({**what, "how": f"stream, chunks of {chunk:,}"} | _timed(work, TIMED))
        with_ = f"{NAME}:weights={weights}" if weights else NAME
        whole = partial(tonesieve.pull, samples[0], RATE_HZ, tones, with_=with_)
        rows.append({**what, "how": "whole recording"} | _timed(whole, TIMED))
    path = Path(weights) if weights else Path(tonesieve.__file__).parent / PRETRAINED
    return {
        "machine": f"{platform.machine()}, {_processor()}, one thread",
        "numbers": sum(int(t.size) for t in load_pretrained(weights or None)[0].values()),
        "bytes": path.stat().st_size,
        "rows": rows,
        "memory_tones": len(MEMORY_TONES),
        "memory_samples": MEMORY_SAMPLES,
        "memory_mb": _memory_mb(weights),
        "first_answer_s": _spread([_first_estimate(weights) for _ in range(TIMES + 1)][1:]),
        "extract_s": _spread([_extract(weights) for _ in range(TIMES + 1)][1:]),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def _one_by_one(made: PretrainedExtractor, samples: np.ndarray) -> None:
    step = made.stepper()
    for sample in samples.tolist():
        step(sample)


def _stepped(made: PretrainedExtractor, samples: np.ndarray, chunk: int) -> None:
    state = made.initial_state(1)
    for start in range(0, samples.shape[1], chunk):
        _, state = made.step(samples[:, start : start + chunk], state)


def _timed(work: Callable[[], Any], n_samples: int) -> dict[str, float]:
    """Microseconds a sample."""
    work()
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) / n_samples * 1e6)
    return _spread(found)


def _spread(found: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(found)), "least": min(found), "most": max(found)}


def _memory_mb(weights: str) -> float:
    """Peak of the resident memory of `extract` over that before it, in a process of its own."""
    words = [sys.executable, __file__, weights, "--memory"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def _memory_here(weights: str) -> float:
    """Less the samples themselves; kernels are loaded by a short recording beforehand."""
    with_ = f"{NAME}:weights={weights}" if weights else NAME
    samples = np.random.default_rng(0).standard_normal(MEMORY_SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        short, full = Path(folder) / "short.npz", Path(folder) / "full.npz"
        np.savez(short, samples=samples[:5000], rate_hz=RATE_HZ)
        np.savez(full, samples=samples, rate_hz=RATE_HZ)
        data_mb = samples.nbytes / 1e6
        del samples
        tonesieve.extract(short, MEMORY_TONES, with_=with_)
        before, peak, stop = _resident_mb(), 0.0, threading.Event()

        def measure() -> None:
            nonlocal peak
            while not stop.wait(MEASURE_EVERY_S):
                peak = max(peak, _resident_mb())

        measuring = threading.Thread(target=measure)
        measuring.start()
        tonesieve.extract(full, MEMORY_TONES, with_=with_)
        stop.set()
        measuring.join()
    return peak - before - data_mb


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _command(weights: str, *words: str) -> list[str]:
    with_ = ["--with", f"{NAME}:weights={weights}"] if weights else []
    return [sys.executable, "-m", "tonesieve", *words, *with_]


def _first_estimate(weights: str) -> float:
    """Seconds from the start of a stream, whose first sample is there, to its first estimate."""
    words = _command(weights, "stream", "--hz", "50", "--rate", "1000")
    began = time.perf_counter()
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"0.5\n")
        process.stdin.flush()
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.stdin.close()
        process.stdout.read()
    float(line.split(b",")[0])
    return seconds


def _extract(weights: str) -> float:
    """Seconds of a whole command on 5,000 rows."""
    t = np.arange(5000) / 1000
    noise = np.random.default_rng(0).standard_normal(5000)
    rows = np.stack([t, np.sin(2 * np.pi * 50 * t) + noise], axis=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        np.savetxt(path, rows, delimiter=",", header="time,x", comments="")
        began = time.perf_counter()
        subprocess.run(
            _command(weights, "extract", str(path), "--hz", "50"),
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return time.perf_counter() - began


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    if "--memory" in sys.argv:
        print(_memory_here(given))
    else:
        print(json.dumps(measured(given)))
