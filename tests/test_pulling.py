"""The pretrained extractor as people meet it: samples at hand, one by one, and line by line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import tonesieve
from tonesieve.errors import UserError
from tonesieve.extractors.pretrained import smoother
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.source import make_source
from tonesieve.extractors.streaming import Stream

RATE = 1000.0
T = np.arange(6000) / RATE
TONE = 0.7 * np.sin(2 * np.pi * 49.98 * T + 1.0)
HEARD = 5 + TONE + 0.5 * np.random.default_rng(0).standard_normal(T.size)


def test_a_tone_is_pulled_out_of_samples_at_hand() -> None:
    tones, bands = tonesieve.pull(HEARD, RATE, [50.0])
    assert bands is not None
    error = (tones[:, 0] - TONE)[500:]
    # A fit to all of it of three numbers, frequency too, lets through 3 x 0.25 / 6000 of the noise.
    assert np.mean(error**2) < 10 * 3 * 0.25 / 6000
    assert np.mean(np.abs(error) < bands[500:, 0]) > 0.7
    causal = tonesieve.pull(HEARD, RATE, [50.0], causal=True).tones[:, 0]
    assert np.mean(error**2) < np.mean((causal - TONE)[500:] ** 2) < 0.05 * np.mean(TONE**2)


def test_the_past_alone_counts_where_it_must() -> None:
    changed = np.where(T < 3, HEARD, 40.0)
    one, two = (tonesieve.pull(x, RATE, [50.0], causal=True).tones for x in (HEARD, changed))
    np.testing.assert_array_equal(one[:3000], two[:3000])


def test_a_filter_tells_no_band_of_samples_at_hand() -> None:
    assert tonesieve.pull(HEARD, RATE, [50.0], with_="kalman").bands is None


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
def test_what_cannot_be_is_said(hz: float, with_: str, causal: bool, line: str) -> None:
    with pytest.raises(UserError, match=line):
        tonesieve.pull(HEARD, RATE, [hz], with_=with_, causal=causal)


def test_a_stream_has_no_future() -> None:
    with pytest.raises(UserError, match="a stream has no future"):
        Stream(make_source("pretrained:ahead_s=1", [50.0])(RATE, "a test"))


@pytest.mark.parametrize("tones", [(50.0,), (50.0, 61.0), (3.0,)])
def test_sample_by_sample_is_the_same_to_the_bit(tones: tuple[float, ...]) -> None:
    extractor = PretrainedExtractor(tones, RATE)
    heard = HEARD.copy()
    heard[700:720] = np.nan
    told, _ = extractor.step_detailed(heard[None], extractor.initial_state(1))
    take = extractor.stepper()
    for i, sample in enumerate(heard.tolist()):
        take(sample)
        if i % 499 == 0:
            np.testing.assert_array_equal(take.tones, told.tones[0, i])
            np.testing.assert_array_equal(take.bands, told.band[0, i])
            np.testing.assert_array_equal(np.abs(take.phasors), told.amplitude[0, i])
            np.testing.assert_allclose(take.hz, told.hz[0, i], rtol=1e-12)


def test_far_tones_have_a_stepper_each() -> None:
    with pytest.raises(UserError, match="a stepper each"):
        PretrainedExtractor((3.0, 300.0), RATE).stepper()


def test_a_stream_tells_all_line_by_line() -> None:
    command = [sys.executable, "-m", "tonesieve", "stream", "--hz", "50", "--rate", "1000"]
    text = "".join(f"{x!r}\n" for x in HEARD.tolist())
    done = subprocess.run([*command, "--full"], input=text, capture_output=True, text=True,
                          check=True, timeout=60)  # fmt: skip
    rows = np.array([list(map(float, line.split(","))) for line in done.stdout.splitlines()])
    tone, amplitude, phase, hz, low, high = rows.T
    late = slice(3000, None)
    assert len(rows) == len(HEARD)
    assert abs(amplitude[late].mean() - 0.7) < 0.05
    assert abs(hz[late].mean() - 49.98) < 0.05
    assert ((low <= tone) & (tone <= high)).all()
    np.testing.assert_allclose(
        tone[late], (amplitude * np.sin(2 * np.pi * 50 * T + phase))[late], atol=1e-6
    )
    refused = subprocess.run([*command, "--full", "--with", "kalman"], input="1\n",
                             capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert refused.returncode == 2
    assert "estimates the tone alone" in refused.stderr


@pytest.mark.parametrize("hz", [50.0, 5.0])
@pytest.mark.parametrize("gap", [(0, 300), (5700, 6000)])
def test_a_gap_at_an_end_is_answered_from_the_other(hz: float, gap: tuple[int, int]) -> None:
    truth = np.sin(2 * np.pi * hz * T)
    heard = truth + 0.3 * np.random.default_rng(1).standard_normal(T.size)
    lost = slice(*gap)
    heard[lost] = np.nan
    tones, bands = tonesieve.pull(heard, RATE, [hz])
    assert bands is not None
    # Of a steady tone it is told as well as beside the gap: by 5,700 samples of noise.
    assert np.sqrt(np.mean((tones[lost, 0] - truth[lost]) ** 2)) < 0.05
    assert (bands[lost] > 1e-3).all()


@pytest.mark.parametrize("kept", [2, 3, 5])
@pytest.mark.parametrize("causal", [True, False])
def test_every_so_manyth_sample_alone_drives_nothing_off(kept: int, causal: bool) -> None:
    heard = np.where(np.arange(T.size) % kept == 0, HEARD, np.nan)
    tones, bands = tonesieve.pull(heard, RATE, 50.0, causal=causal)
    assert bands is not None
    assert np.isfinite(bands).all()
    assert np.abs(tones).max() < 10
    assert np.mean((tones[2000:, 0] - TONE[2000:]) ** 2) < 0.1 * np.mean(TONE**2)


@pytest.mark.parametrize("wild", [1e12, 1e30, 1e200])
def test_one_wild_sample_drowns_nothing(wild: float) -> None:
    heard = HEARD.copy()
    heard[2500] = wild
    for causal in (True, False):
        tones, _ = tonesieve.pull(heard, RATE, 50.0, causal=causal)
        assert np.mean((tones[4000:, 0] - TONE[4000:]) ** 2) < 0.05 * np.mean(TONE**2)


def test_a_clean_tone_by_another_name_is_found() -> None:
    clean = np.sin(2 * np.pi * 50 * T)
    for causal in (True, False):
        tones, _ = tonesieve.pull(clean, RATE, 50.5, causal=causal)
        assert np.mean((tones[1000:, 0] - clean[1000:]) ** 2) < 1e-3


@pytest.mark.parametrize(
    ("rate_hz", "hz"), [("a", 50.0), (None, 50.0), (0, 50.0), (RATE, "50"), (RATE, [[50.0]])]
)
def test_what_is_no_number_is_said(rate_hz: object, hz: object) -> None:
    with pytest.raises(UserError, match="must be"):
        tonesieve.pull(HEARD, rate_hz, hz)  # type: ignore[arg-type]


def test_the_frequency_stays_near_its_name() -> None:
    extractor = PretrainedExtractor((50.0,), RATE)
    noise = np.random.default_rng(3).standard_normal((1, 3000))
    told, _ = extractor.step_detailed(noise, extractor.initial_state(1))
    assert (np.abs(told.hz - 50) <= 0.03 * 50 + 1e-9).all()


def test_what_is_kept_between_blocks_holds_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoother, "BLOCK", 64)
    extractor = PretrainedExtractor((50.0,), RATE)
    hearing = extractor.groups[0][1]
    group = smoother._Group(extractor, hearing, lambda a, b: HEARD[None, a:b], len(HEARD), 1, None)
    group.prepare(lambda n: None)
    assert len(group._saved) > 50
    kept = [part for side in group._saved.values() for part in (*side.verdict, side.phasors)]
    # A view would hold all of the arrays that it looks at.
    assert all(part.base is None or part.base.nbytes <= 2 * part.nbytes for part in kept)
