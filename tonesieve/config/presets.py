"""Sources of a configuration: presets, YAML files, runs, and overrides."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tonesieve.config.config import (
    Config,
    from_yaml,
    make_config,
    with_absolute_background,
)
from tonesieve.config.parsing import parse_value, parse_yaml
from tonesieve.errors import UserError

DEFAULT = "sieve"
# The pretrained extractor, the default for recordings and streams.
PRETRAINED = "pretrained"
# Filters of `extractors.filters.registry`, by name only: showing them does not load SciPy.
FILTER_NAMES = (
    "tracker",
    "kalman",
    "least-squares",
    "least-squares-growing",
    "lock-in",
    "butterworth",
    "zero-phase",
    "fft-mask",
    "wiener",
    "mean",
    "random",
)
_FOLDER = files("tonesieve") / "presets"
_EXPERIMENTS = files("tonesieve") / "experiments"


def presets() -> list[str]:
    """List the names of the presets, the default first.

    Returns
    -------
    list of str
        Names that `load_config` takes.

    Examples
    --------
    >>> presets()[0]
    'sieve'
    """
    names = sorted(p.name.removesuffix(".yaml") for p in _FOLDER.iterdir())
    return [DEFAULT, *(name for name in names if name != DEFAULT)]


def preset_yaml(name: str) -> str:
    """Read a preset as YAML text, with its comments.

    Parameters
    ----------
    name : str
        Name of the preset.

    Returns
    -------
    str
        YAML text.

    Raises
    ------
    UserError
        If there is no such preset.
    """
    if name not in presets():
        close = difflib.get_close_matches(name, presets(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(presets())}"
        raise UserError(f"{name}: no such preset; {hint}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def summary(text: str) -> str:
    """Read the comment at the head of a preset or experiment.

    Parameters
    ----------
    text : str
        YAML text.

    Returns
    -------
    str
        The comment as one line.
    """
    lines = text.splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in head)


def shipped_experiments() -> dict[str, str]:
    """Read the sweeps of the package.

    Returns
    -------
    dict of str
        YAML text by name.
    """
    files_ = sorted(_EXPERIMENTS.iterdir(), key=lambda path: path.name)
    return {p.name.removesuffix(".yaml"): p.read_text(encoding="utf-8") for p in files_}


def load_config(source: str | Path = DEFAULT, overrides: Sequence[str] = ()) -> Config:
    """Load settings from a preset, a YAML file or a run directory.

    Parameters
    ----------
    source : str or Path
        Name of a preset, path of a YAML file, or of a run directory.
    overrides : sequence of str
        Changes, each ``section.key=value``.

    Returns
    -------
    Config
        The settings.

    Raises
    ------
    UserError
        If the source does not exist, a key is unknown or a value not allowed.

    Examples
    --------
    >>> load_config("deep50", ["training.epochs=3"]).training.epochs
    3
    """
    text, where = _read(source)
    changes = dict(read_override(override) for override in overrides)
    origin = f"{where} with {' '.join(overrides)}" if overrides else where
    return with_absolute_background(_changed(text, changes, where, origin), Path(where).parent)


def change_config(source: str | Path, changes: Mapping[str, Any], *, where: str) -> Config:
    """Load settings and change values by their dotted keys.

    Parameters
    ----------
    source : str or Path
        Name of a preset, path of a YAML file, or of a run directory.
    changes : mapping
        Values by key, ``section.key``.
    where : str
        Where the changes are from, for the message of an error.

    Returns
    -------
    Config
        The settings.

    Raises
    ------
    UserError
        If the source does not exist, a key is unknown or a value not allowed.
    """
    text, origin = _read(source)
    return with_absolute_background(_changed(text, changes, origin, where), Path(origin).parent)


def _changed(text: str, changes: Mapping[str, Any], origin: str, where: str) -> Config:
    settings = parse_yaml(text, where=origin)
    if not isinstance(settings, dict):
        return from_yaml(text, where=origin)
    for key, value in changes.items():
        _put(settings, key, value, where)
    return make_config(settings, where=where)


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if str(source) in presets():  # a folder of that name is ./NAME
        return preset_yaml(str(source)), str(source)
    if path.is_dir():
        path /= "config.yaml"
        if not path.is_file():
            raise UserError(f"{source}: not a run directory (it holds no config.yaml)")
    if path.suffix.lower() not in (".yaml", ".yml") and not path.is_file():
        return preset_yaml(str(source)), str(source)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from None


def read_override(override: str) -> tuple[str, Any]:
    """Parse an override.

    Parameters
    ----------
    override : str
        ``section.key=value``.

    Returns
    -------
    key : str
        The dotted key.
    value : Any
        The value, as YAML has it.

    Raises
    ------
    UserError
        If it is not of that form.
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override}: not an override; write section.key=value")
    return key, parse_value(value, where=override)


def _put(settings: dict[str, Any], key: str, value: Any, where: str) -> None:
    *sections, last = key.split(".")
    if not sections and last in Config.model_fields and last != "name":
        raise UserError(f"{where}: {last} is a section; write {last}.key=value")
    if not sections and last != "name":
        raise UserError(f"{where}: {last}: no such key{_full_key(last)}")
    values = settings
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{where}: {key}: {section} is not a section")
    values[last] = value


def _full_key(name: str) -> str:
    known = [
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    ]
    close = [key for key in known if key.endswith(f".{name}")]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "; write section.key=value"
