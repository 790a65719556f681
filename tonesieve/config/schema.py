"""The sections of a run's settings: signal, network, training, evaluation and figures.

Every section is validated on creation. The suffix of a key is its unit (``_hz``, ``_s``, ``_rad``,
``_db``); a key without one has no unit. The defaults are those of the exercise (docs/exercise.md).
The string below a key describes it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tonesieve.config.base import Decibels, Fraction, NotNegative, Positive, Seed, Settings


class BackgroundSettings(Settings):
    """Noise from a recording, and the tones that are added to it (`tonesieve run --recording`)."""

    file: Annotated[str, Field(min_length=1)]
    """File of the background, relative to the configuration's folder."""
    part: Literal["train", "validation", "test"] = "train"
    """Part of the recording that records are drawn from."""
    unit: Positive = 1.0
    """RMS of the background, in the recording's unit."""
    found: tuple[NotNegative, ...] = ()
    """Amplitudes of the recording's own tones, in RMS of the background."""
    tone_range: tuple[Positive, Positive] = (0.1, 10.0)
    """Range of the added tones' amplitudes, in RMS of the background; drawn log-uniformly, as are
    the next three."""
    wander_hz: tuple[Positive, Positive] = (1e-3, 1e-1)
    """Range of the standard deviation of a tone's frequency, Hz."""
    fading: tuple[Positive, Positive] = (0.01, 0.3)
    """Range of the standard deviation of the logarithm of a tone's amplitude."""
    change_s: tuple[Positive, Positive] = (1.0, 100.0)
    """Range of the correlation time of both, s."""
    sway_db: Annotated[float, Field(ge=0, le=30)] = 0.0
    """In training the noise around the tones is scaled by up to this much, up or down, dB."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("tone_range", "wander_hz", "fading", "change_s"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: must be [low, high] with low <= high")
        return self


class DataSettings(Settings):
    """The input signal: the tones, their jitter, and the noise added to them."""

    frequencies_hz: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=64)] = (
        1.0,
        3.0,
        5.0,
        7.0,
    )
    """Frequencies of the tones, Hz."""
    phases_rad: tuple[float, ...] | None = None
    """Start phases of the tones with known phase (regime locked), rad; null: all 0."""
    rate_hz: Positive = 1000.0
    """Sampling rate, Hz."""
    duration_s: Positive = 10.0
    """Length of a record, s."""
    phase_scale: NotNegative = 0.01
    """Phase jitter of every sample: uniform over 0 to 2 pi times this, rad."""
    amplitude_range: tuple[NotNegative, NotNegative] = (0.8, 1.2)
    """Amplitude of every sample: uniform between these."""
    train_seed: Seed = 1
    """Seed of the training record."""
    test_seed: Seed = 2
    """Seed of the test record."""
    regime: Literal["locked", "free"] = "locked"
    """locked: known phase, relative to the start. free: amplitudes and phases are random."""
    start: Literal["fixed", "random"] = "fixed"
    """Whether records start at time 0 or at a random time."""
    noise: Literal["frozen", "fresh"] = "frozen"
    """Whether all epochs use the same record or new ones."""
    snr_db: Decibels | None = None
    """White noise: power of the mixture over that of the noise, dB; null: none."""
    pink_snr_db: Decibels | None = None
    """Noise with spectrum 1/f^pink_exponent, likewise, dB."""
    pink_exponent: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Exponent of that spectrum."""
    impulse_rate_hz: NotNegative = 0.0
    """Mean number of impulses a second."""
    impulse_size: Positive = 10.0
    """Standard deviation of the impulses, in RMS of the mixture."""
    clip_level: Positive | None = None
    """The mixture is clipped at plus and minus this value; null: never."""
    gap_fraction: Fraction = 0.0
    """Fraction of samples that are missing."""
    gap_s: Positive = 0.1
    """Mean length of a gap, s."""
    frequency_drift: Annotated[float, Field(ge=0, le=0.1)] = 0.0
    """Standard deviation of a tone's frequency, relative to it."""
    drift_time_s: Positive = 30.0
    """Correlation time of that drift, s."""
    background: BackgroundSettings | None = None
    """Noise from a recording in place of all the above; it has tone amplitudes of its own."""

    @property
    def n_samples(self) -> int:
        """Samples in one record."""
        return round(self.duration_s * self.rate_hz)

    @property
    def n_components(self) -> int:
        """Number of tones in the mixture."""
        return len(self.frequencies_hz)

    @property
    def start_phases_rad(self) -> tuple[float, ...]:
        """Start phase of every tone with known phase, rad."""
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
            raise ValueError(f"{given[0]}: a background brings its own; omit it")


