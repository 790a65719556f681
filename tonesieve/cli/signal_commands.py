"""The verbs for recordings and live streams, and those that make extractors for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import tonesieve
from tonesieve.cli.find_text import find_text
from tonesieve.cli.options import Force, Json, print_result
from tonesieve.cli.progress import Console
from tonesieve.cli.recording_text import extract_text
from tonesieve.cli.text import export_text
from tonesieve.config.presets import FILTER_NAMES, PRETRAINED
from tonesieve.errors import UserError
from tonesieve.util.text_table import decibels, percent, table

With = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="NAME|RUN",
        help=f"Extractor: {PRETRAINED} (with a look-ahead in seconds: {PRETRAINED}:ahead_s=2), the "
        f"run directory of a trained network, or a filter ({', '.join(FILTER_NAMES)}). Parameters "
        "follow as NAME:parameter=value,parameter=value.",
    ),
]
Tones = Annotated[
    list[float] | None,
    typer.Option(
        help="Nominal frequency of a tone in Hz; repeat for more (default: all tones of the run)."
    ),
]
NamedTones = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HZ|auto",
        help="Nominal frequency of a tone in Hz; repeat for more (default: all tones of the run); "
        "auto: that of the strongest comb of lines.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(help="Column or channel by name, or by number from 1; repeat for more; or all."),
]
Rate = Annotated[
    float | None, typer.Option(help="Samples per second (default: from the file or its times).")
]
Time = Annotated[
    str | None, typer.Option(help="Time column (default: time, t, timestamp, time_ms, ...).")
]

Within = Annotated[
    float | None,
    typer.Option(
        "--within",
        metavar="HZ",
        help="Largest offset of a tone from its nominal frequency in Hz, at most a quarter of the "
        "frequency (default: 3.5% of it; in recordings at least 3 over the duration).",
    ),
]


Harmonics = Annotated[
    str | None,
    typer.Option(
        "--harmonics",
        metavar="N|all",
        help="The multiples 2, 3, ... N of each --hz are tones too; all: up to half the rate. They "
        "share one frequency, which is found on all of them together.",
    ),
]
Orders = Annotated[
    str | None,
    typer.Option(
        "--orders",
        metavar="K,K,...",
        help="Multiples of each --hz that are tones, in place of all from 1 on, such as 0.5,1,2.5.",
    ),
]


def extract(
    recording: Annotated[Path, typer.Argument(help="CSV, Parquet, WAV, FLAC, EDF or NPZ file.")],
    with_: With = PRETRAINED,
    hz: NamedTones = None,
    harmonics: Harmonics = None,
    orders: Orders = None,
    within: Within = None,
    causal: Annotated[
        bool, typer.Option("--causal", help="Estimate each sample from the past alone.")
    ] = False,
    channels: Annotated[
        str,
        typer.Option(
            metavar="auto|together|apart",
            help="Whether channels share the course of a tone, and are estimated together: those "
            "of which a test says so, all, or none. (Of stream, --channels is their number.)",
        ),
    ] = "auto",
    column: Columns = None,
    rate: Rate = None,
    time: Time = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Write the recording without the tones.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Also amplitude, phase, frequency, 90% confidence band and residual."
        ),
    ] = False,
    picture: Annotated[
        bool, typer.Option("--picture", help="Also write a PNG of the spectra before and after.")
    ] = False,
    band: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Band in Hz to compare power in (default: at least 2% on each side of a tone)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output file (default: NAME.tone or NAME.clean, and the input's ending)."
        ),
    ] = None,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Extract tones from a recording.

    The output has the format, rate and length of the recording. For each tone it is stated whether
    it was found, and at which frequency.
    """
    result = tonesieve.extract(
        recording,
        _frequencies(hz or []),
        with_=with_,
        harmonics=harmonics,
        orders=orders,
        within_hz=within,
        causal=causal,
        channels=channels,
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


def _frequencies(words: list[str]) -> list[float] | str:
    """Frequencies as numbers, or the word for those that are to be found."""
    if words == ["auto"]:
        return words[0]
    frequencies = []
    for word in words:
        try:
            frequencies.append(float(word))
        except ValueError:
            raise UserError(f"--hz {word}: must be a number in Hz, or auto alone") from None
    return frequencies


def find(
    recording: Annotated[Path, typer.Argument(help="CSV, Parquet, WAV, FLAC, EDF or NPZ file.")],
    column: Columns = None,
    rate: Rate = None,
    time: Time = None,
    picture: Annotated[
        bool, typer.Option("--picture", help="Also write a PNG of the spectra: NAME.find.png.")
    ] = False,
    force: Force = False,
    json_: Json = False,
) -> None:
    """Find the spectral lines of a recording, their harmonics, and broad rhythms.

    In noise alone any line is found with a probability of 1% at most.
    """
    result = tonesieve.find(
        recording,
        rate,
        columns=column or (),
        time=time,
        picture=picture,
        force=force,
        reporter=Console(),
    )
    print_result(result, json_, lambda: find_text(result))


def stream(
    with_: With = PRETRAINED,
    hz: Tones = None,
    harmonics: Harmonics = None,
    orders: Orders = None,
    within: Within = None,
    rate: Annotated[
        float | None, typer.Option(help="Samples per second (default: the run's, or the source's).")
    ] = None,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="-|tcp://HOST:PORT|lsl://NAME",
            help="Source of the lines: standard input, a socket, or Lab Streaming Layer.",
        ),
    ] = "-",
    channels: Annotated[int, typer.Option(help="Numbers in a line, separated by commas.")] = 1,
    state: Annotated[
        Path | None,
        typer.Option(
            help="File of the state: loaded if it exists, saved regularly and at the end."
        ),
    ] = None,
    save_every: Annotated[
        float, typer.Option(help="Seconds between two saves of the state.")
    ] = 10.0,
    remove: Annotated[
        bool, typer.Option("--remove", help="Print the samples without the tones.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Print tone, amplitude, phase (rad), frequency (Hz), both ends of the 90% band.",
        ),
    ] = False,
) -> None:
    """Extract tones from a live stream.

    Samples are read from standard input, a socket or Lab Streaming Layer. For each sample one
    estimate is printed on standard output, as soon as the sample is read.
    """
    tonesieve.stream(
        hz or (),
        rate_hz=rate,
        with_=with_,
        harmonics=harmonics,
        orders=orders,
        within_hz=within,
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
    """Write a finished run as one ONNX graph.

    The state is passed in and out as named inputs and outputs.
    """
    result = tonesieve.export(run, onnx=onnx, force=force)
    print_result(result, json_, lambda: export_text(result))


def pretrain(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights to write.")] = Path(
        "pretrained.safetensors"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the initial weights and all batches.")] = 0,
    steps: Annotated[
        int,
        typer.Option(help="Number of training batches; 2500 take an hour on two cores."),
    ] = 2500,
    hidden: Annotated[int, typer.Option(help="Hidden size of the recurrent network.")] = 64,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="Device to train on.")] = "cpu",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Overwrite the output, and the checkpoint of a training with other settings.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Train the pretrained extractor again.

    The same command continues an interrupted training.
    """
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
    rows = [["estimate", "NMSE", "before settled", "in the 90% band"]]
    for name, title in (("causal", "causal"), ("both_ways", "whole recording")):
        figures = result["figures"][name]
        early = decibels(figures["early_nmse_db"])
        rows.append([title, decibels(figures["nmse_db"]), early, percent(figures["covered"])])
    return "\n".join(
        [
            table(rows),
            "",
            f"training: {result['recipe']['n_steps']} steps, {result['seconds']:.0f} s",
            f"weights:  {result['weights']}",
        ]
    )
