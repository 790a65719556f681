"""Classical extractors: steady tones come out as they are, and each against its own definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from tonesieve import UserError, load_config
from tonesieve.config.config import DataSettings
from tonesieve.extractors.filters.bandpass import Butterworth, FftMask, ZeroPhaseButterworth
from tonesieve.extractors.filters.baseband import AdaptiveWiener, LockIn
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.filters.least_squares import HarmonicLeastSquares
from tonesieve.extractors.filters.registry import FILTERS, build_filter, is_filter, parameters_of
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.source import make_source
from tonesieve.extractors.streaming import Stream, fingerprint
from tonesieve.signals.signal_model import tone_response
from tonesieve.signals.synthesis import draw_records

TONES, RATE = (5.0, 12.0), 200.0
FILTERING = [name for name in FILTERS if name not in ("mean", "random")]


def steady(
    n_samples: int, gain: complex = 1.0, tones: tuple[float, ...] = TONES
) -> tuple[np.ndarray, np.ndarray]:
    """Mixture (1, T) of tones of own amplitude and phase, and the tones (1, T, K)."""
    n = np.arange(n_samples)[:, None]
    phasors = np.exp(
        1j * (2 * np.pi * n * np.array(tones) / RATE + np.array([0.4, 2.0])[: len(tones)])
    )
    phasors = phasors * np.array([0.7, 1.3])[: len(tones)]
    return (gain * phasors).imag.sum(axis=1)[None], phasors.imag[None]


# What is left of a steady pair after 3 s and away from the ends: each method's own floor.
FLOORS = {
    "tracker": 1e-3, "kalman": 1e-7, "least-squares": 1e-6, "least-squares-growing": 1e-7,
    "lock-in": 2e-3, "butterworth": 3e-3, "zero-phase": 1e-5, "fft-mask": 1e-10, "wiener": 1e-5,
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERING)
@pytest.mark.parametrize("gain", [1.0, 0.25 * np.exp(0.3j)])
def test_a_steady_tone_keeps_its_amplitude_and_phase(name: str, gain: complex) -> None:
    mixture, tones = steady(2000, gain)
    error = build_filter(name, TONES, RATE, gain=gain).extract(mixture) - tones
    assert np.mean(error[:, 600:1900] ** 2) < FLOORS[name]


@pytest.mark.parametrize("name", FILTERING)
def test_a_wrong_phase_would_be_detected(name: str) -> None:
    mixture, tones = steady(2000, np.exp(0.3j))
    error = build_filter(name, TONES, RATE).extract(mixture) - tones
    assert np.mean(error[:, 600:1900] ** 2) > 0.02


@pytest.mark.parametrize("name", ["butterworth", "zero-phase", "fft-mask", "wiener"])
def test_an_offset_is_no_tone(name: str) -> None:
    estimate = build_filter(name, TONES, RATE).extract(np.full((1, 2000), 1000.0))
    # Band-passes have a zero there; of the others the docstrings say to subtract it first.
    assert np.abs(estimate[:, 800:1200]).max() < 0.01


def test_the_butterworth_starts_without_a_step() -> None:
    one = build_filter("butterworth", TONES, RATE)
    assert np.abs(one.extract(np.full((1, 500), 1000.0))).max() < 1e-6


def test_the_butterworth_is_scipys() -> None:
    mixture, _ = steady(400)
    one = Butterworth((5.0,), RATE, 1.0, bandwidth_hz=2.0, order=2)
    low = np.hypot(5, 1) - 1
    sections = signal.butter(2, [low, low + 2], "bandpass", fs=RATE, output="sos")
    plain = signal.sosfilt(sections, mixture - mixture[:, :1])
    # At the geometric middle of the band its phase is all but zero.
    np.testing.assert_allclose(one.extract(mixture)[..., 0], plain, atol=0.02)


def test_the_stated_delay_is_that_of_a_burst() -> None:
    n = np.arange(8000)
    burst = np.exp(-0.5 * ((n - 3000) / 500) ** 2)
    mixture = (burst * np.sin(2 * np.pi * 5 * n / RATE))[None]
    for name in ("butterworth:bandwidth_hz=0.5", "lock-in:time_s=0.5", "least-squares:window_s=4"):
        one = build_filter(name, (5.0,), RATE)
        envelope = np.abs(signal.hilbert(one.extract(mixture)[0, :, 0]))
        centre = np.sum(n * envelope**2) / np.sum(envelope**2)
        assert centre - 3000 == pytest.approx(one.delay, rel=0.05)


def design(n_samples: int) -> np.ndarray:
    angle = 2 * np.pi * np.outer(np.arange(n_samples), TONES) / RATE
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def ridge_fit(rows: np.ndarray, samples: np.ndarray, ridge: float) -> np.ndarray:
    return np.linalg.solve(rows.T @ rows + ridge * np.eye(rows.shape[1]), rows.T @ samples)


@pytest.mark.parametrize("window_s", [0.2, np.inf])
def test_least_squares_is_ridge_regression_on_its_window(window_s: float) -> None:
    samples = np.random.default_rng(0).normal(size=120)
    samples[30:50] = np.nan
    one = HarmonicLeastSquares(TONES, RATE, 1.0, window_s=window_s, ridge=0.5)
    estimate, rows = one.extract(samples[None])[0], design(120)
    for n in range(120):
        seen = np.arange(max(0, n - 39) if window_s < 1 else 0, n + 1)
        seen = seen[np.isfinite(samples[seen])]
        fit = ridge_fit(rows[seen], samples[seen], 0.5)
        expected = [rows[n, k] * fit[k] + rows[n, 2 + k] * fit[2 + k] for k in (0, 1)]
        np.testing.assert_allclose(estimate[n], expected, atol=1e-9)


def test_a_kalman_filter_of_steady_tones_is_ridge_regression() -> None:
    samples = np.random.default_rng(1).normal(size=80)
    one = OscillatorKalman(TONES, RATE, 1.0, memory_s=np.inf, noise=0.5)
    same = HarmonicLeastSquares(TONES, RATE, 1.0, window_s=np.inf, ridge=0.5)
    np.testing.assert_allclose(one.extract(samples[None]), same.extract(samples[None]), atol=1e-9)


def test_a_kalman_filter_of_walking_tones_is_a_conditioned_gaussian() -> None:
    n_samples, noise, memory_s = 40, 0.5, 0.3
    samples = np.random.default_rng(2).normal(size=n_samples)
    process_noise = 2 * noise / (memory_s * RATE) ** 2
    rows, times = design(n_samples), np.arange(1, n_samples + 1)
    growth = 1 + process_noise * np.minimum.outer(
        times, times
    )  # covariance of a coefficient over time
    prior = (rows @ rows.T) * growth
    estimate = OscillatorKalman(TONES, RATE, 1.0, memory_s=memory_s, noise=noise).extract(
        samples[None]
    )
    for n in (0, 7, n_samples - 1):
        inverse = np.linalg.inv(prior[: n + 1, : n + 1] + noise * np.eye(n + 1))
        for k in (0, 1):
            cross = rows[n, [k, 2 + k]] @ rows[: n + 1][:, [k, 2 + k]].T * growth[n, : n + 1]
            assert estimate[0, n, k] == pytest.approx(cross @ inverse @ samples[: n + 1], abs=1e-9)


def test_the_kalman_filter_forgets_in_its_memory() -> None:
    # A tone that begins after silence comes up as 1 - exp(-t / memory).
    n, start, memory = np.arange(60_000), 40_000, 2000
    mixture = np.where(n >= start, np.sin(2 * np.pi * 20 * n / RATE), 0.0)[None]
    one = OscillatorKalman((20.0,), RATE, 1.0, memory_s=memory / RATE)
    amplitude = np.abs(signal.hilbert(one.extract(mixture)[0, :, 0]))
    for wait in (1000, 2000, 4000):
        assert amplitude[start + wait] == pytest.approx(1 - np.exp(-wait / memory), abs=0.03)


def test_the_lock_in_starts_without_a_long_ramp() -> None:
    n = np.arange(600)
    mixture = np.cos(2 * np.pi * 20 * n / RATE)[None]
    estimate = LockIn((20.0,), RATE, 1.0, time_s=0.5).extract(mixture)[0, :, 0]
    # Three poles have let 30% through after 1.9 time constants, and 99% only after 8.4.
    np.testing.assert_allclose(estimate[195:], mixture[0, 195:], atol=0.02)
    assert np.abs(estimate[:195]).max() < 1.02


def test_the_mask_keeps_its_bins() -> None:
    samples = np.random.default_rng(3).normal(size=(1, 1000))
    spectrum = np.fft.rfft(FftMask((5.0,), RATE, 1.0, width_hz=2.0).extract(samples)[0, :, 0])
    is_passed = np.abs(np.fft.rfftfreq(1000, 1 / RATE) - 5) <= 1
    np.testing.assert_allclose(spectrum[is_passed], np.fft.rfft(samples[0])[is_passed], atol=1e-9)
    assert np.abs(spectrum[~is_passed]).max() < 1e-9


def hum(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A drifting hum in white and 1/f noise, as in the seismometer's configuration."""
    data = load_config("examples/seismometer/mains.yaml").data
    records = draw_records(data, 6, 6000, rng=np.random.default_rng(seed))
    return records.mixture, records.targets


