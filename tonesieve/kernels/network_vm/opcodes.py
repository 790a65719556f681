"""What the compiled core and its stand-in in NumPy both read: instructions, and layouts."""

from __future__ import annotations

# A row of a program: code, inputs, outputs, where inputs stand in memory, where outputs, where
# weights begin, where the state stands, one more number.
AFFINE, LSTM, GRU, RNN, NORM, ADD, FILM, OSCILLATE, SHIFT_IN, AGE_FEATURES, OBSERVER = range(11)
WIDTH = 8
# What an affine map may be followed by.
LINEAR, RELU, GELU = range(3)
N_CLOCKS = 12  # that tell an observer how old a stream is
EPSILON = 1e-5  # of a layer norm, as torch has it

LINE = 16  # numbers in a cache line, and in a vector: weights and memory begin with whole ones
TILE = 4  # lines of outputs that are summed together
WIDE = TILE * LINE
