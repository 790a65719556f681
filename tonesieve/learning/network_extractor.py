"""A trained network as an extractor like any other.

Three ways to run it, by what the network was trained on: a carried state (L=1), the last output of
the window that ends at each sample, or the mean over all windows that hold it. Axes: B streams,
N passes (streams x selectors), T samples, F features, K components, O outputs, L window, W windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.learning.data.features import one_hot, tap_features
from tonesieve.learning.models.base import Network, State

# Windows, and samples of all streams together, that a network takes at once. Guard: against memory,
# and buffers that leave the cache.
WINDOWS_AT_ONCE = 2048
SAMPLES_AT_ONCE = 2**18


def as_extractor(network: Network, config: Config) -> StatefulNetwork | WindowLast | WindowMean:
    """Make an extractor of a network.

    Parameters
    ----------
    network : Network
        The network; it is set to evaluation mode, and its weights are shared.
    config : Config
        Its settings.

    Returns
    -------
    StatefulNetwork, WindowLast or WindowMean
        The extractor, by ``model.window`` and ``evaluation.join``.
    """
    network.eval()
    if config.evaluation.join == "mean" and not config.stateful:
        return WindowMean(network, config)
    field = config.model.receptive_field
    # A receptive field within the window: the window gives the same as all samples so far.
    if config.stateful or (field is not None and field <= config.model.window):
        return StatefulNetwork(network, config)
    return WindowLast(network, config)


@dataclass(frozen=True)
class NetworkExtractor(ABC):
    """What the three ways have in common.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.
    """

    network: Network
    config: Config

    @abstractmethod
    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample.

        Parameters
        ----------
        mixture : ndarray, shape (B, T)
            Samples.

        Returns
        -------
        ndarray, shape (B, T, K)
            The estimates.
        """

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """Nominal frequencies of the components, in Hz."""
        return self.config.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        """Sample rate, in Hz."""
        return self.config.data.rate_hz

    @property
    def causal(self) -> bool:
        """Whether no estimate depends on a later sample."""
        # A window ends at the sample that it estimates, in whichever direction a layer runs.
        return self.config.model.taps == 0

    @property
    def delay(self) -> int:
        """Delay of the estimates in samples: none."""
        return 0

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def _n_passes(self) -> int:
        """Passes a stream: one a component, unless one estimates all."""
        selector = self.config.model.selector
        return self.config.data.n_components if selector not in ("readout", "none") else 1

    def _selector(self, n_streams: int) -> Float[Tensor, "N K"] | None:
        """The selector of every pass, passes of a stream side by side."""
        if self.config.model.selector in ("readout", "none"):
            return None
        component = torch.arange(self.config.data.n_components, device=self._device)
        return one_hot(component.repeat(n_streams), self.config.data.n_components)

    def _features(self, mixture: Float[np.ndarray, "B T"]) -> Float[Tensor, "N T F"]:
        features = np.array(tap_features(mixture, self.config.model.taps), order="C")
        return torch.from_numpy(features).to(self._device).repeat_interleave(self._n_passes, dim=0)

    def _gather(self, outputs: Float[Tensor, "N T O"], n_streams: int) -> np.ndarray:
        """Outputs of all passes as (B, T, K)."""
        n_components = self.config.data.n_components
        estimates = outputs.unflatten(0, (n_streams, self._n_passes))
        estimates = estimates.transpose(1, 2).flatten(2)  # (B, T, passes x outputs)
        if estimates.shape[2] == 1:  # no selector: one estimate for every component
            estimates = estimates.expand(-1, -1, n_components)
        return estimates.cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class StatefulNetwork(NetworkExtractor):
    """One sample a step, the state carried; or the whole record at once, if it is not causal.

    A network trained on strided lanes has learned every B-th sample: it runs as B lanes in turn,
    and its state also holds the lane of the next sample.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.
    """

    @property
    def causal(self) -> bool:
        """Whether no estimate depends on a later sample."""
        return self.network.causal and super().causal

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample, from the initial state."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    @torch.inference_mode()
    def initial_state(self, n_streams: int) -> tuple[State, int]:
        """Return the network's state of all passes and lanes, and the lane of the next sample."""
        selector = self._selector(n_streams)
        n = n_streams * self._n_passes
        state: State = self.network.initial_state(n, selector)
        stride = self.config.stride
        return tuple(s.repeat_interleave(stride, dim=0) for s in state), 0

    @torch.inference_mode()
    def step(
        self, samples: Float[np.ndarray, "B T"], state: tuple[State, int]
    ) -> tuple[Float[np.ndarray, "B T K"], tuple[State, int]]:
        """Estimate every tone over a chunk of any length.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            The chunk.
        state : tuple
            State before it.

        Returns
        -------
        estimate : ndarray, shape (B, T, K)
            The estimates.
        state : tuple
            State after it.
        """
        n_streams, n_samples = samples.shape
        estimates = [np.empty((n_streams, 0, self.config.data.n_components))]
        taps, stride = self.config.model.taps, self.config.stride
        padded = np.pad(samples, ((0, 0), (taps, taps)), constant_values=0.0)
        n_block = max(1, SAMPLES_AT_ONCE // (n_streams * self._n_passes * stride)) * stride
        if not self.network.causal:  # later samples count: all in one block
            n_block = max(1, n_samples)
        for start in range(0, n_samples, n_block):
            stop = min(start + n_block, n_samples)
            features = self._features(padded[:, start : stop + 2 * taps])[:, taps : -taps or None]
            outputs, state = self._run_lanes(features, self._selector(n_streams), state)
            estimates.append(self._gather(outputs, n_streams))
        return np.concatenate(estimates, axis=1), state

    def swap_selector(self, state: tuple[State, int]) -> tuple[State, int]:
        """Give every component's pass the state of the pass before it.

        It continues as though the selector had pointed to that component until now. Without effect
        where one pass estimates all.

        Parameters
        ----------
        state : tuple
            State of a stream.

        Returns
        -------
        tuple
            The same with the passes rotated by one.
        """
        passes = (-1, self._n_passes, self.config.stride)
        tensors = (s.unflatten(0, passes).roll(1, dims=1).flatten(0, 2) for s in state[0])
        return tuple(tensors), state[1]

    def _run_lanes(
        self,
        features: Float[Tensor, "N T F"],
        selector: Float[Tensor, "N K"] | None,
        state: tuple[State, int],
    ) -> tuple[Tensor, tuple[State, int]]:
        """Deal samples to the lanes in turn: full rounds first, then the lanes left over."""
        stride = self.config.stride
        tensors, next_lane = state
        n, n_samples = features.shape[:2]
        # Roll the lanes so that the next one comes first.
        lanes = [t.unflatten(0, (n, stride)).roll(-next_lane, dims=1) for t in tensors]
        condition = None if selector is None else selector[:, None].expand(-1, stride, -1)
        n_full, n_left = divmod(n_samples, stride)
        outputs = []
        for first, n_rounds, n_lanes in ((0, n_full, stride), (n_full * stride, 1, n_left)):
            if n_rounds == 0 or n_lanes == 0:
                continue
            dealt = features[:, first : first + n_rounds * n_lanes]
            dealt = dealt.unflatten(1, (n_rounds, n_lanes)).transpose(1, 2).flatten(0, 1)
            before = tuple(lane[:, :n_lanes].flatten(0, 1) for lane in lanes)
            part = None if condition is None else condition[:, :n_lanes].flatten(0, 1)
            hidden, after = self.network(dealt, part, before)
            outputs.append(hidden.unflatten(0, (n, n_lanes)).transpose(1, 2).flatten(1, 2))
            lanes = [
                torch.cat([new.unflatten(0, (n, n_lanes)), lane[:, n_lanes:]], dim=1)
                for new, lane in zip(after, lanes, strict=True)
            ]
        rolled = tuple(lane.roll(next_lane, dims=1).flatten(0, 1) for lane in lanes)
        return torch.cat(outputs, dim=1), (rolled, (next_lane + n_samples) % stride)


@dataclass(frozen=True)
class WindowLast(NetworkExtractor):
    """The estimate of a sample is the last output of the window that ends there.

    The state is the features of the last L - 1 samples. Before the first full window the estimate
    comes from the samples so far.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.
    """

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample."""
        features = self._features(mixture)
        return self._estimate(features, features[:, :0], len(mixture))

    def initial_state(self, n_streams: int) -> Float[Tensor, "N 0 F"]:
        """Return the features of no samples."""
        return self._features(np.empty((n_streams, 0)))

    def step(
        self, samples: Float[np.ndarray, "B T"], state: Float[Tensor, "N M F"]
    ) -> tuple[Float[np.ndarray, "B T K"], Float[Tensor, "N M2 F"]]:
        """Estimate every tone over a chunk of any length.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            The chunk.
        state : Tensor, shape (N, M, F)
            Features of the samples before it, at most L - 1.

        Returns
        -------
        estimate : ndarray, shape (B, T, K)
            The estimates.
        state : Tensor, shape (N, M2, F)
            Features for the next chunk.
        """
        features = self._features(samples)
        n_history = self.config.model.window - 1
        extended = torch.cat([state, features], dim=1)
        state_after = extended[:, max(0, extended.shape[1] - n_history) :]
        return self._estimate(features, state, len(samples)), state_after

    def swap_selector(self, state: Float[Tensor, "N M F"]) -> Float[Tensor, "N M F"]:
        """Return the state as it is: a window uses only the selector of its last sample."""
        return state

    @torch.inference_mode()
    def _estimate(
        self, features: Float[Tensor, "N T F"], history: Float[Tensor, "N M F"], n_streams: int
    ) -> Float[np.ndarray, "B T K"]:
        length = self.config.model.window
        extended = torch.cat([history, features], dim=1)
        selector = self._selector(n_streams)
        outputs = [self._prefix(extended[:, : length - 1], selector)[:, history.shape[1] :]]
        if extended.shape[1] >= length:
            windows = extended.unfold(1, length, 1).transpose(2, 3)  # (N, W, L, F)
            outputs.append(_run_windows(self.network, windows, selector, last=True)[:, :, 0])
        return self._gather(torch.cat(outputs, dim=1), n_streams)

    def _prefix(
        self, features: Float[Tensor, "N M F"], selector: Float[Tensor, "N K"] | None
    ) -> Float[Tensor, "N M O"]:
        """Estimates from the samples so far, each the last output of a shorter window."""
        if features.shape[1] == 0:
            return features.new_zeros((len(features), 0, self.network.n_outputs))
        if self.network.causal:  # then one pass gives them all
            return self.network(
                features, selector, self.network.initial_state(len(features), selector)
            )[0]
        shorter = [
            _run_windows(self.network, features[:, None, :n], selector, last=True)[:, :, 0]
            for n in range(1, features.shape[1] + 1)
        ]
        return torch.cat(shorter, dim=1)


@dataclass(frozen=True)
class WindowMean(NetworkExtractor):
    """The estimate of a sample is the mean over all windows that hold it.

    Not causal: the last of these windows ends L - 1 samples later.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.
    """

    @property
    def causal(self) -> bool:
        """Whether no estimate depends on a later sample: never."""
        return False

    @torch.inference_mode()
    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample; a record shorter than L is one window."""
        features = self._features(mixture)
        length = min(self.config.model.window, features.shape[1])
        windows = features.unfold(1, length, 1).transpose(2, 3)
        outputs = _run_windows(self.network, windows, self._selector(len(mixture)), last=False)
        n_windows = outputs.shape[1]
        total = outputs.new_zeros((len(outputs), features.shape[1], outputs.shape[3]))
        count = outputs.new_zeros((features.shape[1], 1))
        for position in range(length):  # sample = window + position
            total[:, position : position + n_windows] += outputs[:, :, position]
            count[position : position + n_windows] += 1
        return self._gather(total / count, len(mixture))


def _run_windows(
    network: Network,
    windows: Float[Tensor, "N W L F"],
    selector: Float[Tensor, "N K"] | None,
    *,
    last: bool,
) -> Float[Tensor, "N W P O"]:
    """Outputs of many windows, each from the initial state: all positions or the last."""
    n, n_windows = windows.shape[:2]
    outputs = []
    for stream in range(n):
        for first in range(0, n_windows, WINDOWS_AT_ONCE):
            part = windows[stream, first : first + WINDOWS_AT_ONCE]
            condition = None if selector is None else selector[stream].expand(len(part), -1)
            positions = network(part, condition, network.initial_state(len(part), condition))[0]
            outputs.append(positions[:, -1:] if last else positions)
    return torch.cat(outputs).unflatten(0, (n, n_windows))
