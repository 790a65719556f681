"""The verb ``sweep``: many runs from one file, here or on a cluster; gone on with at any time."""

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
from tonesieve.evaluation.plots import run_plots as draw
from tonesieve.evaluation.plots import sweep_plots
from tonesieve.inference.run_directory import CONFIG
from tonesieve.sweeping.executors import Engine, Resources, open_engine, run_all
from tonesieve.sweeping.optuna_search import (
    STUDY,
    check_space,
    open_study,
    point_of,
    tasks_of,
    tell,
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
    keep_outcome,
    metrics_of,
    outcome_of,
)
from tonesieve.util.progress import Reporter

PLAN, RESULTS, PICTURE = "sweep.yaml", "results.csv", "sweep.png"
# A picture's axis names so many keys that vary.
MOST_KEYS = 3
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
    """Do the runs that a sweep's file asks for, and say what they came to.

    ``source``: a YAML file, or the name of a shipped sweep. ``out``: a folder, or any address that
    fsspec knows (default ``sweeps/NAME``); what is finished there is not done again, and what is
    not goes on where it stood. ``engine``: processes on this machine (``workers`` of them; default
    one a core), or a Ray cluster at ``address``, each run with so many CPUs and GPUs. ``storage``:
    a database's URL for a search's study (default: a file in ``out``).

    Raises `UserError` for a file that asks for what cannot be, an ``out`` that holds another sweep
    or runs of other settings, and a folder that is being worked on (an address cannot tell).
    """
    plan, base = read_plan(source)
    where = str(source)
    check_metric(plan, where=where)
    _check_options(plan, engine, workers, address, cpus_per_run, gpus_per_run, storage)
    if plan.search:
        check_space(plan, base, where=where)
    fixed = [] if plan.search else points_of(plan, base, where=where)
    shelf = ResultStore(str(out) if out is not None else str(Path("sweeps") / plan.name))
    shelf.make()
    lock = _claim(shelf)
    try:
        _keep_plan(shelf, plan)
        sweeping = _Sweep(plan, base, where, shelf, reporter or Reporter())
        resources = Resources(cpus_per_run, gpus_per_run)
        doing = {"n_workers": workers, "address": address, "resources": resources}
        begun = time.perf_counter()
        if plan.search:
            points = sweeping.search(storage, engine, doing)
        else:
            _check_kept(shelf, fixed)
            sweeping.do(fixed, engine, doing)
            points = fixed
        return sweeping.conclude(points, time.perf_counter() - begun)
    finally:
        if lock is not None:
            lock.release()


