"""Score a kept run of window10 against other things than the clean tone, and after smoothing.

``python docs/rescore.py RUN`` keeps the figures in docs/results/rescored.json: whether one of them
is what the write-up may have measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter1d

from tonesieve.commands.run_files import load_run
from tonesieve.config.config import DataSettings
from tonesieve.signals.synthesis import draw_exercise

KEPT = Path(__file__).parent / "results" / "rescored.json"


def noisy_components(data: DataSettings, seed: int) -> np.ndarray:
    """The tones as they stand in the mixture, jitter and all: its mean is the mixture."""
    rng = np.random.default_rng(seed)
    rng.spawn(1)
    n = round(data.duration_s * data.rate_hz)
    shape = (1, n, data.n_components)
    gain = rng.uniform(*data.amplitude_range, shape)
    jitter = data.phase_scale * rng.random(shape)
    cycles = np.arange(n)[:, None] * (np.array(data.frequencies_hz) / data.rate_hz)
    return gain * np.sin(2 * np.pi * (cycles + jitter))


def rescored(run: str | Path) -> dict[str, float]:
    """Test MSE by what was done instead."""
    loaded = load_run(run)
    data = loaded.config.data
    record = draw_exercise(data, seed=data.test_seed)
    target = record.targets[0]
    noisy = noisy_components(data, data.test_seed)
    if not np.allclose(noisy.mean(axis=2), record.mixture):
        raise ValueError("the components are not those of the mixture")
    estimate = loaded.extractor.extract(record.mixture)[0]

    def mse(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.mean((one - other) ** 2))

    def mean(n: int, *, causal: bool) -> np.ndarray:
        origin = (n - 1) // 2 if causal else 0
        return uniform_filter1d(estimate, n, axis=0, origin=origin, mode="nearest")

    result = {
        "scored against the noisy component": mse(estimate, noisy[0]),
        "targets of half the amplitude": mse(estimate / 2, target / 2),
        "targets as large as in the mixture, a quarter": mse(estimate / 4, target / 4),
    }
    for n in (10, 50):
        result[f"smoothed over the last {n} estimates"] = mse(mean(n, causal=True), target)
        result[f"smoothed over {n} estimates around"] = mse(mean(n, causal=False), target)
    return result


if __name__ == "__main__":
    KEPT.write_text(json.dumps(rescored(sys.argv[1]), indent=2) + "\n", encoding="utf-8")
