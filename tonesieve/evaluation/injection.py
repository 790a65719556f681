"""Known tones put into a recording's held-out noise: who gets them back, by SNR.

The truth is known, the noise is real. The extractor that learned is set beside every classical one,
whose knobs are chosen in four ways: as they are by default; the one setting that is best on
average over all records and SNRs; the best on average at each SNR; and, in hindsight, the best for
each single record, which no one could choose who does not know the answer. Axes: B records,
T samples, K tones, N SNRs.

SNR: the tone's mean power over the power of the whole background in a band around it, from 0.8 to
1.25 times its frequency. NMSE: the squared error over the tone's power, summed over a record's
samples after its first quarter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from tonesieve.config.config import Config, DataSettings
from tonesieve.errors import UserError
from tonesieve.evaluation.metrics import band_rms
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.backgrounds import Background, centred, draw_phasors
from tonesieve.signals.synthesis import Records, background_of, inject

# The band of the noise, over the tone's frequency.
BAND = (0.8, 1.25)
N_SNRS, STEP_DB = 6, 5.0
# Stretches overlap by half; each carries so many tones of other phase and drift.
TONES_A_STRETCH, MOST_STRETCHES = 3, 12
STARTUP = 0.25  # of a record, left out
FEW = 4.0  # stretches are too few to tell how far they scatter
N_KNOBS = 13  # values of a knob, over a logarithmic scale
NETWORK = "network"
ANSWERS_NOTHING = ("mean", "random")
# How knobs are chosen on the test records, and what the best causal filter then is.
CHOICES = {
    "tuned": "the one causal filter and setting that is best over all SNRs",
    "by SNR": "the best causal filter at each SNR, tuned for that SNR",
    "hindsight": "the best causal filter at each SNR, tuned in hindsight for every single record",
}


@dataclass(frozen=True)
class Test:
    """The same stretches and tones at every SNR, the SNRs one after the other."""

    records: Records
    snr_db: Float[np.ndarray, " B"]
    stretch: Int[np.ndarray, " B"]
    n_independent: float  # stretches that would fit side by side


@dataclass(frozen=True)
class Judged:
    """NMSE in dB of every setting of an extractor; the first is its default."""

    name: str
    causal: bool
    settings: list[str]
    nmse_db: Float[np.ndarray, "S B"]


def judge_injected(
    extractor: Extractor,
    config: Config,
    *,
    on_part: Callable[[int], None] = lambda n_done: None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """The figures of `metrics.json`, and a row an extractor, choice of knobs and SNR.

    ``on_part`` hears how many of `n_parts` are done.
    """
    data = config.data
    assert data.background is not None
    background = background_of(data)
    test = draw_test(data, background)
    judged = [
        Judged(NETWORK, True, [""], nmse_db(extractor, test)[None]),
        *evaluate_filters(data, test, on_part=on_part),
    ]
    table = table_of(judged, test)
    found = [_own_snr(data, background, k) for k in range(data.n_components)]
    found_verdict = network_vs_filters(judged, test)
    return {
        "snr_band": list(BAND),
        "startup_share": STARTUP,
        "stretches": len(np.unique(test.stretch)),
        "independent_stretches": test.n_independent,
        "tones_a_stretch": TONES_A_STRETCH,
        "seconds_a_stretch": data.duration_s,
        "recording_snr_db": found,
        "rows": table.to_dict("records"),
        "verdict": found_verdict,
        "says": _says(found_verdict, test.n_independent),
    }, table


def evaluate_filters(
    data: DataSettings, test: Test, *, on_part: Callable[[int], None] = lambda n_done: None
) -> list[Judged]:
    """Every classical extractor with all its settings; ``on_part`` as of `judge_injected`."""
    judged = []
    for index, name in enumerate(filter_names()):
        on_part(index + 1)
        judged.append(_judge(name, data, test))
    on_part(n_parts())
    return judged


def filter_names() -> list[str]:
    """The classical extractors that answer anything."""
    return [name for name in FILTERS if name not in ANSWERS_NOTHING]


def n_parts() -> int:
    """Extractors that `judge_injected` waits for."""
    return 1 + len(filter_names())


def band_around(hz: float, rate_hz: float) -> tuple[float, float]:
    """The band that noise is counted in."""
    return BAND[0] * hz, min(BAND[1] * hz, rate_hz / 2)


def draw_test(data: DataSettings, background: Background) -> Test:
    """Evenly spaced stretches of the test part, each with tones of every SNR."""
    assert data.background is not None
    whole, n = background.part("test"), data.n_samples
    if n > len(whole):
        raise UserError(
            f"data.duration_s: {n} samples, and the recording has {len(whole)} to test on"
        )
    n_stretches = int(np.clip(2 * len(whole) // n - 1, 2, MOST_STRETCHES))
    starts = np.round(np.linspace(0, len(whole) - n, n_stretches)).astype(int)
    noise = centred(whole[starts[:, None] + np.arange(n)]).repeat(TONES_A_STRETCH, axis=0)
    rng = np.random.default_rng([data.test_seed, 9])
    shape = (len(noise), n, data.n_components)
    levels = draw_phasors(data.background, data.rate_hz, shape, rng=rng)
    levels /= np.sqrt(np.mean(np.abs(levels) ** 2, axis=1, keepdims=True))
    rms = _noise_rms(data, background)
    drawn = snrs_of(data, background)
    parts = [inject(noise, levels * rms * math.sqrt(2) * 10 ** (s / 20), data) for s in drawn]
    records = Records(
        np.concatenate([p.mixture for p in parts]), np.concatenate([p.targets for p in parts]), data
    )
    stretch = np.tile(np.arange(n_stretches).repeat(TONES_A_STRETCH), len(drawn))
    n_independent = min(len(whole) / n, n_stretches)
    return Test(records, np.repeat(drawn, len(noise)), stretch, n_independent)


def snrs_of(data: DataSettings, background: Background) -> Float[np.ndarray, " N"]:
    """Whole steps of 5 dB, evenly over the amplitudes that were trained on."""
    assert data.background is not None
    noise = _noise_rms(data, background) * math.sqrt(2)
    low, high = (20 * np.log10(a / noise) for a in data.background.tone_range)
    evenly = np.linspace(low.max(), high.min(), N_SNRS)
    return np.unique(STEP_DB * np.round(evenly / STEP_DB))


def _noise_rms(data: DataSettings, background: Background) -> Float[np.ndarray, " K"]:
    bands = [band_around(f, data.rate_hz) for f in data.frequencies_hz]
    return np.array([band_rms(background.samples, data.rate_hz, band) for band in bands])


def _own_snr(data: DataSettings, background: Background, k: int) -> float | None:
    """SNR of the recording's own tone, where its amplitude is known."""
    assert data.background is not None
    if len(data.background.found) != data.n_components or not data.background.found[k]:
        return None
    noise = _noise_rms(data, background)[k]
    return float(20 * np.log10(data.background.found[k] / noise / math.sqrt(2)))


