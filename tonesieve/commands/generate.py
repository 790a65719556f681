"""The records of the exercise as a file."""

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
    """Write the mixture of the exercise, its targets and settings as a file.

    The record is the one that `evaluate` uses. It starts at time 0, whatever ``data.start`` is.

    Parameters
    ----------
    source : str or Path
        Preset, YAML file or run directory.
    overrides : tuple of str
        Changes to the settings, each ``section.key=value``.
    out : str or Path
        File to write, ``.npz`` (lossless) or ``.csv``.
    split : {"train", "test"}
        Whose seed draws the noise.
    force : bool
        Whether to overwrite ``out``.

    Returns
    -------
    dict
        ``out``, ``split``, ``seed``, ``samples`` (their number), ``rate_hz`` and
        ``frequencies_hz``.

    Raises
    ------
    UserError
        For settings that are wrong, and for an ``out`` that exists or cannot be written.

    Examples
    --------
    >>> import tonesieve
    >>> tonesieve.generate("sieve", out="exercise.npz")["samples"]
    10000
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
