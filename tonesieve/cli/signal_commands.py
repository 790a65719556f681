"""The verbs on real signals, recordings and live streams; and what makes extractors for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import tonesieve
from tonesieve.cli.options import Force, Json, print_result
from tonesieve.cli.progress import Console
from tonesieve.cli.text import export_text, extract_text
from tonesieve.config.presets import FILTER_NAMES, PRETRAINED
from tonesieve.util.text_table import decibels, percent, table

With = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="NAME|RUN",
        help=f"{PRETRAINED} (with a look-ahead of seconds: {PRETRAINED}:ahead_s=2), the run "
        f"directory of a network of your own, or a filter ({', '.join(FILTER_NAMES)}), its "
        "knobs as NAME:knob=value,knob=value.",
    ),
]
Tones = Annotated[
    list[float] | None,
    typer.Option(help="Tone in Hz; again for more (default: all that a run knows)."),
]


def extract(
    recording: Annotated[Path, typer.Argument(help="CSV, Parquet, WAV, FLAC, EDF or NPZ file.")],
    with_: With = PRETRAINED,
    hz: Tones = None,
    causal: Annotated[
        bool, typer.Option("--causal", help="Use no sample later than the one answered.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column or channel by name, or by number from 1; again for more; all."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Samples per second (default: from the file or its times).")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Time column (default: time, t, timestamp, time_ms, ...).")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Write the recording without the tones, not the tones.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Amplitude, phase, frequency, 90% credible band and residual too."
        ),
    ] = False,
    picture: Annotated[
        bool, typer.Option("--picture", help="A PNG beside the output: spectra before and after.")
    ] = False,
    band: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Band in Hz to compare power in (default: 2% either side of each tone, at least)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Output file (default: NAME.tone or .clean and the input's ending)."),
    ] = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Take tones out of a recording, written in the input's format, rate and length."""
    result = tonesieve.extract(
        recording,
        hz or (),
        with_=with_,
        causal=causal,
        columns=column or (),
        rate_hz=rate,
        time=time,
        band_hz=band,
        remove=remove,
        full=full,
        picture=picture,
        out=out,
        force=force,
        reporter=Console(),
    )
    print_result(result, json_, lambda: extract_text(result))


def stream(
    with_: With = PRETRAINED,
    hz: Tones = None,
    rate: Annotated[
        float | None, typer.Option(help="Samples per second (default: the run's, or the source's).")
    ] = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="-|tcp://HOST:PORT|lsl://NAME",
            help="Where lines come from: standard input, a socket, Lab Streaming Layer.",
        ),
    ] = "-",
    channels: Annotated[int, typer.Option(help="Numbers in a line, with commas between.")] = 1,
    state: Annotated[
        Path | None,
        typer.Option(help="Go on from this file if it is there, and save to it, at the end too."),
    ] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between saving the state.")] = 10.0,
    remove: Annotated[
        bool, typer.Option("--remove", help="Answer the samples without the tones, not the tones.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Tone, amplitude, phase (rad), frequency (Hz), and both ends of the 90% band.",
        ),
    ] = False,
) -> None:
    """Numbers in on standard input, estimates out on standard output, one for one, at once."""
    tonesieve.stream(
        hz or (),
        rate_hz=rate,
        with_=with_,
        channels=channels,
        from_=from_,
        state=state,
        save_every_s=save_every,
        remove=remove,
        full=full,
    )


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="ONNX file to write.")],
    force: Force = False,
    json_: Json = False,
) -> None:
    """Write a finished run as one ONNX graph, its state as named inputs and outputs."""
    result = tonesieve.export(run, onnx=onnx, force=force)
    print_result(result, json_, lambda: export_text(result))


def pretrain(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights to write.")] = Path(
        "pretrained.safetensors"
    ),
    seed: Annotated[int, typer.Option(help="Draws the first weights and all batches.")] = 0,
    steps: Annotated[
        int,
        typer.Option(
            help="Batches to learn from; 5000 take three quarters of an hour on two cores."
        ),
    ] = 5000,
    hidden: Annotated[int, typer.Option(help="Cells of the recurrent network.")] = 48,
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda", help="Where the network learns.")
    ] = "cpu",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Overwrite the output, and what is left of a training that was other.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Train the extractor for any tone in any noise; the same command goes on where it stood."""
    result = tonesieve.pretrain(
        out,
        seed=seed,
        n_steps=steps,
        n_hidden=hidden,
        device=device,
        force=force,
        reporter=Console(),
    )
    print_result(result, json_, lambda: _pretrain_text(result))


def _pretrain_text(result: dict[str, Any]) -> str:
    rows = [["answers", "NMSE", "before settled", "in the 90% band"]]
    for name, title in (("causal", "causal"), ("both_ways", "both ways")):
        found = result["figures"][name]
        early = decibels(found["early_nmse_db"])
        rows.append([title, decibels(found["nmse_db"]), early, percent(found["covered"])])
    return "\n".join(
        [
            table(rows),
            "",
            f"training: {result['recipe']['n_steps']} steps, {result['seconds']:.0f} s",
            f"weights:  {result['weights']}",
        ]
    )
