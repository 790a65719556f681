"""Instruction set of the network interpreter, for the compiled and the NumPy implementation.

A row of a program is (code, n, m, x, y, w, state, extra): n inputs, m outputs, the offsets of the
inputs, the outputs, the weights and the state, and one more number that depends on the code.
"""

from __future__ import annotations

AFFINE, LSTM, GRU, RNN, NORM, ADD, FILM, OSCILLATE, SHIFT_IN, AGE_FEATURES, OBSERVER = range(11)
WIDTH = 8  # derived: numbers in a row
# Activations that may follow an affine map.
LINEAR, RELU, GELU = range(3)
N_AGE_FEATURES = 12  # chosen: exponentials of a stream's age that the observer's network takes
EPSILON = 1e-5  # guard of a layer norm's variance, PyTorch's default
# Of a learned window: change of its fraction of the longest, per unit of the parameter that the
# optimiser moves; and the longest over the length of the mask's ramp. Chosen, not tuned.
SPAN_RATE, SPAN_RAMP = 0.1, 8
