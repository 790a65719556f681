"""Before training: whether a task can be learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.evaluation.learnability import diagnose_task
from tonesieve.util.progress import Reporter


def diagnose(
    source: str | Path = DEFAULT,
    overrides: tuple[str, ...] = (),
    *,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Compute whether a task can be learned, before any training.

    Parameters
    ----------
    source : str or Path
        Preset, YAML file or run directory.
    overrides : tuple of str
        Changes to the settings, each ``section.key=value``.
    reporter : Reporter, optional
        Receives progress.

    Returns
    -------
    dict
        ``components`` (correlation, variance, mutual information and limit of each tone), ``limit``
        and its standard error, ``verdict`` (``cannot be learned``, ``at best`` or ``fine``) and
        ``explanation``, a sentence.

    Raises
    ------
    UserError
        For settings that are wrong.

    Examples
    --------
    >>> import tonesieve
    >>> tonesieve.diagnose("guide")["verdict"]
    'cannot be learned'
    """
    config = load_config(source, overrides)
    with (reporter or Reporter()).task("diagnosing", 1):
        return diagnose_task(config)
