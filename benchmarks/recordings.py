"""Long recordings and long streams: memory of `extract`, and a day of `stream` with a kill.

`python benchmarks/recordings.py [large] [day]` runs the commands as a user would, in processes of
their own, and keeps the figures.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from kept import keep

COMMAND = [sys.executable, "-m", "tonesieve"]
RATE, HZ = 1000, 50.0
# The fastest that needs no parameters; the pretrained extractor has its cost on its own page.
BY = "tracker"
LENGTHS = (10**6, 10**7, 10**8)
DAY = 24 * 3600 * RATE  # samples
BLOCK = 10**6  # lines, made once and sent again and again: whole periods of the tone


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command."""
    began = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL)
    peak = peak_mb(process)
    if process.returncode:
        raise RuntimeError(f"{words[0]}: ended with {process.returncode}")
    return time.perf_counter() - began, peak


def peak_mb(process: subprocess.Popen[bytes]) -> float:
    """What a process holds at most until it ends, as Linux reports it at short intervals.

    Not the figure reported at the end: that counts what its parent held when it was started.
    """
    peak = 0.0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        held = [float(x.split()[1]) for x in lines if x.startswith("VmHWM:")]
        peak = max([peak, *held])
        time.sleep(0.02)
    process.wait()
    return peak / 1024


def large() -> list[dict[str, Any]]:
    """WAV files of rising length through `extract`, the whole recording both ways."""
    found = []
    for n in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.wav"
            write_wav(path, n)
            seconds, peak = measured(["extract", str(path), "--hz", f"{HZ:g}", "--with", BY])
            found.append(
                {
                    "samples": n,
                    "file_mb": path.stat().st_size / 2**20,
                    "seconds": seconds,
                    "peak_mb": peak,
                }
            )
            print(found[-1])
    return found


def write_wav(path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="WAV") as file:
        for start in range(0, n, BLOCK):
            t = np.arange(start, min(start + BLOCK, n)) / RATE
            tone = 0.3 * np.sin(2 * np.pi * (HZ - 0.05) * t)
            file.write(tone + 0.1 * rng.standard_normal(t.size))


def block() -> list[bytes]:
    """Lines of a hum near 50 Hz in noise; one of a thousand is no number."""
    t, rng = np.arange(BLOCK) / RATE, np.random.default_rng(1)
    samples = np.sin(2 * np.pi * 50.013 * t) + rng.standard_normal(BLOCK)
    lines = [b"%.5g\n" % x for x in samples.tolist()]
    for at in rng.integers(0, BLOCK, BLOCK // 1000):
        lines[int(at)] = b"sensor timeout\n"
    return lines


def send(lines: list[bytes], first: int, to: IO[bytes]) -> None:
    """All lines of the day from the ``first`` on, as fast as they are taken."""
    whole = b"".join(lines)
    try:
        with to:
            at = first % BLOCK
            to.write(b"".join(lines[at:]))
            for _ in range(DAY // BLOCK - first // BLOCK - 1):
                to.write(whole)
            if DAY % BLOCK:
                to.write(b"".join(lines[: DAY % BLOCK]))
    except BrokenPipeError:
        pass


def stream(lines: list[bytes], first: int, out: Path, *words: str) -> subprocess.Popen[bytes]:
    """The command at work on the day from a line on, its output going to a file."""
    command = [*COMMAND, "stream", "--hz", f"{HZ:g}", "--rate", str(RATE), "--with", BY, *words]
    with out.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.DEVNULL
        )
    assert process.stdin is not None
    threading.Thread(target=send, args=(lines, first, process.stdin), daemon=True).start()
    return process


def day() -> dict[str, Any]:
    """A day at 1 kHz, once without a break and once killed in the middle and restored."""
    lines = block()
    with tempfile.TemporaryDirectory() as folder:
        one, state = Path(folder) / "one", Path(folder) / "state"
        parts = [Path(folder) / "first", Path(folder) / "second"]
        began = time.perf_counter()
        process = stream(lines, 0, one)
        peak = peak_mb(process)
        if process.returncode:
            raise RuntimeError("the unbroken stream failed")
        seconds = time.perf_counter() - began
        expected, n_lines = digest([one], [None])
        one.unlink()
        process = stream(lines, 0, parts[0], "--state", str(state))
        time.sleep(seconds / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept_lines = samples_in(state)
        process = stream(lines, kept_lines, parts[1], "--state", str(state))
        if process.wait():
            raise RuntimeError("the restored stream failed")
        found, n_found = digest(parts, [kept_lines, None])
    return {
        "lines": n_lines,
        "seconds": seconds,
        "us_per_line": 1e6 * seconds / n_lines,
        "killed_after_lines": kept_lines,
        "sha256": expected,
        "same": found == expected and n_found == n_lines,
        "peak_mb": peak,
    }


def samples_in(state: Path) -> int:
    """Count the lines that a saved state has processed."""
    from tonesieve.extractors.source import Source, make_source
    from tonesieve.extractors.streaming import Stream

    source = make_source(BY, [HZ])(RATE, "the day")
    assert isinstance(source, Source)
    found = Stream(source)
    found.restore(state)
    return found.n_samples


def digest(paths: list[Path], lengths: list[int | None]) -> tuple[str, int]:
    """SHA-256 of the files' first so many lines, one after the other, and how many lines."""
    found, n_lines = hashlib.sha256(), 0
    for path, length in zip(paths, lengths, strict=True):
        n_here = 0
        with path.open("rb") as file:
            for line in file:
                if length is not None and n_here == length:
                    break
                found.update(line)
                n_here += 1
        n_lines += n_here
    return found.hexdigest(), n_lines


PARTS: dict[str, Callable[[], Any]] = {"large": large, "day": day}


def main() -> None:
    for name in sys.argv[1:] or list(PARTS):
        result = PARTS[name]()
        print(json.dumps(result, indent=2))
        keep(f"recordings-{name}", {"result": result})


if __name__ == "__main__":
    main()
