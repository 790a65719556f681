"""Searches by Optuna: the next trials, and which ones are pruned.

The study is stored in a file of the sweep's directory, or in a database that all workers can reach.
The driver asks for trials and reports their results; a worker reports its validation losses and
asks whether to continue.
"""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonesieve.config.config import to_yaml
from tonesieve.errors import UserError
from tonesieve.learning.loop.history import History
from tonesieve.sweeping.plan import Plan, Point, Search, configure
from tonesieve.sweeping.worker import FINISHED, PRUNED, Outcome, Pruned, Task, Trial, work

if TYPE_CHECKING:
    import optuna

STUDY = "study.journal"
# Chosen, not tuned: random trials before the sampler uses their results, and epochs before any
# trial may be pruned.
N_RANDOM, MIN_EPOCHS = 10, 3
# Guard against refusing a valid space: draws of the other values that a value is checked with.
N_DRAWS = 32


def run_trial(task: Task) -> Outcome:
    """Run one task on a worker; a trial of a search may be pruned.

    Parameters
    ----------
    task : Task
        The run.

    Returns
    -------
    Outcome
        How it ended.
    """
    if task.trial is None:
        return work(task)
    study = open_study(task.trial.storage, task.trial.study, pruner=task.trial.pruner)
    # The driver created the trial; the worker has only its number.
    trial_id = study.trials[task.trial.number]._trial_id
    trial = import_optuna().trial.Trial(study, trial_id)

    def report(history: History) -> None:
        epoch = history[-1]
        with warnings.catch_warnings():  # a resumed run reports its last epochs again
            warnings.simplefilter("ignore")
            trial.report(epoch.validation_loss, epoch.epoch)
        if trial.should_prune():
            raise Pruned(f"pruned after epoch {epoch.epoch}")

    return work(task, report)


def open_study(
    address: str, name: str, *, search: Search | None = None, pruner: str = "none"
) -> optuna.Study:
    """Open the study of a sweep; create it if a search is given and there is none.

    Parameters
    ----------
    address : str
        Path of a journal file, or URL of a database.
    name : str
        Name of the study.
    search : Search, optional
        Search that is to be continued or started; without it the study must exist.
    pruner : str
        "median", "halving" or "none".

    Returns
    -------
    optuna.Study
        The study.

    Raises
    ------
    UserError
        If the database or its driver is missing.
    """
    optuna = import_optuna()
    try:
        storage: Any
        if "://" in address:
            storage = optuna.storages.RDBStorage(_with_driver(address))
        else:
            backend = optuna.storages.journal.JournalFileBackend(address)
            storage = optuna.storages.JournalStorage(backend)
        if search is None:
            return optuna.load_study(study_name=name, storage=storage, pruner=_pruner(pruner))
        study = optuna.create_study(
            study_name=name, storage=storage, load_if_exists=True, direction="minimize"
        )
        # A search that is continued must not draw the same values again.
        study.sampler = _sampler(search, search.seed + len(study.trials))
        return study
    except Exception as error:
        # SQLAlchemy and every driver have exceptions of their own.
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, ImportError):
            reason = "no driver for it; for PostgreSQL: pip install 'tonesieve[postgres]'"
        raise UserError(
            f"--storage {_without_password(address)}: cannot be opened ({reason})"
        ) from None


def _with_driver(address: str) -> str:
    """Add the driver to the URL of a PostgreSQL database, since the default one changes."""
    scheme, _, rest = address.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else address


def _without_password(address: str) -> str:
    """Mask the password of an address."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", address)


def check_space(plan: Plan, base: str | Path, *, where: str) -> None:
    """Raise `UserError` for a value that is invalid together with every draw of the others."""
    search = plan.search
    assert search is not None
    draw = random.Random(0)
    for key, dimension in search.space.items():
        for value in dimension.extremes:
            problem = None
            for _ in range(N_DRAWS):
                others = {name: other.draw(draw) for name, other in search.space.items()}
                try:
                    point_of(plan, base, 0, {**others, key: value}, where=f"{where}: {key}")
                except UserError as error:
                    problem = problem or error
                else:
                    break
            else:
                assert problem is not None
                raise problem


def tasks_of(
    study: optuna.Study,
    plan: Plan,
    base: str | Path,
    *,
    where: str,
    address: str,
    storage: str,
) -> Iterator[Task]:
    """Generate the tasks of a search: interrupted trials first, then new ones."""
    search = plan.search
    assert search is not None
    optuna = import_optuna()
    states = optuna.trial.TrialState
    for frozen in study.get_trials(states=(states.RUNNING,)):
        try:
            if set(frozen.params) != set(search.space):
                raise UserError("interrupted before its values were drawn")
            point = point_of(plan, base, frozen.number, frozen.params, where=where)
        except UserError:
            study.tell(frozen.number, state=states.FAIL)
            continue
        yield _task(point, frozen.number, search, address, storage, study.study_name)
    while len(study.trials) < search.trials:
        trial = study.ask(_distributions(search))
        try:
            point = point_of(plan, base, trial.number, trial.params, where=where)
        except UserError:
            # Invalid combination: there is no run and no result.
            study.tell(trial.number, state=states.FAIL)
            continue
        yield _task(point, trial.number, search, address, storage, study.study_name)


def report_outcome(study: optuna.Study, task: Task, outcome: Outcome, value: float | None) -> None:
    """Report the outcome of a trial to its study."""
    optuna = import_optuna()
    states = optuna.trial.TrialState
    assert task.trial is not None
    state = {FINISHED: states.COMPLETE, PRUNED: states.PRUNED}.get(outcome.status, states.FAIL)
    if value is None and state == states.COMPLETE:
        state = states.FAIL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.tell(
            task.trial.number, value if state == states.COMPLETE else None, state=state,
            skip_if_finished=True,
        )  # fmt: skip


def point_of(
    plan: Plan, base: str | Path, number: int, params: dict[str, Any], *, where: str
) -> Point:
    """Convert a trial to a point."""
    (seed,) = plan.seed_list
    label = f"trial-{number:04d}"
    config = configure(plan, base, params, seed, where=f"{where}: {label}")
    return Point(label, dict(params), seed, config)


def import_optuna() -> Any:
    """Import Optuna without its log; raise `UserError` if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise UserError(
            "a search needs Optuna, which is not installed; pip install 'tonesieve[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _task(
    point: Point, number: int, search: Search, address: str, storage: str, study: str
) -> Task:
    return Task(
        address,
        point.name,
        to_yaml(point.config),
        trial=Trial(storage, study, number, search.pruner),
        most_us_per_sample=search.most_us_per_sample,
    )


def _sampler(search: Search, seed: int) -> Any:
    optuna = import_optuna()
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_RANDOM, constant_liar=True)


def _pruner(name: str) -> Any:
    optuna = import_optuna()
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=MIN_EPOCHS)
    return optuna.pruners.MedianPruner(n_warmup_steps=MIN_EPOCHS)


def _distributions(search: Search) -> dict[str, Any]:
    optuna = import_optuna()
    kinds = optuna.distributions
    result: dict[str, Any] = {}
    for key, dimension in search.space.items():
        if dimension.choice is not None:
            result[key] = kinds.CategoricalDistribution(dimension.choice)
        elif dimension.low is not None and dimension.high is not None and dimension.integer:
            result[key] = kinds.IntDistribution(
                int(dimension.low), int(dimension.high), log=dimension.log
            )
        else:
            result[key] = kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return result
