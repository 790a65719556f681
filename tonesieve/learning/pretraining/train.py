"""Pretraining: one gating network, for any tone in any noise.

Step i trains on the batch that the seed and i draw, however often the training was interrupted.
Then the bands are calibrated to hold `COVERAGE` of the errors on batches of their own (a quantile
of the log-ratios, as in split conformal prediction), and metrics are taken on others.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tonesieve.errors import UserError
from tonesieve.inference.weights import check_finite, save_pretrained
from tonesieve.learning.data.prefetch import prefetch_processes
from tonesieve.learning.pretraining.dataset import SIZES, BatchSpec, draw_batch
from tonesieve.learning.pretraining.gating_network import (
    COVERAGE,
    GatingNetwork,
    LossTerms,
    TensorBatch,
    compute_losses,
    to_tensors,
)
from tonesieve.learning.pretraining.recipe import (
    N_CALIBRATING,
    N_HIDDEN,
    N_STEPS,
    N_VALIDATING,
    Recipe,
)
from tonesieve.learning.pretraining.training_state import start_or_resume, to_arrays
from tonesieve.learning.runtime.threads import torch_threads, tune_malloc
from tonesieve.util.files import refuse_existing
from tonesieve.util.progress import Reporter

# The second number of a batch's seed: its purpose.
TRAINING, CALIBRATING, VALIDATING = range(3)
PART = ".part"  # the suffix of an unfinished pretraining
# Steps between two saves, and between two displays; chosen, not tuned.
SAVE_EVERY, REPORT_EVERY = 200, 10


def pretrain(
    out: str | Path = "pretrained.safetensors",
    *,
    seed: int = 0,
    n_steps: int = N_STEPS,
    n_hidden: int = N_HIDDEN,
    device: str = "cpu",
    reporter: Reporter | None = None,
    force: bool = False,
    sizes: Sequence[BatchSpec] = SIZES,
    n_calibrating: int = N_CALIBRATING,
    n_validating: int = N_VALIDATING,
    n_workers: int = 2,
    save_every: int = SAVE_EVERY,
) -> dict[str, Any]:
    """Train the gating network of the pretrained extractor from scratch, and write its weights.

    It takes an hour on two cores. An interrupted training resumes by the same call, and ends
    with the weights that it would have had without the interruption. On a CPU the weights are the
    same to the last bit, as long as the versions of the package and of PyTorch are.

    Parameters
    ----------
    out : str or Path, default "pretrained.safetensors"
        File of weights to write; with ``.part`` added, that of the unfinished training.
    seed : int, default 0
        Draws the initial weights and all batches.
    n_steps : int, default 2500
        Batches to train on.
    n_hidden : int, default 64
        Hidden units of the recurrent network.
    device : str, default "cpu"
        PyTorch's name of a device, cpu or cuda.
    reporter : Reporter, optional
        Is shown the progress.
    force : bool, default False
        Overwrite ``out``, and an unfinished training with other settings.
    sizes : sequence of BatchSpec, optional
        Sizes of the batches.
    n_calibrating : int, default 32
        Batches that the bands are calibrated on.
    n_validating : int, default 32
        Batches that the metrics are taken on.
    n_workers : int, default 2
        Processes that draw batches; they do not change the weights.
    save_every : int, default 200
        Steps between two saves of the unfinished training.

    Returns
    -------
    dict
        The file, its metrics and metadata, and the seconds that it took.

    Raises
    ------
    UserError
        If ``out`` exists, or an unfinished training has other settings, without ``force``; or for
        a setting out of bounds.
    """
    reporter, out = reporter or Reporter(), Path(out)
    recipe = Recipe(seed, n_steps, n_hidden, tuple(sizes), n_calibrating, n_validating)
    torch_device = _device(device)
    refuse_existing(out, force=force)
    part = out.with_name(out.name + PART)
    began = time.monotonic()
    tune_malloc()
    with torch_threads(1):  # a small network has no use for more, and sums would differ
        state = start_or_resume(recipe, torch_device, part, force=force)
        steps = range(state.step, n_steps)
        with (
            reporter.task("pretraining", n_steps) as task,
            _batches(recipe, TRAINING, steps, n_workers, torch_device) as batches,
        ):
            task.update(state.step)
            for batch in batches:
                state.train_on(batch)
                task.update(state.step)
                if state.step % REPORT_EVERY == 0:
                    task.set_text(state.summary())
                if state.step % save_every == 0:
                    state.save(part)
        state.save(part)
        network = state.network
        options = {
            "recipe": recipe,
            "n_workers": n_workers,
            "device": torch_device,
            "reporter": reporter,
        }
        offsets = _calibrate(network, **options)
        metrics = _validate(network, **options)
    metadata = {
        "recipe": recipe.to_metadata(),
        "commit": _commit(),
        "tonesieve": _version(),
        "torch": torch.__version__,
        "device": torch_device.type,
        "figures": {**metrics, "band_shift": offsets},
    }
    tensors = to_arrays(network.state_dict())
    check_finite(tensors, out)
    save_pretrained(out, tensors, metadata, force=force)
    part.unlink(missing_ok=True)
    return {"weights": str(out), **metadata, "seconds": time.monotonic() - began}


@contextmanager
def _batches(
    recipe: Recipe, purpose: int, numbers: Sequence[int], n_workers: int, device: torch.device
) -> Iterator[Iterator[TensorBatch]]:
    """Batches for a purpose, by number; only those of the training depend on the seed."""
    seed = recipe.seed if purpose == TRAINING else 0
    keys = [(seed, purpose, number) for number in numbers]
    with prefetch_processes(partial(draw_batch, sizes=recipe.sizes), keys, n_workers) as batches:
        yield (to_tensors(batch, device) for batch in batches)


def _evaluated(
    network: GatingNetwork,
    purpose: int,
    title: str,
    *,
    recipe: Recipe,
    n_workers: int,
    device: torch.device,
    reporter: Reporter,
) -> Iterator[tuple[LossTerms, LossTerms]]:
    """Losses on the batches of a purpose: causal, and of both directions."""
    n = recipe.n_calibrating if purpose == CALIBRATING else recipe.n_validating
    with (
        reporter.task(title, n) as task,
        _batches(recipe, purpose, range(n), n_workers, device) as batches,
    ):
        for done, batch in enumerate(batches, 1):
            with torch.no_grad():
                both_causal, smoothing = compute_losses(network, batch)
            # Of three passes the first is causal.
            forward = (part if part.dim() == 0 else part[::3] for part in both_causal)
            yield LossTerms(*forward), smoothing
            task.update(done)


def _calibrate(network: GatingNetwork, **options: Any) -> dict[str, float]:
    """Scale the bands until they hold `COVERAGE` of the errors; returns the logarithms."""
    offsets = {}
    # One after the other: the causal band is an input of the fusion network.
    for index, (name, layer) in enumerate((("causal", network.head), ("both_ways", network.two))):
        pairs = _evaluated(network, CALIBRATING, f"{name} band", **options)
        terms = [pair[index] for pair in pairs]
        offsets[name] = calibration_offset(terms)
        with torch.no_grad():
            layer.bias[-1] += offsets[name]
    return offsets


def calibration_offset(terms: Sequence[LossTerms]) -> float:
    """What to add to the bands' logarithms so that they hold `COVERAGE`, averaged over records."""
    ratios, weights = [], []
    for batch in terms:
        is_settled = batch.is_settled[..., None, None].expand_as(batch.log_ratio)
        weight = 1.0 / is_settled.sum(dim=(1, 2, 3), keepdim=True).double()
        ratios.append(batch.log_ratio[is_settled].double().cpu().numpy())
        weights.append(weight.expand_as(batch.log_ratio)[is_settled].cpu().numpy())
    values, cell_weights = np.concatenate(ratios), np.concatenate(weights)
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(cell_weights[order])
    return float(values[order][np.searchsorted(cumulative, COVERAGE * cumulative[-1])])


