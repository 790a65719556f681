"""The mixture, its targets and settings as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tonesieve.catalogue import DEFAULT, load_config
from tonesieve.signals.datasets import save
from tonesieve.signals.synthesis import draw_records


def generate(
    source: str | Path = DEFAULT,
    overrides: tuple[str, ...] = (),
    *,
    out: str | Path,
    split: Literal["train", "test"] = "test",
    force: bool = False,
) -> dict[str, Any]:
    """Write the record that the settings' train or test seed draws, as .npz or .csv.

    Answers what was written. Raises `UserError` as `load_config` and `datasets.save` do.
    """
    data = load_config(source, overrides).data
    seed = data.train_seed if split == "train" else data.test_seed
    records = draw_records(data, 1, data.n_samples, rng=np.random.default_rng(seed))
    save(records, Path(out), force=force)
    return {
        "out": str(out),
        "split": split,
        "seed": seed,
        "samples": data.n_samples,
        "rate_hz": data.rate_hz,
        "frequencies_hz": list(data.frequencies_hz),
    }
