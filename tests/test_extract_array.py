"""The pretrained extractor as users meet it: an array, sample by sample, and line by line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tonesieve
from tonesieve.errors import UserError
from tonesieve.extractors.pretrained import smoother
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.front_end import HOLD_RATIO
from tonesieve.extractors.source import make_source
from tonesieve.extractors.streaming import Stream
from tonesieve.signals.baseband import RANGE_RATIO

RATE = 1000.0
T = np.arange(6000) / RATE
TONE = 0.7 * np.sin(2 * np.pi * 49.98 * T + 1.0)
SAMPLES = 5 + TONE + 0.5 * np.random.default_rng(0).standard_normal(T.size)


def test_a_tone_is_extracted_from_an_array() -> None:
    tones, bands, _ = tonesieve.pull(SAMPLES, RATE, [50.0])
    assert bands is not None
    error = (tones[:, 0] - TONE)[500:]
    # A fit to all of it of three numbers, frequency too, lets through 3 x 0.25 / 6000 of the noise.
    assert np.mean(error**2) < 10 * 3 * 0.25 / 6000
    assert np.mean(np.abs(error) < bands[500:, 0]) > 0.7
    causal = tonesieve.pull(SAMPLES, RATE, [50.0], causal=True).tones[:, 0]
    assert np.mean(error**2) < np.mean((causal - TONE)[500:] ** 2) < 0.05 * np.mean(TONE**2)


def test_a_causal_estimate_depends_on_the_past_alone() -> None:
    changed = np.where(T < 3, SAMPLES, 40.0)
    a, b = (tonesieve.pull(x, RATE, [50.0], causal=True).tones for x in (SAMPLES, changed))
    np.testing.assert_array_equal(a[:3000], b[:3000])


def test_a_filter_has_no_band() -> None:
    assert tonesieve.pull(SAMPLES, RATE, [50.0], with_="kalman").bands is None


@pytest.mark.parametrize(
    ("hz", "with_", "causal", "line"),
    [
        (0.0, "pretrained", False, "--hz 0: must be above 0 and below 500 Hz"),
        (500.0, "pretrained", False, "--hz 500: must be above 0 and below 500 Hz"),
        (50.0, "pretrained:order=2", False, "no parameter 'order'; there is weights, ahead_s"),
        (50.0, "pretrained:ahead_s=soon", False, "ahead_s=soon: not a number"),
        (50.0, "pretrained:ahead_s=-1", False, "ahead_s -1.0: must be above 0"),
        (50.0, "pretrained:ahead_s=1", True, "looks ahead, and --causal forbids it"),
        (50.0, "pretrained:weights=none", False, "none: no such file"),
    ],
)
def test_impossible_requests_are_refused(hz: float, with_: str, causal: bool, line: str) -> None:
    with pytest.raises(UserError, match=line):
        tonesieve.pull(SAMPLES, RATE, [hz], with_=with_, causal=causal)


def test_a_stream_has_no_future() -> None:
    with pytest.raises(UserError, match="a stream has no future"):
        Stream(make_source("pretrained:ahead_s=1", [50.0])(RATE, "a test"))


@pytest.mark.parametrize("tones", [(50.0,), (50.0, 61.0), (3.0,)])
def test_sample_by_sample_is_the_same_to_the_bit(tones: tuple[float, ...]) -> None:
    extractor = PretrainedExtractor(tones, RATE)
    samples = SAMPLES.copy()
    samples[700:720] = np.nan
    estimate, _ = extractor.step_detailed(samples[None], extractor.initial_state(1))
    run = extractor.stepper()
    for i, sample in enumerate(samples.tolist()):
        run(sample)
        if i % 499 == 0:
            np.testing.assert_array_equal(run.tones, estimate.tones[0, i])
            np.testing.assert_array_equal(run.bands, estimate.band[0, i])
            np.testing.assert_array_equal(np.abs(run.phasors), estimate.amplitude[0, i])
            np.testing.assert_allclose(run.hz, estimate.hz[0, i], rtol=1e-12)


def test_far_tones_have_a_stepper_each() -> None:
    with pytest.raises(UserError, match="a stepper each"):
        PretrainedExtractor((3.0, 300.0), RATE).stepper()


def test_a_stream_writes_all_columns_line_by_line() -> None:
    command = [sys.executable, "-m", "tonesieve", "stream", "--hz", "50", "--rate", "1000"]
    text = "".join(f"{x!r}\n" for x in SAMPLES.tolist())
    done = subprocess.run([*command, "--full"], input=text, capture_output=True, text=True,
                          check=True, timeout=180)  # fmt: skip
    rows = np.array([list(map(float, line.split(","))) for line in done.stdout.splitlines()])
    tone, amplitude, phase, hz, low, high = rows.T
    late = slice(3000, None)
    assert len(rows) == len(SAMPLES)
    assert abs(amplitude[late].mean() - 0.7) < 0.05
    assert abs(hz[late].mean() - 49.98) < 0.05
    assert ((low <= tone) & (tone <= high)).all()
    np.testing.assert_allclose(
        tone[late], (amplitude * np.sin(2 * np.pi * 50 * T + phase))[late], atol=1e-6
    )
    refused = subprocess.run([*command, "--full", "--with", "kalman"], input="1\n",
                             capture_output=True, text=True, check=False, timeout=180)  # fmt: skip
    assert refused.returncode == 2
    assert "estimates the tone alone" in refused.stderr


@pytest.mark.parametrize("hz", [50.0, 5.0])
@pytest.mark.parametrize("gap", [(0, 300), (5700, 6000)])
def test_a_gap_at_an_end_is_estimated_from_the_other_side(hz: float, gap: tuple[int, int]) -> None:
    truth = np.sin(2 * np.pi * hz * T)
    samples = truth + 0.3 * np.random.default_rng(1).standard_normal(T.size)
    lost = slice(*gap)
    samples[lost] = np.nan
    tones, bands, _ = tonesieve.pull(samples, RATE, [hz])
    assert bands is not None
    # A steady tone is as well known there as beside the gap: from 5,700 samples.
    assert np.sqrt(np.mean((tones[lost, 0] - truth[lost]) ** 2)) < 0.05
    assert (bands[lost] > 1e-3).all()


@pytest.mark.parametrize("kept", [2, 3, 5])
@pytest.mark.parametrize("causal", [True, False])
def test_with_every_nth_sample_alone_nothing_diverges(kept: int, causal: bool) -> None:
    samples = np.where(np.arange(T.size) % kept == 0, SAMPLES, np.nan)
    tones, bands, _ = tonesieve.pull(samples, RATE, 50.0, causal=causal)
    assert bands is not None
    assert np.isfinite(bands).all()
    assert np.abs(tones).max() < 10
    assert np.mean((tones[2000:, 0] - TONE[2000:]) ** 2) < 0.1 * np.mean(TONE**2)


@pytest.mark.parametrize("wild", [1e12, 1e30, 1e200])
def test_one_wild_sample_does_no_harm(wild: float) -> None:
    samples = SAMPLES.copy()
    samples[2500] = wild
    for causal in (True, False):
        tones, *_ = tonesieve.pull(samples, RATE, 50.0, causal=causal)
        assert np.mean((tones[4000:, 0] - TONE[4000:]) ** 2) < 0.05 * np.mean(TONE**2)


def test_a_clean_tone_beside_its_nominal_frequency_is_found() -> None:
    clean = np.sin(2 * np.pi * 50 * T)
    for causal in (True, False):
        tones, *_ = tonesieve.pull(clean, RATE, 50.5, causal=causal)
        assert np.mean((tones[1000:, 0] - clean[1000:]) ** 2) < 1e-3


@pytest.mark.parametrize(
    ("rate_hz", "hz"), [("a", 50.0), (None, 50.0), (0, 50.0), (RATE, "50"), (RATE, [[50.0]])]
)
def test_what_is_no_number_is_refused(rate_hz: object, hz: object) -> None:
    with pytest.raises(UserError, match="must be"):
        tonesieve.pull(SAMPLES, rate_hz, hz)  # type: ignore[arg-type]


def test_the_frequency_stays_near_the_nominal_one() -> None:
    extractor = PretrainedExtractor((50.0,), RATE)
    noise = np.random.default_rng(3).standard_normal((1, 3000))
    estimate, _ = extractor.step_detailed(noise, extractor.initial_state(1))
    assert (np.abs(estimate.hz - 50) <= HOLD_RATIO * RANGE_RATIO * 50 + 1e-9).all()


def test_states_between_blocks_hold_no_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(smoother, "BLOCK", 64)
    extractor = PretrainedExtractor((50.0,), RATE)
    tones = extractor.groups[0][1]
    read, n = lambda a, b: SAMPLES[None, a:b], len(SAMPLES)
    group = smoother._Group(extractor, tones, None, read, n, 1, None)
    group.prepare(tmp_path, lambda n: None)
    assert len(group._saved) == -(-len(SAMPLES) // tones.factor // 64) > 30
    arrays = [part for state in group._saved.values() for part in (*state.gate, state.phasors)]
    # A view would keep all of its base in memory.
    assert all(part.base is None or part.base.nbytes <= 2 * part.nbytes for part in arrays)
