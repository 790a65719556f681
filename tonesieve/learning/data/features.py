"""The data of one training step: a sample's neighbours as its features, targets, selectors.

Axes: B streams or windows, T samples, F features (taps), K components, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.signals.synthesis import Records


@dataclass(frozen=True)
class Batch:
    """The data of one training step.

    Attributes
    ----------
    inputs : Tensor, shape (B, T, F)
        Samples of the mixture, each with its context taps.
    targets : Tensor, shape (B, T, O)
        What the outputs should be.
    selector : Tensor, shape (B, K), or None
        One-hot selector of every stream, if the model takes one.
    reset : Tensor of bool, shape (B,), or None
        Streams that start anew here; None: all of them do.
    component : Tensor of int, shape (B,)
        The component to extract, where there is one.
    quadrature : Tensor, shape (B, T, 1), or None
        Quadrature of the target, where it is an auxiliary task.
    age : Tensor of int, shape (B,), or None
        Samples that a stream has had before; None: none.
    """

    inputs: Float[Tensor, "B T F"]
    targets: Float[Tensor, "B T O"]
    selector: Float[Tensor, "B K"] | None
    reset: Bool[Tensor, " B"] | None
    component: Int[Tensor, " B"]
    quadrature: Float[Tensor, "B T 1"] | None = None
    age: Int[Tensor, " B"] | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def tap_features(mixture: Float[np.ndarray, "B T"], taps: int) -> Float[np.ndarray, "B T F"]:
    """Put every sample between its neighbours.

    Parameters
    ----------
    mixture : ndarray, shape (B, T)
        Samples; what is not finite counts as 0, the mean.
    taps : int
        Neighbours on each side.

    Returns
    -------
    ndarray of float32, shape (B, T, 2 taps + 1)
        Samples n - taps to n + taps at every n; 0 outside the record. A view, read-only.
    """
    if mixture.shape[1] == 0:  # an empty chunk; NumPy has no windows of nothing
        return np.zeros((len(mixture), 0, 2 * taps + 1), dtype=np.float32)
    finite = np.nan_to_num(mixture, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    padded = np.pad(finite, ((0, 0), (taps, taps)))
    return sliding_window_view(padded, 2 * taps + 1, axis=1)


def make_batch(
    config: Config,
    inputs: Float[Tensor, "B T F"],
    truth: Float[Tensor, "B T K2"],
    component: Int[Tensor, " B"],
    *,
    reset: Bool[Tensor, " B"] | None,
    age: Int[Tensor, " B"] | None = None,
) -> Batch:
    """Take each stream's target out of all of them, and add its selector.

    Parameters
    ----------
    config : Config
        The settings.
    inputs : Tensor, shape (B, T, F)
        Features of every sample.
    truth : Tensor, shape (B, T, K) or (B, T, 2 K)
        All targets, and their quadratures after them where these are learned.
    component : Tensor of int, shape (B,)
        The component to extract from each stream.
    reset : Tensor of bool, shape (B,), or None
        Streams that start anew; None: all of them do.
    age : Tensor of int, shape (B,), or None
        Samples that each stream has had before; None: none.

    Returns
    -------
    Batch
        The data of one training step.
    """
    selector, n_components = config.model.selector, config.data.n_components
    with_phase = learns_phase(config)
    targets, quadratures = truth.split(n_components, 2) if with_phase else (truth, None)
    if selector == "readout":
        return Batch(inputs, targets, None, reset, component, age=age)
    index = component[:, None, None].expand(-1, targets.shape[1], 1)
    condition = None if selector == "none" else one_hot(component, n_components)
    quadrature = None if quadratures is None else quadratures.gather(2, index)
    return Batch(inputs, targets.gather(2, index), condition, reset, component, quadrature, age)


def learns_phase(config: Config) -> bool:
    """Return whether the phase is an auxiliary task, so that quadratures are drawn.

    Parameters
    ----------
    config : Config
        The settings.

    Returns
    -------
    bool
        Whether it is.
    """
    return "phase" in config.model.tasks


def targets_and_quadratures(records: Records) -> Float[np.ndarray, "B T K2"]:
    """Join all targets, and their quadratures after them where they were drawn.

    Parameters
    ----------
    records : Records
        B records of K components.

    Returns
    -------
    ndarray of float32, shape (B, T, K) or (B, T, 2 K)
        Both.
    """
    parts = [p for p in (records.targets, records.quadratures) if p is not None]
    return np.concatenate(parts, axis=2).astype(np.float32)


def one_hot(component: Int[Tensor, " B"], n_components: int) -> Float[Tensor, "B K"]:
    """Encode components as selectors.

    Parameters
    ----------
    component : Tensor of int, shape (B,)
        Index of each stream's component.
    n_components : int
        Components, K.

    Returns
    -------
    Tensor, shape (B, K)
        1 at the component, 0 elsewhere.
    """
    return torch.nn.functional.one_hot(component, n_components).to(torch.float32)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device.

    Parameters
    ----------
    array : ndarray
        Numbers.
    device : torch.device
        Where they go.

    Returns
    -------
    Tensor
        The copy.
    """
    # A copy: taps are overlapping read-only views, which torch does not take.
    return torch.from_numpy(np.array(array, order="C")).to(device)
