"""Clipped recordings: the tone as it was before clipping, and a band that holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tonesieve
from tonesieve.extraction.declipping import censored
from tonesieve.extraction.passes import ExtractedTones
from tonesieve.recordings.recording import from_array
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.statistics import survey

RATE_HZ, HZ, N = 500.0, 43.0, 6000
T = np.arange(N) / RATE_HZ
TONE = np.cos(2 * np.pi * HZ * T + 1)


def nmse_db(estimate: np.ndarray, tone: np.ndarray = TONE) -> float:
    return float(10 * np.log10(np.mean((estimate - tone) ** 2) / np.mean(tone**2)))


def noise(std: float, seed: int = 0) -> np.ndarray:
    return std * np.random.default_rng(seed).normal(size=N)


# Each with the most that the error may be; clipped, it is -15 dB or more.
CASES = {
    "a strong tone": (np.clip(TONE + noise(0.1), -0.5, 0.5), -28.0),
    "without noise": (np.clip(TONE, -0.5, 0.5), -40.0),
    "at one end": (np.clip(TONE + noise(0.3), -9, 0.4), -25.0),
    "far from 0": (np.clip(TONE + noise(0.2), -0.5, 0.5) + 20_000, -25.0),
    "in strong noise": (np.clip(TONE + noise(1.0), -1, 1), -22.0),
    "off its middle": (np.clip(TONE + 7 + noise(0.1), 6.4, 7.2), -28.0),
    "integers": (np.rint(np.clip(200 * (TONE + noise(0.2)), -100, 100)) / 200, -25.0),
    "beside a line": (np.clip(TONE + np.cos(100 * T) + noise(0.1), -1, 1), -20.0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_tone_is_as_it_was_before_clipping(name: str) -> None:
    samples, limit_db = CASES[name]
    tones, band, _ = tonesieve.pull(samples, RATE_HZ, [HZ])
    assert nmse_db(tones[:, 0]) < limit_db
    assert np.mean(np.abs(tones[:, 0] - TONE) <= band[:, 0]) > 0.85
    assert nmse_db(tonesieve.pull(samples, RATE_HZ, [HZ], causal=True)[0][:, 0]) > -20


def test_a_tone_whose_amplitude_changes() -> None:
    tone = TONE * (1 + 0.5 * np.sin(2 * np.pi * 0.2 * T))
    tones, band, _ = tonesieve.pull(np.clip(tone + noise(0.1), -0.6, 0.6), RATE_HZ, [HZ])
    assert nmse_db(tones[:, 0], tone) < -20
    assert np.mean(np.abs(tones[:, 0] - tone) <= band[:, 0]) > 0.85


def test_the_band_of_a_causal_estimate_holds() -> None:
    samples = np.clip(TONE + noise(0.3), -0.8, 0.8)
    tones, band, _ = tonesieve.pull(samples, RATE_HZ, [HZ], causal=True)
    assert np.mean(np.abs(tones[:, 0] - TONE) <= band[:, 0]) > 0.85


def test_what_is_not_clipped_is_as_before() -> None:
    """Also a signal with a natural bound at 0, and a rectified one."""
    samples = np.maximum(TONE + noise(0.3), 0.0)
    (stats,) = survey(from_array(samples, RATE_HZ))
    assert stats.clipped_ends == (True, False)
    assert stats.censored is None
    rectified = np.maximum(TONE, 0.0) + 1
    assert survey(from_array(rectified, RATE_HZ))[0].censored is None
    assert survey(from_array(TONE + noise(0.3), RATE_HZ))[0].clipped_ends == (False, False)


def test_blocks_of_any_length_read_the_same() -> None:
    samples = np.clip(TONE + noise(0.3), -0.8, 0.8)
    recording, tones = from_array(samples, RATE_HZ), Spool(1, Path("."))
    tones.append(0.7 * TONE[:, None])
    made = censored(recording, survey(recording), ExtractedTones(tones, None), [HZ]).fitted(30)
    whole = made.read(0, N)
    parts = [made.read(start, start + 700) for start in range(0, N, 700)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-12)
    is_clipped = np.abs(samples) == 0.8
    np.testing.assert_array_equal(whole[0, ~is_clipped], samples[~is_clipped])
    assert np.all(np.abs(whole[0, is_clipped]) >= 0.8)
    assert np.mean(np.abs(whole[0, is_clipped]) > 0.8) > 0.99


def test_the_rest_of_a_clipped_recording_has_no_notches(tmp_path: Path) -> None:
    samples = np.clip(TONE + noise(0.1), -0.5, 0.5)
    np.savez(tmp_path / "a.npz", x=samples, y=TONE + noise(0.1), rate_hz=RATE_HZ)
    result = tonesieve.extract(tmp_path / "a.npz", [HZ], columns=["all"], remove=True)
    assert "x: " in result["warnings"][0]
    assert "replaced" in result["warnings"][0]
    rest = np.load(tmp_path / "a.clean.npz")
    assert np.abs(rest["x"]).max() < 0.5
    assert np.std(rest["y"]) == pytest.approx(0.1, rel=0.1)
