"""The plan of a sweep, and its runs.

A *point* is one combination of the varied settings, under a label; with every seed it is one run.
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

from tonesieve.config.base import Seed, Settings
from tonesieve.config.config import Config
from tonesieve.config.parsing import explain, parse_yaml
from tonesieve.config.presets import change_config, shipped_experiments
from tonesieve.errors import UserError

Changes = dict[str, Any]
# YAML parses 64: as a number; as a label it is text.
Label = Annotated[str, BeforeValidator(str)]
# Settings that a sweep sets itself.
RESERVED = ("name", "training.seed")


class Dimension(Settings):
    """One of several values, or a number of a closed interval."""

    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _choice_or_range(self) -> Self:
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
        """All choices, or both ends of the interval."""
        if self.choice is not None:
            return self.choice
        return tuple(int(x) if self.integer else x for x in (self.low, self.high) if x is not None)

    def draw(self, random: Random) -> Any:
        """Draw a value."""
        if self.choice is not None:
            return random.choice(self.choice)
        low, high = self.extremes
        return random.randint(low, high) if self.integer else random.uniform(low, high)


class Search(Settings):
    """Space and method of a search by Optuna."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1)] = 40
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "halving", "none"] = "median"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    # Networks that take longer, microseconds a sample, are pruned before training.
    most_us_per_sample: Annotated[float, Field(gt=0)] | None = None


class Plan(Settings):
    """The contents of a sweep's file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    base: str = "sieve"  # a preset, a YAML file beside this one, or a run directory
    settings: Changes = Field(default_factory=dict)  # for every run, by dotted keys
    # Values by dotted key; all combinations are run.
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    variants: dict[Label, Changes] = Field(default_factory=dict)  # sets of changes by name
    search: Search | None = None
    seeds: Annotated[int, Field(ge=1, le=10_000)] | Annotated[list[Seed], Field(min_length=1)] = 1
    # Number of seeds of points that take long; the first ones are used.
    seeds_of: dict[Label, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    metric: str = "shifted_mse"  # column of the results that is plotted, or minimised
    # Metrics that a source states, by point and column.
    claims: dict[Label, dict[str, float]] = Field(default_factory=dict)
    cut: str = ""  # how the runs are shorter than the source's; shown under the table

    @property
    def seed_list(self) -> list[int]:
        """Training seeds of every point."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("grid", "variants", "search") if getattr(self, name)]
        if not given:
            raise ValueError("nothing varies; give grid, variants or search")
        if "search" in given and len(given) > 1:
            raise ValueError(f"search: cannot be combined with {given[0]}, which lists its runs")
        if self.search and len(self.seed_list) > 1:
            raise ValueError("seeds: a search has one")
        if self.search and self.seeds_of:
            raise ValueError("seeds_of: a search has no points by name")
        most = len(self.seed_list)
        label = next((label for label, n in self.seeds_of.items() if n > most), None)
        if label is not None:
            raise ValueError(f"seeds_of.{label}: {self.seeds_of[label]}; there are {most} seeds")
        for name, keys in self._keys():
            reserved = next((key for key in keys if key in RESERVED), None)
            if reserved is not None:
                raise ValueError(
                    f"{name}.{reserved}: is set by the sweep; see its keys name and seeds"
                )
        return self

    def _keys(self) -> list[tuple[str, Iterable[str]]]:
        """Sections that change settings, and the keys they change."""
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
        """Name of its folder."""
        return f"{slug(self.label)}-seed{self.seed}"


def read_plan(source: str | Path) -> tuple[Plan, str | Path]:
    """Read the plan of a sweep.

    Parameters
    ----------
    source : str or Path
        Path of a YAML file, or name of a sweep of the package.

    Returns
    -------
    plan : Plan
        The plan.
    base : str or Path
        Its base; a path is relative to the plan's folder.

    Raises
    ------
    UserError
        If the file does not exist or is not a valid plan.
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
    path = Path(where).parent / plan.base
    return plan, (path if path.exists() else plan.base)


def points_of(plan: Plan, base: str | Path, *, where: str) -> list[Point]:
    """List the runs of a grid or of variants, the first seed of all points first.

    Parameters
    ----------
    plan : Plan
        The plan.
    base : str or Path
        Its base.
    where : str
        Where the plan is from, for the message of an error.

    Returns
    -------
    list of Point
        The runs.

    Raises
    ------
    UserError
        If the settings of a run are invalid.
    """
    labelled = _labelled(plan, where)
    points = [
        Point(label, varied, seed, configure(plan, base, varied, seed, where=f"{where}: {label}"))
        for number, seed in enumerate(plan.seed_list)
        for label, varied in labelled.items()
        if number < plan.seeds_of.get(label, len(plan.seed_list))
    ]
    names = [point.name for point in points]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"{where}: two points would share the folder {repeated}; rename one")
    for key in ("seeds_of", "claims"):
        unknown = next((label for label in getattr(plan, key) if label not in labelled), None)
        if unknown is not None:
            raise UserError(f"{where}: {key}: {unknown}: no such point; {', '.join(labelled)}")
    return points


def configure(
    plan: Plan, base: str | Path, varied: Mapping[str, Any], seed: int, *, where: str
) -> Config:
    """Build the settings of one run."""
    reserved = {"name": plan.name, "training.seed": seed}
    return change_config(base, {**plan.settings, **reserved, **varied}, where=where)


def slug(label: str) -> str:
    """Convert a label to the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.+=_-]+", "-", label)


def plan_yaml(plan: Plan) -> str:
    """Write a plan as YAML text, every key with its value."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _labelled(plan: Plan, where: str) -> dict[Label, Changes]:
    """Points of the variants and the grid; all combinations if both are given."""
    rows = itertools.product(*plan.grid.values())
    grid = [dict(zip(plan.grid, values, strict=True)) for values in rows]
    result: dict[Label, Changes] = {}
    for name, changes in (plan.variants or {"": {}}).items():
        for cell in grid:
            words = [name] if name else []
            words += [str(value) for value in cell.values()]
            label = ", ".join(words)
            if label in result:
                raise UserError(f"{where}: two points would be called {label}; remove one")
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
