"""The fixed test scenes of the benchmark, and the score of an estimate on one of them.

The cells are all combinations of an SNR bin, a dynamics and a noise. Every cell has the same number
of scenes, drawn with seeds that no training uses.

NMSE: the sum of the squared error of the first tone over the sum of its squares, in dB, after the
start-up, which is the first 200 steps or a quarter of the record, whichever is shorter. For bursts
the error is relative to the tone's mean power in the whole record. The score of a record is clipped
to -60 to +10 dB, so that no single one dominates a mean. Axes: T samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.signals.distributions import log_uniform
from tonesieve.signals.dynamics import DYNAMICS
from tonesieve.signals.noise_models import NOISES
from tonesieve.signals.scenes import Scene, draw_scene

# Chosen: the first number of every seed of the tests; training must use another, or none.
TEST_SEED = 271828
# Chosen, not tuned: SNRs in dB a step, lengths in steps.
SNR_BINS = ((-15.0, -5.0), (-5.0, 5.0), (5.0, 15.0), (15.0, 30.0))
N_STEPS = (800.0, 6000.0)
# Chosen, not tuned: the start-up, in steps, and at most as a fraction of a record.
SETTLING_STEPS, SETTLING_FRACTION = 200.0, 0.25
# Guard against outliers in a mean of dB.
BOUNDS_DB = (-60.0, 10.0)
# Columns that identify a cell.
CELL = ["snr_bin", "dynamics", "noise"]


@dataclass(frozen=True)
class Case:
    """A test scene and the bin of its SNR.

    Parameters
    ----------
    number : int
        Its number among the tests.
    snr_bin : str
        The bin, in words.
    scene : Scene
        The scene.
    """

    number: int
    snr_bin: str
    scene: Scene


def cell_grid() -> list[tuple[tuple[float, float], str, str]]:
    """List all cells.

    Returns
    -------
    list of tuple
        SNR bin (dB a step), dynamics and noise of every cell.
    """
    return list(itertools.product(SNR_BINS, DYNAMICS, NOISES))


def test_scenes(n_per_cell: int, *, seed: int) -> Iterator[Case]:
    """Draw the scenes of every cell, one at a time.

    One of every cell, then the next of every cell: fewer a cell are the first of more.

    Parameters
    ----------
    n_per_cell : int
        Scenes of every cell.
    seed : int
        Seed of the scenes.

    Yields
    ------
    Case
        The next scene.
    """
    for number in range(n_per_cell * len(cell_grid())):
        yield draw_case(number, seed=seed)


def draw_case(number: int, *, seed: int) -> Case:
    """Draw one test scene.

    Parameters
    ----------
    number : int
        Its number among the tests.
    seed : int
        Seed of the scenes.

    Returns
    -------
    Case
        The scene that `test_scenes` yields at this place.
    """
    cells = cell_grid()
    snr_bin, dynamics, noise = cells[number % len(cells)]
    rng = np.random.default_rng((TEST_SEED, seed, number, 1))
    snr_db, n_steps = rng.uniform(*snr_bin), round(log_uniform(N_STEPS, rng))
    scene = draw_scene(
        (TEST_SEED, seed, number), n_steps, snr_db=snr_db, dynamics=dynamics, noise=noise
    )
    return Case(number, f"{snr_bin[0]:g} to {snr_bin[1]:g}", scene)


test_scenes.__test__ = False  # type: ignore[attr-defined]  # it is no test to pytest


def settling_samples(scene: Scene) -> int:
    """Count the samples of the start-up, which are not scored.

    Parameters
    ----------
    scene : Scene
        A scene.

    Returns
    -------
    int
        Samples at its start.
    """
    n = len(scene.samples)
    return int(min(SETTLING_STEPS * scene.step, SETTLING_FRACTION * n))


def scene_nmse_db(estimate: Float[np.ndarray, " T"], scene: Scene) -> float:
    """Compute the NMSE of an estimate of the first tone of a scene.

    Parameters
    ----------
    estimate : ndarray, shape (T,)
        Estimate, in the scene's unit.
    scene : Scene
        The scene.

    Returns
    -------
    float
        dB, from -60 to 10. An estimate that is not finite scores 10.
    """
    late = slice(settling_samples(scene), None)
    target = scene.tones[:, 0]
    power = target[late] @ target[late]
    if scene.dynamics == "bursts":
        power = (target @ target) * len(target[late]) / len(target)
    with np.errstate(all="ignore"):
        ratio = np.sum(((estimate - target)[late]) ** 2) / power
    if not np.isfinite(ratio):
        return BOUNDS_DB[1]
    return float(np.clip(10 * math.log10(max(ratio, 1e-30)), *BOUNDS_DB))


def describe_case(case: Case) -> dict[str, float | str]:
    """Describe a test scene by the columns of the results.

    Parameters
    ----------
    case : Case
        A test scene.

    Returns
    -------
    dict
        Its number, cell, SNR, frequency and size; ``digest`` distinguishes one draw from another.
    """
    scene = case.scene
    return {
        "scene": case.number,
        "snr_bin": case.snr_bin,
        "dynamics": scene.dynamics,
        "noise": scene.noise,
        "snr_db": scene.snr_db,
        "turn": scene.freq_cycles[0],
        "n_tones": len(scene.freq_cycles),
        "n_samples": len(scene.samples),
        "digest": float(np.nansum(np.abs(scene.samples))),
    }
