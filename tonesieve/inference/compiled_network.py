"""Trained recurrent networks without torch: samples in, estimates out, in about a microsecond.

`CompiledNetwork` is an extractor like any other; `SampleRunner` takes one sample at a time. Both run
the program of `packing` through the core in `kernels.network_vm.interpreter`, whose answers do not depend on how
many streams or samples it gets at once; until that is compiled NumPy answers, to rounding the same.
Axes: B streams, P passes (one a component, or one for all), T samples, K components.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from tonesieve.config.config import Config
from tonesieve.inference.compiler import Program, aligned
from tonesieve.inference.numpy_backend import run_numpy
from tonesieve.kernels.network_vm.opcodes import LINE

CORE = "tonesieve.kernels.network_vm.interpreter"
# A core that was compiled before is there by then; any other takes seconds.
COMPILE_WAIT_S = 0.5
PIECE = 500  # samples that NumPy answers before it looks again
# Memory of every pass and lane of every stream, and the lane whose turn it is.
State = tuple[Float32[np.ndarray, "B P S M"], int]


@dataclass(frozen=True)
class CompiledNetwork:
    """A trained recurrent network, its state carried from sample to sample.

    One that was trained on strided lanes has learned every S-th sample: it runs as S states in
    turn.
    """

    packed: Program
    config: Config

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        return self.config.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        return self.config.data.rate_hz

    @property
    def causal(self) -> bool:
        return True

    @property
    def delay(self) -> int:
        return 0

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample, from the initial state."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    def initial_state(self, n_streams: int) -> State:
        """Streams that have heard nothing."""
        passes = self.packed.memory[None, :, None]
        return np.tile(passes, (n_streams, 1, self.config.stride, 1)), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: State
    ) -> tuple[Float[np.ndarray, "B T K"], State]:
        """Answer a chunk of any length; the state given stays as it is."""
        packed, stride = self.packed, self.config.stride
        before, turn = state
        memory = before.copy()
        n_streams, n_samples = samples.shape
        n_passes = len(packed.memory)
        answers = np.empty((n_streams, n_samples, n_passes, packed.n_outputs))
        for first in range(min(stride, n_samples)):
            lane = (turn + first) % stride
            with np.errstate(over="ignore"):  # what is too large is a gap, too
                own = samples[:, first::stride].astype(np.float32)
            given = np.repeat(own, n_passes, axis=0)
            rows = aligned(memory[:, :, lane].ravel()).reshape(-1, memory.shape[3])
            out = _run(packed, rows, given)
            memory[:, :, lane] = rows.reshape(n_streams, n_passes, memory.shape[3])
            apart = out.reshape(n_streams, n_passes, own.shape[1], packed.n_outputs)
            answers[:, first::stride] = apart.transpose(0, 2, 1, 3)
        return self._gather(answers), (memory, (turn + n_samples) % stride)

    def swap_selector(self, state: State) -> State:
        """The state with every tone's pass going on from that of the tone before it.

        As though the selector had named that one until now; no matter where one pass answers all.
        """
        memory = np.roll(state[0], 1, axis=1)
        places = self.packed.told
        memory[..., places] = self.packed.memory[:, None, places]
        return memory, state[1]

    def stepper(self) -> SampleRunner:
        """What takes one stream sample by sample, the fastest way from Python."""
        return SampleRunner(self.packed, self.config)

    def _gather(self, answers: Float[np.ndarray, "B T P O"]) -> Float[np.ndarray, "B T K"]:
        flat = answers.reshape(*answers.shape[:2], answers.shape[2] * answers.shape[3])
        n_components = self.config.data.n_components
        return flat if flat.shape[2] == n_components else np.repeat(flat, n_components, axis=2)


def _run(
    packed: Program, memory: Float32[np.ndarray, "R M"], samples: Float32[np.ndarray, "R T"]
) -> Float32[np.ndarray, "R T O"]:
    """By the compiled core, or by NumPy, a piece at a time, as long as that is not ready."""
    out = np.empty((*samples.shape, packed.n_outputs), dtype=np.float32)
    done, n_samples = 0, samples.shape[1]
    while (cells := compiled_core(COMPILE_WAIT_S)) is None and done < n_samples:
        part = slice(done, done + PIECE)
        out[:, part] = run_numpy(packed, memory, samples[:, part])
        done += PIECE
    if cells is not None and done < n_samples:
        rest, answers = np.ascontiguousarray(samples[:, done:, None]), out[:, done:]
        found = np.empty(answers.shape, dtype=np.float32)
        program, weights, at = packed.program, packed.weights, packed.answers_at
        cells.run_block(program, weights, memory, rest, at, packed.n_outputs, found)
        if done == 0:
            return found
        out[:, done:] = found
    return out


def compiled_core(patience_s: float | None = None) -> Any:
    """The module `kernels.network_vm.interpreter`, or None where it takes longer than this until it is compiled.

    Counted from when it was first asked for; None for patience: wait for it. It is compiled once
    on a machine, by a thread of its own that the program's end waits for, and read from a file from
    then on.
    """
    thread, began = _loading()
    left = None if patience_s is None else max(0.0, began + patience_s - time.monotonic())
    thread.join(left)
    return None if thread.is_alive() else import_module(CORE)


@cache
def _loading() -> tuple[threading.Thread, float]:
    thread = threading.Thread(target=import_module, args=(CORE,), name="compiler")
    thread.start()
    return thread, time.monotonic()


class SampleRunner(partial[None]):
    """One stream: call it with a sample, and ``answers`` are the estimates of all tones, float32.

    A partial application of the compiled step, since a method in between would cost a tenth. Waits
    for the compiler, where that is still at work.

    Example:
        take = network.stepper()
        take(0.5)
        take.answers  # (P, O): a view that the next sample changes
    """

    answers: Float32[np.ndarray, "P O"]

    def __new__(cls, packed: Program, config: Config) -> SampleRunner:
        if config.stride > 1:
            raise ValueError("strided lanes are stepped by CompiledNetwork alone")
        n_passes, n_memory = packed.memory.shape
        head = [len(packed.program), packed.weights.size, n_passes, n_memory, 0]
        ints = np.concatenate([np.array(head, dtype=np.int32), packed.program.ravel()])
        first = np.pad(ints, (0, -ints.size % LINE)).view(np.float32)
        unit = aligned(np.concatenate([first, packed.weights, packed.memory.ravel()]))
        stepper = super().__new__(cls, compiled_core().run_sample, unit)
        memory = unit[-packed.memory.size :].reshape(n_passes, n_memory)
        at = packed.answers_at
        stepper.answers = memory[:, at : at + packed.n_outputs]
        return stepper
