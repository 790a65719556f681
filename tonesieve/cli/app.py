"""The command line: parse, call one library function, print."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import tonesieve
from tonesieve.cli import signal_commands
from tonesieve.cli.options import Force, Json, print_result
from tonesieve.cli.progress import Console
from tonesieve.cli.text import (
    compare_text,
    describe_text,
    diagnose_text,
    generate_text,
    limit_text,
    metrics_text,
    probe_text,
)
from tonesieve.config.presets import (
    DEFAULT,
    preset_yaml,
    presets,
    shipped_experiments,
    summary,
)
from tonesieve.errors import UserError, needs_extra

# The base of all errors that Typer raises for wrong arguments; some versions do not export it.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Extract a tone from a noisy mixture, and compare its error with the smallest possible.",
)

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PRESET|FILE.yaml] [section.key=value ...]",
        help=f"Source of the settings (default: {DEFAULT}), and changes to them.",
        show_default=False,
    ),
]


class Engine(StrEnum):
    """What executes the runs of a sweep."""

    local = "local"
    ray = "ray"


class Split(StrEnum):
    """Which seed draws the noise of a record."""

    train = "train"
    test = "test"


@app.command()
def run(
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory to make (default: runs/NAME-TIME).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue the interrupted run in this directory.")
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(help="Recording in whose noise to train; needs --hz."),
    ] = None,
    hz: Annotated[
        list[float] | None,
        typer.Option(
            help="Nominal frequency of the tone in the recording, in Hz; repeat for more tones."
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column or channel of the recording, by name or by number from 1."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Samples per second (default: from the file or its times).")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time column of the recording.")] = None,
    json_: Json = False,
) -> None:
    """Train and evaluate a network in a new run directory."""
    source, overrides = _split_settings(settings, default=None)
    if resume is None:
        result = tonesieve.run(
            source,
            overrides,
            out=out,
            recording=recording,
            hz=hz or (),
            column=column,
            rate_hz=rate,
            time_column=time,
            reporter=Console(),
        )
    elif settings or out or recording or hz or column or time or rate is not None:
        raise UserError("--resume takes its settings and folder from the run; give neither")
    else:
        result = tonesieve.resume(resume, reporter=Console())
    print_result(result, json_, lambda: metrics_text(result))


@app.command("presets")
def show_presets(
    name: Annotated[str | None, typer.Argument(help="Print this preset as YAML.")] = None,
    json_: Json = False,
) -> None:
    """List the presets, or print one as YAML."""
    if name is not None:
        text = preset_yaml(name)
        config = tonesieve.load_config(name).model_dump(mode="json")
        print_result(config, json_, text.rstrip)
        return
    summaries = {name: summary(preset_yaml(name)) for name in presets()}
    print_result(summaries, json_, lambda: _list_text(summaries))


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="File to write: .npz (lossless) or .csv.")],
    settings: Settings = None,
    split: Annotated[Split, typer.Option(help="Whose seed draws the noise.")] = Split.test,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write a mixture, its targets and settings to a file."""
    source, overrides = _split_settings(settings)
    result = tonesieve.generate(source, overrides, out=out, split=split.value, force=force)
    print_result(result, json_, lambda: generate_text(result))


