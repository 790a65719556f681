"""Where a configuration comes from: a preset, a YAML file, a run, and overrides upon it."""

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
    parse_value,
    parse_yaml,
    with_absolute_background,
)
from tonesieve.errors import UserError

DEFAULT = "sieve"
# What comes with the package for recordings and streams; the default there.
PRETRAINED = "pretrained"
# What `extractors.filters.registry` builds, by name only: to show them costs no SciPy.
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
    """Names of the shipped presets, the default first.

    Example:
        >>> presets()[0]
        'sieve'
    """
    names = sorted(p.name.removesuffix(".yaml") for p in _FOLDER.iterdir())
    return [DEFAULT, *(name for name in names if name != DEFAULT)]


def preset_yaml(name: str) -> str:
    """A preset as YAML text, comments and all; raises `UserError` for an unknown name."""
    if name not in presets():
        close = difflib.get_close_matches(name, presets(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(presets())}"
        raise UserError(f"{name}: no such preset; {hint}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def summary(text: str) -> str:
    """The comment at the head of a shipped file, as one line."""
    lines = text.splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.removeprefix("#").strip() for line in head)


def shipped_experiments() -> dict[str, str]:
    """The shipped sweeps: their YAML texts by name."""
    files_ = sorted(_EXPERIMENTS.iterdir(), key=lambda path: path.name)
    return {p.name.removesuffix(".yaml"): p.read_text(encoding="utf-8") for p in files_}


def load_config(source: str | Path = DEFAULT, overrides: Sequence[str] = ()) -> Config:
    """The settings that ``source`` names, with ``key=value`` overrides applied.

    ``source`` is a preset's name, a YAML file, or a run directory. Raises `UserError` where it is
    none of these, or a key or value is wrong.

    Example:
        >>> load_config("deep50", ["training.epochs=3"]).training.epochs
        3
    """
    text, where = _read(source)
    changes = dict(read_override(override) for override in overrides)
    told = f"{where} with {' '.join(overrides)}" if overrides else where
    return with_absolute_background(_changed(text, changes, where, told), Path(where).parent)


def change_config(source: str | Path, changes: Mapping[str, Any], *, where: str) -> Config:
    """The settings that ``source`` names, with values put under dotted keys.

    ``where`` says where the changes stand, for the `UserError` of a wrong one.
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
    """Key and value of a ``section.key=value``."""
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
    place = settings
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise UserError(f"{where}: {key}: {section} is not a section")
    place[last] = value


def _full_key(name: str) -> str:
    whole = [
        f"{section}.{key}"
        for section, field in Config.model_fields.items()
        for key in getattr(field.annotation, "model_fields", {})
    ]
    close = [key for key in whole if key.endswith(f".{name}")]
    close = close or difflib.get_close_matches(name, whole, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else "; write section.key=value"