class _Sweep:
    """A sweep under way."""

    def __init__(
        self, plan: Plan, base: str | Path, where: str, shelf: ResultStore, reporter: Reporter
    ) -> None:
        self.plan, self.base, self.where = plan, base, where
        self.shelf, self.reporter = shelf, reporter
        self.begun_now = self.refused = 0

    def do(self, points: list[Point], engine: str, doing: Mapping[str, Any]) -> None:
        """Every run that is not done yet."""
        left = [p for p in points if not _is_done(outcome_of(self.shelf, p.name))]
        if not left:
            return
        tasks = [Task(self._address, p.name, to_yaml(p.config)) for p in left]
        with self.reporter.task(f"sweep {self.plan.name}", len(points)) as bar:
            n_before = len(points) - len(left)
            bar.update(n_before)

            def on_done(task: Task, outcome: Outcome) -> None:
                self._note(task, outcome)
                bar.update(n_before + self.begun_now)
                bar.set_text(f"{task.name}: {outcome.status}")

            self._through(engine, doing, tasks, on_done)

    def search(self, storage: str | None, engine: str, doing: Mapping[str, Any]) -> list[Point]:
        """Every trial that is not done yet; the points of all."""
        search = self.plan.search
        assert search is not None
        if storage is None:
            if self.shelf.folder is None:
                raise UserError(
                    f"--out {self.shelf.address}: a search there needs --storage, a database's URL"
                )
            storage = str((self.shelf.folder / STUDY).resolve())
        study = open_study(storage, self.plan.name, search=search)
        _check_kept(self.shelf, self._trials(study))
        tasks = tasks_of(
            study, self.plan, self.base, where=self.where, address=self._address, storage=storage
        )
        with self.reporter.task(f"search {self.plan.name}", search.trials) as bar:

            def on_done(task: Task, outcome: Outcome) -> None:
                self._note(task, outcome)
                assert task.trial is not None
                metrics = metrics_of(self.shelf, task.name)
                value = metric_of(self.plan.metric, outcome, metrics)
                tell(study, task, outcome, value)
                bar.update(sum(trial.state.is_finished() for trial in study.trials))
                bar.set_text(f"{task.name}: {outcome.status}")

            if any(not t.state.is_finished() for t in study.trials) or (
                len(study.trials) < search.trials
            ):
                self._through(engine, doing, tasks, on_done)
        points = self._trials(study)
        self.refused = len(study.trials) - len(points)
        return points

    def _trials(self, study: Any) -> list[Point]:
        """The trials that something is kept of."""
        kept = set(self.shelf.runs())
        return [
            point_of(self.plan, self.base, trial.number, trial.params, where=self.where)
            for trial in study.trials
            if any(name.startswith(f"trial-{trial.number:04d}-") for name in kept)
        ]

    def conclude(self, points: list[Point], wall_s: float) -> dict[str, Any]:
        """Rows, tables and pictures of all that is done."""
        plan = self.plan
        rows = [self._row(point) for point in points]
        frame = pd.DataFrame(rows)
        self.shelf.write(RESULTS, frame.to_csv(index=False))
        varied = list(dict.fromkeys(key for point in points for key in point.varied))
        status = [row["status"] for row in rows]
        result: dict[str, Any] = {
            "sweep": self.shelf.address,
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
            "files": [f"{self.shelf.address}/{RESULTS}"],
        }
        if result["finished"]:
            self._draw(result, frame)
        return result

    @property
    def _address(self) -> str:
        folder = self.shelf.folder
        return self.shelf.address if folder is None else str(folder.resolve())

    def _note(self, task: Task, outcome: Outcome) -> None:
        """A line in the sweep's log, and the outcome, where the worker could not keep it."""
        self.begun_now += 1
        if outcome.status == FAILED and outcome_of(self.shelf, task.name) is None:
            keep_outcome(self.shelf, task.name, outcome)
        if self.shelf.folder is not None:
            words = [time.strftime("%Y-%m-%d %H:%M:%S"), outcome.status, task.name, outcome.worker]
            with (self.shelf.folder / LOG).open("a", encoding="utf-8") as file:
                file.write("  ".join([*words, outcome.reason]).rstrip() + "\n")

    def _through(self, engine: str, doing: Mapping[str, Any], tasks: Any, on_done: Any) -> None:
        hands: Engine = open_engine(engine, **doing)
        try:
            run_all(hands, tasks, on_done, chosen=self.plan.search is not None)
        finally:
            hands.close()

    def _row(self, point: Point) -> dict[str, Any]:
        outcome = outcome_of(self.shelf, point.name)
        return row_of(point, outcome, metrics_of(self.shelf, point.name))

    def _draw(self, result: dict[str, Any], frame: pd.DataFrame) -> None:
        plan = self.plan
        if plan.search:
            done = [row for row in result["rows"] if row["status"] == FINISHED]
            front = best_by_budget(done, plan.metric)
            picture = sweep_plots.search(frame, front, plan.metric, plan.name)
        else:
            varied = result["varied"]
            key = ", ".join(varied) if len(varied) <= MOST_KEYS else "variant"
            picture = sweep_plots.sweep(
                frame, result["points"], key, plan.metric, plan.name, plan.claims
            )
        result["files"].append(_save(self.shelf, picture))


def _save(shelf: ResultStore, picture: Figure) -> str:
    name = f"{FIGURES}/{PICTURE}"
    if shelf.folder is not None:
        (shelf.folder / FIGURES).mkdir(exist_ok=True)
        draw.save_figure(picture, shelf.folder / name, dpi=150)
    else:
        with TemporaryDirectory(prefix="tonesieve-") as folder:
            draw.save_figure(picture, Path(folder) / PICTURE, dpi=150)
            shelf.copy_in(name, Path(folder) / PICTURE)
    return f"{shelf.address}/{name}"


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
    for option, share in (("--cpus", cpus), ("--gpus", gpus)):
        if not 0 <= share < math.inf:
            raise UserError(f"{option} {share:g}: must be 0 or more")
    if engine == "local" and (address is not None or (cpus, gpus) != (1.0, 0.0)):
        raise UserError("--address, --cpus and --gpus are for --engine ray")
    if storage is not None and not plan.search:
        raise UserError("--storage: is for a search; this sweep names its runs one by one")


def _check_kept(shelf: ResultStore, points: Sequence[Point]) -> None:
    """Runs of other settings must not mix with these: a base may have changed in between."""
    kept = set(shelf.runs())
    for point in points:
        text = shelf.read(f"{RUNS}/{point.name}/{CONFIG}") if point.name in kept else None
        if text is not None and from_yaml(text, where=point.name) != point.config:
            raise UserError(
                f"{shelf.address}: {point.name} was run under other settings (has the base "
                "changed?); name another --out, or remove that run"
            )


def _is_done(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.done


def _keep_plan(shelf: ResultStore, plan: Plan) -> None:
    """Keep the plan beside its results; another one's results must not mix with them."""
    before, now = shelf.read(PLAN), plan_yaml(plan)
    if before is not None and before != now:
        raise UserError(
            f"{shelf.address}: holds another sweep, or an older version of this one "
            f"({PLAN} differs); name another --out"
        )
    if before is None:
        if shelf.runs():
            raise UserError(f"{shelf.address}: holds runs but no {PLAN}; name another --out")
        shelf.write(PLAN, now)


def _claim(shelf: ResultStore) -> FileLock | None:
    if shelf.folder is None:
        return None
    lock = FileLock(shelf.folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{shelf.address}: another process is sweeping there; wait for it"
        ) from None
    except OSError as error:
        raise UserError(f"{shelf.address}: cannot be written: {error.strerror}") from None
    return lock