def _validate(network: GatingNetwork, **options: Any) -> dict[str, dict[str, float]]:
    """Mean error in dB, and the fraction within the band, causal and of both directions."""
    pairs = list(_evaluated(network, VALIDATING, "validating", **options))
    metrics = {}
    for name, terms in zip(("causal", "both_ways"), zip(*pairs, strict=True), strict=True):
        metrics[name] = {
            "nmse_db": _mean(batch.settled_db for batch in terms),
            "early_nmse_db": _mean(batch.early_db for batch in terms),
            "covered": _mean(batch.covered for batch in terms),
        }
    return metrics


def _mean(parts: Iterable[Tensor]) -> float:
    """Over records, in double precision."""
    return float(np.mean(np.concatenate([part.double().cpu().numpy() for part in parts])))


def _device(name: str) -> torch.device:
    """PyTorch's device of a name; raises `UserError` where there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name}: no such thing; choose cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name}: cannot be used; choose cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name}: is not here; choose cpu")
    return device


def _version() -> str:
    try:
        return version("tonesieve")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"


def _commit() -> str | None:
    """The last commit that touched the package, where it is run from a repository of its own.

    With a plus where something has been changed since.
    """
    here = Path(__file__).parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    try:
        found = git("log", "-1", "--format=%H", "--", ".")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("+" if changed else "") if found else None
