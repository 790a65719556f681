"""Known tones injected into the held-out noise of a recording: the error of each extractor by SNR.

The truth is known, the noise is real. A trained network is compared with every classical filter.
The parameters of a filter are chosen in four ways: its defaults; the one setting that is best on
average over all records and SNRs; the best on average at each SNR; and the best for each single
record, an oracle that knows the truth ("hindsight" in the results). Axes: B records, T samples,
K tones, N SNRs, S settings.

SNR: the tone's mean power over the power of the whole background in a band around it, from 0.8 to
1.25 times its frequency. NMSE: the squared error over the tone's power, summed over a record's
samples after its first quarter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tonesieve.config.config import Config, DataSettings
from tonesieve.errors import UserError
from tonesieve.evaluation.injection_scores import (
    NETWORK,
    FilterScores,
    InjectionTest,
    network_vs_filters,
    score_table,
    summarise_comparison,
)
from tonesieve.evaluation.metrics import band_rms
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.backgrounds import Background, centred, draw_phasors
from tonesieve.signals.synthesis import Records, background_of, inject

# Chosen, not tuned: the band of the noise, over the tone's frequency.
BAND = (0.8, 1.25)
# Chosen, not tuned: SNRs, and the step to which they are rounded.
N_SNRS, STEP_DB = 6, 5.0
# Guard against cost and chance: segments overlap by half; each carries several tones that differ in
# phase and drift.
TONES_PER_SEGMENT, MAX_SEGMENTS = 3, 12
# Chosen, not tuned: the start-up that is not scored, as a fraction of a record.
STARTUP = 0.25
# Chosen, not tuned: values of a parameter, evenly on a logarithmic scale.
N_VALUES = 13
# Filters whose estimate does not depend on the samples.
TRIVIAL = ("mean", "random")


def evaluate_injected(
    extractor: Extractor,
    config: Config,
    *,
    on_part: Callable[[int], None] = lambda n_done: None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Compare an extractor with all classical filters in the noise of its recording.

    Parameters
    ----------
    extractor : Extractor
        The trained network.
    config : Config
        Settings of its run, with a background.
    on_part : callable
        Called with the number of extractors that are done, of `n_parts`.

    Returns
    -------
    metrics : dict
        Section ``injected`` of ``metrics.json``.
    table : DataFrame
        A row for every extractor, choice of parameters and SNR.
    """
    data = config.data
    assert data.background is not None
    background = background_of(data)
    test = draw_test(data, background)
    scores = [
        FilterScores(NETWORK, True, [""], nmse_db(extractor, test)[None]),
        *evaluate_filters(data, test, on_part=on_part),
    ]
    table = score_table(scores, test)
    recording_snr_db = [_recording_snr_db(data, background, k) for k in range(data.n_components)]
    comparison = network_vs_filters(scores, test)
    return {
        "snr_band": list(BAND),
        "startup_share": STARTUP,
        "stretches": len(np.unique(test.segment)),
        "independent_stretches": test.n_independent,
        "tones_a_stretch": TONES_PER_SEGMENT,
        "seconds_a_stretch": data.duration_s,
        "recording_snr_db": recording_snr_db,
        "rows": table.to_dict("records"),
        "verdict": comparison,
        "says": summarise_comparison(comparison, test.n_independent),
    }, table


def evaluate_filters(
    data: DataSettings,
    test: InjectionTest,
    *,
    on_part: Callable[[int], None] = lambda n_done: None,
) -> list[FilterScores]:
    """Score every classical filter with all its settings.

    Parameters
    ----------
    data : DataSettings
        Settings of the signal.
    test : InjectionTest
        Records to score on.
    on_part : callable
        Called with the number of extractors that are done, of `n_parts`.

    Returns
    -------
    list of FilterScores
        One for each filter.
    """
    scores = []
    for index, name in enumerate(filter_names()):
        on_part(index + 1)
        scores.append(_score(name, data, test))
    on_part(n_parts())
    return scores


def filter_names() -> list[str]:
    """List the classical filters whose estimate depends on the samples.

    Returns
    -------
    list of str
        Names, as `build_filter` takes them.
    """
    return [name for name in FILTERS if name not in TRIVIAL]


def n_parts() -> int:
    """Count the extractors that `evaluate_injected` scores.

    Returns
    -------
    int
        The number of which ``on_part`` counts.
    """
    return 1 + len(filter_names())


def band_around(hz: float, rate_hz: float) -> tuple[float, float]:
    """Compute the band around a tone in which noise is measured.

    Parameters
    ----------
    hz : float
        Frequency of the tone, Hz.
    rate_hz : float
        Sampling rate, Hz.

    Returns
    -------
    tuple of float
        Its lower and upper end, Hz; at most half the rate.
    """
    return BAND[0] * hz, min(BAND[1] * hz, rate_hz / 2)


