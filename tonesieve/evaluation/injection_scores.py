"""Scores of the injection test: how parameters are chosen, tables, and the network against filters.

Axes: B records, S settings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tonesieve.signals.synthesis import Records

NETWORK = "network"
# How parameters are chosen on the test records, and what the best causal filter then is.
ORACLE = "hindsight"
CHOICES = {
    "tuned": "the one causal filter and setting that is best over all SNRs",
    "by SNR": "the best causal filter at each SNR, tuned for that SNR",
    ORACLE: "the best causal filter at each SNR, tuned in hindsight for every single record",
}
# Guard against overconfidence: from fewer independent segments the scatter is hardly known.
MIN_INDEPENDENT = 4.0
# Chosen: a difference of fewer standard errors is not clear.
CLEAR_STDERRS = 2


@dataclass(frozen=True)
class InjectionTest:
    """The same segments and tones at every SNR, one SNR after the other.

    Parameters
    ----------
    records : Records
        Mixtures and targets of B records.
    snr_db : ndarray, shape (B,)
        SNR of every record, dB.
    segment : ndarray, shape (B,)
        Number of the segment of the recording that every record is from.
    n_independent : float
        Segments that would fit the test part without overlap.
    """

    records: Records
    snr_db: Float[np.ndarray, " B"]
    segment: Int[np.ndarray, " B"]
    n_independent: float


@dataclass(frozen=True)
class FilterScores:
    """NMSE of every setting of an extractor.

    Parameters
    ----------
    name : str
        Name of the extractor.
    causal : bool
        Whether an estimate depends on no later sample.
    settings : list of str
        Its settings; the first is the default.
    nmse_db : ndarray, shape (S, B)
        NMSE of every setting on every record, dB.
    """

    name: str
    causal: bool
    settings: list[str]
    nmse_db: Float[np.ndarray, "S B"]


def score_table(scores: Sequence[FilterScores], test: InjectionTest) -> pd.DataFrame:
    """Tabulate scores by extractor, choice of parameters and SNR.

    Parameters
    ----------
    scores : sequence of FilterScores
        Scores of the extractors.
    test : InjectionTest
        Records that they were scored on.

    Returns
    -------
    DataFrame
        Mean NMSE over the records with its standard error, and the median, dB.
    """
    return pd.DataFrame([row for one in scores for row in _rows(one, test)])


def _mean(
    values: Float[np.ndarray, " B"], test: InjectionTest, is_member: np.ndarray
) -> tuple[float, float]:
    """Mean and standard error; segments that overlap count for less than one each."""
    values, segment = values[is_member], test.segment[is_member]
    means = np.array([values[segment == s].mean() for s in np.unique(segment)])
    n_effective = max(1.0, min(test.n_independent, len(means)))
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(n_effective))


def _rows(one: FilterScores, test: InjectionTest) -> Iterator[dict[str, Any]]:
    best = int(np.argmin(one.nmse_db.mean(axis=1)))
    choices = {"default": one.nmse_db[0]}
    if len(one.settings) > 1:
        choices |= {choice: _choose(one, test.snr_db, choice) for choice in CHOICES}
    for choice, scores in choices.items():
        for snr in np.unique(test.snr_db):
            is_member = test.snr_db == snr
            mean, stderr = _mean(scores, test, is_member)
            yield {
                "extractor": one.name,
                "causal": one.causal,
                "knobs": choice,
                "setting": one.settings[best] if choice == "tuned" else "",
                "snr_db": float(snr),
                "nmse_db": mean,
                "stderr_db": stderr,
                "median_db": float(np.median(scores[is_member])),
            }


def _choose(
    one: FilterScores, snr_db: Float[np.ndarray, " B"], choice: str
) -> Float[np.ndarray, " B"]:
    """An extractor's scores with the parameters of one choice."""
    if choice == ORACLE:
        return np.asarray(one.nmse_db.min(axis=0))
    if choice == "tuned":
        return one.nmse_db[int(np.argmin(one.nmse_db.mean(axis=1)))]
    scores = np.empty_like(snr_db)
    for snr in np.unique(snr_db):
        is_member = snr_db == snr
        best = int(np.argmin(one.nmse_db[:, is_member].mean(axis=1)))
        scores[is_member] = one.nmse_db[best][is_member]
    return scores


def network_vs_filters(scores: Sequence[FilterScores], test: InjectionTest) -> list[dict[str, Any]]:
    """Compare the first extractor with the best filter, causal or not as it is itself.

    With the choice "tuned" it is one filter for all SNRs, too; else the best at each.

    Parameters
    ----------
    scores : sequence of FilterScores
        Scores of the network, then of the filters.
    test : InjectionTest
        Records that they were scored on.

    Returns
    -------
    list of dict
        By SNR and for every choice: the best filter, the network's NMSE less its NMSE (dB), and the
        standard error of that difference. Less than 0 dB is a win.
    """
    network, *classical = scores
    filters = [one for one in classical if one.causal == network.causal]
    chosen = {
        choice: {one.name: _choose(one, test.snr_db, choice) for one in filters}
        for choice in CHOICES
    }
    overall = min(chosen["tuned"], key=lambda name: float(chosen["tuned"][name].mean()))
    rows = []
    for snr in np.unique(test.snr_db):
        is_member = test.snr_db == snr
        row: dict[str, Any] = {"snr_db": float(snr)}
        for choice, by_name in chosen.items():
            means = {name: float(values[is_member].mean()) for name, values in by_name.items()}
            best = overall if choice == "tuned" else min(means, key=means.__getitem__)
            mean, stderr = _mean(network.nmse_db[0] - by_name[best], test, is_member)
            row |= {f"{choice}_best": best, f"over_{choice}_db": mean}
            row[f"over_{choice}_stderr_db"] = stderr
        rows.append(row)
    return rows


def summarise_comparison(rows: Sequence[dict[str, Any]], n_independent: float) -> list[str]:
    """Describe in words where the network is better, worse, or not clearly different.

    Parameters
    ----------
    rows : sequence of dict
        Rows of `network_vs_filters`.
    n_independent : float
        Segments that would fit without overlap.

    Returns
    -------
    list of str
        A sentence for every choice of parameters, and a warning if there are few segments.
    """
    sentences = []
    for choice, what in CHOICES.items():
        parts: dict[str, list[str]] = {"better": [], "worse": [], "not clearly different": []}
        for row in rows:
            over, stderr = row[f"over_{choice}_db"], row[f"over_{choice}_stderr_db"]
            clear = abs(over) > CLEAR_STDERRS * stderr
            kind = ("better" if over < 0 else "worse") if clear else "not clearly different"
            size = f"{abs(over):.1f}" if clear else f"{over:+.1f} +- {stderr:.1f}"
            parts[kind].append(f"{size} dB at {row['snr_db']:g} dB")
        text = "; ".join(f"{kind} ({', '.join(where)})" for kind, where in parts.items() if where)
        sentences.append(f"against {what}, the network is {text}")
    if n_independent < MIN_INDEPENDENT:
        sentences.append(
            f"only {n_independent:.1f} segments fit the test part without overlap: the standard "
            "errors themselves are rough"
        )
    return sentences
