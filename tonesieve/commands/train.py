"""Training: one configuration in, one run directory out."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tonesieve.commands import train_on_recording
from tonesieve.commands.evaluate import evaluate_and_plot, evaluate_on_recording, save_figure
from tonesieve.commands.run_files import (
    CHECKPOINT,
    HISTORY,
    METRICS,
    locked,
    read_metrics,
    write_metrics,
)
from tonesieve.config.config import Config, to_yaml
from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.config.warnings import warnings_for
from tonesieve.errors import UserError
from tonesieve.evaluation.plots.run_plots import training_curves
from tonesieve.inference.run_directory import CONFIG, WEIGHTS, as_compiled, run_folder
from tonesieve.learning import summary
from tonesieve.learning.data.batches import count_batches
from tonesieve.learning.loop.auxiliary import evaluate_auxiliary
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.loop.history import History, to_table
from tonesieve.learning.loop.training import TrainingResult, train
from tonesieve.learning.models import n_parameters
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.learning.network_files import save_network
from tonesieve.learning.runtime.distributed import check_devices
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.files import TEMPORARY, write_text
from tonesieve.util.progress import Reporter

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
    """Train a network, evaluate it and draw its figures, in a new run directory.

    With ``recording`` the network is trained in the noise of that recording. The tones near ``hz``
    are removed from it. Tones of known amplitude and phase are added. The network learns to
    estimate these. The rate, the frequencies, the amplitudes, their drift and the spectrum of the
    noise are estimated from the recording, and the settings follow from them.

    Parameters
    ----------
    source : str, Path or Config, optional
        Preset, YAML file, run directory or settings. The default is the preset `sieve`, with
        ``recording`` the preset `own`.
    overrides : tuple of str
        Changes to the settings, each ``section.key=value``.
    out : str or Path, optional
        Run directory to make. The default is ``runs/NAME-TIME``.
    recording : str or Path, optional
        Recording in whose noise to train.
    hz : sequence of float
        Nominal frequencies of the tones in ``recording``, in Hz.
    column : str, optional
        Column or channel of ``recording``, by name or by number from 1.
    rate_hz : float, optional
        Samples per second of ``recording``. The default is the rate of the file or of its times.
    time_column : str, optional
        Time column of ``recording``.
    reporter : Reporter, optional
        Receives warnings and progress.
    on_epoch : callable
        Called with the history after every epoch, once its checkpoint is written.

    Returns
    -------
    dict
        The metrics, as in ``metrics.json``, and ``run``, the directory.

    Raises
    ------
    UserError
        For settings that are wrong, for a recording that cannot be used, and for an ``out`` that
        exists and is not an empty folder.

    Examples
    --------
    >>> import tonesieve
    >>> metrics = tonesieve.run("sieve", ("training.epochs=2",), out="runs/a")  # doctest: +SKIP
    >>> mse, limit = metrics["shifted"]["mse"], metrics["shifted"]["limit"]  # doctest: +SKIP
    """
    task = None
    if recording is not None:
        if isinstance(source, Config):
            raise UserError(
                "--recording: the settings are estimated from it; give a preset or a file, "
                "not a Config"
            )
        source = source or train_on_recording.PRESET
        task = train_on_recording.prepare(
            recording,
            hz,
            source=source,
            overrides=overrides,
            column=column,
            rate_hz=rate_hz,
            time=time_column,
        )
        config = task.config
    elif hz or any(option is not None for option in (column, rate_hz, time_column)):
        raise UserError("--hz, --column, --rate, --time: are for a --recording; give one")
    else:
        config = source if isinstance(source, Config) else load_config(source or DEFAULT, overrides)
    check_devices(config)
    folder = _default_out(config) if out is None else Path(out)
    _create(folder, config, task)
    return resume(folder, reporter=reporter, on_epoch=on_epoch)


def resume(
    folder: str | Path,
    *,
    reporter: Reporter | None = None,
    on_epoch: OnEpoch = lambda history: None,
    wait_s: float = 0.0,
) -> dict[str, Any]:
    """Continue an interrupted run from its last epoch.

    The metrics are those of an uninterrupted run. A finished run is only read.

    Parameters
    ----------
    folder : str or Path
        Run directory.
    reporter : Reporter, optional
        Receives warnings and progress.
    on_epoch : callable
        Called with the history after every epoch, once its checkpoint is written.
    wait_s : float
        How long to wait while another process is working on the run, in seconds.

    Returns
    -------
    dict
        The metrics, as in ``metrics.json``, and ``run``, the directory.

    Raises
    ------
    UserError
        For a folder that is not a run directory, and for a run that another process is still
        working on after ``wait_s``.

    Examples
    --------
    >>> import tonesieve
    >>> metrics = tonesieve.resume("runs/first")  # doctest: +SKIP
    """
    folder, reporter = Path(folder), reporter or Reporter()
    config = load_config(run_folder(folder).resolve())
    if (folder / METRICS).exists():
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return {"run": str(folder), **read_metrics(folder)}
    for text in warnings_for(config):
        reporter.warn(text)
    with locked(folder, wait_s):
        if (folder / METRICS).exists():  # another process finished it in the meantime
            return {"run": str(folder), **read_metrics(folder)}
        for stale in folder.rglob(f".*{TEMPORARY}"):  # left where a process was killed in a write
            stale.unlink(missing_ok=True)
        trained = _train(folder, config, reporter, on_epoch)
        save_network(trained.network, config, folder / WEIGHTS)
        tensors = to_arrays(trained.network.state_dict())
        extractor = as_compiled(tensors, config) or as_extractor(trained.network, config)
        evaluation = evaluate_and_plot(folder, config, extractor, reporter)
        curves = training_curves(to_table(trained.history), trained.best.epoch)
        save_figure(folder, "training", curves, config)
        injected = evaluate_on_recording(folder, config, extractor, reporter)
        training = _training_metrics(config, trained)
        metrics = {**evaluation.metrics, **injected, "training": training}
        write_metrics(folder, metrics)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return {"run": str(folder), **metrics}


def _default_out(config: Config) -> Path:
    name = f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (Path("runs") / (name + (f"-{n}" if n else "")) for n in range(1_000_000))
    return next(path for path in candidates if not path.exists())


def _create(folder: Path, config: Config, task: train_on_recording.RecordingTask | None) -> None:
    """Make a run directory with its settings and its background, in one piece."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists; choose another --out, or continue: --resume {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        temporary.chmod(0o755)
        try:
            if config.data.background is not None:
                config = train_on_recording.store(temporary, config, task)
            write_text(temporary / CONFIG, to_yaml(config))
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from None


