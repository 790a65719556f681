"""Batches drawn anew in every epoch, with fresh noise: records in lanes, and windows.

docs/exercise.md, "Layouts of the data". Axes: B lanes or windows, T samples, F features (taps), K
components.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.extractors.bayes.posterior_mean import mmse_targets
from tonesieve.learning.data.features import (
    Batch,
    learns_phase,
    make_batch,
    tap_features,
    targets_and_quadratures,
    to_device,
)
from tonesieve.signals.distributions import Rng
from tonesieve.signals.synthesis import Records, draw_records


def fresh_shape(config: Config) -> tuple[int, int]:
    """Compute the shape of the training data with fresh noise.

    Parameters
    ----------
    config : Config
        The settings.

    Returns
    -------
    n_samples : int
        Samples of a training record.
    n_records : int
        Records of a lane in an epoch.
    """
    n_samples = config.n_record
    return n_samples, max(1, round(config.data.n_samples / n_samples))


def fresh_lanes(
    config: Config, noise: Rng, device: torch.device, *, n_batches: int
) -> Iterator[Batch]:
    """Draw records for every lane, one after the other, the state reset between them.

    Parameters
    ----------
    config : Config
        The settings; records are of equal or random length, as ``training.record_lengths`` says.
    noise : Generator
        The source of all that is random.
    device : torch.device
        Where the tensors go.
    n_batches : int
        Batches to draw of records of random length.

    Yields
    ------
    Batch
        The next chunk of every lane.
    """
    n_lanes, chunk = config.training.batch_size, config.training.chunk_samples
    n_samples, n_records = fresh_shape(config)
    if config.training.record_lengths == "log-uniform":
        yield from _staggered_lanes(config, noise, device, n_batches)
        return
    for _ in range(n_records):
        records = draw_records_with_targets(config, n_lanes, n_samples, rng=noise)
        features = to_device(tap_features(records.mixture, config.model.taps), device)
        truth = to_device(targets_and_quadratures(records), device)
        component = _balanced_components(config, n_lanes, noise, device)
        for start in range(0, n_samples, chunk):
            part = (slice(None), slice(start, start + chunk))
            reset = torch.full((n_lanes,), start == 0, device=device)
            age = torch.full((n_lanes,), start, device=device)
            yield make_batch(config, features[part], truth[part], component, reset=reset, age=age)


def _staggered_lanes(
    config: Config, noise: Rng, device: torch.device, n_batches: int
) -> Iterator[Batch]:
    """The same with records of random length, so that the lanes are of different ages."""
    n_lanes, chunk = config.training.batch_size, config.training.chunk_samples
    max_chunks = -(-fresh_shape(config)[0] // chunk)
    taps = config.model.taps
    features = np.empty((n_lanes, max_chunks * chunk, 2 * taps + 1), dtype=np.float32)
    truth: np.ndarray | None = None
    # Of every lane: chunks of its record, and the index of the next.
    n_chunks, index = np.zeros(n_lanes, dtype=int), np.zeros(n_lanes, dtype=int)
    component = _balanced_components(config, n_lanes, noise, device)
    for _ in range(n_batches):
        new = np.flatnonzero(index == n_chunks)
        if len(new):
            index[new] = 0
            log_lengths = noise.random(len(new)) * math.log(max_chunks + 1)
            n_chunks[new] = np.exp(log_lengths).astype(int)
            records = draw_records_with_targets(
                config, len(new), int(n_chunks[new].max()) * chunk, rng=noise
            )
            targets = targets_and_quadratures(records)
            if truth is None:
                shape = (n_lanes, max_chunks * chunk, targets.shape[2])
                truth = np.empty(shape, dtype=np.float32)
            features[new, : targets.shape[1]] = tap_features(records.mixture, taps)
            truth[new, : targets.shape[1]] = targets
        assert truth is not None
        chunk_rows = (np.arange(n_lanes)[:, None], index[:, None] * chunk + np.arange(chunk))
        yield make_batch(
            config,
            to_device(features[chunk_rows], device),
            to_device(truth[chunk_rows], device),
            component,
            reset=torch.from_numpy(index == 0).to(device),
            age=torch.from_numpy(index * chunk).to(device),
        )
        index += 1


def online_windows(
    config: Config, noise: Rng, device: torch.device, *, n_items: int
) -> Iterator[Batch]:
    """Draw every window anew: its noise, and where in the record or period it lies.

    Parameters
    ----------
    config : Config
        The settings.
    noise : Generator
        The source of all that is random.
    device : torch.device
        Where the tensors go.
    n_items : int
        Windows in all.

    Yields
    ------
    Batch
        The next ``training.batch_size`` windows.
    """
    size, length, taps = config.training.batch_size, config.model.window, config.model.taps
    for first in range(0, n_items, size):
        n = min(size, n_items - first)
        random_start = config.data.start == "random" or config.data.regime == "free"
        starts = None if random_start else noise.integers(0, config.n_rows, n) - taps
        # The taps reach beyond the window: draw their samples too.
        records = draw_records_with_targets(config, n, length + 2 * taps, rng=noise, starts=starts)
        inside = slice(taps, taps + length)
        features = to_device(tap_features(records.mixture, taps)[:, inside], device)
        truth = to_device(targets_and_quadratures(records)[:, inside], device)
        component = _balanced_components(config, n, noise, device)
        yield make_batch(config, features, truth, component, reset=None)


def draw_records_with_targets(
    config: Config,
    n_records: int,
    n_samples: int,
    *,
    rng: Rng,
    starts: Int[np.ndarray, " B"] | None = None,
) -> Records:
    """Draw records to train or validate on, with the targets that ``training.teacher`` names.

    Parameters
    ----------
    config : Config
        The settings.
    n_records : int
        Records, B.
    n_samples : int
        Samples of each, T.
    rng : Generator
        The source of all that is random.
    starts : ndarray of int, shape (B,), or None
        First sample number of each record; None: as ``data.start`` says.

    Returns
    -------
    Records
        The mixtures, and the clean tones or their posterior means.
    """
    records = draw_records(
        config.data, n_records, n_samples, rng=rng, starts=starts, quadratures=learns_phase(config)
    )
    if config.training.teacher == "none":
        return records
    return replace(records, targets=mmse_targets(config.data, records.mixture))


def _balanced_components(config: Config, n: int, rng: Rng, device: torch.device) -> Tensor:
    """As many streams a component as can be; which ones get one more is drawn, too."""
    components = rng.permutation(config.data.n_components)
    assigned = components[np.arange(n) % len(components)]
    return torch.from_numpy(rng.permutation(assigned)).to(device)
