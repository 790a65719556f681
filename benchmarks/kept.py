"""Results as files, and what machine they are from."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent.parent / "docs" / "results" / "benchmarks"


def keep(name: str, result: dict[str, Any]) -> None:
    """Write a result under its name, with the day and the machine."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    whole = {"day": datetime.date.today().isoformat(), "machine": machine(), **result}
    (FOLDER / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def kept(name: str) -> dict[str, Any] | None:
    """What was kept under a name, if anything was."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def machine(packages: Sequence[str] = ("torch",)) -> dict[str, Any]:
    """What a figure depends on: the machine, and the versions of installed packages."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: version(name) for name in packages},
    }


def _processor() -> str:
    """Model, as Linux reports it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    names = ("model name", "cpu family", "model")
    return " ".join(f"{n} {found[n]}" for n in names if n in found) or platform.processor()


def memory_mb(name: str = "VmRSS") -> float:
    """What this process holds now (VmRSS), or held at most (VmHWM), as Linux reports it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def spread(values: list[float]) -> dict[str, Any]:
    """Median of several measurements, the smallest and the largest, and all of them."""
    ordered = sorted(values)
    return {
        "median": float(np.median(ordered)),
        "least": ordered[0],
        "most": ordered[-1],
        "values": values,
    }
