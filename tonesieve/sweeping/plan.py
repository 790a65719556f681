"""A sweep's file, and the runs that it asks for.

A *point* is one setting of what varies, under a label; with every seed it is one run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from tonesieve.config.config import Config
from tonesieve.config.parsing import explain, parse_yaml
from tonesieve.config.presets import change_config, shipped_experiments
from tonesieve.config.base import Seed, Settings
from tonesieve.errors import UserError

Changes = dict[str, Any]
# YAML reads 64: as a number; as a label it is text.
Label = Annotated[str, BeforeValidator(str)]
# What a sweep sets itself.
OWN = ("name", "training.seed")


class Dimension(Settings):
    """One of several values, or a number between two others, both among them."""

    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.choice is None) == (self.low is None or self.high is None):
            raise ValueError("give either choice, or low and high")
        if self.low is not None and self.high is not None:
            if self.low >= self.high:
                raise ValueError(f"low: {self.low:g} is not below high ({self.high:g})")
            if self.log and self.low <= 0:
                raise ValueError(f"low: {self.low:g}; on a logarithmic scale it must be above 0")
        return self

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Every choice, or both ends."""
        if self.choice is not None:
            return self.choice
        return tuple(int(x) if self.integer else x for x in (self.low, self.high) if x is not None)

    def draw(self, random: Random) -> Any:
        """One of its values."""
        if self.choice is not None:
            return random.choice(self.choice)
        low, high = self.extremes
        return random.randint(low, high) if self.integer else random.uniform(low, high)


class Search(Settings):
    """What Optuna is to look for, and where."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1)] = 40
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "halving", "none"] = "median"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    # Refused before training where the untrained network takes longer a sample.
    most_us_per_sample: Annotated[float, Field(gt=0)] | None = None


class Plan(Settings):
    """A sweep as its file has it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    base: str = "sieve"  # a preset, a YAML file beside this one, or a run directory
    settings: Changes = Field(default_factory=dict)  # for every run, by dotted keys
    # Values by dotted key.
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    variants: dict[Label, Changes] = Field(default_factory=dict)  # bundles of changes by name
    search: Search | None = None
    seeds: Annotated[int, Field(ge=1, le=10_000)] | Annotated[list[Seed], Field(min_length=1)] = 1
    # Points that get fewer seeds, the first ones: those that take long.
    seeds_of: dict[Label, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    metric: str = "shifted_mse"  # a column of the results: what is drawn, or searched for
    # Of a source: a point's figures by column.
    claims: dict[Label, dict[str, float]] = Field(default_factory=dict)
    cut: str = ""  # what was cut against the source, said under the table

    @property
    def seed_list(self) -> list[int]:
        """The training seeds of every point."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("grid", "variants", "search") if getattr(self, name)]
        if not given:
            raise ValueError("nothing varies; give grid, variants or search")
        if "search" in given and len(given) > 1:
            raise ValueError(f"search: stands alone; {given[0]} names its runs one by one")
        if self.search and len(self.seed_list) > 1:
            raise ValueError("seeds: a search has one")
        if self.search and self.seeds_of:
            raise ValueError("seeds_of: a search has no points by name")
        most = len(self.seed_list)
        many = next((label for label, n in self.seeds_of.items() if n > most), None)
        if many is not None:
            raise ValueError(f"seeds_of.{many}: {self.seeds_of[many]}; there are {most} seeds")
        for name, keys in self._keys():
            own = next((key for key in keys if key in OWN), None)
            if own is not None:
                raise ValueError(f"{name}.{own}: is the sweep's own; see its keys name and seeds")
        return self

    def _keys(self) -> list[tuple[str, Iterable[str]]]:
        """Where settings are changed, and which."""
        variants = [(f"variants.{label}", changes) for label, changes in self.variants.items()]
        space = self.search.space if self.search else {}
        return [
            ("settings", self.settings),
            ("grid", self.grid),
            ("search.space", space),
            *variants,
        ]


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    label: Label
    varied: Changes
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{slug(self.label)}-seed{self.seed}"


def read_plan(source: str | Path) -> tuple[Plan, str | Path]:
    """A sweep from its file or a shipped one by name, and the base with its path completed.

    Raises `UserError` for a file that is not there or that asks for what cannot be.
    """
    text, where = _read(source)
    values = parse_yaml(text, where=where)
    if not isinstance(values, dict):
        raise UserError(f"{where}: must be a mapping with {', '.join(Plan.model_fields)}")
    try:
        plan = Plan.model_validate(values)
    except ValidationError as error:
        reasons = [explain(e, Plan) for e in error.errors(include_url=False)]
        raise UserError(f"{where}: {'; '.join(dict.fromkeys(reasons[:3]))}") from None
    beside = Path(where).parent / plan.base
    return plan, (beside if beside.exists() else plan.base)


def points_of(plan: Plan, base: str | Path, *, where: str) -> list[Point]:
    """Every run of a grid or of variants, the first seed of all points first.

    Raises `UserError` for settings that no run can have, before any is begun.
    """
    labelled = _labelled(plan, where)
    points = [
        Point(label, varied, seed, configure(plan, base, varied, seed, where=f"{where}: {label}"))
        for number, seed in enumerate(plan.seed_list)
        for label, varied in labelled.items()
        if number < plan.seeds_of.get(label, len(plan.seed_list))
    ]
    names = [point.name for point in points]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: two points would share the folder {twice}; rename one")
    for key in ("seeds_of", "claims"):
        unknown = next((label for label in getattr(plan, key) if label not in labelled), None)
        if unknown is not None:
            raise UserError(f"{where}: {key}: {unknown}: no such point; {', '.join(labelled)}")
    return points


def configure(
    plan: Plan, base: str | Path, varied: Mapping[str, Any], seed: int, *, where: str
) -> Config:
    """The settings of one run."""
    own = {"name": plan.name, "training.seed": seed}
    return change_config(base, {**plan.settings, **own, **varied}, where=where)


def slug(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.+=_-]+", "-", label)


def plan_yaml(plan: Plan) -> str:
    """A plan as YAML, every key with its value."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _labelled(plan: Plan, where: str) -> dict[Label, Changes]:
    """The points of variants and grid, crossed where both are given."""
    rows = itertools.product(*plan.grid.values())
    grid = [dict(zip(plan.grid, values, strict=True)) for values in rows]
    result: dict[Label, Changes] = {}
    for name, changes in (plan.variants or {"": {}}).items():
        for cell in grid:
            words = [name] if name else []
            words += [str(value) for value in cell.values()]
            label = ", ".join(words)
            if label in result:
                raise UserError(f"{where}: two points would be called {label}; one is too many")
            result[label] = {**changes, **cell}
    return result


def _read(source: str | Path) -> tuple[str, str]:
    shipped = shipped_experiments()
    if str(source) in shipped:
        return shipped[str(source)], f"{source}.yaml"
    try:
        return Path(source).read_text(encoding="utf-8"), str(source)
    except FileNotFoundError:
        raise UserError(
            f"{source}: no such file, nor a shipped sweep; there are {', '.join(shipped)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source}: cannot be read as text ({error})") from None
