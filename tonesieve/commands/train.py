"""The main job: one configuration in, one run directory out; and what is done with runs.

A run directory holds ``config.yaml``, ``metrics.json``, ``history.csv``, ``weights.safetensors``
and ``figures/*.png`` (SPEC, section 7); while it trains, ``checkpoint.safetensors`` too.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from matplotlib.figure import Figure

from tonesieve.commands import train_on_recording
from tonesieve.config.config import Config, to_yaml
from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.config.warnings import warnings_for
from tonesieve.errors import UserError
from tonesieve.evaluation.exercise import N_PARTS, Evaluation, evaluate_extractor
from tonesieve.evaluation.plots import run_plots as draw
from tonesieve.extractors.protocol import Extractor
from tonesieve.extractors.source import Source, network_source
from tonesieve.inference.compiled_network import CompiledNetwork
from tonesieve.inference.run_directory import (
    CONFIG,
    WEIGHTS,
    as_compiled,
    memory_samples,
    read_run,
    run_folder,
)
from tonesieve.learning import summary
from tonesieve.learning.data.batches import count_batches
from tonesieve.learning.loop.auxiliary import evaluate_auxiliary
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.loop.history import History, to_table
from tonesieve.learning.loop.training import TrainingResult, train
from tonesieve.learning.models import build_network, n_parameters
from tonesieve.learning.network_extractor import NetworkExtractor, as_extractor
from tonesieve.learning.network_files import as_network, load_network, save_network
from tonesieve.learning.runtime.distributed import check_devices
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.files import TEMPORARY, write_text
from tonesieve.util.progress import Reporter

METRICS, HISTORY = "metrics.json", "history.csv"
CHECKPOINT, FIGURES, LOCK = "checkpoint.safetensors", "figures", ".lock"

OnEpoch = Callable[[History], None]


def run(
    source: str | Path | Config | None = None,
    overrides: tuple[str, ...] = (),
    *,
    out: str | Path | None = None,
    recording: str | Path | None = None,
    hz: Sequence[float] = (),
    column: str | None = None,
    rate_hz: float | None = None,
    time_column: str | None = None,
    reporter: Reporter | None = None,
    on_epoch: OnEpoch = lambda history: None,
) -> dict[str, Any]:
    """Train, judge and show: everything goes into a new directory ``out``.

    With ``recording`` in the noise of a recording (``column``, ``rate_hz`` as in
    `read_recording`), for the tones near ``hz``: they are taken out, known ones are put in, and
    the network learns to get these back; the settings, by default the preset `own`, are filled in.

    ``source`` and ``overrides`` as in `load_config`; ``out`` defaults to ``runs/NAME-TIME``.
    ``on_epoch`` hears the history after every epoch, once its checkpoint is written. Answers the
    metrics, and as ``run`` the directory. Raises `UserError` when ``out`` exists and is not an
    empty folder.
    """
    own = None
    if recording is not None:
        if isinstance(source, Config):
            raise UserError("--recording: fills settings in; name a preset or file for the others")
        source = source or train_on_recording.PRESET
        own = train_on_recording.prepare(
            recording,
            hz,
            source=source,
            overrides=overrides,
            column=column,
            rate_hz=rate_hz,
            time=time_column,
        )
        config = own.config
    elif hz or any(given is not None for given in (column, rate_hz, time_column)):
        raise UserError("--hz, --column, --rate, --time: are for a --recording; name one")
    else:
        config = source if isinstance(source, Config) else load_config(source or DEFAULT, overrides)
    check_devices(config)
    folder = _default_out(config) if out is None else Path(out)
    _create(folder, config, own)
    return resume(folder, reporter=reporter, on_epoch=on_epoch)


def resume(
    folder: str | Path,
    *,
    reporter: Reporter | None = None,
    on_epoch: OnEpoch = lambda history: None,
    patience_s: float = 0.0,
) -> dict[str, Any]:
    """Go on with a run that was interrupted at any moment; a finished one is only read.

    It ends with the figures that it would have had without a break. Raises `UserError` for a
    folder that is not a run, or that another process goes on working on for ``patience_s``.
    """
    folder, reporter = Path(folder), reporter or Reporter()
    config = load_config(run_folder(folder).resolve())
    if (folder / METRICS).exists():
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return {"run": str(folder), **_read_metrics(folder)}
    for text in warnings_for(config):
        reporter.warn(text)
    with _locked(folder, patience_s):
        if (folder / METRICS).exists():  # another process finished it in the meantime
            return {"run": str(folder), **_read_metrics(folder)}
        for stale in folder.rglob(f".*{TEMPORARY}"):  # left by a kill in mid-write
            stale.unlink(missing_ok=True)
        trained = _train(folder, config, reporter, on_epoch)
        save_network(trained.network, config, folder / WEIGHTS)
        tensors = to_arrays(trained.network.state_dict())
        extractor = as_compiled(tensors, config) or as_extractor(trained.network, config)
        evaluation = _judge(folder, config, extractor, reporter)
        _draw_training(folder, config, trained)
        injected = _judge_injected(folder, config, extractor, reporter)
        result = {**evaluation.metrics, **injected, "training": _training_figures(config, trained)}
        _write_metrics(folder, result)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return {"run": str(folder), **result}


def evaluate(
    folder: str | Path, *, against: str | Path | None = None, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Judge a finished run again from its saved weights; metrics and pictures are rewritten.

    How it is judged and drawn follows ``config.yaml`` as it stands now. ``against`` names a second
    run of the same signals: a picture ``against.png`` shows both.
    """
    folder, reporter = Path(folder), reporter or Reporter()
    kept, loaded = _read_metrics(run_folder(folder)), load_run(folder)
    rival = None if against is None else load_run(against)
    if rival is not None:
        _check_alike(loaded.config, rival.config)
    with _locked(folder):
        evaluation = _judge(folder, loaded.config, loaded.extractor, reporter)
        if rival is not None:
            _draw_against(folder, loaded.config, evaluation, rival)
        injected = _judge_injected(folder, loaded.config, loaded.extractor, reporter)
        result = {**evaluation.metrics, **injected, "training": kept["training"]}
        _write_metrics(folder, result)
    return {"run": str(folder), **result}


