"""How records become batches: rows in lanes, windows, context taps, interleaved chunks.

docs/exercise.md, "Layouts of the data". A *row* is one sample of one component's block; when one
pass serves all components (selector at the readout) there is only one block. Axes: B streams or
windows, T samples, F features (taps), K components, O outputs, L window.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from tonesieve.config.config import Config
from tonesieve.learning.data.features import (
    Batch,
    learns_phase,
    make_batch,
    tap_features,
    targets_and_quadratures,
    to_device,
)
from tonesieve.learning.data.lanes import Rows, Segment, lanes, row_order, segments
from tonesieve.learning.data.online import fresh_lanes, fresh_shape, online_windows
from tonesieve.signals.distributions import Rng
from tonesieve.signals.synthesis import Records, draw_records


def epoch_batches(config: Config, *, epoch: int, device: torch.device) -> Iterator[Batch]:
    """Draw the training batches of one epoch.

    Parameters
    ----------
    config : Config
        The settings.
    epoch : int
        Number of the epoch, from 1; the same one always has the same batches.
    device : torch.device
        Where the tensors go.

    Returns
    -------
    iterator of Batch
        As many as `count_batches` returns.
    """
    return islice(_all_batches(config, epoch, device), count_batches(config))


def _all_batches(config: Config, epoch: int, device: torch.device) -> Iterator[Batch]:
    noise_rng = np.random.default_rng([config.data.train_seed, 1, epoch])
    order_rng = np.random.default_rng([config.training.seed, 2, epoch])
    fresh = config.data.noise == "fresh"
    if fresh and not config.stateful:
        n_windows = count_blocks(config) * config.n_rows
        if config.training.batches_per_epoch is not None:
            n_windows = config.training.batches_per_epoch * config.training.batch_size
        return online_windows(config, noise_rng, device, n_items=n_windows)
    if config.own_records:
        return fresh_lanes(config, noise_rng, device, n_batches=count_batches(config))
    records = training_record(config, epoch=epoch)
    n_train = config.n_rows if fresh else config.n_train
    if config.stateful:
        return _row_batches(config, records, n_train, order_rng, device)
    return window_batches(
        config, records, range(n_train), order_rng if config.shuffled else None, device
    )


def count_batches(config: Config) -> int:
    """Count the batches of an epoch.

    Parameters
    ----------
    config : Config
        The settings.

    Returns
    -------
    int
        Batches that `epoch_batches` draws.
    """
    limit = config.training.batches_per_epoch
    if limit is not None and _is_endless(config):
        return limit
    return _count_all(config) if limit is None else min(limit, _count_all(config))


def _is_endless(config: Config) -> bool:
    """Whether batches are drawn one by one, so that an epoch may have any number of them."""
    lengths = config.training.record_lengths
    if config.stateful:
        return config.own_records and lengths == "log-uniform"
    return config.data.noise == "fresh"


def _count_all(config: Config) -> int:
    n_train = config.n_rows if config.data.noise == "fresh" else config.n_train
    size, n_blocks = config.training.batch_size, count_blocks(config)
    if not config.stateful:
        return -(-n_train * n_blocks // size)
    if config.own_records:
        n_samples, n_records = fresh_shape(config)
        return n_records * -(-n_samples // config.training.chunk_samples)
    order_rng = np.random.default_rng(0)
    return len(_lane_layout(config, n_train, order_rng)[1])


def count_blocks(config: Config) -> int:
    """Count the blocks of rows.

    Parameters
    ----------
    config : Config
        The settings.

    Returns
    -------
    int
        One a component, or one for all when one pass serves all.
    """
    return 1 if config.model.selector == "readout" else config.data.n_components


def training_record(config: Config, *, epoch: int = 0) -> Records:
    """Draw the record that an epoch trains on.

    Parameters
    ----------
    config : Config
        The settings.
    epoch : int
        Number of the epoch; it matters with fresh noise only.

    Returns
    -------
    Records
        One record, always the same with frozen noise.
    """
    data = config.data
    seed = data.train_seed if data.noise == "frozen" else [data.train_seed, 3, epoch]
    rng = np.random.default_rng(seed)
    return draw_records(data, 1, data.n_samples, rng=rng, quadratures=learns_phase(config))


def window_batches(
    config: Config,
    records: Records,
    starts: range,
    order: Rng | None,
    device: torch.device,
) -> Iterator[Batch]:
    """Cut a record into windows, those of every block.

    The windows are views of the record; only the batch at hand is gathered.

    Parameters
    ----------
    config : Config
        The settings.
    records : Records
        The record, the first one of these.
    starts : range
        Where the windows begin, in samples.
    order : Generator or None
        Shuffles the windows; None: time order.
    device : torch.device
        Where the tensors go.

    Yields
    ------
    Batch
        The next ``training.batch_size`` windows.
    """
    length, size = config.model.window, config.training.batch_size
    n_blocks = count_blocks(config)
    features = to_device(tap_features(records.mixture, config.model.taps)[0], device)
    truth = to_device(targets_and_quadratures(records)[0], device)
    inputs = features.unfold(0, length, 1).transpose(1, 2)  # windows, L, F
    targets = truth.unfold(0, length, 1).transpose(1, 2)  # windows, L, K
    items = np.arange(n_blocks * len(starts))
    if order is not None:
        order.shuffle(items)
    component = torch.from_numpy(items // len(starts)).to(device)
    window = torch.from_numpy(items % len(starts) + starts.start).to(device)
    for first in range(0, len(items), size):
        part = slice(first, first + size)
        yield make_batch(
            config, inputs[window[part]], targets[window[part]], component[part], reset=None
        )


def record_batches(config: Config, record: Records, device: torch.device) -> Iterator[Batch]:
    """Take a whole record for every component: its windows in time order, or all in one batch.

    Parameters
    ----------
    config : Config
        The settings.
    record : Records
        One record.
    device : torch.device
        Where the tensors go.

    Yields
    ------
    Batch
        The next windows; for a stateful model, the record.
    """
    if not config.stateful:
        yield from window_batches(config, record, range(config.n_rows), None, device)
        return
    n_blocks = count_blocks(config)
    features = to_device(tap_features(record.mixture, config.model.taps), device)
    truth = to_device(targets_and_quadratures(record), device)
    yield make_batch(
        config,
        features.expand(n_blocks, -1, -1),
        truth.expand(n_blocks, -1, -1),
        torch.arange(n_blocks, device=device),
        reset=None,
    )


def _row_batches(
    config: Config, records: Records, n_train: int, order_rng: Rng, device: torch.device
) -> Iterator[Batch]:
    rows, cuts = _lane_layout(config, n_train, order_rng)
    features = to_device(tap_features(records.mixture, config.model.taps)[0][rows.time], device)
    truth = to_device(targets_and_quadratures(records)[0][rows.time], device)
    component = torch.from_numpy(rows.component).to(device)
    for cut in cuts:
        part = (slice(0, cut.n_lanes), slice(cut.start, cut.stop))
        yield make_batch(
            config,
            features[part],
            truth[part],
            component[: cut.n_lanes, cut.start],
            reset=torch.from_numpy(cut.reset).to(device),
        )


def _lane_layout(config: Config, n_train: int, order_rng: Rng) -> tuple[Rows, list[Segment]]:
    """Rows in lanes, (B, T) each, and the segments that they are trained in."""
    training = config.training
    interleave = training.interleave_samples if training.order == "interleaved" else None
    rows = row_order(count_blocks(config), n_train, interleave=interleave)
    if config.shuffled:
        shuffled = order_rng.permutation(len(rows.time))
        rows = Rows(rows.component[shuffled], rows.time[shuffled])
    lane_rows = lanes(len(rows.time), training.batch_size, strided=training.lanes == "strided")
    # A lane that has run out repeats its last row, so that its component does not change.
    index = np.where(lane_rows < 0, np.roll(lane_rows, 1, axis=1), lane_rows)
    in_lanes = Rows(rows.component[index], rows.time[index])
    return in_lanes, segments(
        lane_rows,
        in_lanes.component,
        chunk=training.chunk_samples,
        reset_on_change=training.state_reset == "component",
    )
