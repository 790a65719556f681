"""All that decides which weights a pretraining gives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tonesieve.errors import UserError
from tonesieve.learning.pretraining.dataset import MIN_INTERVALS, SIZES, BatchSpec

# Chosen, not tuned: an hour on two cores; a kernel call of a few microseconds.
N_STEPS, N_HIDDEN = 2500, 64
# Peak learning rate, steps of warm-up, and the last rate over the peak; chosen, not tuned.
LEARNING_RATE, WARM_UP, MIN_RATE_RATIO = 3e-3, 50, 0.01
# Batches that the bands are calibrated on, and that metrics are taken on; the same for every seed.
# Chosen, not tuned.
N_CALIBRATING, N_VALIDATING = 32, 32


@dataclass(frozen=True)
class Recipe:
    """Seed, lengths and sizes of a pretraining; its fields are keys of the weights' file."""

    seed: int = 0
    n_steps: int = N_STEPS
    n_hidden: int = N_HIDDEN
    sizes: tuple[BatchSpec, ...] = SIZES
    n_calibrating: int = N_CALIBRATING
    n_validating: int = N_VALIDATING

    def __post_init__(self) -> None:
        bounds = {"seed": 0, "n_steps": 1, "n_hidden": 1, "n_calibrating": 1, "n_validating": 1}
        for name, smallest in bounds.items():
            if getattr(self, name) < smallest:
                raise UserError(f"{name} {getattr(self, name)}: must be {smallest} or more")
        for size in self.sizes:
            if size.intervals < MIN_INTERVALS:
                raise UserError(
                    f"sizes: {size.intervals} gating intervals; must be {MIN_INTERVALS} or more"
                )

    def to_metadata(self) -> dict[str, Any]:
        """As it is written beside the weights."""
        return {**asdict(self), "sizes": [list(size) for size in self.sizes]}

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.n_steps))
        return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * max(MIN_RATE_RATIO, cosine)