def describe(source: str | Path = DEFAULT, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Layers, shapes, true parameter counts and what the checks warn of.

    Of a finished run (its directory) also mean, deviation and extremes of every weight, and of
    every layer's activations over the start of the test record.
    """
    if not overrides and (Path(source) / WEIGHTS).is_file():
        network, config = load_network(Path(source) / WEIGHTS)
        return {**summary.summarise(network, config), **summary.statistics(network, config)}
    config = load_config(source, overrides)
    return summary.summarise(build_network(config), config)


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, ready to use."""

    config: Config
    extractor: NetworkExtractor | CompiledNetwork


def load_run(folder: str | Path) -> LoadedRun:
    """Read a run's extractor; raises `UserError` for a folder without whole weights."""
    tensors, config = read_run(folder)
    compiled = as_compiled(tensors, config, folder)
    if compiled is not None:
        return LoadedRun(config, compiled)
    network = as_network(tensors, config, Path(folder) / WEIGHTS)
    return LoadedRun(config, as_extractor(network, config))


def _default_out(config: Config) -> Path:
    name = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (Path("runs") / (name + (f"-{n}" if n else "")) for n in range(1_000_000))
    return next(path for path in taken if not path.exists())


def _create(folder: Path, config: Config, own: train_on_recording.RecordingTask | None) -> None:
    """Make a run directory with its settings, and the background to train in, in one piece."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists; choose another --out, or go on with --resume {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        temporary.chmod(0o755)
        try:
            if config.data.background is not None:
                config = train_on_recording.store(temporary, config, own)
            write_text(temporary / CONFIG, to_yaml(config))
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None


@contextmanager
def _locked(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        raise UserError(f"{folder}: another process is working on it; wait for it") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()  # the file stays: were it removed, two could hold one each


def _train(folder: Path, config: Config, reporter: Reporter, tell: OnEpoch) -> TrainingResult:
    n_batches, n_epochs = count_batches(config), config.training.epochs
    with reporter.task("training", n_epochs * n_batches) as task:

        def on_epoch(history: History) -> None:
            write_text(folder / HISTORY, to_table(history).to_csv(index=False))
            task.update(len(history) * n_batches)
            last = history[-1]
            task.set_text(
                f"{last.epoch}/{n_epochs} loss {last.train_loss:.1e} val {last.validation_loss:.1e}"
            )
            tell(history)

        def on_batch(n_epochs_done: int, n_batches_done: int) -> None:
            task.update(n_epochs_done * n_batches + n_batches_done)

        checkpoint = folder / CHECKPOINT
        return train(config, checkpoint=checkpoint, on_epoch=on_epoch, on_batch=on_batch)


def _judge(folder: Path, config: Config, extractor: Extractor, reporter: Reporter) -> Evaluation:
    """Evaluate an extractor and draw it."""
    with threads(config), reporter.task("evaluating", N_PARTS) as task:
        evaluation = evaluate_extractor(extractor, config, on_part=task.update)
    _draw(folder, config, evaluation)
    _draw_attention(folder, config, extractor, evaluation)
    return evaluation


def _judge_injected(
    folder: Path, config: Config, extractor: Extractor, reporter: Reporter
) -> dict[str, Any]:
    """Beside the filters in the recording's held-out noise, where there is a recording."""
    if config.data.background is None:
        return {}
    with threads(config), reporter.task("comparing", train_on_recording.n_parts()) as task:
        figures, picture = train_on_recording.judge(folder, config, extractor, on_part=task.update)
    _save_picture(folder, "injected", picture, config)
    return figures


def _training_figures(config: Config, trained: TrainingResult) -> dict[str, Any]:
    best = trained.best
    with threads(config):
        tasks = evaluate_auxiliary(trained.network, config) if config.model.tasks else {}
    window = summary.learned_window(trained.network)
    return {
        "seconds": sum(epoch.seconds for epoch in trained.history),
        "epochs": len(trained.history),
        "best_epoch": best.epoch,
        "best_validation_loss": best.validation_loss,
        "parameters": n_parameters(trained.network),
        **({} if window is None else {"learned_window": window}),
        **tasks,
    }


def _write_metrics(folder: Path, result: dict[str, Any]) -> None:
    write_text(folder / METRICS, json.dumps(result, indent=2) + "\n")


def _read_metrics(folder: Path) -> dict[str, Any]:
    path = folder / METRICS
    try:
        result = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not {"train", "test", "generalisation", "shifted", "training"} <= result.keys():
        raise UserError(f"{path}: not a run's metrics; remove it, then --resume {folder}")
    return result


def _draw(folder: Path, config: Config, evaluation: Evaluation) -> None:
    """The pictures of one run on its test record."""
    data, shown = config.data, config.visualisation
    k, hz = shown.component, data.frequencies_hz[shown.component]
    test, truth, estimate = evaluation.test, evaluation.test.targets[0], evaluation.estimate
    part = slice(0, shown.samples)
    time_s, mixture = test.time_s[part], test.mixture[0, part]
    whole = slice(evaluation.n_skipped, None)
    pictures = {
        "single": draw.single_component(time_s, mixture, truth[part, k], estimate[part, k], hz),
        "components": draw.all_components(
            time_s, mixture, truth[part], estimate[part], data.frequencies_hz
        ),
        "spectrum": draw.spectra(
            test.mixture[0, whole],
            truth[whole, k],
            estimate[whole, k],
            data.rate_hz,
            hz,
            top_hz=min(data.rate_hz / 2, 3 * max(data.frequencies_hz)),
        ),
        "errors": draw.errors(test.time_s[whole], truth[whole, k], estimate[whole, k], hz),
    }
    for name, figure in pictures.items():
        _save_picture(folder, name, figure, config)


def _draw_attention(
    folder: Path, config: Config, extractor: Extractor, evaluation: Evaluation
) -> None:
    """What the network attends to, where it has attention."""
    if not isinstance(extractor, NetworkExtractor):
        return
    shown, test = config.visualisation, evaluation.test
    mixture = test.mixture[0, : max(shown.samples, config.model.window)]
    with threads(config):
        weights = summary.attention_weights(extractor, mixture, shown.component)
    if weights:
        picture = draw.attention(weights, len(mixture), config.data.rate_hz, config.stride)
        _save_picture(folder, "attention", picture, config)


def _draw_training(folder: Path, config: Config, trained: TrainingResult) -> None:
    figure = draw.training_curves(to_table(trained.history), trained.best.epoch)
    _save_picture(folder, "training", figure, config)


def _check_alike(one: Config, other: Config) -> None:
    if one.data.frequencies_hz != other.data.frequencies_hz or (
        one.data.rate_hz != other.data.rate_hz
    ):
        raise UserError("the two runs are for different frequencies or rates; compare like runs")


def _draw_against(folder: Path, config: Config, evaluation: Evaluation, rival: LoadedRun) -> None:
    """Two runs on the first run's test record; L=1 against L=10, say."""
    test = evaluation.test
    k, part = config.visualisation.component, slice(0, config.visualisation.samples)
    with threads(rival.config):
        other = rival.extractor.extract(test.mixture)[0]
    names = [f"{c.name} (L={c.model.window})" for c in (config, rival.config)]
    figure = draw.two_runs(
        test.time_s[part],
        test.targets[0, part, k],
        (evaluation.estimate[part, k], other[part, k]),
        (names[0], names[1]),
        config.data.frequencies_hz[k],
    )
    _save_picture(folder, "against", figure, config)


def _save_picture(folder: Path, name: str, figure: Figure, config: Config) -> None:
    (folder / FIGURES).mkdir(exist_ok=True)
    draw.save_figure(figure, folder / FIGURES / f"{name}.png", dpi=config.visualisation.dpi)


@contextmanager
def source_of(folder: str | Path) -> Iterator[Source]:
    """A run's extractor for recordings, on the threads that it was trained for."""
    loaded = load_run(folder)
    config = loaded.config
    with threads(config):
        yield network_source(loaded.extractor, config.data, memory_samples(config), str(folder))
