"""A network as a program for the interpreter in `kernels.network_vm`, and its layout in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from tonesieve.kernels.tiling import LINE, TILE_WIDTH


@dataclass(frozen=True)
class Program:
    """A network for `kernels.network_vm.interpreter`.

    Parameters
    ----------
    instructions : ndarray of int32, shape (I, 8)
        One row an instruction, as `kernels.network_vm.opcodes` lays it out.
    weights : ndarray of float32, shape (W,)
        All weights, each array from a cache line on.
    memory : ndarray of float32, shape (P, M)
        Initial memory of every pass: one a component, or one for all.
    selector_offsets : ndarray of int64, shape (N,)
        Where the selector stays in memory at every sample.
    output_offset : int
        Where the outputs begin in memory.
    n_outputs : int
        Outputs a pass.
    """

    instructions: Int32[np.ndarray, "I 8"]
    weights: Float32[np.ndarray, " W"]
    memory: Float32[np.ndarray, "P M"]
    selector_offsets: Int64[np.ndarray, " N"]
    output_offset: int
    n_outputs: int


def aligned(array: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
    """Copy an array to the begin of a cache line; a vector across two is read at half speed.

    Parameters
    ----------
    array : ndarray of float32, shape (N,)
        Any array.

    Returns
    -------
    ndarray of float32, shape (N,)
        The copy.
    """
    padded = np.zeros(array.size + LINE, dtype=array.dtype)
    first = -(padded.ctypes.data // padded.itemsize) % LINE
    padded[first : first + array.size] = array
    return padded[first : first + array.size]


class ProgramBuilder:
    """Collects instructions and weights, and allocates memory, in whole cache lines."""

    def __init__(self) -> None:
        self.instructions: list[list[int]] = []
        self.weights: list[np.ndarray] = []
        self.n_weights = 0
        self.n_memory = 0

    def emit(
        self,
        code: int,
        n: int,
        m: int,
        x: int,
        y: int,
        weights: int = 0,
        state: int = 0,
        extra: int = 0,
    ) -> None:
        """Append an instruction, as `kernels.network_vm.opcodes` lays it out."""
        self.instructions.append([code, n, m, x, y, weights, state, extra])

    def allocate(self, n: int) -> int:
        """Reserve memory for n numbers, and return its offset."""
        offset = self.n_memory
        self.n_memory += -(-n // LINE) * LINE
        return offset

    def store(self, *arrays: np.ndarray) -> int:
        """Append arrays to the weights, one after the other, and return their offset."""
        offset = self.n_weights
        for array in arrays:
            self.weights.append(np.ascontiguousarray(array, dtype=np.float32).ravel())
            self.n_weights += array.size
        padding = -self.n_weights % LINE
        self.weights.append(np.zeros(padding, dtype=np.float32))
        self.n_weights += padding
        return offset

    def store_affine(self, bias: np.ndarray, weight: np.ndarray) -> int:
        """Append bias and matrix (outputs, inputs), in tiles and lines, and return the offset."""
        rows = np.pad(weight.T, ((0, 0), (0, -len(weight) % LINE)))
        tiled = rows.shape[1] - rows.shape[1] % TILE_WIDTH
        tiles = rows[:, :tiled].reshape(len(rows), -1 if tiled else 0, TILE_WIDTH)
        lines = rows[:, tiled:].reshape(len(rows), (rows.shape[1] - tiled) // LINE, LINE)
        offset = self.store(bias)
        self.store(tiles.transpose(1, 0, 2), lines.transpose(1, 0, 2))
        return offset

    def finish(
        self,
        memory: Float32[np.ndarray, "P M"],
        selector_offsets: Int64[np.ndarray, " N"],
        output_offset: int,
        n_outputs: int,
    ) -> Program:
        """Return the whole as a program."""
        return Program(
            np.array(self.instructions, dtype=np.int32),
            aligned(np.concatenate(self.weights)),
            memory,
            selector_offsets,
            output_offset,
            n_outputs,
        )
