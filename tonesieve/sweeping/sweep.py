"""The verb ``sweep``: many runs from one file, local or on a cluster; resumed at any time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd
from filelock import FileLock, Timeout
from matplotlib.figure import Figure

from tonesieve.commands.run_files import FIGURES
from tonesieve.config.config import from_yaml, to_yaml
from tonesieve.errors import UserError
from tonesieve.evaluation.plots import sweep_plots
from tonesieve.evaluation.plots.run_plots import save_figure
from tonesieve.inference.run_directory import CONFIG
from tonesieve.sweeping.executors import Engine, Resources, open_engine, run_all
from tonesieve.sweeping.optuna_search import (
    STUDY,
    check_space,
    open_study,
    point_of,
    report_outcome,
    tasks_of,
)
from tonesieve.sweeping.plan import Plan, Point, plan_yaml, points_of, read_plan
from tonesieve.sweeping.results import best_by_budget, by_point, check_metric, metric_of, row_of
from tonesieve.sweeping.storage import RUNS, ResultStore
from tonesieve.sweeping.worker import (
    FAILED,
    FINISHED,
    PRUNED,
    Outcome,
    Task,
    metrics_of,
    outcome_of,
    store_outcome,
)
from tonesieve.util.progress import Reporter

PLAN, RESULTS, FIGURE = "sweep.yaml", "results.csv", "sweep.png"
# Chosen: the label of a figure's axis lists at most this many varied keys.
MAX_KEYS = 3
LOG, LOCK = "sweep.log", ".lock"


def sweep(
    source: str | Path,
    *,
    out: str | Path | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
    cpus_per_run: float = 1.0,
    gpus_per_run: float = 0.0,
    storage: str | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Run a grid, variants or a search, and summarise the results.

    Parameters
    ----------
    source : str or Path
        Path of a YAML file, or name of a sweep of the package.
    out : str or Path, optional
        A folder, or any address that fsspec supports; default: ``sweeps/NAME``. Finished runs there
        are not run again, interrupted ones are resumed.
    engine : {"local", "ray"}
        Processes on this machine, or a Ray cluster.
    workers : int, optional
        Runs at a time; default: one a core, or as many as fit the cluster.
    address : str, optional
        Address of the Ray cluster.
    cpus_per_run, gpus_per_run : float
        Resources of every run on a Ray cluster.
    storage : str, optional
        URL of a database for the study of a search; default: a file in ``out``.
    reporter : Reporter, optional
        Receives warnings and progress.

    Returns
    -------
    dict
        Among others ``rows`` (a row a run), ``points`` (means over the seeds), ``finished``,
        ``unfinished`` and ``files``. The rows are written to ``results.csv``, a figure to
        ``figures/sweep.png``.

    Raises
    ------
    UserError
        If the plan is invalid, ``out`` holds another sweep or runs with other settings, or another
        process is running a sweep there (detected for folders only).
    """
    plan, base = read_plan(source)
    where = str(source)
    check_metric(plan, where=where)
    _check_options(plan, engine, workers, address, cpus_per_run, gpus_per_run, storage)
    if plan.search:
        check_space(plan, base, where=where)
    fixed = [] if plan.search else points_of(plan, base, where=where)
    store = ResultStore(str(out) if out is not None else str(Path("sweeps") / plan.name))
    store.create()
    lock = _acquire_lock(store)
    try:
        _store_plan(store, plan)
        sweeping = _Sweep(plan, base, where, store, reporter or Reporter())
        resources = Resources(cpus_per_run, gpus_per_run)
        options = {"n_workers": workers, "address": address, "resources": resources}
        start = time.perf_counter()
        if plan.search:
            points = sweeping.search(storage, engine, options)
        else:
            _check_stored(store, fixed)
            sweeping.run(fixed, engine, options)
            points = fixed
        return sweeping.summarise(points, time.perf_counter() - start)
    finally:
        if lock is not None:
            lock.release()


