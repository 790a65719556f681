"""Searches by Optuna: what to try next, and which runs are hopeless.

The study lives in a file of the sweep's directory, or in a database that all workers reach. The
driver asks for trials and tells their results; a worker reports its validation losses and asks
whether to go on.
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
# Trials that are drawn at random before anything is inferred from them, and epochs before any
# is given up.
N_RANDOM, N_SAFE_EPOCHS = 10, 3
# Draws of the other values that a value must go with one of.
DRAWS = 32


def run_trial(task: Task) -> Outcome:
    """Do one run on a worker; a trial of a search may be given up on the way."""
    if task.trial is None:
        return work(task)
    study = open_study(task.trial.storage, task.trial.study, pruner=task.trial.pruner)
    # The trial was asked for by the driver; its number is all that is known of it here.
    trial_id = study.trials[task.trial.number]._trial_id
    trial = import_optuna().trial.Trial(study, trial_id)

    def judge(history: History) -> None:
        epoch = history[-1]
        with warnings.catch_warnings():  # an epoch told of before a break is told of again
            warnings.simplefilter("ignore")
            trial.report(epoch.validation_loss, epoch.epoch)
        if trial.should_prune():
            raise Pruned(f"hopeless after epoch {epoch.epoch}")

    return work(task, judge)


def open_study(
    address: str, name: str, *, search: Search | None = None, pruner: str = "none"
) -> optuna.Study:
    """The study of a sweep, begun if there is none: a journal file, or a database's URL.

    Raises `UserError` where the database or its driver is not there.
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
        # Gone on with after a break, a search draws what it has not drawn before.
        study.sampler = _sampler(search, search.seed + len(study.trials))
        return study
    except Exception as error:
        # SQLAlchemy and every driver have exceptions of their own.
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, ImportError):
            reason = "no driver for it; for PostgreSQL: pip install 'tonesieve[postgres]'"
        raise UserError(f"--storage {_shown(address)}: cannot be opened ({reason})") from None


def _with_driver(address: str) -> str:
    """A database's URL; for PostgreSQL the driver is named, since the default one changes."""
    scheme, _, rest = address.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else address


def _shown(address: str) -> str:
    """An address without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", address)


def check_space(plan: Plan, base: str | Path, *, where: str) -> None:
    """Raise `UserError` for a value that goes with none of many draws of the others."""
    search = plan.search
    assert search is not None
    draw = random.Random(0)
    for key, one in search.space.items():
        for value in one.extremes:
            problem = None
            for _ in range(DRAWS):
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
    """Trials as they are asked for: those that were broken off first, then new ones."""
    search = plan.search
    assert search is not None
    optuna = import_optuna()
    states = optuna.trial.TrialState
    for frozen in study.get_trials(states=(states.RUNNING,)):
        try:
            if set(frozen.params) != set(search.space):
                raise UserError("broken off before it was drawn")
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
            # Settings that do not go together: no run, and nothing to learn but that.
            study.tell(trial.number, state=states.FAIL)
            continue
        yield _task(point, trial.number, search, address, storage, study.study_name)


def tell(study: optuna.Study, task: Task, outcome: Outcome, value: float | None) -> None:
    """What became of a trial."""
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
    """A trial as a point."""
    (seed,) = plan.seed_list
    label = f"trial-{number:04d}"
    config = configure(plan, base, params, seed, where=f"{where}: {label}")
    return Point(label, dict(params), seed, config)


def import_optuna() -> Any:
    """Optuna, quiet; raises `UserError` where it is not installed."""
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
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=N_SAFE_EPOCHS)
    return optuna.pruners.MedianPruner(n_warmup_steps=N_SAFE_EPOCHS)


def _distributions(search: Search) -> dict[str, Any]:
    optuna = import_optuna()
    kinds = optuna.distributions
    result: dict[str, Any] = {}
    for key, one in search.space.items():
        if one.choice is not None:
            result[key] = kinds.CategoricalDistribution(one.choice)
        elif one.low is not None and one.high is not None and one.integer:
            result[key] = kinds.IntDistribution(int(one.low), int(one.high), log=one.log)
        else:
            result[key] = kinds.FloatDistribution(one.low, one.high, log=one.log)
    return result
