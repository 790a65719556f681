"""The layers, shapes and parameters of a network, before or after its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.inference.run_directory import WEIGHTS
from tonesieve.learning import summary
from tonesieve.learning.models import build_network
from tonesieve.learning.network_files import load_network


def describe(source: str | Path = DEFAULT, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Summarise a network: layers, shapes, parameter counts and warnings.

    For a finished run the summary includes mean, standard deviation and extremes of every weight.
    It includes the same statistics of the activations of every layer over the start of the test
    record.

    Parameters
    ----------
    source : str or Path
        Preset, YAML file or run directory.
    overrides : tuple of str
        Changes to the settings, each ``section.key=value``.

    Returns
    -------
    dict
        ``layers``, ``parameters`` (their number), ``batch`` (shapes), ``causal``, ``warnings`` and
        more; for a run also ``weights`` and ``activations``.

    Raises
    ------
    UserError
        For settings that are wrong, and for a run whose weights cannot be used.

    Examples
    --------
    >>> import tonesieve
    >>> tonesieve.describe("deep50")["parameters"]
    201345
    """
    if not overrides and (Path(source) / WEIGHTS).is_file():
        network, config = load_network(Path(source) / WEIGHTS)
        return {**summary.summarise(network, config), **summary.statistics(network, config)}
    config = load_config(source, overrides)
    return summary.summarise(build_network(config), config)