class _Sweep:
    """A sweep that is being run."""

    def __init__(
        self, plan: Plan, base: str | Path, where: str, store: ResultStore, reporter: Reporter
    ) -> None:
        self.plan, self.base, self.where = plan, base, where
        self.store, self.reporter = store, reporter
        self.begun_now = self.refused = 0

    def run(self, points: list[Point], engine: str, options: Mapping[str, Any]) -> None:
        """Run every point that is not done yet."""
        missing = [p for p in points if not _is_done(outcome_of(self.store, p.name))]
        if not missing:
            return
        tasks = [Task(self._address, p.name, to_yaml(p.config)) for p in missing]
        with self.reporter.task(f"sweep {self.plan.name}", len(points)) as bar:
            n_before = len(points) - len(missing)
            bar.update(n_before)

            def on_done(task: Task, outcome: Outcome) -> None:
                self._log(task, outcome)
                bar.update(n_before + self.begun_now)
                bar.set_text(f"{task.name}: {outcome.status}")

            self._run_all(engine, options, tasks, on_done)

    def search(self, storage: str | None, engine: str, options: Mapping[str, Any]) -> list[Point]:
        """Run every trial that is not done yet; return the points of all."""
        search = self.plan.search
        assert search is not None
        if storage is None:
            if self.store.folder is None:
                raise UserError(
                    f"--out {self.store.address}: a search there needs --storage, a database's URL"
                )
            storage = str((self.store.folder / STUDY).resolve())
        study = open_study(storage, self.plan.name, search=search)
        _check_stored(self.store, self._trials(study))
        tasks = tasks_of(
            study, self.plan, self.base, where=self.where, address=self._address, storage=storage
        )
        with self.reporter.task(f"search {self.plan.name}", search.trials) as bar:

            def on_done(task: Task, outcome: Outcome) -> None:
                self._log(task, outcome)
                assert task.trial is not None
                metrics = metrics_of(self.store, task.name)
                value = metric_of(self.plan.metric, outcome, metrics)
                report_outcome(study, task, outcome, value)
                bar.update(sum(trial.state.is_finished() for trial in study.trials))
                bar.set_text(f"{task.name}: {outcome.status}")

            if any(not t.state.is_finished() for t in study.trials) or (
                len(study.trials) < search.trials
            ):
                self._run_all(engine, options, tasks, on_done)
        points = self._trials(study)
        self.refused = len(study.trials) - len(points)
        return points

    def _trials(self, study: Any) -> list[Point]:
        """Trials that have files."""
        stored = set(self.store.runs())
        return [
            point_of(self.plan, self.base, trial.number, trial.params, where=self.where)
            for trial in study.trials
            if any(name.startswith(f"trial-{trial.number:04d}-") for name in stored)
        ]

    def summarise(self, points: list[Point], wall_s: float) -> dict[str, Any]:
        """Write the results of all runs and return their summary."""
        plan = self.plan
        rows = [self._row(point) for point in points]
        frame = pd.DataFrame(rows)
        self.store.write(RESULTS, frame.to_csv(index=False))
        varied = list(dict.fromkeys(key for point in points for key in point.varied))
        status = [row["status"] for row in rows]
        result: dict[str, Any] = {
            "sweep": self.store.address,
            "name": plan.name,
            "metric": plan.metric,
            "search": plan.search is not None,
            "varied": varied,
            "runs": len(rows),
            "finished": status.count(FINISHED),
            "pruned": status.count(PRUNED),
            "refused": self.refused,
            "unfinished": [r for r in rows if r["status"] not in (FINISHED, PRUNED)],
            "begun_now": self.begun_now,
            "wall_s": wall_s,
            "points": [] if plan.search else by_point(frame, plan.metric),
            "rows": rows,
            "claims": plan.claims,
            "cut": plan.cut,
            "files": [f"{self.store.address}/{RESULTS}"],
        }
        if result["finished"]:
            self._draw(result, frame)
        return result

    @property
    def _address(self) -> str:
        folder = self.store.folder
        return self.store.address if folder is None else str(folder.resolve())

    def _log(self, task: Task, outcome: Outcome) -> None:
        """Add a line to the log; store the outcome if the worker could not."""
        self.begun_now += 1
        if outcome.status == FAILED and outcome_of(self.store, task.name) is None:
            store_outcome(self.store, task.name, outcome)
        if self.store.folder is not None:
            fields = [time.strftime("%Y-%m-%d %H:%M:%S"), outcome.status, task.name, outcome.worker]
            with (self.store.folder / LOG).open("a", encoding="utf-8") as file:
                file.write("  ".join([*fields, outcome.reason]).rstrip() + "\n")

    def _run_all(self, engine: str, options: Mapping[str, Any], tasks: Any, on_done: Any) -> None:
        executor: Engine = open_engine(engine, **options)
        try:
            run_all(executor, tasks, on_done, sequential=self.plan.search is not None)
        finally:
            executor.close()

    def _row(self, point: Point) -> dict[str, Any]:
        outcome = outcome_of(self.store, point.name)
        return row_of(point, outcome, metrics_of(self.store, point.name))

    def _draw(self, result: dict[str, Any], frame: pd.DataFrame) -> None:
        plan = self.plan
        if plan.search:
            done = [row for row in result["rows"] if row["status"] == FINISHED]
            front = best_by_budget(done, plan.metric)
            figure = sweep_plots.search(frame, front, plan.metric, plan.name)
        else:
            varied = result["varied"]
            key = ", ".join(varied) if len(varied) <= MAX_KEYS else "variant"
            figure = sweep_plots.sweep(
                frame, result["points"], key, plan.metric, plan.name, plan.claims
            )
        result["files"].append(_save(self.store, figure))