RECURRENT = ("lstm", "gru", "rnn")
# Kinds of network that a setting applies to; for another kind it is refused.
APPLIES_TO: dict[str, tuple[str, ...]] = {
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
    """Architecture (docs/exercise.md, "Models")."""
    hidden_size: Annotated[int, Field(ge=1, le=8192)] | Literal["auto"] = 64
    """Hidden units of a layer; auto: 128 for up to 4 components, 256 for up to 8, else 512."""
    n_layers: Annotated[int, Field(ge=1, le=16)] = 1
    """Number of layers."""
    dropout: Fraction = 0.0
    """Dropout between layers."""
    readout_dropout: Fraction = 0.0
    """Dropout before the readout."""
    selector: Literal["input", "readout", "initial_state", "film", "none"] = "input"
    """How the network is conditioned on the wanted component."""
    window: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Window length L, samples; 1: one sample a step, the state is carried."""
    taps: Annotated[int, Field(ge=0, le=64)] = 0
    """Neighbouring samples on each side that are inputs, too; 2: S[n-2..n+2]."""
    scale_input: bool = False
    """Whether the mixture is scaled to unit variance."""
    context: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Samples, the present one included, that attention, squeeze and excitation, a Transformer
    layer or a feed-forward network look back over; multi-scale: the shorter window. null: L, or 50
    with window 1; multi-scale: 10."""
    attention: Literal["none", "weighted", "pooled", "memory", "heads"] = "none"
    """Attention over the hidden states."""
    n_heads: Annotated[int, Field(ge=1, le=64)] = 4
    """Heads of attention (heads) and of a Transformer."""
    bidirectional: bool = False
    """Whether each window, or the whole record, is also read backwards."""
    residual: bool = False
    """Whether a layer's input is added to its output."""
    layer_norm: bool = False
    """Layer normalisation of every layer's output; lru: of its input."""
    recurrent_dropout: Fraction = 0.0
    """Dropout of the carried state, one mask for a whole chunk."""
    squeeze_excitation: bool = False
    """Whether the hidden units are gated by their recent mean."""
    channels: Annotated[int, Field(ge=1, le=8192)] = 64
    """Channels of the convolution before an LSTM."""
    kernel_size: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Length of a convolution, samples; null: 5 for cnn-lstm, 3 for tcn."""
    span_penalty: NotNegative = 0.01
    """Added to the loss for a learned window as long as the context."""
    whitening: Annotated[tuple[float, ...], Field(max_length=64)] = ()
    """Coefficients on the previous samples which, added to the present one, whiten the noise."""
    tasks: tuple[Literal["identity", "phase"], ...] = ()
    """Auxiliary outputs: which component is selected; its quadrature (the cosine to the target's
    sine, which together determine the phase)."""
    task_weight: Positive = 0.1
    """Weight of each auxiliary loss, relative to the loss of the signal."""

    @property
    def look_back(self) -> int:
        """Value of ``context``, with the default of the kind, samples."""
        if self.context is not None:
            return self.context
        if self.kind == "multi-scale":
            return 10
        return self.window if self.window > 1 else 50

    @property
    def kernel(self) -> int:
        """Value of ``kernel_size``, with the default of the kind, samples."""
        return self.kernel_size or (5 if self.kind == "cnn-lstm" else 3)

    @property
    def receptive_field(self) -> int | None:
        """Samples that an output depends on, the present one included; None: all so far."""
        fields = {
            "feed-forward": self.look_back,
            "adaptive": self.look_back,
            "tcn": 1 + 2 * (self.kernel - 1) * (2**self.n_layers - 1),
            "transformer": 1 + self.n_layers * (self.look_back - 1),
        }
        return fields.get(self.kind)

    def size(self, n_components: int) -> int:
        """Return ``hidden_size``, with its default for a number of components."""
        if self.hidden_size != "auto":
            return self.hidden_size
        return 128 if n_components <= 4 else 256 if n_components <= 8 else 512

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, kinds in APPLIES_TO.items():
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and self.kind not in kinds:
                raise ValueError(f"{name}: is for {', '.join(kinds)}, not for {self.kind}")
        if self.selector == "initial_state" and self.receptive_field is not None:
            raise ValueError(
                f"selector: {self.kind} has no state that could hold it; use input or readout"
            )
        if self.kind == "observer" and self.selector in ("input", "initial_state"):
            raise ValueError(
                f"selector: an observer estimates all tones at once and has no {self.selector} "
                "selector; use readout"
            )
        if self.kind == "bank" and self.selector != "readout":
            raise ValueError(
                f"selector: a bank estimates all tones at once and has no {self.selector} "
                "selector; use readout"
            )
        if self.tasks and self.selector in ("readout", "none"):
            raise ValueError(
                f"tasks: there is no one component to describe with selector {self.selector}; "
                "use input"
            )
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: the same one twice")
        return self


class TrainingSettings(Settings):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1)] = 50
    """Number of epochs, at most."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    """Windows of a batch, or lanes with window 1."""
    batches_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Batches of an epoch; null: until all rows or windows were used."""
    learning_rate: Positive = 1e-3
    """Learning rate."""
    optimizer: Literal["adam", "sgd", "soap"] = "adam"
    """soap: Adam in the basis in which the gradients of a matrix are uncorrelated."""
    weight_decay: NotNegative = 0.0
    """Weight decay."""
    clip_norm: Positive | None = 1.0
    """Norm to which gradients are clipped; null: never."""
    schedule: Literal["constant", "plateau", "step", "cosine"] = "constant"
    """Schedule of the learning rate."""
    warmup_batches: Annotated[int, Field(ge=0)] = 0
    """Batches over which the learning rate rises linearly."""
    schedule_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor of the learning rate, of the schedules plateau and step."""
    schedule_epochs: Annotated[int, Field(ge=1)] = 5
    """plateau: patience, epochs; step: the epoch of the step."""
    patience: Annotated[int, Field(ge=1)] | None = 10
    """Early stopping after this many epochs without improvement; null: never."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the rows or windows, the last ones, that validate."""
    seed: Seed = 0
    """Seed of the weights and the batches."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on."""
    devices: Annotated[int, Field(ge=1, le=1024)] = 1
    """Devices that share every batch, a process each. The result is that of one, up to rounding;
    only dropout draws differently in every process."""
    n_threads: Annotated[int, Field(ge=1, le=1024)] | None = 1
    """CPU threads of a process; null: PyTorch's own choice. Networks of this size gain little from
    a second one, and threads that wait for each other are slow on a busy machine."""
    max_seconds: Positive | None = None
    """Time after which training ends, s."""
    positions: Literal["all", "last"] = "all"
    """Windows: all outputs are trained (sequence to sequence), or the last (sequence to value)."""
    shuffle: bool | None = None
    """Random order; null: of windows yes, of rows no."""
    lanes: Literal["strided", "contiguous"] = "contiguous"
    """Window 1: each lane takes every B-th row, or a contiguous part of the rows."""
    order: Literal["blocks", "interleaved"] = "blocks"
    """Window 1: one component after another, or in turns of ``interleave_samples``."""
    interleave_samples: Annotated[int, Field(ge=1)] = 200
    """Length of a turn, samples."""
    chunk_samples: Annotated[int, Field(ge=1)] = 100
    """Window 1: steps of truncated backpropagation through time."""
    state_reset: Literal["component", "epoch"] = "component"
    """Window 1: whether the state is reset before every component, or once an epoch."""
    record_s: Positive | None = None
    """Window 1, fresh noise: length of a training record, s; null: ``data.duration_s``."""
    record_lengths: Literal["equal", "log-uniform"] = "equal"
    """Window 1, fresh noise: all records have that length; or each a random one, log-uniform from a
    chunk to that, so that a batch has samples of many ages."""
    teacher: Literal["none", "posterior"] = "none"
    """What is learned: the clean target; or its posterior mean given the samples so far, which has
    the same optimum and far less variance. Fresh noise only."""
    balance: Literal["none", "age", "tone"] = "none"
    """age: the error of a sample counts relative to the error at its age. tone: the error of a
    chunk counts relative to the tone's power in it, and on a logarithmic scale (the geometric mean
    over streams and tones), so that weak and strong tones have equal weight."""
    balance_floor: Positive = 1e-5
    """Smallest error that ``balance`` distinguishes."""


class EvaluationSettings(Settings):
    """How the network is evaluated."""

    gap_threshold: Positive = 0.1
    """Largest generalisation gap, (test - train) / train, that is within the threshold."""
    join: Literal["last", "mean"] = "last"
    """Estimate from windows: the last output of each, or the mean of all that hold the sample."""
    shifted_records: Annotated[int, Field(ge=2)] = 32
    """Number of records with random start."""
    settle_s: NotNegative = 1.0
    """Start-up that settled metrics leave out, s."""


class VisualisationSettings(Settings):
    """What the figures show."""

    component: Annotated[int, Field(ge=0)] = 0
    """Index of the component in ``data.frequencies_hz``."""
    samples: Annotated[int, Field(ge=2)] = 1000
    """Number of samples shown."""
    dpi: Annotated[int, Field(ge=20, le=1200)] = 150
    """Resolution, dots an inch."""
