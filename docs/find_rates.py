"""Measure false alarms and hits of ``tonesieve.find``, beside Thomson's F test.

``PYTHONPATH=. python docs/find_rates.py`` writes docs/results/find.json and docs/find.md (six
minutes on one core); ``--fresh`` measures the fresh kinds of noise alone and keeps the rest;
``--page`` writes the page from the kept results alone.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import markdown
import numpy as np
import scipy
from find_noises import FRESH, IRREGULAR, RED_MODULATED, SOUNDS, STATIONARY, Maker, modulated

import tonesieve
from tonesieve.signals.segment_spectra import (
    Resolution,
    equivalent_noise_bins,
    segment_spectra,
)
from tonesieve.util.files import write_text

RESULTS = Path(__file__).parent / "results"
KEPT, PAGE = RESULTS / "find.json", RESULTS.parent / "find.md"
# Chosen: samples of a record, records for false alarms and for hits, seconds of a long one.
N_SAMPLES, N_FALSE, N_HITS, N_LONG = 20_000, 30, 12, 120_000
LONG = ("white", "1/f^4", "band-passed", "speech-like", "music-like")
N_FALSE_LONG = 8
# Records of each fresh kind, by their length, and a salt of the seeds that no threshold was set on.
N_FRESH, FRESH_SALT = {6000: 30, 20_000: 20}, 41
SNRS_DB = (6, 9, 12, 15, 18, 21)
FREQ_CYCLES = 0.0437
COLOURS = ("white", "pink, 1/f", "brown, a random walk", "1/f^4", "low-passed", "impulses")
# Thomson's F test: time-bandwidth product and tapers; its false-alarm rate.
NW, N_TAPERS, RATE = 4, 7, 0.01


def found(samples: np.ndarray) -> dict[str, Any]:
    """What is found in a record of one channel."""
    (channel,) = tonesieve.find(samples, 1.0)["channels"]
    return dict(channel)


def thomson_lines(samples: np.ndarray) -> np.ndarray:
    """Frequencies at which Thomson's harmonic F test exceeds its threshold over all bins."""
    n = len(samples)
    samples = np.where(np.isfinite(samples), samples, np.nanmean(samples))
    samples = scipy.signal.detrend(samples)
    tapers = _tapers(n)
    spectra = scipy.fft.rfft(tapers * samples, axis=1)
    sums = tapers.sum(axis=1)
    mean = sums @ spectra / (sums @ sums)
    rest = np.sum(np.abs(spectra - sums[:, None] * mean) ** 2, axis=0)
    f = (N_TAPERS - 1) * np.abs(mean) ** 2 * (sums @ sums) / np.maximum(rest, 1e-300)
    p_values = scipy.special.fdtrc(2, 2 * N_TAPERS - 2, f)
    hit = np.flatnonzero(p_values * len(p_values) <= RATE)
    return np.asarray(hit[hit > 2 * NW] / n)


@cache
def _tapers(n: int) -> np.ndarray:
    return np.asarray(scipy.signal.windows.dpss(n, NW, N_TAPERS))