@app.command()
def describe(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PRESET|FILE.yaml|RUN] [section.key=value ...]",
            help="What to describe. A run also has statistics of its weights and activations.",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Show layers, shapes, parameter counts and warnings."""
    source, overrides = _split_settings(settings)
    result = tonesieve.describe(source, overrides)
    print_result(result, json_, lambda: describe_text(result))


@app.command()
def diagnose(settings: Settings = None, json_: Json = False) -> None:
    """Compute whether a task can be learned, before any training."""
    source, overrides = _split_settings(settings)
    result = tonesieve.diagnose(source, overrides, reporter=Console())
    print_result(result, json_, lambda: diagnose_text(result))


@app.command()
def limit(
    settings: Settings = None,
    window: Annotated[
        int | None,
        typer.Option(
            help="Number of observed samples (default: what the configured model observes)."
        ),
    ] = None,
    phase_scale: Annotated[
        float | None, typer.Option(help="Short for data.phase_scale=VALUE.")
    ] = None,
    stderr: Annotated[
        float | None,
        typer.Option(help="Standard error at which to stop (default: 1% of the limit)."),
    ] = None,
    json_: Json = False,
) -> None:
    """Compute the smallest error that any method can have.

    The limit is given overall, by component and by age of the record.
    """
    source, overrides = _split_settings(settings)
    result = tonesieve.limit(
        source,
        overrides,
        window=window,
        phase_scale=phase_scale,
        stderr=stderr,
        reporter=Console(),
    )
    print_result(result, json_, lambda: limit_text(result))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.", metavar="RUN ...")],
    records: Annotated[int, typer.Option(help="Number of records in each condition.")] = 16,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Length of a record in seconds (default: 3, or the run's if that is shorter)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for compare.csv and the figure (default: the first RUN)."),
    ] = None,
    json_: Json = False,
) -> None:
    """Compare runs with all filters and the limit."""
    result = tonesieve.compare(runs, records=records, seconds=seconds, out=out, reporter=Console())
    print_result(result, json_, lambda: compare_text(result))


@app.command()
def probe(
    run: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    json_: Json = False,
) -> None:
    """Test whether a run is a filter or a clock.

    The probes are: shifted start, silence, another tone alone, swapped selector.
    """
    result = tonesieve.probe(run, reporter=Console())
    print_result(result, json_, lambda: probe_text(result))


@app.command()
def sweep(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE.yaml|NAME",
            help="Sweep to run: a file, or a shipped sweep (without it: list the shipped ones).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Folder or address (s3://...) for all results (default: sweeps/NAME)."),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="Processes on this machine, or Ray.")] = (
        Engine.local
    ),
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of runs at a time (default: one a core; on Ray: as many as it schedules)."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster (default: RAY_ADDRESS, or a new one on this machine)."),
    ] = None,
    cpus: Annotated[float, typer.Option(help="Ray: CPUs for each run.")] = 1.0,
    gpus: Annotated[float, typer.Option(help="Ray: GPUs for each run.")] = 0.0,
    storage: Annotated[
        str | None,
        typer.Option(help="Search: URL of a database, as postgresql://... (default: a file)."),
    ] = None,
    json_: Json = False,
) -> None:
    """Do many runs, on this machine or on a cluster.

    The same command continues an interrupted sweep.
    """
    if file is None:
        names = {name: summary(text) for name, text in shipped_experiments().items()}
        print_result(names, json_, lambda: _list_text(names))
        return
    result = tonesieve.sweep(
        file,
        out=out,
        engine=engine.value,
        workers=workers,
        address=address,
        cpus_per_run=cpus,
        gpus_per_run=gpus,
        storage=storage,
        reporter=Console(),
    )

    def text() -> str:
        from tonesieve.sweeping.results import sweep_text  # needs the optional install of sweeps

        return sweep_text(result)

    print_result(result, json_, text)
    if result["unfinished"]:
        raise typer.Exit(1)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    against: Annotated[
        Path | None,
        typer.Option(
            help="A second run to draw in the same figure, against.png (L=1 and L=10, say)."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Evaluate a finished run again from its saved weights.

    Its metrics and figures are written again.
    """
    result = tonesieve.evaluate(run, against=against, reporter=Console())
    print_result(result, json_, lambda: metrics_text(result))


app.command()(signal_commands.extract)
app.command()(signal_commands.find)
app.command()(signal_commands.stream)
app.command()(signal_commands.export)
app.command()(signal_commands.pretrain)


def main() -> None:
    """Run the command line: exit code 0, 2 for a user's mistake, 1 for anything else."""
    # Without this, the last garbage collection at exit takes a third of a second.
    atexit.register(gc.freeze)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="tonesieve", standalone_mode=False)
    except UserError as error:
        _fail(str(error), 2)
    except _UsageError as error:
        _fail(error.format_message(), 2)  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        _fail(needs_extra(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("interrupted", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a disk or folder that fails elsewhere than in `replacing`
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 2)
    except Exception as error:
        if os.environ.get("TONESIEVE_TRACEBACK"):
            raise
        _fail(f"{type(error).__name__}: {error} (TONESIEVE_TRACEBACK=1 shows where)", 1)
    sys.exit(code or 0)


def _fail(message: str, code: int) -> None:
    print("tonesieve:", " ".join(message.split()), file=sys.stderr)  # always one line
    sys.exit(code)


def _split_settings(words: list[str] | None, default: Any = DEFAULT) -> tuple[Any, tuple[str, ...]]:
    """The source of the settings, if one is given, and the overrides."""
    sources = [w for w in words or () if "=" not in w]
    if len(sources) > 1:
        raise UserError(f"{sources[1]}: a second preset or file; give one, then section.key=value")
    return (sources or [default])[0], tuple(w for w in words or () if "=" in w)


def _list_text(summaries: dict[str, str]) -> str:
    width = max(map(len, summaries))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in summaries.items())
