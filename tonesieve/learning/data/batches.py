"""How records become batches: rows in lanes, windows, context taps, interleaved chunks.

SPEC, section 2. A *row* is one sample of one component's block; when one pass serves all
components (selector at the readout) there is only one block. Axes: B streams or windows,
T samples, F features (taps), K components, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.extractors.bayes.posterior_mean import mmse_targets
from tonesieve.learning.data.lanes import Rows, Segment, lanes, row_order, segments
from tonesieve.signals.distributions import Rng
from tonesieve.signals.synthesis import Records, draw_records


@dataclass(frozen=True)
class Batch:
    """What one training step sees."""

    inputs: Float[Tensor, "B T F"]
    targets: Float[Tensor, "B T O"]
    selector: Float[Tensor, "B K"] | None
    reset: Bool[Tensor, " B"] | None  # streams that start anew here; None: all of them do
    component: Int[Tensor, " B"]  # which one is asked for, where one is
    quadrature: Float[Tensor, "B T 1"] | None = None  # of the target, where it is a task
    age: Int[Tensor, " B"] | None = None  # samples that a stream has had before; None: none

    def __len__(self) -> int:
        return len(self.inputs)


def epoch_batches(config: Config, *, epoch: int, device: torch.device) -> Iterator[Batch]:
    """The training batches of one epoch; the same epoch always gives the same ones."""
    return islice(_whole_epoch(config, epoch, device), count_batches(config))


def _whole_epoch(config: Config, epoch: int, device: torch.device) -> Iterator[Batch]:
    noise = np.random.default_rng([config.data.train_seed, 1, epoch])
    order = np.random.default_rng([config.training.seed, 2, epoch])
    fresh = config.data.noise == "fresh"
    if fresh and not config.stateful:
        n_items = count_blocks(config) * config.n_rows
        if config.training.batches_per_epoch is not None:
            n_items = config.training.batches_per_epoch * config.training.batch_size
        return online_windows(config, noise, device, n_items=n_items)
    if config.own_records:
        return _fresh_lanes(config, noise, device)
    records = training_record(config, epoch=epoch)
    n_train = config.n_rows if fresh else config.n_train
    if config.stateful:
        return _row_batches(config, records, n_train, order, device)
    return window_batches(
        config, records, range(n_train), order if config.shuffled else None, device
    )


def count_batches(config: Config) -> int:
    """How many batches `epoch_batches` gives (for progress and schedules)."""
    most = config.training.batches_per_epoch
    if most is not None and _endless(config):
        return most
    return _n_whole(config) if most is None else min(most, _n_whole(config))


def _endless(config: Config) -> bool:
    """Whether batches are drawn one by one, so that an epoch may have any number of them."""
    lengths = config.training.record_lengths
    if config.stateful:
        return config.own_records and lengths == "log-uniform"
    return config.data.noise == "fresh"


def _n_whole(config: Config) -> int:
    n_train = config.n_rows if config.data.noise == "fresh" else config.n_train
    size, n_blocks = config.training.batch_size, count_blocks(config)
    if not config.stateful:
        return -(-n_train * n_blocks // size)
    if config.own_records:
        n_samples, n_records = fresh_shape(config)
        return n_records * -(-n_samples // config.training.chunk_samples)
    order = np.random.default_rng(0)
    return len(_lane_layout(config, n_train, order)[1])


def training_record(config: Config, *, epoch: int = 0) -> Records:
    """The record of one epoch: always the same with frozen noise, another with fresh noise."""
    data = config.data
    seed = data.train_seed if data.noise == "frozen" else [data.train_seed, 3, epoch]
    rng = np.random.default_rng(seed)
    return draw_records(data, 1, data.n_samples, rng=rng, quadratures=_phase(config))


def count_blocks(config: Config) -> int:
    """Blocks of rows: one a component, or one for all when one pass serves all."""
    return 1 if config.model.selector == "readout" else config.data.n_components


def tap_features(mixture: Float[np.ndarray, "B T"], taps: int) -> Float[np.ndarray, "B T F"]:
    """``[S[n-taps], ..., S[n+taps]]`` at every n; gaps and what lies outside are 0, the mean."""
    if mixture.shape[1] == 0:  # an empty chunk; NumPy has no windows of nothing
        return np.zeros((len(mixture), 0, 2 * taps + 1), dtype=np.float32)
    filled = np.nan_to_num(mixture, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    padded = np.pad(filled, ((0, 0), (taps, taps)))
    return sliding_window_view(padded, 2 * taps + 1, axis=1)


def window_batches(
    config: Config,
    records: Records,
    starts: range,
    order: Rng | None,
    device: torch.device,
) -> Iterator[Batch]:
    """Windows that begin at ``starts``, of every block, shuffled by ``order`` or in time order.

    The windows are views of the record; only the batch at hand is gathered.
    """
    length, size = config.model.window, config.training.batch_size
    n_blocks = count_blocks(config)
    features = _on(tap_features(records.mixture, config.model.taps)[0], device)
    truth = _on(_truth(records)[0], device)
    inputs = features.unfold(0, length, 1).transpose(1, 2)  # windows, L, F
    targets = truth.unfold(0, length, 1).transpose(1, 2)  # windows, L, K
    items = np.arange(n_blocks * len(starts))
    if order is not None:
        order.shuffle(items)
    component = torch.from_numpy(items // len(starts)).to(device)
    window = torch.from_numpy(items % len(starts) + starts.start).to(device)
    for at in range(0, len(items), size):
        part = slice(at, at + size)
        yield _select(
            config, inputs[window[part]], targets[window[part]], component[part], reset=None
        )


def record_batches(config: Config, record: Records, device: torch.device) -> Iterator[Batch]:
    """A whole record for every component: its windows in time order, or all of it in one piece."""
    if not config.stateful:
        yield from window_batches(config, record, range(config.n_rows), None, device)
        return
    n_blocks = count_blocks(config)
    features = _on(tap_features(record.mixture, config.model.taps), device)
    truth = _on(_truth(record), device)
    yield _select(
        config,
        features.expand(n_blocks, -1, -1),
        truth.expand(n_blocks, -1, -1),
        torch.arange(n_blocks, device=device),
        reset=None,
    )


def _row_batches(
    config: Config, records: Records, n_train: int, order: Rng, device: torch.device
) -> Iterator[Batch]:
    rows, cuts = _lane_layout(config, n_train, order)
    features = _on(tap_features(records.mixture, config.model.taps)[0][rows.time], device)
    truth = _on(_truth(records)[0][rows.time], device)
    component = torch.from_numpy(rows.component).to(device)
    for cut in cuts:
        part = (slice(0, cut.n_lanes), slice(cut.start, cut.stop))
        yield _select(
            config,
            features[part],
            truth[part],
            component[: cut.n_lanes, cut.start],
            reset=torch.from_numpy(cut.reset).to(device),
        )


def _lane_layout(config: Config, n_train: int, order: Rng) -> tuple[Rows, list[Segment]]:
    """Rows in lanes, (B, T) each, and the stretches that they are trained in."""
    training = config.training
    interleave = training.interleave_samples if training.order == "interleaved" else None
    rows = row_order(count_blocks(config), n_train, interleave=interleave)
    if config.shuffled:
        mixed = order.permutation(len(rows.time))
        rows = Rows(rows.component[mixed], rows.time[mixed])
    lane_rows = lanes(len(rows.time), training.batch_size, strided=training.lanes == "strided")
    # A lane that has run out shows its last row again, so no change of component.
    shown = np.where(lane_rows < 0, np.roll(lane_rows, 1, axis=1), lane_rows)
    placed = Rows(rows.component[shown], rows.time[shown])
    return placed, segments(
        lane_rows,
        placed.component,
        chunk=training.chunk_samples,
        reset_on_change=training.state_reset == "component",
    )


def fresh_shape(config: Config) -> tuple[int, int]:
    """Samples of a fresh training record, and how many a lane sees in an epoch."""
    n_samples = config.n_record
    return n_samples, max(1, round(config.data.n_samples / n_samples))


def _fresh_lanes(config: Config, noise: Rng, device: torch.device) -> Iterator[Batch]:
    """Every lane gets records of its own, one after the other, the state reset between them."""
    n_lanes, chunk = config.training.batch_size, config.training.chunk_samples
    n_samples, n_records = fresh_shape(config)
    if config.training.record_lengths == "log-uniform":
        yield from _staggered_lanes(config, noise, device)
        return
    for _ in range(n_records):
        records = draw_records_with_targets(config, n_lanes, n_samples, rng=noise)
        features = _on(tap_features(records.mixture, config.model.taps), device)
        truth = _on(_truth(records), device)
        component = _balanced_components(config, n_lanes, noise, device)
        for start in range(0, n_samples, chunk):
            part = (slice(None), slice(start, start + chunk))
            reset = torch.full((n_lanes,), start == 0, device=device)
            age = torch.full((n_lanes,), start, device=device)
            yield _select(config, features[part], truth[part], component, reset=reset, age=age)


def _staggered_lanes(config: Config, noise: Rng, device: torch.device) -> Iterator[Batch]:
    """The same with records of random length, so that the lanes are of different ages."""
    n_lanes, chunk = config.training.batch_size, config.training.chunk_samples
    n_most = -(-fresh_shape(config)[0] // chunk)
    taps = config.model.taps
    features = np.empty((n_lanes, n_most * chunk, 2 * taps + 1), dtype=np.float32)
    truth: np.ndarray | None = None
    chunks, at = np.zeros(n_lanes, dtype=int), np.zeros(n_lanes, dtype=int)
    component = _balanced_components(config, n_lanes, noise, device)
    for _ in range(count_batches(config)):
        new = np.flatnonzero(at == chunks)
        if len(new):
            at[new] = 0
            chunks[new] = np.exp(noise.random(len(new)) * math.log(n_most + 1)).astype(int)
            drawn = draw_records_with_targets(
                config, len(new), int(chunks[new].max()) * chunk, rng=noise
            )
            own = _truth(drawn)
            if truth is None:
                truth = np.empty((n_lanes, n_most * chunk, own.shape[2]), dtype=np.float32)
            features[new, : own.shape[1]] = tap_features(drawn.mixture, taps)
            truth[new, : own.shape[1]] = own
        assert truth is not None
        here = (np.arange(n_lanes)[:, None], at[:, None] * chunk + np.arange(chunk))
        yield _select(
            config,
            _on(features[here], device),
            _on(truth[here], device),
            component,
            reset=torch.from_numpy(at == 0).to(device),
            age=torch.from_numpy(at * chunk).to(device),
        )
        at += 1


def online_windows(
    config: Config, noise: Rng, device: torch.device, *, n_items: int
) -> Iterator[Batch]:
    """Every window is drawn anew: its noise, and where in the record or period it lies."""
    size, length, taps = config.training.batch_size, config.model.window, config.model.taps
    for at in range(0, n_items, size):
        n = min(size, n_items - at)
        anywhere = config.data.start == "random" or config.data.regime == "free"
        starts = None if anywhere else noise.integers(0, config.n_rows, n) - taps
        # Taps look beyond the window: draw their samples too.
        drawn = length + 2 * taps
        records = draw_records_with_targets(config, n, drawn, rng=noise, starts=starts)
        inside = slice(taps, taps + length)
        features = _on(tap_features(records.mixture, taps)[:, inside], device)
        truth = _on(_truth(records)[:, inside], device)
        component = _balanced_components(config, n, noise, device)
        yield _select(config, features, truth, component, reset=None)


def draw_records_with_targets(
    config: Config,
    n_records: int,
    n_samples: int,
    *,
    rng: Rng,
    starts: Int[np.ndarray, " B"] | None = None,
) -> Records:
    """Records to learn from or to validate on, with the targets that the teacher gives."""
    records = draw_records(
        config.data, n_records, n_samples, rng=rng, starts=starts, quadratures=_phase(config)
    )
    if config.training.teacher == "none":
        return records
    return replace(records, targets=mmse_targets(config.data, records.mixture))


def _balanced_components(config: Config, n: int, rng: Rng, device: torch.device) -> Tensor:
    """As many streams a component as can be; which ones get one more is drawn, too."""
    names = rng.permutation(config.data.n_components)
    return torch.from_numpy(rng.permutation(names[np.arange(n) % len(names)])).to(device)


def _select(
    config: Config,
    inputs: Float[Tensor, "B T F"],
    truth: Float[Tensor, "B T K2"],
    component: Int[Tensor, " B"],
    *,
    reset: Bool[Tensor, " B"] | None,
    age: Int[Tensor, " B"] | None = None,
) -> Batch:
    """Pick each stream's target and show the selector, as far as the model is told.

    ``truth`` holds all targets, and their quadratures after them where these are learned.
    """
    selector, n_components = config.model.selector, config.data.n_components
    targets, quadratures = truth.split(n_components, 2) if _phase(config) else (truth, None)
    if selector == "readout":
        return Batch(inputs, targets, None, reset, component, age=age)
    index = component[:, None, None].expand(-1, targets.shape[1], 1)
    told = None if selector == "none" else one_hot(component, n_components)
    quadrature = None if quadratures is None else quadratures.gather(2, index)
    return Batch(inputs, targets.gather(2, index), told, reset, component, quadrature, age)


def _phase(config: Config) -> bool:
    return "phase" in config.model.tasks


def _truth(records: Records) -> Float[np.ndarray, "B T K2"]:
    """All targets, and their quadratures after them where they were drawn."""
    parts = [p for p in (records.targets, records.quadratures) if p is not None]
    return np.concatenate(parts, axis=2).astype(np.float32)


def one_hot(component: Int[Tensor, " B"], n_components: int) -> Float[Tensor, "B K"]:
    """The selector C of each stream."""
    return torch.nn.functional.one_hot(component, n_components).to(torch.float32)


def _on(array: np.ndarray, device: torch.device) -> Tensor:
    # A copy: taps are overlapping read-only views, which torch does not take.
    return torch.from_numpy(np.array(array, order="C")).to(device)