def draw_test(data: DataSettings, background: Background) -> InjectionTest:
    """Inject tones of every SNR into evenly spaced segments of the test part.

    Parameters
    ----------
    data : DataSettings
        Settings of the signal, with a background.
    background : Background
        The recording without its tones.

    Returns
    -------
    InjectionTest
        Records and their SNRs.

    Raises
    ------
    UserError
        If the test part is shorter than a record.
    """
    assert data.background is not None
    part, n = background.part("test"), data.n_samples
    if n > len(part):
        raise UserError(
            f"data.duration_s: {n} samples, and the recording has {len(part)} to test on"
        )
    n_segments = int(np.clip(2 * len(part) // n - 1, 2, MAX_SEGMENTS))
    starts = np.round(np.linspace(0, len(part) - n, n_segments)).astype(int)
    noise = centred(part[starts[:, None] + np.arange(n)]).repeat(TONES_PER_SEGMENT, axis=0)
    rng = np.random.default_rng([data.test_seed, 9])
    shape = (len(noise), n, data.n_components)
    phasors = draw_phasors(data.background, data.rate_hz, shape, rng=rng)
    phasors /= np.sqrt(np.mean(np.abs(phasors) ** 2, axis=1, keepdims=True))
    rms = _noise_rms(data, background)
    snrs = test_snrs_db(data, background)
    parts = [inject(noise, phasors * rms * math.sqrt(2) * 10 ** (s / 20), data) for s in snrs]
    records = Records(
        np.concatenate([p.mixture for p in parts]), np.concatenate([p.targets for p in parts]), data
    )
    segment = np.tile(np.arange(n_segments).repeat(TONES_PER_SEGMENT), len(snrs))
    n_independent = min(len(part) / n, n_segments)
    return InjectionTest(records, np.repeat(snrs, len(noise)), segment, n_independent)


def test_snrs_db(data: DataSettings, background: Background) -> Float[np.ndarray, " N"]:
    """Choose the SNRs of the test: evenly over the amplitudes of training, in steps of 5 dB.

    Parameters
    ----------
    data : DataSettings
        Settings of the signal, with a background.
    background : Background
        The recording without its tones.

    Returns
    -------
    ndarray, shape (N,)
        SNRs, dB.
    """
    assert data.background is not None
    noise = _noise_rms(data, background) * math.sqrt(2)
    low, high = (20 * np.log10(a / noise) for a in data.background.tone_range)
    evenly = np.linspace(low.max(), high.min(), N_SNRS)
    return np.unique(STEP_DB * np.round(evenly / STEP_DB))


test_snrs_db.__test__ = False  # type: ignore[attr-defined]  # it is no test to pytest


def _noise_rms(data: DataSettings, background: Background) -> Float[np.ndarray, " K"]:
    bands = [band_around(f, data.rate_hz) for f in data.frequencies_hz]
    return np.array([band_rms(background.samples, data.rate_hz, band) for band in bands])


def _recording_snr_db(data: DataSettings, background: Background, k: int) -> float | None:
    """SNR of a tone of the recording itself, where its amplitude is known."""
    assert data.background is not None
    if len(data.background.found) != data.n_components or not data.background.found[k]:
        return None
    noise = _noise_rms(data, background)[k]
    return float(20 * np.log10(data.background.found[k] / noise / math.sqrt(2)))


def nmse_db(extractor: Extractor, test: InjectionTest) -> Float[np.ndarray, " B"]:
    """Compute the NMSE of an extractor on every record.

    Parameters
    ----------
    extractor : Extractor
        The extractor.
    test : InjectionTest
        Records to score on.

    Returns
    -------
    ndarray, shape (B,)
        NMSE, dB; the mean over tones.
    """
    records = test.records
    return relative_db(extractor.extract(records.mixture), records.targets)


def relative_db(
    estimate: Float[np.ndarray, "B T K"], targets: Float[np.ndarray, "B T K"]
) -> Float[np.ndarray, " B"]:
    """Compute the energy of the error over that of the tone, after the start-up.

    Parameters
    ----------
    estimate, targets : ndarray, shape (B, T, K)
        Estimated and true tones.

    Returns
    -------
    ndarray, shape (B,)
        The mean over tones of the ratio, dB. An estimate that is not finite scores 300.
    """
    late = slice(round(STARTUP * targets.shape[1]), None)
    with np.errstate(all="ignore"):  # a filter that diverges has the worst score
        error = np.sum((estimate - targets)[:, late] ** 2, axis=1)
        ratio = np.mean(error / np.sum(targets[:, late] ** 2, axis=1), axis=1)
    return 10 * np.log10(np.where(np.isfinite(ratio), np.maximum(ratio, 1e-30), 1e30))


def _score(name: str, data: DataSettings, test: InjectionTest) -> FilterScores:
    settings, scores = [], []
    for setting in _settings(name, data):
        try:
            built = _build(setting, data)
            score = nmse_db(built, test)
        except (UserError, ValueError):  # a value that is not allowed for these tones
            continue
        settings.append(setting)
        scores.append(score)
    return FilterScores(name, _build(name, data).causal, settings, np.array(scores))


def _build(name: str, data: DataSettings) -> ToneFilter:
    return build_filter(name, data.frequencies_hz, data.rate_hz, gain=1 / data.n_components)


def _settings(name: str, data: DataSettings) -> Iterator[str]:
    """The default first, then a grid over the parameters."""
    yield name
    lowest, length_s = min(data.frequencies_hz), data.duration_s
    times = np.geomspace(max(1 / lowest, length_s / 200), 4 * length_s, N_VALUES)
    spacing_hz = 1.98 * float(_build(name, data).spacing_hz.min())  # the widest valid band-pass
    widest = min(spacing_hz, 100 / length_s)
    widths = np.geomspace(min(0.25 / length_s, widest / 20), widest, N_VALUES)
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