def nmse_db(extractor: Extractor, test: Test) -> Float[np.ndarray, " B"]:
    """Error over power of every record, all tones alike, in dB."""
    records = test.records
    return relative_db(extractor.extract(records.mixture), records.targets)


def relative_db(
    estimate: Float[np.ndarray, "B T K"], targets: Float[np.ndarray, "B T K"]
) -> Float[np.ndarray, " B"]:
    """Mean over tones of the error's energy over the tone's, after the start-up; in dB."""
    late = slice(round(STARTUP * targets.shape[1]), None)
    with np.errstate(all="ignore"):  # a filter that has run away is as bad as can be
        error = np.sum((estimate - targets)[:, late] ** 2, axis=1)
        ratio = np.mean(error / np.sum(targets[:, late] ** 2, axis=1), axis=1)
    return 10 * np.log10(np.where(np.isfinite(ratio), np.maximum(ratio, 1e-30), 1e30))


def _judge(name: str, data: DataSettings, test: Test) -> Judged:
    settings, scores = [], []
    for setting in _settings(name, data):
        try:
            built = _build(setting, data)
            score = nmse_db(built, test)
        except (UserError, ValueError):  # a knob that does not fit these tones
            continue
        settings.append(setting)
        scores.append(score)
    return Judged(name, _build(name, data).causal, settings, np.array(scores))


def _build(name: str, data: DataSettings) -> ToneFilter:
    return build_filter(name, data.frequencies_hz, data.rate_hz, gain=1 / data.n_components)


def _settings(name: str, data: DataSettings) -> Iterator[str]:
    """The default first, then a grid over its knobs."""
    yield name
    lowest, length_s = min(data.frequencies_hz), data.duration_s
    times = np.geomspace(max(1 / lowest, length_s / 200), 4 * length_s, N_KNOBS)
    room = 1.98 * float(_build(name, data).spacing_hz.min())  # as wide as a band-pass can be
    widest = min(room, 100 / length_s)
    widths = np.geomspace(min(0.25 / length_s, widest / 20), widest, N_KNOBS)
    if name in ("kalman", "tracker"):
        yield from (f"{name}:memory_s={t:.5g},noise={n:g}" for t in times for n in (0.1, 10.0))
    elif name == "least-squares":
        yield from (f"least-squares:window_s={t:.5g}" for t in times)
    elif name == "least-squares-growing":
        yield from (f"least-squares-growing:ridge={r:g}" for r in (1.0, 10.0))
    elif name == "lock-in":
        yield from (f"lock-in:time_s={t:.5g},order={o}" for t in times / 2 for o in (1, 2, 4))
    elif name in ("butterworth", "zero-phase"):
        yield from (f"{name}:bandwidth_hz={w:.5g},order={o}" for w in widths for o in (1, 2, 3))
    elif name == "fft-mask":
        yield from (f"fft-mask:width_hz={w:.5g}" for w in widths)


