"""The mixture, its targets and settings as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.signals.record_files import save
from tonesieve.signals.synthesis import draw_exercise, of_part


def generate(
    source: str | Path = DEFAULT,
    overrides: tuple[str, ...] = (),
    *,
    out: str | Path,
    split: Literal["train", "test"] = "test",
    force: bool = False,
) -> dict[str, Any]:
    """Write the exercise's record that the train or test seed draws, as .npz or .csv.

    It is the very one that `evaluate` judges on: from time 0, whatever ``data.start`` says.

    Answers what was written. Raises `UserError` as `load_config` and `datasets.save` do.
    """
    data = of_part(load_config(source, overrides).data, split)
    seed = data.train_seed if split == "train" else data.test_seed
    save(draw_exercise(data, seed=seed), Path(out), force=force)
    return {
        "out": str(out),
        "split": split,
        "seed": seed,
        "samples": data.n_samples,
        "rate_hz": data.rate_hz,
        "frequencies_hz": list(data.frequencies_hz),
    }
