"""One call of a tool after the other, in a process of its own: figures, time, memory, time-out.

The process is ended and started anew where a call takes too long. Libraries run on one thread.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
import warnings
from pathlib import Path
from typing import Any

import kinds_metrics
import numpy as np
import peers_cases
import peers_packages
import peers_tools
from kept import memory_mb
from kinds_members import Member

# Time-out of a call, in s; chosen.
LIMIT_S = 60.0
# A tool's first call in a process may compile or import: it is made twice, and the second counts.
# So are quick ones, whose first may compile for another shape.
REPEATED_S = 2.0
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# What counts as a tone's band on either side, over its frequency; the metrics' own band.
BAND = kinds_metrics.OWN_BAND


class Worker:
    """A process that runs tools, one call at a time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._start()

    def _start(self) -> None:
        os.environ |= dict.fromkeys(ONE_THREAD, "1")
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._seed), daemon=True)
        self._process.start()

    def run(self, row: int, tool: str, setting: int) -> dict[str, Any]:
        """Metrics of one call, or its error."""
        self._pipe.send((row, tool, setting))
        began = time.monotonic()
        while not self._pipe.poll(0.1):
            if not self._process.is_alive():
                self._start()
                return {"error": "the process ended"}
            if time.monotonic() - began > LIMIT_S:
                break
        else:
            found: dict[str, Any] = self._pipe.recv()
            return found
        self.close()
        self._start()
        return {"error": f"longer than {LIMIT_S:.0f} s"}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Any, seed: int) -> None:
    """Answer calls until the process is ended."""
    np.seterr(all="ignore")
    drawn: dict[int, peers_cases.Case] = {}
    met: set[str] = set()
    while True:
        row, tool, setting = pipe.recv()
        if row not in drawn:
            drawn = {row: peers_cases.draw(peers_cases.ROWS[row], seed)}
        pipe.send(measure(drawn[row], peers_tools.TOOLS[tool], setting, is_first=tool not in met))
        met.add(tool)


def measure(
    case: peers_cases.Case, tool: peers_tools.Tool, setting: int, *, is_first: bool = False
) -> dict[str, Any]:
    """Metrics of one call, or its error."""
    words = tool.settings[setting]
    task = peers_packages.task_of(case, gaps=tool.package == "tonesieve")
    try:
        for _ in range(2):
            base_mb = _reset_peak()
            began = time.process_time()
            with warnings.catch_warnings():  # packages set their own at import
                warnings.simplefilter("ignore")
                estimate = tool.estimate(task, **words)
            seconds = time.process_time() - began
            if seconds > REPEATED_S and not is_first:
                break
    except Exception as error:  # whatever another's tool raises is its result
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    peak_mb = memory_mb("VmHWM") - base_mb
    return {**metrics(case, estimate), "cpu_s": seconds, "peak_mb": peak_mb}


def _reset_peak() -> float:
    """Forget the largest memory so far; what is held now, in MB. Linux alone has this."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory_mb()


def metrics(case: peers_cases.Case, estimate: np.ndarray) -> dict[str, Any]:
    """Error of the tones, also of the second half; what is left in their band, and taken beside it.

    All are ratios of powers in dB, summed over the channels where samples are not missing; what is
    taken beside the band is the median over the channels.
    """
    known = ~case.missing
    if estimate.shape != case.tones.shape or not np.isfinite(estimate[known]).all():
        return {"error": f"no number, or of shape {estimate.shape}"}
    error = np.where(known, estimate - case.tones, 0.0)
    members = [
        Member(case.rate_hz, case.hz, tones[:, None], rest)
        for tones, rest in zip(case.tones, case.rest, strict=True)
    ]
    damage = [
        kinds_metrics.damage_db(one, (one.tones[:, 0] + wrong)[:, None])
        for one, wrong in zip(members, error, strict=True)
    ]
    beside = [one for one in damage if one is not None]
    tones, half = np.where(known, case.tones, 0.0), error.shape[1] // 2
    return {
        "nmse_db": kinds_metrics.db(float(np.sum(error**2) / np.sum(tones**2))),
        "settled_db": kinds_metrics.db(
            float(np.sum(error[:, half:] ** 2) / np.sum(tones[:, half:] ** 2))
        ),
        "left_db": _left_db(case, error),
        "damage_db": float(np.median(beside)) if beside else None,
    }


def _left_db(case: peers_cases.Case, error: np.ndarray) -> float:
    """Power in the tones' band after the removal over that of the rest there; 0 is right."""
    n = case.rest.shape[1]
    at_hz, window = np.fft.rfftfreq(n, 1 / case.rate_hz), np.hanning(n)
    resolved = 2 * case.rate_hz / n
    inside = np.zeros(len(at_hz), bool)
    for hz in case.hz:
        inside |= np.abs(at_hz - hz) <= max(BAND * hz, resolved)
    rest = case.rest - case.rest.mean(axis=1, keepdims=True)
    after, before = (np.fft.rfft(window * x)[:, inside] for x in (rest - error, rest))
    return kinds_metrics.db(float(np.sum(np.abs(after) ** 2) / np.sum(np.abs(before) ** 2)))
