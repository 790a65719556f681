"""How long until the write-ups' own best test MSE: their plain recipes, and ours, in one run.

``python benchmarks/recipes.py [NAME ...]`` trains each plain recipe in full (`plain`), notes when
its best test MSE was reached, and trains ours on the same task until it is as good. Seconds are of
training and, for ours, validation; testing is not counted. With ``--ours`` the plain recipe's
course is the one that is kept.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import keep, kept
from plain import RECIPES, follow

from tonesieve.config.config import Config
from tonesieve.config.presets import load_config
from tonesieve.inference.weights import load_weights
from tonesieve.learning.loop.history import History
from tonesieve.learning.loop.training import train
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.signals.synthesis import draw_exercise

# The same task in our way, and as few steps as it takes.
OURS = {
    "window10": ("limit10", ("training.epochs=12", "training.batches_per_epoch=100")),
    "deep50": (
        "limit50",
        ("model.hidden_size=64", "training.epochs=20", "training.batches_per_epoch=50"),
    ),
    "config-l1": (
        "sieve",
        ("training.epochs=15", "training.batches_per_epoch=50", "training.balance_floor=0.01"),
    ),
}


class Reached(Exception):
    """The error that was asked for."""


def ours(config: Config, goal: float) -> dict[str, Any]:
    """Seconds until our test MSE is at most the goal, and the course there."""
    test = draw_exercise(config.data, seed=config.data.test_seed)
    skip, course = config.model.window - 1, []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"

        def look(history: History) -> None:
            tensors, _, _ = load_weights(checkpoint)
            network = build_network(config)
            network.load_state_dict(
                {
                    n.removeprefix("network."): torch.from_numpy(t)
                    for n, t in tensors.items()
                    if n.startswith("network.")
                }
            )
            error = as_extractor(network, config).extract(test.mixture) - test.targets
            mse = float(np.mean(error[:, skip:] ** 2))
            course.append((sum(epoch.seconds for epoch in history), mse))
            if mse <= goal:
                raise Reached

        try:
            train(config, checkpoint=checkpoint, on_epoch=look)
        except Reached:
            return {"seconds": course[-1][0], "mse": course[-1][1], "course": course}
    return {"seconds": None, "mse": min(mse for _, mse in course), "course": course}


def plain_course(name: str, *, again: bool) -> list[tuple[float, float]]:
    """Seconds and test MSE after every epoch, now or as they are kept."""
    before = None if again else kept(f"recipe-{name}")
    if before is not None:
        return [(seconds, mse) for seconds, mse in before["plain"]["course"]]
    course = []
    for seconds, mse in follow(name):
        course.append((seconds, mse))
        print(f"{name}, plain: {seconds:.0f} s, test MSE {mse:.4f}", flush=True)
    return course


def before_day(name: str) -> str:
    """When the plain recipe that is kept was run."""
    before = kept(f"recipe-{name}") or {}
    return str(before.get("plain", {}).get("day") or before.get("day"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME")
    parser.add_argument("--ours", action="store_true", help="train ours alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names:
        course = plain_course(name, again=not args.ours)
        when, best = min(course, key=lambda point: point[1])
        preset, overrides = OURS[name]
        tries = [
            ours(load_config(preset, (*overrides, f"training.seed={seed}")), best)
            for seed in range(3)
        ]
        keep(
            f"recipe-{name}",
            {
                "name": name,
                "plain": {
                    "seconds": when,
                    "mse": best,
                    "course": course,
                    "day": datetime.date.today().isoformat() if not args.ours else before_day(name),
                },
                "preset": preset,
                "overrides": overrides,
                "ours": tries,
            },
        )
        print(name, when, best, [(t["seconds"], t["mse"]) for t in tries], flush=True)


if __name__ == "__main__":
    main()