def false_alarms(
    name: str, make: Maker, n: int, n_records: int, salt: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Records in which anything is found."""
    counts = dict.fromkeys(("any", "steady", "moving", "rhythms", "thomson"), 0)
    for seed in range(n_records):
        samples = make(n, np.random.default_rng([seed, n, *salt]))
        channel = found(samples)
        counts["any"] += bool(channel["lines"])
        counts["steady"] += any(not line["moves"] for line in channel["lines"])
        counts["moving"] += any(line["moves"] for line in channel["lines"])
        counts["rhythms"] += bool(channel["rhythms"])
        counts["thomson"] += bool(len(thomson_lines(samples)))
    print(f"{name:28s} {n:7d} {counts}", flush=True)
    return {"noise": name, "n_samples": n, "records": n_records, **counts}


def hits(name: str, make: Maker) -> list[dict[str, Any]]:
    """Of records with a line, in how many it is found, and how exactly."""
    bin_at = round(FREQ_CYCLES * N_SAMPLES)
    floors = []
    for seed in range(N_HITS):
        x = make(N_SAMPLES, np.random.default_rng([seed, 1]))
        resolution = Resolution(N_SAMPLES, N_SAMPLES)
        for one in segment_spectra(lambda a, b, x=x: x[a:b], resolution):
            floors.append(np.abs(one.values[bin_at - 3 : bin_at + 4]) ** 2)
    # Power over that of the noise in a bandwidth of one over the duration.
    unit = np.sqrt(np.mean(floors) / equivalent_noise_bins())
    rows = []
    for snr_db in SNRS_DB:
        n_found = n_thomson = n_other = n_covered = 0
        errors = []
        for seed in range(N_HITS):
            rng = np.random.default_rng([seed, 2])
            hz = FREQ_CYCLES + rng.uniform(-0.5, 0.5) / N_SAMPLES
            amplitude = unit * 10 ** (snr_db / 20)
            tone = amplitude * np.sin(2 * np.pi * (hz * np.arange(N_SAMPLES) + rng.random()))
            samples = make(N_SAMPLES, rng) + tone
            near = 2 / N_SAMPLES
            lines = found(samples)["lines"]
            own = [line for line in lines if abs(line["hz"] - hz) <= near]
            n_found += bool(own)
            n_other += len(lines) > len(own)
            n_thomson += bool(np.any(np.abs(thomson_lines(samples) - hz) <= near))
            for line in own:
                errors.append((line["hz"] - hz) / line["hz_stderr"])
                n_covered += bool(line["amplitude_low"] <= amplitude <= line["amplitude_high"])
        rows.append(
            {"noise": name, "snr_db": snr_db, "records": N_HITS, "found": n_found,
             "thomson": n_thomson, "others": n_other, "covered": n_covered,
             "error_stderrs": float(np.sqrt(np.mean(np.square(errors)))) if errors else None}
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def fresh() -> list[dict[str, Any]]:
    """False alarms in kinds of noise, and with seeds, that no threshold was set on."""
    makers = {**FRESH, RED_MODULATED: modulated}
    return [
        false_alarms(name, make, n, n_records, (FRESH_SALT,))
        for n, n_records in N_FRESH.items()
        for name, make in makers.items()
    ]


def measure() -> dict[str, Any]:
    """All results."""
    makers = {**STATIONARY, **IRREGULAR, **SOUNDS}
    false = [false_alarms(name, make, N_SAMPLES, N_FALSE) for name, make in makers.items()]
    false += [false_alarms(name, makers[name], N_LONG, N_FALSE_LONG) for name in LONG]
    return {
        "false": false,
        "fresh": fresh(),
        "hits": [row for name in COLOURS for row in hits(name, makers[name])],
    }


def page() -> str:
    """The page of the kept results."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    return markdown.render(
        "find",
        alarms=_false_table(kept["false"]),
        hits=_hit_table(kept["hits"], "found"),
        thomson=_hit_table(kept["hits"], "thomson"),
        accuracy=_accuracy_table(kept["hits"]),
        pooled=_pooled([row for row in kept["false"] if row["noise"] in STATIONARY]),
        fresh=_false_table(kept["fresh"]),
        pooled_fresh={
            n: _pooled(
                [row for row in kept["fresh"] if row["noise"] in FRESH and row["n_samples"] == n]
            )
            for n in N_FRESH
        },
        n_samples=f"{N_SAMPLES:,}",
        n_false=N_FALSE,
        n_hits=N_HITS,
        freq=FREQ_CYCLES,
    )


def _pooled(mine: list[dict[str, Any]]) -> str:
    total = sum(row["records"] for row in mine)
    n = sum(row["any"] if "any" in row else row["steady"] + row["moving"] for row in mine)
    high = scipy.stats.beta.ppf(0.975, n + 1, total - n)
    return f"{n} of {total} records, {100 * n / total:.1f}% (95% interval up to {100 * high:.1f}%)"


def _false_table(rows: list[dict[str, Any]]) -> str:
    head = ("record", "samples", "records", "steady line", "moving line", "rhythm", "F test alone")
    keys = ("steady", "moving", "rhythms", "thomson")
    cells = [
        (row["noise"], f"{row['n_samples']:,}", str(row["records"]), *(str(row[k]) for k in keys))
        for row in rows
    ]
    return markdown.table(cells, head)


def _hit_table(rows: list[dict[str, Any]], key: str) -> str:
    names = list(dict.fromkeys(row["noise"] for row in rows))
    cells = [
        [name, *(f"{100 * row[key] / row['records']:.0f}%" for row in rows if row["noise"] == name)]
        for name in names
    ]
    return markdown.table(cells, ("noise", *(f"{snr} dB" for snr in SNRS_DB)))


def _accuracy_table(rows: list[dict[str, Any]]) -> str:
    cells = []
    for snr_db in SNRS_DB[2:]:
        mine = [row for row in rows if row["snr_db"] == snr_db and row["found"]]
        n = sum(row["found"] for row in mine)
        squares = sum(row["found"] * row["error_stderrs"] ** 2 for row in mine)
        covered = sum(row["covered"] for row in mine)
        others = sum(row["others"] for row in mine)
        cells.append(
            [f"{snr_db} dB", str(n), f"{np.sqrt(squares / n):.2f}", f"{100 * covered / n:.0f}%",
             str(others)]
        )  # fmt: skip
    head = ("SNR", "lines found", "rms error of the frequency (standard errors)",
            "amplitude in its 90% band", "records with another line")  # fmt: skip
    return markdown.table(cells, head)


def main() -> None:
    """Measure, keep, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the page alone")
    parser.add_argument("--fresh", action="store_true", help="measure the fresh kinds alone")
    options = parser.parse_args()
    if options.fresh:
        kept = json.loads(KEPT.read_text(encoding="utf-8")) | {"fresh": fresh()}
        write_text(KEPT, json.dumps(kept, indent=1) + "\n")
    elif not options.page:
        write_text(KEPT, json.dumps(measure(), indent=1) + "\n")
    write_text(PAGE, page())


if __name__ == "__main__":
    main()