def table_of(judged: Sequence[Judged], test: Test) -> pd.DataFrame:
    """A row an extractor, choice of knobs and SNR."""
    return pd.DataFrame([row for one in judged for row in _rows(one, test)])


def _rows(one: Judged, test: Test) -> Iterator[dict[str, Any]]:
    """A row a choice of knobs and SNR: mean, its standard error, and median over the records."""
    best = int(np.argmin(one.nmse_db.mean(axis=1)))
    choices = {"default": one.nmse_db[0]}
    if len(one.settings) > 1:
        choices |= {choice: _chosen(one, test, choice) for choice in CHOICES}
    for choice, scores in choices.items():
        for snr in np.unique(test.snr_db):
            mine = test.snr_db == snr
            mean, stderr = _mean(scores[mine], test.stretch[mine], test.n_independent)
            yield {
                "extractor": one.name,
                "causal": one.causal,
                "knobs": choice,
                "setting": one.settings[best] if choice == "tuned" else "",
                "snr_db": float(snr),
                "nmse_db": mean,
                "stderr_db": stderr,
                "median_db": float(np.median(scores[mine])),
            }


def _mean(
    scores: Float[np.ndarray, " B"], stretch: Int[np.ndarray, " B"], n_independent: float
) -> tuple[float, float]:
    """Mean and standard error; stretches that overlap are not worth a whole one each."""
    means = np.array([scores[stretch == s].mean() for s in np.unique(stretch)])
    worth = max(1.0, min(n_independent, len(means)))
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(worth))


def _chosen(one: Judged, test: Test, choice: str) -> Float[np.ndarray, " B"]:
    """An extractor's scores under a choice of its knobs."""
    if choice == "hindsight":
        return np.asarray(one.nmse_db.min(axis=0))
    if choice == "tuned":
        return one.nmse_db[int(np.argmin(one.nmse_db.mean(axis=1)))]
    found = np.empty_like(test.snr_db)
    for snr in np.unique(test.snr_db):
        mine = test.snr_db == snr
        found[mine] = one.nmse_db[int(np.argmin(one.nmse_db[:, mine].mean(axis=1)))][mine]
    return found


def network_vs_filters(judged: Sequence[Judged], test: Test) -> list[dict[str, Any]]:
    """By SNR: the first over the best filter of its way to hear, under every choice of knobs.

    With one setting for all it is one filter for all SNRs, too; else the best at each. Less than
    0 dB is a win. The standard error is of the difference on the same stretches.
    """
    network, *classical = judged
    alike = [one for one in classical if one.causal == network.causal]
    scores = {choice: {one.name: _chosen(one, test, choice) for one in alike} for choice in CHOICES}
    overall = min(scores["tuned"], key=lambda name: float(scores["tuned"][name].mean()))
    found = []
    for snr in np.unique(test.snr_db):
        mine = test.snr_db == snr
        row: dict[str, Any] = {"snr_db": float(snr)}
        for choice, of in scores.items():
            best = min(of, key=lambda name, of=of: float(of[name][mine].mean()))  # type: ignore[misc]
            best = overall if choice == "tuned" else best
            over = (network.nmse_db[0] - of[best])[mine]
            mean, stderr = _mean(over, test.stretch[mine], test.n_independent)
            row |= {f"{choice}_best": best, f"over_{choice}_db": mean}
            row[f"over_{choice}_stderr_db"] = stderr
        found.append(row)
    return found


def _says(rows: Sequence[dict[str, Any]], n_independent: float) -> list[str]:
    """In words: where the network wins, where it loses, and where nobody can tell."""
    said = []
    for choice, what in CHOICES.items():
        parts: dict[str, list[str]] = {"better": [], "worse": [], "not clearly different": []}
        for row in rows:
            over, stderr = row[f"over_{choice}_db"], row[f"over_{choice}_stderr_db"]
            clear = abs(over) > 2 * stderr
            kind = ("better" if over < 0 else "worse") if clear else "not clearly different"
            size = f"{abs(over):.1f}" if clear else f"{over:+.1f} +- {stderr:.1f}"
            parts[kind].append(f"{size} dB at {row['snr_db']:g} dB")
        told = [f"{kind} ({', '.join(where)})" for kind, where in parts.items() if where]
        said.append(f"against {what}, the network is " + "; ".join(told))
    if n_independent < FEW:
        said.append(
            f"only {n_independent:.1f} stretches fit the test part side by side: the standard "
            "errors themselves are rough"
        )
    return said
