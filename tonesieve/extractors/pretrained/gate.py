"""The gating network without PyTorch: weights of the filters and widths of the bands.

Axes: B streams, K tones, S tones of all streams (B K), N steps, R gating intervals, M filters,
H hidden units, O outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.pretrained.front_end import BankOutput
from tonesieve.inference.weights import load_pretrained
from tonesieve.kernels.kalman_bank.gating import (
    N_OUTPUTS,
    gate_outputs,
    mix_phasors,
    pack_dense,
    run_gru,
)
from tonesieve.kernels.simd import WIDTH
from tonesieve.util.threads import over_rows

# Derived: equal weights of all filters and of silence, before the first gating interval ends.
INITIAL_WEIGHT = 1 / (WIDTH + 1)


class GateOutput(NamedTuple):
    """What the gating network gives at the ends of gating intervals.

    Parameters
    ----------
    hidden : ndarray, shape (S, R, H)
        Hidden states.
    outputs : ndarray, shape (S, R, O)
        Logits of the filters and of silence, and the band's logarithm over the mixture's.
    weights : ndarray, shape (S, R, M)
        Weights of the filters; what they lack to 1 is the weight of silence.
    log_std : ndarray, shape (S, R)
        Logarithm of the band's half-width.
    phasors : ndarray, shape (S, R, 2, M)
        Phasors of the filters, real and imaginary parts.
    variances : ndarray, shape (S, R, M)
        Their variances.
    """

    hidden: Float[np.ndarray, "S R H"]
    outputs: Float[np.ndarray, "S R O"]
    weights: Float[np.ndarray, "S R M"]
    log_std: Float[np.ndarray, "S R"]
    phasors: Float[np.ndarray, "S R 2 M"]
    variances: Float[np.ndarray, "S R M"]


class GatingWeights:
    """Weights of the gating network, packed for the kernels.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        The network's tensors by name, as a file of weights holds them.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        def packed(name: str, suffix: str = "") -> np.ndarray:
            parts = (tensors[f"{name}.weight{suffix}"], tensors[f"{name}.bias{suffix}"])
            return pack_dense(*(np.asarray(part, dtype=float) for part in parts))

        self.w_input, self.w_hidden = packed("gru", "_ih_l0"), packed("gru", "_hh_l0")
        self.w_output, self.w_mix, self.w_fusion = packed("head"), packed("mix"), packed("two")
        self.n_hidden = tensors["gru.weight_hh_l0"].shape[1]
        parts = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in sorted(tensors))
        self.digest = hashlib.sha256(parts).hexdigest()[:16]

    def initial_output(self, n_tones: int) -> GateOutput:
        """Return what holds before the first gating interval ends.

        Parameters
        ----------
        n_tones : int
            S, tones of all streams.

        Returns
        -------
        GateOutput
            Of one interval.
        """
        return GateOutput(
            np.zeros((n_tones, 1, self.n_hidden)),
            np.zeros((n_tones, 1, N_OUTPUTS)),
            np.full((n_tones, 1, WIDTH), INITIAL_WEIGHT),
            np.full((n_tones, 1), np.inf),
            np.zeros((n_tones, 1, 2, WIDTH)),
            np.zeros((n_tones, 1, WIDTH)),
        )

    def run(self, bank: BankOutput, previous: GateOutput) -> GateOutput:
        """Run the network over the gating intervals of a block.

        Parameters
        ----------
        bank : BankOutput
            Output of the filter bank.
        previous : GateOutput
            The network's output before it, of one interval or more.

        Returns
        -------
        GateOutput
            Of all intervals of ``previous`` and of the block.
        """
        n_streams, n_intervals, n_tones = bank.variances.shape[:3]
        shape = (n_streams * n_tones, n_intervals)
        features = _by_tone(bank.features)
        phasors = _by_tone(bank.phasors[:, bank.ends])
        variances = _by_tone(bank.variances)
        states, outputs = np.empty((*shape, self.n_hidden)), np.empty((*shape, N_OUTPUTS))
        hidden = previous.hidden[:, -1].copy()
        weights, log_std = np.empty((*shape, WIDTH)), np.empty(shape)

        def run(rows: slice) -> None:
            run_gru(
                features[rows], hidden[rows], self.w_input, self.w_hidden, self.w_output,
                states[rows], outputs[rows],
            )  # fmt: skip
            gate_outputs(
                outputs[rows], phasors[rows], variances[rows], weights[rows], log_std[rows]
            )

        over_rows(run, shape[0])
        block = GateOutput(states, outputs, weights, log_std, phasors, variances)
        return GateOutput(
            *(np.concatenate(pair, axis=1) for pair in zip(previous, block, strict=True))
        )


@cache
def load_gating(path: str) -> GatingWeights:
    """Load the weights of a file, once.

    Parameters
    ----------
    path : str
        A file that ``tonesieve pretrain`` has written; empty: the package's own.

    Returns
    -------
    GatingWeights
        The weights.

    Raises
    ------
    UserError
        If there is no such file, or it holds something else.
    """
    return GatingWeights(load_pretrained(path or None)[0])


def weighted_phasors(
    phasors: Float[np.ndarray, "B N K 2 M"],
    weights: Float[np.ndarray, "S R M"],
    intervals: np.ndarray,
) -> Complex[np.ndarray, "B N K"]:
    """Mix the filters' phasors by the weights of each step's gating interval.

    Parameters
    ----------
    phasors : ndarray, shape (B, N, K, 2, M)
        Real and imaginary parts.
    weights : ndarray, shape (S, R, M)
        Weights of the filters.
    intervals : ndarray of int, shape (N,)
        Index of the interval whose weights hold at each step.

    Returns
    -------
    ndarray of complex, shape (B, N, K)
        Phasors of the mixture.
    """
    n_streams, n_steps, k = phasors.shape[:3]
    mixed = np.empty((n_streams, n_steps, k, 2))
    mix_phasors(phasors, weights.reshape(n_streams, k, weights.shape[1], WIDTH), intervals, mixed)
    return mixed[..., 0] + 1j * mixed[..., 1]


def by_stream(array: np.ndarray, n_streams: int) -> np.ndarray:
    """Split the tones of all streams by stream.

    Parameters
    ----------
    array : ndarray, shape (S, R, ...)
        An axis of all tones first.
    n_streams : int
        B.

    Returns
    -------
    ndarray, shape (B, R, K, ...)
        The same numbers.
    """
    if n_streams == 0:
        return np.moveaxis(array.reshape(0, 1, *array.shape[1:]), 1, 2)
    return np.moveaxis(array.reshape(n_streams, -1, *array.shape[1:]), 1, 2)


def _by_tone(array: np.ndarray) -> np.ndarray:
    """(B, R, K, ...) as (S, R, ...)."""
    moved = np.moveaxis(array, 2, 1)
    return np.ascontiguousarray(moved.reshape(len(moved) * moved.shape[1], *moved.shape[2:]))