def test_the_wiener_filter_estimates_the_bandwidth_that_others_are_given() -> None:
    mixture, targets = hum(3)
    best = min(
        np.mean((ZeroPhaseButterworth((49.93,), 200.0, 1.0, w, 2).extract(mixture) - targets) ** 2)
        for w in (0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0)
    )
    wiener_error = np.mean((AdaptiveWiener((49.93,), 200.0).extract(mixture) - targets) ** 2)
    exercise = DataSettings(start="random")
    records = draw_records(exercise, 8, 10_000, rng=np.random.default_rng(3))
    steady_best = min(
        np.mean((_zero_phase(exercise, w).extract(records.mixture) - records.targets) ** 2)
        for w in (0.1, 0.2, 0.4, 0.8)
    )
    wiener = build_filter("wiener", exercise.frequencies_hz, 1000.0, gain=tone_response(exercise))
    steady_error = np.mean((wiener.extract(records.mixture) - records.targets) ** 2)
    # Within 1.5 dB of the best that hand and eye would find, on a wandering tone and a steady one.
    ratios = np.array([wiener_error / best, steady_error / steady_best])
    assert (10 * np.log10(ratios) < 1.5).all(), ratios


def _zero_phase(data: DataSettings, width: float) -> ZeroPhaseButterworth:
    return ZeroPhaseButterworth(data.frequencies_hz, data.rate_hz, tone_response(data), width, 2)


