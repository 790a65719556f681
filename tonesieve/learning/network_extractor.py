"""A trained network as an extractor like any other.

Three ways through, by what the network was trained on: a carried state (L=1), the last output of
the window that ends at each sample, or the mean over all windows that hold it. Axes: B streams,
T samples, K components, L window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.learning.data.batches import one_hot, tap_features
from tonesieve.learning.models.base import Network, State

# Windows that go through the network at once: bounds memory, and keeps buffers in cache.
WINDOWS_AT_ONCE = 2048
# Samples, of all streams together, that a stateful network takes at once, for the same reasons.
SAMPLES_AT_ONCE = 2**18


def as_extractor(network: Network, config: Config) -> StatefulNetwork | WindowLast | WindowMean:
    """The extractor that this network is, its weights as they stand."""
    network.eval()
    if config.evaluation.join == "mean" and not config.stateful:
        return WindowMean(network, config)
    field = config.model.receptive_field
    # What remembers no more than a window gives the same for the window and for all before.
    if config.stateful or (field is not None and field <= config.model.window):
        return StatefulNetwork(network, config)
    return WindowLast(network, config)


@dataclass(frozen=True)
class NetworkExtractor(ABC):
    """What the three ways have in common."""

    network: Network
    config: Config

    @abstractmethod
    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample."""

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        return self.config.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        return self.config.data.rate_hz

    @property
    def causal(self) -> bool:
        """Whether it needs no sample later than the one that it answers."""
        # A window ends at the sample that it answers, whichever way it is read.
        return self.config.model.taps == 0

    @property
    def delay(self) -> int:
        return 0

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def _n_passes(self) -> int:
        """Passes a stream needs: one a component, unless one answers all."""
        selector = self.config.model.selector
        return self.config.data.n_components if selector not in ("readout", "none") else 1

    def _selector(self, n_streams: int) -> Float[Tensor, "N K"] | None:
        """What each of the ``n_streams`` x passes is told, passes of a stream side by side."""
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
        answers = outputs.unflatten(0, (n_streams, self._n_passes))
        answers = answers.transpose(1, 2).flatten(2)  # B, T, passes x outputs
        if answers.shape[2] == 1:  # no selector: one answer stands for every component
            answers = answers.expand(-1, -1, n_components)
        return answers.cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class StatefulNetwork(NetworkExtractor):
    """One sample a step, the state carried; or the whole record both ways, if it is not causal.

    A network trained on strided lanes has learned every B-th sample: it runs as B states in
    turn, and its state also knows whose turn it is.
    """

    @property
    def causal(self) -> bool:
        return self.network.causal and super().causal

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample, from the initial state."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    @torch.inference_mode()
    def initial_state(self, n_streams: int) -> tuple[State, int]:
        """Network state of all passes and lanes, and the lane whose turn it is."""
        selector = self._selector(n_streams)
        n = n_streams * self._n_passes
        state: State = self.network.initial_state(n, selector)
        stride = self.config.stride
        return tuple(s.repeat_interleave(stride, dim=0) for s in state), 0

    @torch.inference_mode()
    def step(
        self, samples: Float[np.ndarray, "B T"], state: tuple[State, int]
    ) -> tuple[Float[np.ndarray, "B T K"], tuple[State, int]]:
        """Answer a chunk of any length."""
        n_streams, n_samples = samples.shape
        answers = [np.empty((n_streams, 0, self.config.data.n_components))]
        taps, stride = self.config.model.taps, self.config.stride
        padded = np.pad(samples, ((0, 0), (taps, taps)), constant_values=0.0)
        at_once = max(1, SAMPLES_AT_ONCE // (n_streams * self._n_passes * stride)) * stride
        if not self.network.causal:  # what comes later counts: all in one piece
            at_once = max(1, n_samples)
        for start in range(0, n_samples, at_once):
            stop = min(start + at_once, n_samples)
            features = self._features(padded[:, start : stop + 2 * taps])[:, taps : -taps or None]
            outputs, state = self._turns(features, self._selector(n_streams), state)
            answers.append(self._gather(outputs, n_streams))
        return np.concatenate(answers, axis=1), state

    def swap_selector(self, state: tuple[State, int]) -> tuple[State, int]:
        """The state with every tone's pass going on from that of the tone before it.

        As though the selector had named that one until now; no matter where one pass answers all.
        """
        passes = (-1, self._n_passes, self.config.stride)
        tensors = (s.unflatten(0, passes).roll(1, dims=1).flatten(0, 2) for s in state[0])
        return tuple(tensors), state[1]

    def _turns(
        self,
        features: Float[Tensor, "N T F"],
        selector: Float[Tensor, "N K"] | None,
        state: tuple[State, int],
    ) -> tuple[Tensor, tuple[State, int]]:
        """Deal samples to the lanes in turn: whole rounds first, then the lanes left over."""
        stride = self.config.stride
        tensors, turn = state
        n, n_samples = features.shape[:2]
        # Roll the lanes so that the one whose turn it is comes first.
        lanes = [t.unflatten(0, (n, stride)).roll(-turn, dims=1) for t in tensors]
        told = None if selector is None else selector[:, None].expand(-1, stride, -1)
        rounds, rest = divmod(n_samples, stride)
        outputs = []
        for first, n_rounds, n_lanes in ((0, rounds, stride), (rounds * stride, 1, rest)):
            if n_rounds == 0 or n_lanes == 0:
                continue
            dealt = features[:, first : first + n_rounds * n_lanes]
            dealt = dealt.unflatten(1, (n_rounds, n_lanes)).transpose(1, 2).flatten(0, 1)
            taken = tuple(lane[:, :n_lanes].flatten(0, 1) for lane in lanes)
            part = None if told is None else told[:, :n_lanes].flatten(0, 1)
            answer, after = self.network(dealt, part, taken)
            outputs.append(answer.unflatten(0, (n, n_lanes)).transpose(1, 2).flatten(1, 2))
            lanes = [
                torch.cat([new.unflatten(0, (n, n_lanes)), lane[:, n_lanes:]], dim=1)
                for new, lane in zip(after, lanes, strict=True)
            ]
        rolled = tuple(lane.roll(turn, dims=1).flatten(0, 1) for lane in lanes)
        return torch.cat(outputs, dim=1), (rolled, (turn + n_samples) % stride)


@dataclass(frozen=True)
class WindowLast(NetworkExtractor):
    """The estimate of a sample is the last output of the window that ends there.

    The state is what has been heard of the last L - 1 samples; before the first full window the
    estimate comes from the samples so far.
    """

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample."""
        features = self._features(mixture)
        heard = features[:, :0]
        return self._answer(features, heard, len(mixture))

    def initial_state(self, n_streams: int) -> Float[Tensor, "N 0 F"]:
        """Nothing heard yet."""
        return self._features(np.empty((n_streams, 0)))

    def step(
        self, samples: Float[np.ndarray, "B T"], state: Float[Tensor, "N M F"]
    ) -> tuple[Float[np.ndarray, "B T K"], Float[Tensor, "N M2 F"]]:
        """Answer a chunk of any length."""
        features = self._features(samples)
        keep = self.config.model.window - 1
        heard = torch.cat([state, features], dim=1)
        after = heard[:, max(0, heard.shape[1] - keep) :]
        return self._answer(features, state, len(samples)), after

    def swap_selector(self, state: Float[Tensor, "N M F"]) -> Float[Tensor, "N M F"]:
        """As it is: a window knows only the selector of its last sample."""
        return state

    @torch.inference_mode()
    def _answer(
        self, features: Float[Tensor, "N T F"], heard: Float[Tensor, "N M F"], n_streams: int
    ) -> Float[np.ndarray, "B T K"]:
        length = self.config.model.window
        whole = torch.cat([heard, features], dim=1)
        selector = self._selector(n_streams)
        outputs = [self._prefix(whole[:, : length - 1], selector)[:, heard.shape[1] :]]
        if whole.shape[1] >= length:
            windows = whole.unfold(1, length, 1).transpose(2, 3)  # N, W, L, F
            outputs.append(_through(self.network, windows, selector, last=True)[:, :, 0])
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
            _through(self.network, features[:, None, :n], selector, last=True)[:, :, 0]
            for n in range(1, features.shape[1] + 1)
        ]
        return torch.cat(shorter, dim=1)


@dataclass(frozen=True)
class WindowMean(NetworkExtractor):
    """The estimate of a sample is the mean over all windows that hold it.

    Not causal: the last of these windows ends L - 1 samples later.
    """

    @property
    def causal(self) -> bool:
        return False

    @torch.inference_mode()
    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample; a record shorter than L is one window."""
        features = self._features(mixture)
        length = min(self.config.model.window, features.shape[1])
        windows = features.unfold(1, length, 1).transpose(2, 3)
        outputs = _through(self.network, windows, self._selector(len(mixture)), last=False)
        n_windows = outputs.shape[1]
        total = outputs.new_zeros((len(outputs), features.shape[1], outputs.shape[3]))
        count = outputs.new_zeros((features.shape[1], 1))
        for position in range(length):  # sample = window + position
            total[:, position : position + n_windows] += outputs[:, :, position]
            count[position : position + n_windows] += 1
        return self._gather(total / count, len(mixture))


def _through(
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
        for at in range(0, n_windows, WINDOWS_AT_ONCE):
            part = windows[stream, at : at + WINDOWS_AT_ONCE]
            told = None if selector is None else selector[stream].expand(len(part), -1)
            answer = network(part, told, network.initial_state(len(part), told))[0]
            outputs.append(answer[:, -1:] if last else answer)
    return torch.cat(outputs).unflatten(0, (n, n_windows))
