"""How many CPU threads PyTorch may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tonesieve.config import Config


@contextmanager
def threads(config: Config) -> Iterator[None]:
    """Let PyTorch use ``training.n_threads`` for a while, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.training.n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
