"""How the pretrained extractor comes about: one network, for any tone in any noise.

Step i learns from the batch that the seed and i draw, whatever was done before and however often
the training was interrupted. At the end the bands are made to hold `weigher.COVERED` of the errors
on batches of their own, and figures are taken on others.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tonesieve.errors import UserError
from tonesieve.inference.weights import (
    check_finite,
    read_tensors,
    save_pretrained,
    write_tensors,
)
from tonesieve.learning.data.prefetch import prefetch_processes
from tonesieve.learning.pretraining.dataset import FEWEST_FRAMES, SIZES, BatchSpec, draw_batch
from tonesieve.learning.pretraining.gating_network import (
    COVERED,
    GatingNetwork,
    LossTerms,
    TensorBatch,
    as_lesson,
    compute_losses,
)
from tonesieve.learning.runtime.threads import torch_threads, tune_malloc
from tonesieve.util.files import refuse_existing
from tonesieve.util.progress import Reporter

N_STEPS, N_HIDDEN = 5000, 48
LEARNING_RATE, WARM_UP, LOWEST = 3e-3, 50, 0.01
LONGEST_GRADIENT = 1.0
# Batches that the bands are set by, and that figures are taken on; the same for every seed.
N_CALIBRATING, N_VALIDATING = 32, 32
# The second number of a batch's seed: what it is for.
LEARNING, CALIBRATING, VALIDATING = range(3)
# What is not done yet, and the format of that.
PART, PART_FORMAT, PART_VERSION = ".part", "pretraining", 1
SAVE_EVERY, TELL_EVERY = 200, 10


@dataclass(frozen=True)
class Recipe:
    """All that decides which weights come out."""

    seed: int = 0
    n_steps: int = N_STEPS
    n_hidden: int = N_HIDDEN
    sizes: tuple[BatchSpec, ...] = SIZES
    n_calibrating: int = N_CALIBRATING
    n_validating: int = N_VALIDATING

    def __post_init__(self) -> None:
        least = {"seed": 0, "n_steps": 1, "n_hidden": 1, "n_calibrating": 1, "n_validating": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(f"{name} {getattr(self, name)}: must be {smallest} or more")
        for size in self.sizes:
            if size.frames < FEWEST_FRAMES:
                raise UserError(f"sizes: {size.frames} frames; must be {FEWEST_FRAMES} or more")

    def noted(self) -> dict[str, Any]:
        """As it is written beside the weights."""
        return {**asdict(self), "sizes": [list(size) for size in self.sizes]}

    def learning_rate(self, step: int) -> float:
        """Warmed up, and down to a hundredth along a cosine."""
        fall = 0.5 * (1 + math.cos(math.pi * step / self.n_steps))
        return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * max(LOWEST, fall)


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
    n_workers: int = 1,
    save_every: int = SAVE_EVERY,
) -> dict[str, Any]:
    """Train the network that weighs candidates, from nothing, and write its weights to ``out``.

    45 minutes on two cores. What is done is kept in ``out`` with ``.part`` added, every
    ``save_every`` steps; the same call goes on from there, and ends with the weights that it would
    have had without a break. ``n_workers`` processes draw the batches; neither they nor the break
    make a difference to a bit (on a CPU; the package's and PyTorch's versions do).

    Answers the file and its figures. Raises `UserError` when ``out`` exists, or what was begun
    there had other settings, unless ``force`` is on; then it begins anew, if it has to.
    """
    reporter, out = reporter or Reporter(), Path(out)
    recipe = Recipe(seed, n_steps, n_hidden, tuple(sizes), n_calibrating, n_validating)
    place = _device(device)
    refuse_existing(out, force=force)
    part = out.with_name(out.name + PART)
    began = time.monotonic()
    tune_malloc()
    with torch_threads(1):  # so small a network has no use for more, and sums would differ
        progress = _begun(recipe, place, part, force=force)
        with (
            reporter.task("pretraining", n_steps) as task,
            _lessons(recipe, LEARNING, range(progress.step, n_steps), n_workers, place) as lessons,
        ):
            task.update(progress.step)
            for lesson in lessons:
                progress.learn(lesson)
                task.update(progress.step)
                if progress.step % TELL_EVERY == 0:
                    task.set_text(progress.note())
                if progress.step % save_every == 0:
                    progress.save(part)
        progress.save(part)
        weigher = progress.weigher
        given = {"recipe": recipe, "n_workers": n_workers, "device": place, "reporter": reporter}
        shifts = _calibrate(weigher, **given)
        figures = _validate(weigher, **given)
    notes = {
        "recipe": recipe.noted(),
        "commit": _commit(),
        "tonesieve": _version(),
        "torch": torch.__version__,
        "device": place.type,
        "figures": {**figures, "band_shift": shifts},
    }
    tensors = _arrays(weigher.state_dict())
    check_finite(tensors, out)
    save_pretrained(out, tensors, notes, force=force)
    part.unlink(missing_ok=True)
    return {"weights": str(out), **notes, "seconds": time.monotonic() - began}


def train_step(
    weigher: GatingNetwork, optimizer: torch.optim.Optimizer, lesson: TensorBatch
) -> float:
    """One step of the optimiser; answers the loss before it."""
    alone, both = compute_losses(weigher, lesson)
    loss = alone.loss + both.loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weigher.parameters(), LONGEST_GRADIENT)
    optimizer.step()
    return float(loss.detach())


class _Progress:
    """The training as far as it is done."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe, self.step, self._losses = recipe, 0, [0.0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.weigher = GatingNetwork(recipe.n_hidden).to(device)
        self.optimizer = torch.optim.Adam(self.weigher.parameters(), lr=LEARNING_RATE)

    def learn(self, lesson: TensorBatch) -> None:
        """Learn from the next batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate(self.step)
        loss = train_step(self.weigher, self.optimizer, lesson)
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss of step {self.step} is {loss}")
        self.step += 1
        self._losses = [*self._losses[-49:], loss] if self.step > 1 else [loss]

    def note(self) -> str:
        """How it goes."""
        return f"{self.step}/{self._recipe.n_steps} loss {np.mean(self._losses):.2f}"

    def save(self, path: Path) -> None:
        """Write all that the next step needs."""
        tensors = {f"weigher.{n}": t for n, t in self.weigher.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": tensor for key, tensor in state.items()}
        about = {
            "format": PART_FORMAT,
            "version": PART_VERSION,
            "recipe": self._recipe.noted(),
            "step": self.step,
        }
        write_tensors(path, _arrays(tensors), about)

    def resume_from(self, path: Path) -> None:
        """Go on from what was written; raises `UserError` where that does not fit."""
        tensors, about = read_tensors(path)
        if about.get("format") != PART_FORMAT or about.get("version") != PART_VERSION:
            raise UserError(f"{path}: not what is left of a pretraining; remove it, or --force")
        mine, theirs = self._recipe.noted(), dict(about.get("recipe") or {})
        changed = [name for name in mine if mine[name] != theirs.get(name)]
        if changed:
            name = changed[0]
            raise UserError(
                f"{path}: was begun with {name} {theirs.get(name)}, not {mine[name]}; "
                "go on with that, remove it, or --force to begin anew"
            )
        try:
            self._set({n: torch.from_numpy(a).clone() for n, a in tensors.items()})
            self.step = int(about["step"])
        except (KeyError, RuntimeError, TypeError, ValueError):
            raise UserError(f"{path}: not a whole pretraining; remove it, or --force") from None

    def _set(self, tensors: Mapping[str, Tensor]) -> None:
        weights: dict[str, Tensor] = {}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "weigher":
                weights[rest] = tensor
            else:
                index, key = rest.split(".", 1)
                state.setdefault(int(index), {})[key] = tensor
        self.weigher.load_state_dict(weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _begun(recipe: Recipe, device: torch.device, part: Path, *, force: bool) -> _Progress:
    """The training where it stood, or from nothing; if ``force``, also where nothing fits."""
    if not part.exists():
        return _Progress(recipe, device)
    try:
        progress = _Progress(recipe, device)
        progress.resume_from(part)
    except UserError:
        if not force:
            raise
        progress = _Progress(recipe, device)
    return progress


@contextmanager
def _lessons(
    recipe: Recipe, kind: int, numbers: Sequence[int], n_workers: int, device: torch.device
) -> Iterator[Iterator[TensorBatch]]:
    """Batches for a purpose, by number; only those that are learned from follow the seed."""
    seed = recipe.seed if kind == LEARNING else 0
    keys = [(seed, kind, number) for number in numbers]
    with prefetch_processes(partial(draw_batch, sizes=recipe.sizes), keys, n_workers) as batches:
        yield (as_lesson(drawn, device) for drawn in batches)


def _judged(
    weigher: GatingNetwork,
    kind: int,
    title: str,
    *,
    recipe: Recipe,
    n_workers: int,
    device: torch.device,
    reporter: Reporter,
) -> Iterator[tuple[LossTerms, LossTerms]]:
    """How the network does on batches of a purpose: forwards alone, and both ways."""
    n = recipe.n_calibrating if kind == CALIBRATING else recipe.n_validating
    with (
        reporter.task(title, n) as task,
        _lessons(recipe, kind, range(n), n_workers, device) as lessons,
    ):
        for done, lesson in enumerate(lessons, 1):
            with torch.no_grad():
                alone, both = compute_losses(weigher, lesson)
            # Directions take turns; backwards alone is what nobody is answered.
            forwards = (part if part.dim() == 0 else part[::2] for part in alone)
            yield LossTerms(*forwards), both
            task.update(done)


def _calibrate(weigher: GatingNetwork, **given: Any) -> dict[str, float]:
    """Widen the bands, or narrow them, until they hold as much as they should."""
    shifts = {}
    # One after the other: the second network hears how wide the first one's bands are.
    for at, (name, layer) in enumerate((("causal", weigher.head), ("both_ways", weigher.two))):
        judged = [pair[at] for pair in _judged(weigher, CALIBRATING, f"{name} band", **given)]
        shifts[name] = band_shift(judged)
        with torch.no_grad():
            layer.bias[-1] += shifts[name]
    return shifts


def band_shift(judged: Sequence[LossTerms]) -> float:
    """What to add to the bands' logarithms so that they hold `COVERED`, on average over records."""
    over, weight = [], []
    for each in judged:
        late = each.late[..., None, None].expand_as(each.over)
        share = 1.0 / late.sum(dim=(1, 2, 3), keepdim=True).double()
        over.append(each.over[late].double().cpu().numpy())
        weight.append(share.expand_as(each.over)[late].cpu().numpy())
    values, weights = np.concatenate(over), np.concatenate(weight)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, COVERED * reached[-1])])


def _validate(weigher: GatingNetwork, **given: Any) -> dict[str, dict[str, float]]:
    """Mean error in dB, and the share within the band, of both kinds of answers."""
    pairs = list(_judged(weigher, VALIDATING, "validating", **given))
    figures = {}
    for name, judged in zip(("causal", "both_ways"), zip(*pairs, strict=True), strict=True):
        figures[name] = {
            "nmse_db": _mean(each.settled_db for each in judged),
            "early_nmse_db": _mean(each.early_db for each in judged),
            "covered": _mean(each.covered for each in judged),
        }
    return figures


def _mean(parts: Iterable[Tensor]) -> float:
    """Over records, a double."""
    return float(np.mean(np.concatenate([part.double().cpu().numpy() for part in parts])))


def _device(name: str) -> torch.device:
    """The device of that name; raises `UserError` where there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name}: no such thing; choose cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name}: cannot be used; choose cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name}: is not here; choose cpu")
    return device


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


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
