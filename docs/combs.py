"""Measure combs by their number of harmonics: error, time and memory; write docs/combs.md.

``PYTHONPATH=. python docs/combs.py`` writes docs/results/combs.json and the page (three minutes);
``--page`` writes the page from the kept results alone. Every comb is measured in a process of its
own. A tracker that knows the true course, a lock-in over Hann windows of 2 s, is a limit beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kinds_rivals
import markdown
import numpy as np
from kinds_backgrounds import power_law

import tonesieve
from tonesieve.util.files import write_text

DOCS = Path(__file__).parent
KEPT, PAGE = DOCS / "results" / "combs.json", DOCS / "combs.md"
# Rate in Hz, duration in s, and numbers of harmonics of a fundamental of 50 Hz. Chosen.
RECORDS = ((8000.0, 20.0, (1, 5, 20, 60)), (30000.0, 10.0, (20, 60)), (48000.0, 10.0, (20,)))
HZ, WANDER_HZ, SNR_DB, SEEDS = 50.0, 0.02, -20.0, (0, 1, 2)
WAYS = ("whole", "causal")


def drawn(
    rate_hz: float, duration_s: float, n_tones: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples (T,), tones (T, K) of amplitude 1 / sqrt(k), and the phase of order 1 (T,)."""
    rng, n = np.random.default_rng([17, n_tones, int(rate_hz), seed]), int(rate_hz * duration_s)
    course = power_law(n, rate_hz, 2.0, 1 / duration_s, rng)
    hz = HZ + 0.1 * rng.standard_normal() + WANDER_HZ * course / course.std()
    phase = 2 * np.pi * np.cumsum(hz) / rate_hz
    orders = np.arange(1, n_tones + 1)
    tones = np.sin(np.outer(phase, orders) + rng.uniform(0, 2 * np.pi, n_tones)) / np.sqrt(orders)
    pink = power_law(n, rate_hz, 1.0, 1 / duration_s, rng)
    noise = pink / pink.std() * 10 ** (-SNR_DB / 20) * np.sqrt(0.5) / 3
    return tones.sum(axis=1) + noise, tones, phase


def measure(rate_hz: float, duration_s: float, n_tones: int) -> dict[str, Any]:
    """One row, in this process."""
    tonesieve.pull(np.zeros(2000) + np.arange(2000) % 7, 1000.0, HZ, harmonics=4)  # compiled
    tonesieve.pull(np.zeros(2000) + np.arange(2000) % 7, 1000.0, HZ, harmonics=4, causal=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row: dict[str, Any] = {"rate_hz": rate_hz, "seconds": duration_s, "tones": n_tones}
    errors: dict[str, list[np.ndarray]] = {name: [] for name in (*WAYS, "course known")}
    covered = []
    for seed in SEEDS:
        samples, tones, phase = drawn(rate_hz, duration_s, n_tones, seed)
        for way in WAYS:
            began = time.process_time()
            result = tonesieve.pull(samples, rate_hz, HZ, harmonics=n_tones, causal=way == "causal")
            row.setdefault(f"{way}_s", []).append(time.process_time() - began)
            half = len(samples) // 2 if way == "causal" else 0  # once it has settled
            errors[way].append(nmse_db(result.tones[half:], tones[half:]))
            if way == "whole":
                covered.append(float(np.mean(np.abs(result.tones - tones) <= result.bands)))
        known = kinds_rivals.known_course(
            samples, rate_hz, np.outer(phase, np.arange(1, n_tones + 1))
        )
        errors["course known"].append(nmse_db(known, tones))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, values in errors.items():
        row[name] = {
            "mean_db": float(np.mean(values)),
            "worst_db": float(np.max(values)),
            "first_db": float(np.mean([one[0] for one in values])),
        }
    row["covered"] = float(np.mean(covered))
    row["memory_mb"] = (peak - before) / 1024
    row["samples_mb"] = len(samples) * 8 * (2 + 2 * n_tones) / 2**20  # those of this script
    return row


def nmse_db(estimate: np.ndarray, tones: np.ndarray) -> np.ndarray:
    """Of every tone."""
    power = np.mean(tones**2, axis=0)
    return 10 * np.log10(np.mean((estimate - tones) ** 2, axis=0) / power)


def page() -> str:
    """The page of the kept results."""
    rows = json.loads(KEPT.read_text(encoding="utf-8"))
    accuracy, cost = [], []
    for row in rows:
        name = [f"{row['rate_hz'] / 1000:g} kHz", str(row["tones"])]
        whole, causal, known = (row[way] for way in ("whole", "causal", "course known"))
        accuracy.append(
            [*name, *(f"{one['mean_db']:.1f}" for one in (whole, causal, known)),
             f"{whole['worst_db']:.1f}", f"{known['worst_db']:.1f}", f"{100 * row['covered']:.0f}%"]
        )  # fmt: skip
        n = row["rate_hz"] * row["seconds"]
        times = [np.median(row[f"{way}_s"]) for way in WAYS]
        cost.append(
            [*name, *(f"{1e6 * t / n:.2f}" for t in times),
             *(f"{1e6 * t / n / row['tones']:.2f}" for t in times),
             f"{times[0] / row['seconds']:.2f}", f"{row['memory_mb']:.0f}"]
        )  # fmt: skip
    return markdown.render(
        "combs",
        accuracy=markdown.table(
            accuracy,
            ("rate", "tones", "whole (dB)", "causal, second half (dB)", "course known (dB)",
             "whole, worst (dB)", "course known, worst (dB)", "in the 90% bands"),
        ),
        cost=markdown.table(
            cost,
            ("rate", "tones", "whole (us/sample)", "causal", "whole (us/sample and tone)",
             "causal", "whole, time over duration", "memory (MB)"),
        ),
        seconds=" or ".join(f"{one:g}" for one in sorted({record[1] for record in RECORDS})),
        n_seeds=len(SEEDS),
    )  # fmt: skip


def main() -> None:
    """Measure, keep, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the page alone")
    parser.add_argument("--one", nargs=3, type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], given.one[1], int(given.one[2]))))
        return
    if not given.page:
        rows = []
        for rate_hz, duration_s, numbers in RECORDS:
            for n_tones in numbers:
                words = [
                    sys.executable,
                    __file__,
                    "--one",
                    *map(str, (rate_hz, duration_s, n_tones)),
                ]
                made = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                rows.append(json.loads(made))
                print(made, end="", flush=True)
        write_text(KEPT, json.dumps(rows, indent=1) + "\n")
    write_text(PAGE, page())


if __name__ == "__main__":
    main()