def test_the_wiener_filter_passes_little_of_noise_alone() -> None:
    noise = np.random.default_rng(5).normal(size=(4, 8000))
    estimate = AdaptiveWiener((20.0,), RATE).extract(noise)
    assert np.mean(estimate**2) < 3e-3  # white noise of variance 1, of which a bin holds 1/4000


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("n_samples", [1, 2, 3, 7])
def test_the_shortest_records_have_estimates(name: str, n_samples: int) -> None:
    for samples in (np.ones((2, n_samples)), np.full((2, n_samples), np.nan)):
        estimate = build_filter(name, TONES, RATE).extract(samples)
        assert estimate.shape == (2, n_samples, 2)
        assert np.isfinite(estimate).all()


@pytest.mark.parametrize("tone", [1e-3, 99.9])
@pytest.mark.parametrize("name", FILTERS)
def test_tones_at_the_ends_of_the_band_have_estimates(name: str, tone: float) -> None:
    samples = np.random.default_rng(0).normal(size=(1, 500))
    assert np.isfinite(build_filter(name, (tone,), RATE).extract(samples)).all()


def test_a_late_start_keeps_the_phase() -> None:
    one = build_filter("kalman", (0.1,), 3.0)
    # A third of a tenth of a cycle a sample: 10^12 samples later exactly a third of a cycle.
    assert one.phase_cycles(10**12, 1)[0, 0] == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("kalmann", "kalmann: no such filter; did you mean kalman?"),
        ("nonsense", "there are tracker, kalman, least-squares"),
        ("lock-in:tau=1", "lock-in: no parameter 'tau'; there is time_s, order"),
        ("lock-in:time_s=fast", "time_s=fast: not a number"),
        ("lock-in:time_s=nan", "time_s=nan: not a number"),
        ("lock-in:time_s=-1", "lock-in:time_s=-1: time_s -1.0: above 0"),
        ("lock-in:order=2.5", "lock-in: order 2.5: must be a whole number"),
        ("lock-in:order=20", "order 20: must be 1 to 12"),
        ("butterworth:bandwidth_hz=100", "bandwidth_hz 100.0: must lie between 0 and 10 Hz"),
        ("wiener:order=1", "wiener: no parameter 'order'; there is none"),
    ],
)
def test_wrong_parameters_are_refused(name: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        build_filter(name, TONES, RATE)
    assert complaint in str(caught.value)


def test_names_and_parameters() -> None:
    assert is_filter("lock-in:time_s=1")
    assert not is_filter("runs/lock-in")
    assert parameters_of("butterworth") == ["bandwidth_hz", "order"]
    assert build_filter("lock-in:order=2", TONES, RATE).order == 2


def test_an_earlier_name_of_a_parameter_gives_the_same_filter() -> None:
    earlier, present = (
        build_filter(f"tracker:{name}=0.1", TONES, RATE) for name in ("pull_hz", "max_pull_hz")
    )
    assert earlier == present
    with pytest.raises(UserError, match="lock-in: no parameter 'pull_hz'; there is time_s, order"):
        build_filter("lock-in:pull_hz=0.1", TONES, RATE)


# Fingerprints in streams that were saved before classes and parameters had their present names, of
# tones at 5 and 12 Hz, rate 200 Hz, gain 0.5.
FINGERPRINTS = {
    "tracker": "6c48c81d3f834032",
    "kalman": "b661a9ae04c09857",
    "least-squares": "2a7323306aeac09e",
    "least-squares-growing": "bfe6eb678471499f",
    "lock-in": "2ae3ad893c3658a1",
    "butterworth": "76cc11d01ca19ef8",
    "zero-phase": "84ef0c4da6eeb687",
    "fft-mask": "0f32d4bda29c2ee7",
    "wiener": "70916daa64e78124",
    "mean": "4d2e036f7aae54c6",
    "random": "16a854369d4a6625",
    "tracker:memory_s=2,pull_hz=0.1": "64598439bfba25ad",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_fingerprint_of_a_saved_stream_stays(name: str) -> None:
    assert fingerprint(build_filter(name, TONES, RATE, gain=0.5)) == FINGERPRINTS[name]
    assert set(FILTERS) <= set(FINGERPRINTS)


def test_the_pretrained_fingerprint_names_its_first_class() -> None:
    identity = PretrainedExtractor(TONES, RATE, 0.5, weights="w", ahead_s=2.0).identity
    assert identity == (
        "Pretrained Pretrained(frequencies_hz=(5.0, 12.0), rate_hz=200.0, gain=0.5, weights='w', "
        "ahead_s=2.0, within_hz=None)"
    )


def test_an_earlier_stream_is_restored() -> None:
    # Saved after 200 samples under the earlier names, by commit 4c2cb6d.
    samples = np.sin(2 * np.pi * 5.03 * np.arange(300) / 200) * [[1.0], [2.0]] + 3
    build = make_source("tracker:memory_s=2,max_pull_hz=0.1", [5.0])
    stream, expected = (Stream(build(RATE, "a test"), 2) for _ in range(2))
    stream.restore(Path(__file__).parent / "data" / "tracker_pull_hz.state")
    expected.process(samples[:, :200])
    np.testing.assert_array_equal(
        stream.process(samples[:, 200:]), expected.process(samples[:, 200:])
    )
