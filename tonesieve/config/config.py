"""All settings of a run, their agreement with each other, lossless to and from YAML."""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tonesieve.config.schema import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
    VisualisationSettings,
)
from tonesieve.errors import UserError

# Sections of the settings that a training follows from.
TRAINED = ("data", "model", "training")
# Tones that a bank takes: the work grows with the cube of their number.
MOST_IN_BANK = 8


class Config(Settings):
    """All settings of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "tonesieve"
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    visualisation: VisualisationSettings = VisualisationSettings()

    @property
    def stateful(self) -> bool:
        """Whether one sample goes in per step and the state is carried (L=1)."""
        return self.model.window == 1

    @property
    def stride(self) -> int:
        """Samples between two inputs of one lane: lanes of a strided model see every B-th."""
        strided = self.stateful and self.training.lanes == "strided"
        return self.training.batch_size if strided else 1

    @property
    def own_records(self) -> bool:
        """Whether every lane draws records of its own (fresh noise), not rows of a shared one."""
        contiguous = self.training.lanes == "contiguous"
        return self.stateful and contiguous and self.data.noise == "fresh"

    @property
    def n_record(self) -> int:
        """Samples of one training record."""
        record_s = self.training.record_s if self.own_records else None
        return self.data.n_samples if record_s is None else round(record_s * self.data.rate_hz)

    @property
    def prefetches(self) -> bool:
        """Whether a thread of its own draws the batches, so that nothing waits for them."""
        return self.data.noise == "fresh"

    @property
    def shuffled(self) -> bool:
        """Whether training rows or windows come in random order."""
        return (not self.stateful) if self.training.shuffle is None else self.training.shuffle

    @property
    def n_rows(self) -> int:
        """Rows (L=1) or windows of stride 1 (L>1) that one component has in a record."""
        return self.data.n_samples - self.model.window + 1

    @property
    def n_train(self) -> int:
        """How many of them, from the start, are trained on; the rest validate."""
        share = 1 - self.training.validation_fraction
        return math.floor(self.n_rows * share + 1e-9)  # 0.9 of 1,000 is 900, not 899.99...

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        data, model, training = self.data, self.model, self.training
        if model.window > data.n_samples:
            raise ValueError(
                f"model.window: {model.window} is longer than the record "
                f"({data.n_samples} samples); choose at most that"
            )
        if 2 * model.taps >= data.n_samples:
            raise ValueError(f"model.taps: {model.taps} on each side is longer than the record")
        if self.visualisation.component >= data.n_components:
            raise ValueError(
                f"visualisation.component: {self.visualisation.component} is not among the "
                f"{data.n_components} components; choose 0 to {data.n_components - 1}"
            )
        size = model.size(data.n_components)
        heads = model.kind == "transformer" or model.attention == "heads"
        if heads and size % model.n_heads:
            raise ValueError(
                f"model.n_heads: {model.n_heads} heads cannot share a hidden_size of {size}"
            )
        if model.selector == "initial_state" and training.state_reset == "epoch" and self.stateful:
            raise ValueError(
                "training.state_reset: a selector in the initial state is lost when the state "
                "is never reset; use state_reset: component"
            )
        if model.kind == "bank" and data.n_components > MOST_IN_BANK:
            raise ValueError(
                f"model.kind: a bank tells at most {MOST_IN_BANK} tones apart, and "
                f"data.frequencies_hz has {data.n_components}"
            )
        if training.devices > training.batch_size:
            raise ValueError(
                f"training.devices: {training.devices} for batches of {training.batch_size}; "
                "choose at most that"
            )
        self._check_training_stretches()
        self._check_positions()
        self._check_teaching()
        return self

    def _check_teaching(self) -> None:
        """Settings that would be passed over in silence are refused."""
        data, training = self.data, self.training
        own = self.own_records or not self.stateful
        if training.teacher != "none":
            if data.noise != "fresh":
                raise ValueError(
                    "training.teacher: is for fresh noise; set data.noise: fresh, or teacher: none"
                )
            if data.background is not None:
                raise ValueError(
                    "training.teacher: no best estimate is known in a recording's noise; "
                    "set teacher: none"
                )
            if not own:
                raise ValueError(
                    "training.teacher: is for windows, and for lanes with records of their own; "
                    "set data.noise: fresh and training.lanes: contiguous, or teacher: none"
                )
            if data.regime == "locked" and data.start != "random":
                raise ValueError(
                    "training.teacher: knows no start; set data.start: random, or teacher: none"
                )
            if self.model.taps or self.model.bidirectional:
                raise ValueError(
                    "training.teacher: answers from the samples so far, and the model sees later "
                    "ones (taps, bidirectional); set teacher: none"
                )
        if training.balance == "tone" and not (self.own_records and data.noise == "fresh"):
            raise ValueError(
                "training.balance: tone is for lanes with records of their own (data.noise: fresh, "
                "training.lanes: contiguous, model.window: 1); set those, or balance: none"
            )
        if training.balance == "age" and not own:
            raise ValueError(
                "training.balance: is for lanes with records of their own (data.noise: fresh, "
                "training.lanes: contiguous) and for windows; set those, or balance: none"
            )
        if training.balance == "age" and training.positions == "last":
            raise ValueError(
                "training.balance: one position has one age; use positions: all, or balance: none"
            )

    def _check_positions(self) -> None:
        training = self.training
        if training.positions == "last" and self.stateful:
            raise ValueError("training.positions: last is for windows; use all with window 1")
        if training.positions == "last" and self.evaluation.join == "mean":
            raise ValueError(
                "evaluation.join: the mean over windows needs all positions trained; use last"
            )

    def _check_training_stretches(self) -> None:
        data, training = self.data, self.training
        if training.record_s is not None and round(training.record_s * data.rate_hz) < 2:
            raise ValueError("training.record_s: shorter than 2 samples; choose more")
        if data.noise == "frozen" and not 0 < self.n_train < self.n_rows:
            raise ValueError(
                f"training.validation_fraction: {training.validation_fraction:g} of "
                f"{self.n_rows} rows or windows a component leaves none to train on or none to "
                "validate on"
            )
        if self.stateful and not self.own_records and training.batch_size > self.n_train:
            raise ValueError(
                f"training.batch_size: {training.batch_size} lanes for {self.n_train} training "
                "rows a component; choose fewer"
            )


def make_config(settings: Any, *, where: str = "configuration") -> Config:
    """Build a `Config` from nested plain values.

    Raises `UserError` that names the key, what is wrong with it and what would be right.
    """
    if not isinstance(settings, dict):
        raise UserError(f"{where}: must be a mapping with sections {', '.join(_SECTIONS)}")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        reasons = [explain(e, Config) for e in error.errors(include_url=False)]
        more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
        raise UserError(f"{where}: {'; '.join(reasons[:3])}{more}") from None


def from_yaml(text: str, *, where: str = "configuration") -> Config:
    """Read a `Config` from YAML text; raises `UserError` as `make_config` does."""
    return make_config(parse_yaml(text, where=where), where=where)


def parse_yaml(text: str, *, where: str) -> Any:
    """Plain values from a YAML file's text; an empty text is an empty mapping."""
    values = parse_value(text, where=where)
    return {} if values is None else values