def _save(store: ResultStore, figure: Figure) -> str:
    name = f"{FIGURES}/{FIGURE}"
    if store.folder is not None:
        (store.folder / FIGURES).mkdir(exist_ok=True)
        save_figure(figure, store.folder / name, dpi=150)
    else:
        with TemporaryDirectory(prefix="tonesieve-") as folder:
            save_figure(figure, Path(folder) / FIGURE, dpi=150)
            store.upload(name, Path(folder) / FIGURE)
    return f"{store.address}/{name}"


def _check_options(
    plan: Plan,
    engine: str,
    workers: int | None,
    address: str | None,
    cpus: float,
    gpus: float,
    storage: str | None,
) -> None:
    if engine not in ("local", "ray"):
        raise UserError(f"--engine {engine}: no such engine; local or ray")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more")
    for option, count in (("--cpus", cpus), ("--gpus", gpus)):
        if not 0 <= count < math.inf:
            raise UserError(f"{option} {count:g}: must be 0 or more")
    if engine == "local" and (address is not None or (cpus, gpus) != (1.0, 0.0)):
        raise UserError("--address, --cpus and --gpus are for --engine ray")
    if storage is not None and not plan.search:
        raise UserError("--storage: is for a search; this sweep lists its runs")


def _check_stored(store: ResultStore, points: Sequence[Point]) -> None:
    """Refuse stored runs with other settings: a base may have changed in between."""
    stored = set(store.runs())
    for point in points:
        text = store.read(f"{RUNS}/{point.name}/{CONFIG}") if point.name in stored else None
        if text is not None and from_yaml(text, where=point.name) != point.config:
            raise UserError(
                f"{store.address}: {point.name} was run under other settings (has the base "
                "changed?); name another --out, or remove that run"
            )


def _is_done(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.done


def _store_plan(store: ResultStore, plan: Plan) -> None:
    """Store the plan with its results; refuse results of another plan."""
    before, now = store.read(PLAN), plan_yaml(plan)
    if before is not None and before != now:
        raise UserError(
            f"{store.address}: holds another sweep, or an older version of this one "
            f"({PLAN} differs); name another --out"
        )
    if before is None:
        if store.runs():
            raise UserError(f"{store.address}: holds runs but no {PLAN}; name another --out")
        store.write(PLAN, now)


def _acquire_lock(store: ResultStore) -> FileLock | None:
    if store.folder is None:
        return None
    lock = FileLock(store.folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{store.address}: another process is running a sweep there; wait for it"
        ) from None
    except OSError as error:
        raise UserError(f"{store.address}: cannot be written: {error.strerror}") from None
    return lock