def _train(
    folder: Path, config: Config, reporter: Reporter, after_epoch: OnEpoch
) -> TrainingResult:
    n_batches, n_epochs = count_batches(config), config.training.epochs
    with reporter.task("training", n_epochs * n_batches) as task:

        def on_epoch(history: History) -> None:
            write_text(folder / HISTORY, to_table(history).to_csv(index=False))
            task.update(len(history) * n_batches)
            last = history[-1]
            task.set_text(
                f"{last.epoch}/{n_epochs} loss {last.train_loss:.1e} val {last.validation_loss:.1e}"
            )
            after_epoch(history)

        def on_batch(n_epochs_done: int, n_batches_done: int) -> None:
            task.update(n_epochs_done * n_batches + n_batches_done)

        checkpoint = folder / CHECKPOINT
        return train(config, checkpoint=checkpoint, on_epoch=on_epoch, on_batch=on_batch)


def _training_metrics(config: Config, trained: TrainingResult) -> dict[str, Any]:
    best = trained.best
    with threads(config):
        auxiliary = evaluate_auxiliary(trained.network, config) if config.model.tasks else {}
    window = summary.learned_window(trained.network)
    return {
        "seconds": sum(epoch.seconds for epoch in trained.history),
        "epochs": len(trained.history),
        "best_epoch": best.epoch,
        "best_validation_loss": best.validation_loss,
        "parameters": n_parameters(trained.network),
        **({} if window is None else {"learned_window": window}),
        **auxiliary,
    }
