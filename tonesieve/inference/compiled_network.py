"""Trained recurrent networks without PyTorch: samples in, estimates out, in about a microsecond.

`CompiledNetwork` is an extractor like any other; `SampleRunner` takes one sample at a time. Both
run the program of `inference.compiler` through the interpreter of `kernels.network_vm`, whose
outputs do not depend on how many streams or samples it takes at once. Until that is compiled,
`inference.numpy_backend` runs, equal to rounding.
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
from tonesieve.inference.numpy_backend import run_numpy
from tonesieve.inference.program import Program, aligned
from tonesieve.kernels.tiling import LINE

CORE = "tonesieve.kernels.network_vm.interpreter"
# Chosen, not tuned: a core that was compiled before has loaded by then; any other takes seconds.
COMPILE_WAIT_S = 0.5
NUMPY_CHUNK = 500  # chosen: samples that NumPy runs before it looks for the core again
# Memory of every pass and lane of every stream, and the lane of the next sample.
State = tuple[Float32[np.ndarray, "B P S M"], int]


@dataclass(frozen=True)
class CompiledNetwork:
    """A trained recurrent network, its state carried from sample to sample.

    One that was trained on strided lanes runs every S-th sample: S states take turns.

    Parameters
    ----------
    program : Program
        The network.
    config : Config
        The run's settings.
    """

    program: Program
    config: Config

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """Nominal frequencies of the tones."""
        return self.config.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        """Sampling rate."""
        return self.config.data.rate_hz

    @property
    def causal(self) -> bool:
        """True: no estimate depends on later samples."""
        return True

    @property
    def delay(self) -> int:
        """0 samples."""
        return 0

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample, from the initial state."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    def initial_state(self, n_streams: int) -> State:
        """Return the state of streams without samples so far."""
        passes = self.program.memory[None, :, None]
        return np.tile(passes, (n_streams, 1, self.config.stride, 1)), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: State
    ) -> tuple[Float[np.ndarray, "B T K"], State]:
        """Process a chunk of any length, and return the estimates and the next state.

        The state given is not changed.
        """
        program, stride = self.program, self.config.stride
        before, next_lane = state
        memory = before.copy()
        n_streams, n_samples = samples.shape
        n_passes = len(program.memory)
        outputs = np.empty((n_streams, n_samples, n_passes, program.n_outputs))
        for first in range(min(stride, n_samples)):
            lane = (next_lane + first) % stride
            with np.errstate(over="ignore"):  # what is too large for float32 is a gap, too
                lane_samples = samples[:, first::stride].astype(np.float32)
            inputs = np.repeat(lane_samples, n_passes, axis=0)
            rows = aligned(memory[:, :, lane].ravel()).reshape(-1, memory.shape[3])
            out = _run(program, rows, inputs)
            memory[:, :, lane] = rows.reshape(n_streams, n_passes, memory.shape[3])
            by_pass = out.reshape(n_streams, n_passes, lane_samples.shape[1], program.n_outputs)
            outputs[:, first::stride] = by_pass.transpose(0, 2, 1, 3)
        return self._merge_passes(outputs), (memory, (next_lane + n_samples) % stride)

    def swap_selector(self, state: State) -> State:
        """Let every tone's pass continue from the state of the tone before it.

        The selector is replaced by the pass's own. Without effect where one pass estimates all.
        """
        memory = np.roll(state[0], 1, axis=1)
        offsets = self.program.selector_offsets
        memory[..., offsets] = self.program.memory[:, None, offsets]
        return memory, state[1]

    def stepper(self) -> SampleRunner:
        """Return a runner of one stream, sample by sample, the fastest way from Python."""
        return SampleRunner(self.program, self.config)

    def _merge_passes(self, outputs: Float[np.ndarray, "B T P O"]) -> Float[np.ndarray, "B T K"]:
        flat = outputs.reshape(*outputs.shape[:2], outputs.shape[2] * outputs.shape[3])
        n_components = self.config.data.n_components
        return flat if flat.shape[2] == n_components else np.repeat(flat, n_components, axis=2)


def _run(
    program: Program, memory: Float32[np.ndarray, "R M"], samples: Float32[np.ndarray, "R T"]
) -> Float32[np.ndarray, "R T O"]:
    """By the compiled core, or by NumPy, a chunk at a time, until the core is ready."""
    out = np.empty((*samples.shape, program.n_outputs), dtype=np.float32)
    done, n_samples = 0, samples.shape[1]
    while (core := compiled_core(COMPILE_WAIT_S)) is None and done < n_samples:
        chunk = slice(done, done + NUMPY_CHUNK)
        out[:, chunk] = run_numpy(program, memory, samples[:, chunk])
        done += NUMPY_CHUNK
    if core is not None and done < n_samples:
        rest = np.ascontiguousarray(samples[:, done:, None])
        outputs = np.empty(out[:, done:].shape, dtype=np.float32)
        instructions, weights = program.instructions, program.weights
        core.run_block(
            instructions, weights, memory, rest, program.output_offset, program.n_outputs, outputs
        )
        if done == 0:
            return outputs
        out[:, done:] = outputs
    return out


def compiled_core(wait_s: float | None = None) -> Any:
    """Load `kernels.network_vm.interpreter`, which compiles it once on a machine.

    A thread of its own compiles it, which the program's end waits for; from then on it is read
    from a file.

    Parameters
    ----------
    wait_s : float, optional
        How long to wait, in seconds from the first call of this function; by default until it is
        compiled.

    Returns
    -------
    module or None
        The interpreter; None where it is not yet compiled.
    """
    thread, started = _loading()
    remaining = None if wait_s is None else max(0.0, started + wait_s - time.monotonic())
    thread.join(remaining)
    return None if thread.is_alive() else import_module(CORE)


@cache
def _loading() -> tuple[threading.Thread, float]:
    thread = threading.Thread(target=import_module, args=(CORE,), name="compiler")
    thread.start()
    return thread, time.monotonic()


class SampleRunner(partial[None]):
    """Runner of one stream: call it with a sample, and read ``estimates``.

    ``estimates``, shape (P, O), float32, is a view that the next sample changes. The runner is a
    partial application of the compiled function, since a method in between would cost a tenth. It
    waits for the compiler, where that is still at work.

    Parameters
    ----------
    program : Program
        The network.
    config : Config
        The run's settings.

    Raises
    ------
    ValueError
        For a network of strided lanes, which `CompiledNetwork` alone steps.

    Examples
    --------
    >>> take = network.stepper()  # doctest: +SKIP
    >>> take(0.5)  # doctest: +SKIP
    >>> take.estimates  # doctest: +SKIP
    """

    estimates: Float32[np.ndarray, "P O"]

    def __new__(cls, program: Program, config: Config) -> SampleRunner:
        if config.stride > 1:
            raise ValueError("strided lanes are stepped by CompiledNetwork alone")
        n_passes, n_memory = program.memory.shape
        header = [len(program.instructions), program.weights.size, n_passes, n_memory, 0]
        ints = np.concatenate([np.array(header, dtype=np.int32), program.instructions.ravel()])
        first = np.pad(ints, (0, -ints.size % LINE)).view(np.float32)
        unit = aligned(np.concatenate([first, program.weights, program.memory.ravel()]))
        runner = super().__new__(cls, compiled_core().run_sample, unit)
        memory = unit[-program.memory.size :].reshape(n_passes, n_memory)
        offset = program.output_offset
        runner.estimates = memory[:, offset : offset + program.n_outputs]
        return runner
