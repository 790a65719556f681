"""The metrics and figures of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tonesieve.commands import train_on_recording
from tonesieve.commands.run_files import (
    FIGURES,
    LoadedRun,
    load_run,
    locked,
    read_metrics,
    write_metrics,
)
from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.evaluation.exercise import N_PARTS, Evaluation, evaluate_extractor
from tonesieve.evaluation.plots import run_plots
from tonesieve.extractors.protocol import Extractor
from tonesieve.inference.run_directory import run_folder
from tonesieve.learning import summary
from tonesieve.learning.network_extractor import NetworkExtractor
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.progress import Reporter


def evaluate(
    folder: str | Path, *, against: str | Path | None = None, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Evaluate a finished run again from its saved weights.

    ``metrics.json`` and the figures are written again. The settings of evaluation and figures are
    those that ``config.yaml`` has now.

    Parameters
    ----------
    folder : str or Path
        Run directory.
    against : str or Path, optional
        A second run of the same frequencies and rate. ``figures/against.png`` then shows the
        estimates of both runs.
    reporter : Reporter, optional
        Receives warnings and progress.

    Returns
    -------
    dict
        The metrics, as in ``metrics.json``, and ``run``, the directory.

    Raises
    ------
    UserError
        For a folder that is not a finished run, for a run that another process is working on, and
        for two runs of different frequencies or rates.

    Examples
    --------
    >>> import tonesieve
    >>> metrics = tonesieve.evaluate("runs/first")  # doctest: +SKIP
    >>> mse = metrics["test"]["mse"]  # doctest: +SKIP
    """
    folder, reporter = Path(folder), reporter or Reporter()
    previous, loaded = read_metrics(run_folder(folder)), load_run(folder)
    other = None if against is None else load_run(against)
    if other is not None:
        _check_same_tones(loaded.config, other.config)
    with locked(folder):
        evaluation = evaluate_and_plot(folder, loaded.config, loaded.extractor, reporter)
        if other is not None:
            _plot_against(folder, loaded.config, evaluation, other)
        injected = evaluate_on_recording(folder, loaded.config, loaded.extractor, reporter)
        metrics = {**evaluation.metrics, **injected, "training": previous["training"]}
        write_metrics(folder, metrics)
    return {"run": str(folder), **metrics}


def evaluate_and_plot(
    folder: Path, config: Config, extractor: Extractor, reporter: Reporter
) -> Evaluation:
    """Evaluate an extractor on the exercise's records, and draw its figures."""
    with threads(config), reporter.task("evaluating", N_PARTS) as task:
        evaluation = evaluate_extractor(extractor, config, on_part=task.update)
    _plot(folder, config, evaluation)
    _plot_attention(folder, config, extractor, evaluation)
    return evaluation


def evaluate_on_recording(
    folder: Path, config: Config, extractor: Extractor, reporter: Reporter
) -> dict[str, Any]:
    """Compare an extractor with the filters in a recording's held-out noise, where there is one."""
    if config.data.background is None:
        return {}
    with threads(config), reporter.task("comparing", train_on_recording.n_parts()) as task:
        metrics, figure = train_on_recording.evaluate_on_recording(
            folder, config, extractor, on_part=task.update
        )
    save_figure(folder, "injected", figure, config)
    return metrics


def save_figure(folder: Path, name: str, figure: Figure, config: Config) -> None:
    """Write one figure of a run as PNG."""
    (folder / FIGURES).mkdir(exist_ok=True)
    run_plots.save_figure(figure, folder / FIGURES / f"{name}.png", dpi=config.visualisation.dpi)


def _plot(folder: Path, config: Config, evaluation: Evaluation) -> None:
    """Draw the figures of one run on its test record."""
    data, visualisation = config.data, config.visualisation
    k, hz = visualisation.component, data.frequencies_hz[visualisation.component]
    test, targets, estimate = evaluation.test, evaluation.test.targets[0], evaluation.estimate
    start = slice(0, visualisation.samples)
    time_s, mixture = test.time_s[start], test.mixture[0, start]
    full = slice(evaluation.n_skipped, None)
    figures = {
        "single": run_plots.single_component(
            time_s, mixture, targets[start, k], estimate[start, k], hz
        ),
        "components": run_plots.all_components(
            time_s, mixture, targets[start], estimate[start], data.frequencies_hz
        ),
        "spectrum": run_plots.spectra(
            test.mixture[0, full],
            targets[full, k],
            estimate[full, k],
            data.rate_hz,
            hz,
            top_hz=min(data.rate_hz / 2, 3 * max(data.frequencies_hz)),
        ),
        "errors": run_plots.errors(test.time_s[full], targets[full, k], estimate[full, k], hz),
    }
    for name, figure in figures.items():
        save_figure(folder, name, figure, config)


def _plot_attention(
    folder: Path, config: Config, extractor: Extractor, evaluation: Evaluation
) -> None:
    if not isinstance(extractor, NetworkExtractor):
        return
    visualisation, test = config.visualisation, evaluation.test
    mixture = test.mixture[0, : max(visualisation.samples, config.model.window)]
    with threads(config):
        weights = summary.attention_weights(extractor, mixture, visualisation.component)
    if weights:
        figure = run_plots.attention(weights, len(mixture), config.data.rate_hz, config.stride)
        save_figure(folder, "attention", figure, config)


def _check_same_tones(a: Config, b: Config) -> None:
    if a.data.frequencies_hz != b.data.frequencies_hz or a.data.rate_hz != b.data.rate_hz:
        raise UserError(
            "the two runs are for different frequencies or rates; give runs of the same ones"
        )


def _plot_against(folder: Path, config: Config, evaluation: Evaluation, other: LoadedRun) -> None:
    """Draw the estimates of two runs on the first run's test record."""
    test = evaluation.test
    k, start = config.visualisation.component, slice(0, config.visualisation.samples)
    with threads(other.config):
        other_estimate = other.extractor.extract(test.mixture)[0]
    names = [f"{c.name} (L={c.model.window})" for c in (config, other.config)]
    figure = run_plots.two_runs(
        test.time_s[start],
        test.targets[0, start, k],
        (evaluation.estimate[start, k], other_estimate[start, k]),
        (names[0], names[1]),
        config.data.frequencies_hz[k],
    )
    save_figure(folder, "against", figure, config)
