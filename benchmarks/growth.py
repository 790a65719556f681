"""How cost grows: training and extraction, by window, hidden size, record length and streams.

``python benchmarks/growth.py`` times one thing after another, fits the exponent of each course on
logarithmic scales, and draws them. Memory: the most that the process ever held, of a process of
its own for every length of record.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from kept import keep, kept

from tonesieve.config.config import Config, make_config
from tonesieve.inference.run_directory import as_compiled
from tonesieve.learning.data.batches import epoch_batches
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.loop.validation import batch_loss
from tonesieve.learning.models import build_network

PICTURE = Path(__file__).parent.parent / "docs" / "figures" / "growth.png"
ROUNDS = 5
WINDOWS, SIZES = (5, 10, 20, 50, 100, 200), (16, 32, 64, 128, 256)
LENGTHS, STREAMS = (10**4, 10**5, 10**6, 10**7, 10**8), (1, 4, 16, 64, 256, 1024)
# Small ones are all overhead: the exponent is of the rest.
FITTED = {"window": 20, "hidden": 64, "samples": 10**5, "streams": 16}


def configured(*, window: int = 1, hidden: int = 64) -> Config:
    return make_config(
        {
            "data": {"start": "random", "noise": "fresh"},
            "model": {"window": window, "hidden_size": hidden, "selector": "readout"},
            "training": {"batch_size": 32},
        }
    )


def median_seconds(work: Callable[[], Any]) -> float:
    work()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def training_step(config: Config) -> Callable[[], None]:
    """Forward, backward and Adam on one batch that is there already."""
    network = build_network(config)
    optimizer = torch.optim.Adam(network.parameters())
    batch = next(iter(epoch_batches(config, epoch=1, device=torch.device("cpu"))))

    def step() -> None:
        state = network.initial_state(len(batch), batch.selector)
        outputs, _ = network(batch.inputs, batch.selector, state)
        optimizer.zero_grad()
        batch_loss(config, outputs, batch).backward()
        optimizer.step()

    return step


def extraction(hidden: int, n_streams: int, n_samples: int) -> float:
    """Seconds a sample of all streams together."""
    config = configured(hidden=hidden)
    network = as_compiled(to_arrays(build_network(config).state_dict()), config)
    assert network is not None
    samples = np.random.default_rng(0).standard_normal((n_streams, n_samples))
    return median_seconds(lambda: network.extract(samples)) / n_samples


LONG = """
import json, sys, time
import numpy as np
sys.path.insert(0, sys.argv[2])
from growth import configured
from kept import memory_mb
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.inference.run_directory import as_compiled
config = configured(hidden=16)
network = as_compiled(to_arrays(build_network(config).state_dict()), config)
rng, state, left = np.random.default_rng(0), network.initial_state(1), int(sys.argv[1])
began = time.perf_counter()
while left:
    n = min(left, 2**16)
    _, state = network.step(rng.standard_normal((1, n)), state)
    left -= n
seconds = time.perf_counter() - began
peak = memory_mb("VmHWM")
print(json.dumps({"seconds": seconds, "mb": peak}))
"""


def long_record(n_samples: int) -> dict[str, float]:
    """A record that comes in pieces, in a process of its own: seconds, and memory at its most."""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", LONG, str(n_samples), folder],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


TRAIN = """
import sys
sys.path.insert(0, sys.argv[2])
from growth import configured, training_step
from kept import memory_mb
torch = sys.modules["torch"]
torch.set_num_threads(1)
step = training_step(configured(**eval(sys.argv[1])))
before = memory_mb()
for _ in range(3):
    step()
print(memory_mb("VmHWM") - before)
"""
STREAM = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from growth import configured
from kept import memory_mb
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.inference.run_directory import as_compiled
config = configured()
network = as_compiled(to_arrays(build_network(config).state_dict()), config)
network.extract(np.zeros((1, 10)))
before = memory_mb()
network.extract(np.zeros((int(sys.argv[1]), 1000)))
print(memory_mb("VmHWM") - before)
"""


def memory(script: str, what: str) -> float:
    """MB that the work takes beyond what the process held before, in a process of its own."""
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script, what, folder], capture_output=True, text=True, check=True
    )
    return max(0.1, float(done.stdout))  # less is not seen


def exponent(name: str, x: Sequence[float], y: Sequence[float]) -> float:
    """Slope on logarithmic scales, from where overhead no longer counts."""
    kept_points = [(a, b) for a, b in zip(x, y, strict=True) if a >= FITTED[name]]
    a, b = np.log(np.array(kept_points)).T
    return round(float(np.polyfit(a, b, 1)[0]), 3) + 0.0  # no minus before nothing


def measure() -> dict[str, Any]:
    torch.set_num_threads(1)
    courses: dict[str, Any] = {}

    def note(key: str, name: str, unit: str, x: Sequence[int], y: list[float]) -> None:
        courses[key] = {
            "over": name, "unit": unit, "x": list(x), "y": y, "exponent": exponent(name, x, y)
        }  # fmt: skip
        print(key, dict(zip(x, y, strict=True)), f"exponent {courses[key]['exponent']:.2f}")

    ms = 1e3
    steps = [ms * median_seconds(training_step(configured(window=n))) for n in WINDOWS]
    note("training by window", "window", "ms a step of 32 windows", WINDOWS, steps)
    steps = [ms * median_seconds(training_step(configured(window=50, hidden=n))) for n in SIZES]
    note("training by hidden size", "hidden", "ms a step of 32 windows of 50", SIZES, steps)
    each = [1e6 * extraction(n, 1, 20_000) for n in SIZES]
    note("extraction by hidden size", "hidden", "us a sample", SIZES, each)
    each = [1e6 * extraction(64, n, max(100, 20_000 // n)) for n in STREAMS]
    note("extraction by streams", "streams", "us a sample of all streams", STREAMS, each)
    taken = [memory(TRAIN, f"dict(window={n})") for n in WINDOWS]
    note("memory of training by window", "window", "MB", WINDOWS, taken)
    taken = [memory(TRAIN, f"dict(window=50, hidden={n})") for n in SIZES]
    note("memory of training by hidden size", "hidden", "MB", SIZES, taken)
    taken = [memory(STREAM, str(n)) for n in STREAMS]
    note("memory of extraction by streams", "streams", "MB for 1,000 samples each", STREAMS, taken)
    long = [long_record(n) for n in LENGTHS]
    note("extraction by record", "samples", "s", LENGTHS, [row["seconds"] for row in long])
    note("memory by record", "samples", "MB", LENGTHS, [row["mb"] for row in long])
    return {"courses": courses}


def draw(courses: dict[str, Any]) -> None:
    figure, axes = plt.subplots(3, 3, figsize=(12, 9.5), layout="constrained")
    for axis, (name, course) in zip(axes.flat, courses.items(), strict=True):
        x, y = course["x"], course["y"]
        axis.loglog(x, y, "o-", color="#0b5394")
        axis.set_title(f"{name}: exponent {course['exponent']:.2f}", fontsize=9)
        axis.set_xlabel(course["over"])
        axis.set_ylabel(course["unit"])
        axis.set_ylim(min(y) / 3, max(y) * 3)
        axis.minorticks_off()
        axis.set_xticks(x, [f"{value:g}" for value in x])
        axis.grid(visible=True, which="major", alpha=0.3)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    if "--draw" not in sys.argv:
        keep("growth", measure())
    found = kept("growth")
    assert found is not None
    draw(found["courses"])
