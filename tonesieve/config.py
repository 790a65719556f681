"""The settings of a run: validated on creation, lossless to and from YAML.

SPEC, section 7, names the keys. Units are suffixes; a key without one has no unit.
"""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from tonesieve.errors import UserError

Positive = Annotated[float, Field(gt=0, le=1e12)]  # bounds that keep arithmetic finite
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Decibels = Annotated[float, Field(ge=-300, le=300)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML's yes and on are booleans, and a boolean would count as 1.
        if isinstance(value, bool) and "bool" not in str(cls.model_fields[info.field_name or ""]):
            raise ValueError(f"must not be {str(value).lower()}")
        return value


class DataSettings(_Settings):
    """What goes in: the tones, their jitter, and the noise upon them."""

    frequencies_hz: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=64)] = (
        1.0,
        3.0,
        5.0,
        7.0,
    )
    phases_rad: tuple[float, ...] | None = None  # start phases of the locked regime; None: all 0
    rate_hz: Positive = 1000.0
    duration_s: Positive = 10.0
    phase_scale: NotNegative = 0.01
    amplitude_range: tuple[NotNegative, NotNegative] = (0.8, 1.2)
    train_seed: Seed = 1
    test_seed: Seed = 2
    regime: Literal["locked", "free"] = "locked"
    start: Literal["fixed", "random"] = "fixed"
    noise: Literal["frozen", "fresh"] = "frozen"
    # Everything below is off by default.
    snr_db: Decibels | None = None  # white noise: power of the mixture over its own
    pink_snr_db: Decibels | None = None  # 1/f^pink_exponent noise, likewise
    pink_exponent: Annotated[float, Field(ge=0, le=4)] = 1.0
    impulse_rate_hz: NotNegative = 0.0  # impulses a second, on average
    impulse_size: Positive = 10.0  # their standard deviation, in RMS of the mixture
    clip_level: Positive | None = None  # the mixture is cut off at +- this value
    gap_fraction: Share = 0.0  # share of samples lost
    gap_s: Positive = 0.1  # mean length of a gap
    frequency_drift: Annotated[float, Field(ge=0, le=0.1)] = 0.0  # s.d., relative to each tone
    drift_time_s: Positive = 30.0  # time in which a frequency forgets where it was

    @property
    def n_samples(self) -> int:
        """Samples in one record."""
        return round(self.duration_s * self.rate_hz)

    @property
    def n_components(self) -> int:
        """Tones in the mixture."""
        return len(self.frequencies_hz)

    @property
    def start_phases_rad(self) -> tuple[float, ...]:
        """Start phase of every tone in the locked regime, rad."""
        return self.phases_rad or (0.0,) * self.n_components

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for f in self.frequencies_hz:
            if f >= self.rate_hz / 2:
                raise ValueError(
                    f"frequencies_hz: {f:g} Hz is at or above half the rate "
                    f"({self.rate_hz / 2:g} Hz); choose lower ones or a higher rate_hz"
                )
        if len(set(self.frequencies_hz)) < self.n_components:
            raise ValueError("frequencies_hz: the same frequency twice; each must differ")
        if self.phases_rad is not None and len(self.phases_rad) != self.n_components:
            raise ValueError(
                f"phases_rad: {len(self.phases_rad)} phases for {self.n_components} "
                "frequencies; give one for each"
            )
        low, high = self.amplitude_range
        if low > high or high == 0:
            raise ValueError("amplitude_range: must be [low, high] with 0 <= low <= high, high > 0")
        if not 2 <= self.n_samples <= 10**8:
            raise ValueError(
                f"duration_s: {self.duration_s:g} s at {self.rate_hz:g} Hz are {self.n_samples} "
                "samples; a record has 2 to 1e8"
            )
        return self


