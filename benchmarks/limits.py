"""Presets at the limit: their error over that of the best possible extractor, and their training.

``python benchmarks/limits.py [NAME ...]`` trains each (the ones that take under two minutes
three times, else once), into runs/benchmarks, and keeps the figures. A run that is there is
judged as it stands.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from kept import keep, spread

import tonesieve
from tonesieve.commands.run_files import load_run
from tonesieve.evaluation.paired_ratio import paired_ratio
from tonesieve.extractors.bayes.posterior_mean import mmse_extractor
from tonesieve.signals.synthesis import draw_records

RUNS = Path("runs/benchmarks")
STDERR = 0.005
SEEDS = {"limit10": 3, "sieve": 3, "free": 3, "limit50": 1, "limit100": 1, "onset": 1, "settled": 1}
SETTLED_RECORDS, SETTLED_S = 64, 10.0
JUDGE_SEED = 20_001


def trained(name: str, seed: int) -> Path:
    """The run of a preset under a seed, trained if it is not there."""
    folder = RUNS / f"{name}-{seed}"
    if not (folder / "metrics.json").exists():
        if (folder / "config.yaml").exists():
            tonesieve.resume(folder)
        else:
            overrides = (
                f"training.seed={seed}",
                f"data.train_seed={1 if seed == 0 else 100 + seed}",
            )
            tonesieve.run(name, overrides, out=folder)
    return folder


def judged(folder: Path) -> dict[str, Any]:
    """Every figure that a goal asks for, of one run."""
    run = load_run(folder)
    config, data = run.config, run.config.data
    training = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["training"]
    result: dict[str, Any] = {
        "seconds": training["seconds"],
        "parameters": training["parameters"],
        "epochs": training["epochs"],
    }
    if not config.stateful:
        length = config.model.window
        ages = slice(length - 1, length)
        result["last"] = asdict(
            paired_ratio(
                run.extractor, data, n_samples=length, ages=ages, stderr=STDERR, seed=JUDGE_SEED
            )
        )
        return result
    if config.name == "onset":
        result["onset"] = asdict(
            paired_ratio(
                run.extractor,
                data,
                n_samples=200,
                ages=slice(0, 200),
                stderr=STDERR,
                seed=JUDGE_SEED,
            )
        )
    result["settled"] = _settled(run.extractor, data)
    return result


def _settled(extractor: Any, data: Any) -> dict[str, float]:
    """Mean squared error from 1 to 10 s, and the best possible extractor's on the same records."""
    shifted = data.model_copy(update={"start": "random"})
    n_samples, settle = round(SETTLED_S * data.rate_hz), round(data.rate_hz)
    rng = np.random.default_rng(JUDGE_SEED)
    records = draw_records(shifted, SETTLED_RECORDS, n_samples, rng=rng)
    late = slice(settle, None)
    own, best = (
        np.mean((e.extract(records.mixture)[:, late] - records.targets[:, late]) ** 2, axis=(1, 2))
        for e in (extractor, mmse_extractor(shifted))
    )
    found = {
        "mse": float(own.mean()),
        "stderr": float(np.std(own, ddof=1) / np.sqrt(len(own))),
        "best_mse": float(best.mean()),
    }
    if data.regime == "free":
        ratio = own.mean() / best.mean()
        left = own - ratio * best
        found["ratio"] = float(ratio)
        found["ratio_stderr"] = float(np.std(left, ddof=1) / np.sqrt(len(left)) / best.mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SEEDS), metavar="NAME")
    for name in parser.parse_args().names:
        runs = [judged(trained(name, seed)) for seed in range(SEEDS[name])]
        seconds = spread([run["seconds"] for run in runs])
        keep(f"limits-{name}", {"preset": name, "seconds": seconds, "runs": runs})
        print(name, json.dumps(runs), flush=True)


if __name__ == "__main__":
    main()