def parse_value(text: str, *, where: str) -> Any:
    """One plain value from YAML text; an empty text is None."""
    try:
        return yaml.load(text, _StrictLoader)  # a safe loader that also refuses repeated keys
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not YAML: {str(error)[:200]}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not YAML: {getattr(error, 'problem', error)}") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML's plain types; a key given twice is a mistake, not a choice of the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice!r} stands twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def with_absolute_background(config: Config, folder: Path) -> Config:
    """The settings with a background's file where it lies: a relative name is of this folder."""
    background = config.data.background
    if background is None:
        return config
    return with_background(config, str(folder.resolve() / background.file))


def with_relative_background(config: Config) -> Config:
    """The settings with a background's bare name, as they stand in the folder that holds it."""
    background = config.data.background
    return config if background is None else with_background(config, Path(background.file).name)


def with_background(config: Config, file: str) -> Config:
    """The settings with their background in another file."""
    assert config.data.background is not None
    background = config.data.background.model_copy(update={"file": file})
    data = config.data.model_copy(update={"background": background})
    return config.model_copy(update={"data": data})


def to_yaml(settings: Config | DataSettings) -> str:
    """Write settings as YAML text, every key with its value."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


_TYPE = re.compile(r"constrained-\w+|int|float|(literal|list|tuple|dict)\[.*\]")
_SECTIONS = ("data", "model", "training", "evaluation", "visualisation")


def explain(error: ErrorDetails, root: type[BaseModel]) -> str:
    """What is wrong with a key, in words, and what would be right."""
    # Where several types would do, pydantic names each in the path.
    parts = [str(part) for part in error["loc"]]
    path = ".".join(part for part in parts if not _TYPE.fullmatch(part))
    if error["type"] == "extra_forbidden":
        return f"{path}: no such key{_suggestion(error['loc'], root)}"
    if error["type"] == "value_error":
        reason = error["msg"].removeprefix("Value error, ")
        # A section's own checks begin with the key; a key's own checks do not.
        return f"{path}{'.' if path in _SECTIONS else ': '}{reason}" if path else reason
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _suggestion(loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    section: Any = root
    for part in loc[:-1]:
        field = getattr(section, "model_fields", {}).get(str(part))
        section = getattr(field, "annotation", None)
    known = getattr(section, "model_fields", {})
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