class ModelSettings(_Settings):
    """The network."""

    kind: Literal["lstm"] = "lstm"
    hidden_size: Annotated[int, Field(ge=1, le=8192)] = 64
    n_layers: Annotated[int, Field(ge=1, le=16)] = 1
    dropout: Share = 0.0  # between layers
    readout_dropout: Share = 0.0  # before the readout
    selector: Literal["input", "readout", "initial_state", "none"] = "input"
    window: Annotated[int, Field(ge=1, le=100_000)] = 1  # L; 1: stateful
    taps: Annotated[int, Field(ge=0, le=64)] = 0  # neighbours on each side; 2: S[n-2..n+2]
    scale_input: bool = False  # S brought to unit variance


class TrainingSettings(_Settings):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1)] = 50
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32  # windows, or lanes at L=1
    learning_rate: Positive = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = 1.0
    schedule: Literal["constant", "plateau", "step", "cosine"] = "constant"
    schedule_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5  # plateau, step
    schedule_epochs: Annotated[int, Field(ge=1)] = 5  # plateau: patience; step: the epoch
    patience: Annotated[int, Field(ge=1)] | None = 10  # early stopping; None: never
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    # How many of them share every batch, a process each. The result is that of one, up to
    # rounding; only dropout draws differently, in every process for itself.
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    # CPU threads a process; None: PyTorch's own choice. Networks of this size gain little from a
    # second one, and threads that wait for each other crawl as soon as the machine is busy.
    n_threads: Annotated[int, Field(ge=1, le=1024)] | None = 1
    max_seconds: Positive | None = None
    positions: Literal["all", "last"] = "all"  # windows: sequence to sequence, or to value
    shuffle: bool | None = None  # None: windows yes, rows no
    lanes: Literal["strided", "contiguous"] = "contiguous"  # L=1
    order: Literal["blocks", "interleaved"] = "blocks"  # L=1
    interleave_samples: Annotated[int, Field(ge=1)] = 200
    chunk_samples: Annotated[int, Field(ge=1)] = 100  # L=1: steps of truncated backpropagation
    state_reset: Literal["component", "epoch"] = "component"  # L=1
    record_s: Positive | None = None  # L=1, fresh noise: length of a training record


class EvaluationSettings(_Settings):
    """How the network is judged."""

    gap_threshold: Positive = 0.1
    join: Literal["last", "mean"] = "last"  # how windows become an estimate
    shifted_records: Annotated[int, Field(ge=2)] = 32  # records with random start
    settle_s: NotNegative = 1.0  # start-up, left out of settled figures


class VisualisationSettings(_Settings):
    """What the pictures show."""

    component: Annotated[int, Field(ge=0)] = 0  # index into data.frequencies_hz
    samples: Annotated[int, Field(ge=2)] = 1000
    dpi: Annotated[int, Field(ge=20, le=1200)] = 150


class Config(_Settings):
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
        if model.selector == "initial_state" and training.state_reset == "epoch" and self.stateful:
            raise ValueError(
                "training.state_reset: a selector in the initial state is lost when the state "
                "is never reset; use state_reset: component"
            )
        if training.devices > training.batch_size:
            raise ValueError(
                f"training.devices: {training.devices} for batches of {training.batch_size}; "
                "choose at most that"
            )
        self._check_training_stretches()
        self._check_positions()
        return self

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
        reasons = [_explain(e) for e in error.errors(include_url=False)]
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


def to_yaml(settings: Config | DataSettings) -> str:
    """Write settings as YAML text, every key with its value."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


_SECTIONS = ("data", "model", "training", "evaluation", "visualisation")


def _explain(error: ErrorDetails) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{path}: no such key{_suggestion(error['loc'])}"
    if error["type"] == "value_error":
        reason = error["msg"].removeprefix("Value error, ")
        # A section's own checks begin with the key; a key's own checks do not.
        return f"{path}{'.' if path in _SECTIONS else ': '}{reason}" if path else reason
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _suggestion(loc: tuple[int | str, ...]) -> str:
    section: Any = Config
    for part in loc[:-1]:
        section = section.model_fields[str(part)].annotation
    close = difflib.get_close_matches(str(loc[-1]), section.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(section.model_fields)}"
