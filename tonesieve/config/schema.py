"""The sections of a run's settings, each validated on creation.

SPEC, section 7, names the keys. Units are suffixes; a key without one has no unit.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Positive = Annotated[float, Field(gt=0, le=1e12)]  # bounds that keep arithmetic finite
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Decibels = Annotated[float, Field(ge=-300, le=300)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Settings(BaseModel):
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


class BackgroundSettings(Settings):
    """Noise from a recording, and the tones that are put upon it (`tonesieve run --recording`)."""

    file: Annotated[str, Field(min_length=1)]  # relative to the file that says so
    part: Literal["train", "validation", "test"] = "train"  # of the recording
    unit: Positive = 1.0  # what an RMS of 1 is in the recording
    found: tuple[NotNegative, ...] = ()  # amplitudes of its own tones, in RMS of the background
    # Tones are drawn log-uniformly from all these ranges, each [low, high].
    tone_range: tuple[Positive, Positive] = (0.1, 10.0)  # amplitude, in RMS of the background
    wander_hz: tuple[Positive, Positive] = (1e-3, 1e-1)  # s.d. of a tone's frequency
    fading: tuple[Positive, Positive] = (0.01, 0.3)  # s.d. of the logarithm of its amplitude
    change_s: tuple[Positive, Positive] = (1.0, 100.0)  # time in which both forget where they were
    # In training the noise around the tones is louder or quieter by up to so much.
    sway_db: Annotated[float, Field(ge=0, le=30)] = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("tone_range", "wander_hz", "fading", "change_s"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: must be [low, high] with low <= high")
        return self


class DataSettings(Settings):
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
    # Noise from a recording in place of all the above: it brings its own tones' amplitudes.
    background: BackgroundSettings | None = None

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
        if self.background is not None:
            self._check_background()
        low, high = self.amplitude_range
        if low > high or high == 0:
            raise ValueError("amplitude_range: must be [low, high] with 0 <= low <= high, high > 0")
        if not 2 <= self.n_samples <= 10**8:
            raise ValueError(
                f"duration_s: {self.duration_s:g} s at {self.rate_hz:g} Hz are {self.n_samples} "
                "samples; a record has 2 to 1e8"
            )
        return self

    def _check_background(self) -> None:
        if self.regime != "free" or self.noise != "fresh":
            raise ValueError("background: is for regime free and noise fresh; set both")
        others = ("snr_db", "pink_snr_db", "impulse_rate_hz", "frequency_drift")
        given = [name for name in others if getattr(self, name)]
        if given:
            raise ValueError(f"{given[0]}: a background brings its own; leave it away")


RECURRENT = ("lstm", "gru", "rnn")
# Settings that only some kinds have a use for; given to another kind, they are refused.
SUITS: dict[str, tuple[str, ...]] = {
    "bidirectional": RECURRENT,
    "attention": (*RECURRENT, "cnn-lstm", "lru"),
    "residual": (*RECURRENT, "cnn-lstm"),
    "layer_norm": (*RECURRENT, "cnn-lstm", "lru"),
    "recurrent_dropout": (*RECURRENT, "cnn-lstm"),
    "squeeze_excitation": (*RECURRENT, "cnn-lstm", "lru"),
    "channels": ("cnn-lstm",),
    "kernel_size": ("cnn-lstm", "tcn"),
    "span_penalty": ("adaptive",),
    "whitening": ("bank",),
}


class ModelSettings(Settings):
    """The network."""

    kind: Literal[
        "lstm",
        "gru",
        "rnn",
        "lru",
        "observer",
        "bank",
        "cnn-lstm",
        "multi-scale",
        "feed-forward",
        "adaptive",
        "tcn",
        "transformer",
    ] = "lstm"
    # auto: 128 for up to 4 components, 256 for up to 8, else 512
    hidden_size: Annotated[int, Field(ge=1, le=8192)] | Literal["auto"] = 64
    n_layers: Annotated[int, Field(ge=1, le=16)] = 1
    dropout: Share = 0.0  # between layers
    readout_dropout: Share = 0.0  # before the readout
    selector: Literal["input", "readout", "initial_state", "film", "none"] = "input"
    window: Annotated[int, Field(ge=1, le=100_000)] = 1  # L; 1: stateful
    taps: Annotated[int, Field(ge=0, le=64)] = 0  # neighbours on each side; 2: S[n-2..n+2]
    scale_input: bool = False  # S brought to unit variance
    # Samples, the present one among them, that attention, squeeze and excitation, a Transformer
    # layer or a feed-forward network look back over; multi-scale: the shorter window.
    # None: L, or 50 with window 1; multi-scale: 10.
    context: Annotated[int, Field(ge=2, le=100_000)] | None = None
    attention: Literal["none", "weighted", "pooled", "memory", "heads"] = "none"
    n_heads: Annotated[int, Field(ge=1, le=64)] = 4  # attention: heads; transformer
    bidirectional: bool = False  # reads each window, or the whole record, both ways
    residual: bool = False  # adds a layer's input to its output
    layer_norm: bool = False  # on every layer's output; lru: on its input
    recurrent_dropout: Share = 0.0  # one mask on the carried state, held over a whole chunk
    squeeze_excitation: bool = False  # gates the hidden units by their recent mean
    channels: Annotated[int, Field(ge=1, le=8192)] = 64  # of the convolution before an LSTM
    kernel_size: Annotated[int, Field(ge=2, le=1024)] | None = None  # None: cnn-lstm 5, tcn 3
    span_penalty: NotNegative = 0.01  # added to the loss for a learned window as long as context
    # Coefficients upon the samples before, that make the noise white when added to the present one.
    whitening: Annotated[tuple[float, ...], Field(max_length=64)] = ()
    # Learned beside the signal, from outputs of their own: which component is asked for, and its
    # quadrature (the cosine to the target's sine, which together tell the phase).
    tasks: tuple[Literal["identity", "phase"], ...] = ()
    task_weight: Positive = 0.1  # of each such loss beside the signal's

    @property
    def look_back(self) -> int:
        """What ``context`` stands for, in samples."""
        if self.context is not None:
            return self.context
        if self.kind == "multi-scale":
            return 10
        return self.window if self.window > 1 else 50

    @property
    def kernel(self) -> int:
        """What ``kernel_size`` stands for, in samples."""
        return self.kernel_size or (5 if self.kind == "cnn-lstm" else 3)

    @property
    def receptive_field(self) -> int | None:
        """Samples that an output rests on, the present one among them; None: all so far."""
        fields = {
            "feed-forward": self.look_back,
            "adaptive": self.look_back,
            "tcn": 1 + 2 * (self.kernel - 1) * (2**self.n_layers - 1),
            "transformer": 1 + self.n_layers * (self.look_back - 1),
        }
        return fields.get(self.kind)

    def size(self, n_components: int) -> int:
        """What ``hidden_size`` stands for, with so many tones in the mixture."""
        if self.hidden_size != "auto":
            return self.hidden_size
        return 128 if n_components <= 4 else 256 if n_components <= 8 else 512

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, kinds in SUITS.items():
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and self.kind not in kinds:
                raise ValueError(f"{name}: is for {', '.join(kinds)}, not for {self.kind}")
        if self.selector == "initial_state" and self.receptive_field is not None:
            raise ValueError(
                f"selector: {self.kind} has no state that could hold it; use input or readout"
            )
        if self.kind == "observer" and self.selector in ("input", "initial_state"):
            raise ValueError(
                f"selector: {self.selector} is nothing to an observer, which has all tones at "
                "once; use readout"
            )
        if self.kind == "bank" and self.selector != "readout":
            raise ValueError(
                f"selector: {self.selector} is nothing to a bank, which answers all tones at "
                "once; use readout"
            )
        if self.tasks and self.selector in ("readout", "none"):
            raise ValueError(
                f"tasks: there is no one component to tell of with selector {self.selector}; "
                "use input"
            )
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: the same one twice")
        return self


class TrainingSettings(Settings):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1)] = 50
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32  # windows, or lanes at L=1
    # An epoch ends after so many batches; None: when all rows or windows were seen.
    batches_per_epoch: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Positive = 1e-3
    # soap: Adam in the basis in which the gradients of a matrix do not correlate.
    optimizer: Literal["adam", "sgd", "soap"] = "adam"
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = 1.0
    schedule: Literal["constant", "plateau", "step", "cosine"] = "constant"
    warmup_batches: Annotated[int, Field(ge=0)] = 0  # the learning rate rises over the first ones
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
    # L=1, fresh noise: all records of that length, the lanes together; or each of its own random
    # length from a chunk to that (log-uniform), so that a batch has samples of many ages.
    record_lengths: Literal["equal", "log-uniform"] = "equal"
    # What is learned: the clean target; or the best possible estimate of it from the samples so
    # far (the posterior mean), which has the same optimum and far less variance. Fresh noise.
    teacher: Literal["none", "posterior"] = "none"
    # age: samples of every age count by how large their error is relative to others of that age,
    # so that the small errors of a settled stream are learned from as much as those at its start.
    # tone: the error of a chunk counts relative to the tone's power in it, and on a logarithmic
    # scale (the geometric mean over streams and tones), so that quiet and loud tones, hard and
    # easy stretches count alike.
    balance: Literal["none", "age", "tone"] = "none"
    balance_floor: Positive = 1e-5  # an error this small is small enough


class EvaluationSettings(Settings):
    """How the network is judged."""

    gap_threshold: Positive = 0.1
    join: Literal["last", "mean"] = "last"  # how windows become an estimate
    shifted_records: Annotated[int, Field(ge=2)] = 32  # records with random start
    settle_s: NotNegative = 1.0  # start-up, left out of settled figures


class VisualisationSettings(Settings):
    """What the pictures show."""

    component: Annotated[int, Field(ge=0)] = 0  # index into data.frequencies_hz
    samples: Annotated[int, Field(ge=2)] = 1000
    dpi: Annotated[int, Field(ge=20, le=1200)] = 150
