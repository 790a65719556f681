"""One stream of the pretrained extractor, sample by sample, the fastest way from Python."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.kernels.buffer import buffer_size, split_buffer
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.process import RunnerBuffers, process_sample, runner_shapes


class SampleRunner(partial[None]):
    """Extracts one group of tones from one stream, one sample a call.

    Call it with a sample (NaN: a gap), then read its attributes. It is a partial application of
    the compiled step: a method in between would cost a twentieth.

    Parameters
    ----------
    states : tuple of ndarray
        Fields of `kernels.kalman_bank.process.StreamStates`, of one stream.
    parameters : tuple
        Fields of `kernels.kalman_bank.process.GroupModel`.
    frequencies_hz : tuple of float
        Nominal frequencies of the K tones.
    hz_per_rad : float
        Hz for a rad a step.

    Attributes
    ----------
    tones : ndarray, shape (K,)
        The tones at the last sample; a view that the next sample changes, as the others.
    bands : ndarray, shape (K,)
        Half-widths of their bands.
    phasors : ndarray of complex, shape (K,)
        Their phasors Z: a tone is Im(Z exp(2 pi i f t)).

    Examples
    --------
    >>> from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
    >>> run = PretrainedExtractor((50.0,), 1000.0).stepper()
    >>> run(0.5)
    >>> run.tones.shape
    (1,)
    """

    tones: Float[np.ndarray, " K"]
    bands: Float[np.ndarray, " K"]
    phasors: Complex[np.ndarray, " K"]

    def __new__(
        cls,
        states: tuple[np.ndarray, ...],
        parameters: tuple[Any, ...],
        frequencies_hz: tuple[float, ...],
        hz_per_rad: float,
    ) -> SampleRunner:
        *arrays, factor, decay = parameters
        k, n_hidden, n_weights = len(frequencies_hz), states[4].shape[-1], len(arrays[0])
        shapes = runner_shapes(k, n_hidden, n_weights, n_features())
        buffer = np.zeros(buffer_size(shapes))
        views = RunnerBuffers(*split_buffer(buffer, shapes))
        header = np.array([k, n_hidden, n_weights, factor, decay, 0.0, 0.0])
        inputs = [header, *(_real(state) for state in states), *arrays]
        # The last fields are outputs.
        for view, values in zip(views[: len(inputs)], inputs, strict=True):
            view[...] = values
        runner = super().__new__(cls, process_sample, buffer)
        runner.tones, runner.bands = views.tones.ravel(), views.bands.ravel()
        runner.phasors = views.phasors.ravel().view(complex)
        runner._freq_offset = views.freq_offset.ravel()
        runner._hz = (np.array(frequencies_hz), hz_per_rad)
        return runner

    _freq_offset: Float[np.ndarray, " K"]
    _hz: tuple[Float[np.ndarray, " K"], float]

    @property
    def hz(self) -> Float[np.ndarray, " K"]:
        """Frequencies of the tones after the last sample."""
        nominal_hz, hz_per_rad = self._hz
        return nominal_hz + hz_per_rad * self._freq_offset


def _real(array: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs of numbers."""
    return np.ascontiguousarray(array).view(np.float64)
