"""Whether the output of a finished run depends on its input or on the time since the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tonesieve.commands.run_files import check_synthetic, load_run
from tonesieve.evaluation.probes import N_PROBES, probe_extractor
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.progress import Reporter


def probe(folder: str | Path, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Test whether a run filters its input or runs as a clock.

    The probes are: records that start at random times, silence, another tone alone, and a selector
    that changes within a record.

    Parameters
    ----------
    folder : str or Path
        Run directory.
    reporter : Reporter, optional
        Receives progress.

    Returns
    -------
    dict
        ``verdict``, one of ``filter``, ``clock``, ``both`` and ``neither``, and the results of the
        probes: ``shifted_start``, ``silence``, ``other_tone`` and ``swapped_selector``.

    Raises
    ------
    UserError
        For a folder that is not a finished run, and for a run that was trained in the noise of a
        recording.

    Examples
    --------
    >>> import tonesieve
    >>> tonesieve.probe("runs/first")["verdict"]  # doctest: +SKIP
    'filter'
    """
    run = load_run(folder)
    check_synthetic("probe", folder, run.config)
    with threads(run.config), (reporter or Reporter()).task("probing", N_PROBES) as task:
        probes = probe_extractor(run.extractor, run.config, on_part=task.update)
    return {"run": str(folder), "name": run.config.name, **probes}
