"""All settings of a run, checked together, lossless to and from YAML."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from tonesieve.config.base import Settings
from tonesieve.config.parsing import SECTIONS, explain, parse_yaml
from tonesieve.config.schema import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
    TrainingSettings,
    VisualisationSettings,
)
from tonesieve.errors import UserError

# Sections of the settings that the result of a training depends on.
TRAINED = ("data", "model", "training")
# Guard against cost, which grows with the cube of the number of tones of a bank.
MAX_BANK_TONES = 8


class Config(Settings):
    """All settings of a run.

    Attributes
    ----------
    name : str
        Name of the run.
    data : DataSettings
        The input signal.
    model : ModelSettings
        The network.
    training : TrainingSettings
        How the network is trained.
    evaluation : EvaluationSettings
        How it is evaluated.
    visualisation : VisualisationSettings
        What the figures show.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "tonesieve"
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    visualisation: VisualisationSettings = VisualisationSettings()

    @property
    def stateful(self) -> bool:
        """Whether the network takes one sample a step and carries its state (L=1)."""
        return self.model.window == 1

    @property
    def stride(self) -> int:
        """Samples between two inputs of one lane; B for strided lanes, else 1."""
        strided = self.stateful and self.training.lanes == "strided"
        return self.training.batch_size if strided else 1

    @property
    def own_records(self) -> bool:
        """Whether every lane draws records of its own (fresh noise)."""
        contiguous = self.training.lanes == "contiguous"
        return self.stateful and contiguous and self.data.noise == "fresh"

    @property
    def n_record(self) -> int:
        """Samples of one training record."""
        record_s = self.training.record_s if self.own_records else None
        return self.data.n_samples if record_s is None else round(record_s * self.data.rate_hz)

    @property
    def prefetches(self) -> bool:
        """Whether a separate thread draws the batches in advance."""
        return self.data.noise == "fresh"

    @property
    def shuffled(self) -> bool:
        """Whether training rows or windows are in random order."""
        return (not self.stateful) if self.training.shuffle is None else self.training.shuffle

    @property
    def n_rows(self) -> int:
        """Rows (L=1) or windows of stride 1 (L>1) of one component in a record."""
        return self.data.n_samples - self.model.window + 1

    @property
    def n_train(self) -> int:
        """Rows or windows, from the start, that are trained on; the rest validate."""
        fraction = 1 - self.training.validation_fraction
        return math.floor(self.n_rows * fraction + 1e-9)  # 0.9 of 1,000 is 900, not 899.99...

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
        if model.kind == "bank" and data.n_components > MAX_BANK_TONES:
            raise ValueError(
                f"model.kind: a bank separates at most {MAX_BANK_TONES} tones, and "
                f"data.frequencies_hz has {data.n_components}"
            )
        if training.devices > training.batch_size:
            raise ValueError(
                f"training.devices: {training.devices} for batches of {training.batch_size}; "
                "choose at most that"
            )
        self._check_training_rows()
        self._check_positions()
        self._check_teacher()
        return self

    def _check_teacher(self) -> None:
        """Refuse settings of the teacher and the balance that would be ignored."""
        data, training = self.data, self.training
        separate = self.own_records or not self.stateful
        if training.teacher != "none":
            if data.noise != "fresh":
                raise ValueError(
                    "training.teacher: is for fresh noise; set data.noise: fresh, or teacher: none"
                )
            if data.background is not None:
                raise ValueError(
                    "training.teacher: the posterior mean is not known for a recording's noise; "
                    "set teacher: none"
                )
            if not separate:
                raise ValueError(
                    "training.teacher: is for windows, and for lanes with records of their own; "
                    "set data.noise: fresh and training.lanes: contiguous, or teacher: none"
                )
            if data.regime == "locked" and data.start != "random":
                raise ValueError(
                    "training.teacher: does not use the start; set data.start: random, or "
                    "teacher: none"
                )
            if self.model.taps or self.model.bidirectional:
                raise ValueError(
                    "training.teacher: is causal, and the model observes later samples (taps, "
                    "bidirectional); set teacher: none"
                )
        if training.balance == "tone" and not (self.own_records and data.noise == "fresh"):
            raise ValueError(
                "training.balance: tone is for lanes with records of their own (data.noise: fresh, "
                "training.lanes: contiguous, model.window: 1); set those, or balance: none"
            )
        if training.balance == "age" and not separate:
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

    def _check_training_rows(self) -> None:
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

    Parameters
    ----------
    settings : mapping
        Sections of settings; omitted keys have their defaults.
    where : str
        Where they are from, for the message of an error.

    Returns
    -------
    Config
        The settings.

    Raises
    ------
    UserError
        If a key is unknown or a value not allowed; the message states what is allowed.
    """
    if not isinstance(settings, dict):
        raise UserError(f"{where}: must be a mapping with sections {', '.join(SECTIONS)}")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        reasons = [explain(e, Config) for e in error.errors(include_url=False)]
        more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
        raise UserError(f"{where}: {'; '.join(reasons[:3])}{more}") from None


def from_yaml(text: str, *, where: str = "configuration") -> Config:
    """Read a `Config` from YAML text.

    Parameters
    ----------
    text : str
        YAML text.
    where : str
        Where it is from, for the message of an error.

    Returns
    -------
    Config
        The settings.

    Raises
    ------
    UserError
        If the text is not YAML, and as `make_config` does.
    """
    return make_config(parse_yaml(text, where=where), where=where)


def with_absolute_background(config: Config, folder: Path) -> Config:
    """Make the path of a background absolute.

    Parameters
    ----------
    config : Config
        Settings, with a background or without.
    folder : Path
        Folder that a relative path is relative to.

    Returns
    -------
    Config
        The settings with the absolute path.
    """
    background = config.data.background
    if background is None:
        return config
    return with_background(config, str(folder.resolve() / background.file))


def with_relative_background(config: Config) -> Config:
    """Reduce the path of a background to its file name.

    Parameters
    ----------
    config : Config
        Settings, with a background or without.

    Returns
    -------
    Config
        The settings as they are saved in the folder of the background.
    """
    background = config.data.background
    return config if background is None else with_background(config, Path(background.file).name)


def with_background(config: Config, file: str) -> Config:
    """Replace the path of a background.

    Parameters
    ----------
    config : Config
        Settings with a background.
    file : str
        The new path.

    Returns
    -------
    Config
        The settings with that path.
    """
    assert config.data.background is not None
    background = config.data.background.model_copy(update={"file": file})
    data = config.data.model_copy(update={"background": background})
    return config.model_copy(update={"data": data})


def to_yaml(settings: Config | DataSettings) -> str:
    """Write settings as YAML text, every key with its value.

    Parameters
    ----------
    settings : Config or DataSettings
        The settings.

    Returns
    -------
    str
        YAML text; `from_yaml` restores the settings from it exactly.
    """
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
