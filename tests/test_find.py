"""Finding lines: closed forms, false-alarm and hit rates, combs, rhythms, the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

import tonesieve
from tonesieve import UserError
from tonesieve.cli import app
from tonesieve.extraction.finding import find_in_recording, strongest_comb
from tonesieve.recordings.recording import from_array
from tonesieve.signals.harmonic_grouping import group_harmonics, name_aliases
from tonesieve.signals.line_estimates import SpectralLine, bin_offset, fit_course
from tonesieve.signals.line_evidence import cap_of
from tonesieve.signals.line_shape import steadiness_p_value
from tonesieve.signals.segment_spectra import (
    MAX_SEGMENT,
    Resolution,
    bridged,
    independent_bins,
    local_floor,
    resolutions,
    segment_spectra,
    window,
    window_gain,
)

RATE = 1000.0


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n)


def tone(n: int, hz: float, amplitude: float = 1.0, phase: float = 0.3) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(n) / RATE + phase)


def found(samples: np.ndarray, rate_hz: float = RATE) -> dict:
    (channel,) = tonesieve.find(samples, rate_hz)["channels"]
    return channel


def lines_hz(samples: np.ndarray) -> list[float]:
    return [line["hz"] for line in found(samples)["lines"]]


def line_at(hz: float, amplitude: float = 1.0, stderr: float = 1e-4) -> SpectralLine:
    return SpectralLine(
        hz, stderr, None, None, hz, hz, amplitude, amplitude, amplitude, 0.01, 0.01, 1e-9, False
    )


def test_the_gain_is_the_transform_of_the_window() -> None:
    taps, n = window(256), np.arange(256)
    for distance in (0.0, 0.37, 1.0, 3.4, 7.7):
        direct = abs(np.sum(taps * np.exp(2j * np.pi * distance * n / 256))) / 2
        assert abs(window_gain(np.array([distance]))[0]) == pytest.approx(direct, abs=1e-4)


def test_the_sidelobes_are_93_db_down() -> None:
    assert np.abs(window_gain(np.arange(4.1, 60, 0.01))).max() < 10 ** (-93 / 20)


def test_the_distance_from_a_bin_is_exact_without_noise() -> None:
    for distance in (-0.6, -0.2, 0.0, 0.41, 0.5):
        powers = window_gain(np.array([-1.0, 0.0, 1.0]) - distance)[:, None] ** 2
        assert bin_offset(powers)[0] == pytest.approx(distance, abs=1e-4)


def test_power_over_the_floor_is_f_distributed_in_white_noise() -> None:
    n = 2**16
    resolution, ratios = Resolution(n, n), []
    bins = np.arange(3000, resolution.n_bins - 1600, 60)
    for seed in range(6):
        samples = noise(n, seed)
        (spectrum,) = segment_spectra(lambda a, b, x=samples: x[a:b], resolution)
        ratios.append(spectrum.ratio[bins])
    nu = independent_bins(resolution.n_bins)[bins]
    assert np.ptp(nu) < 1e-9
    reference, pooled = scipy.stats.f(2, 2 * nu[0]), np.concatenate(ratios)
    assert len(pooled) > 2500
    # Seeds, size and threshold were fixed beforehand.
    assert scipy.stats.kstest(pooled, reference.cdf).pvalue > 1e-3
    # The test itself fails for a level that is wrong by a fifth.
    assert scipy.stats.kstest(1.2 * pooled, reference.cdf).pvalue < 1e-3


def test_the_floor_follows_a_power_law_and_ignores_lines() -> None:
    rng = np.random.default_rng(1)
    bins = np.arange(1, 20001)
    power = np.concatenate([[0.0], bins**-4.0 * rng.exponential(size=len(bins))])
    power[::40] *= 1e6
    ratio = local_floor(power)[64:] * bins[63:] ** 4.0
    assert np.all(np.abs(np.log(ratio)) < 0.7)
    assert abs(np.log(ratio[1000:]).mean()) < 0.1


def test_a_line_and_gaps_are_taken_off() -> None:
    x = 5 + 0.3 * np.arange(100.0)
    x[20:50] = np.nan
    rest, coverage = bridged(x)
    assert coverage == pytest.approx(0.5 * (window(100)[:20].sum() + window(100)[50:].sum()))
    assert np.abs(rest).max() < 1e-9


@pytest.mark.parametrize("n", [300, 5000, MAX_SEGMENT + 5, 3 * MAX_SEGMENT + 1])
def test_segments_cover_the_record(n: int) -> None:
    finest, *others = resolutions(n)
    assert finest.starts[-1] + finest.length >= n - 4
    for one in (finest, *others):
        assert one.length <= MAX_SEGMENT
        assert one.starts[-1] + 1.5 * one.length >= n


@pytest.mark.parametrize("n_segments", [7, 31, 500])
def test_half_of_the_segments_are_not_enough(n_segments: int) -> None:
    p_needed = 1e-8
    most = cap_of(n_segments, p_needed) * ((n_segments - 1) // 2)
    assert scipy.special.gammaincc(n_segments, most) > p_needed


@pytest.mark.parametrize("shape", [1.0, 2.2])
def test_the_test_of_steadiness_is_uniform_for_gamma_variables(shape: float) -> None:
    rng = np.random.default_rng(2)
    p = [steadiness_p_value(rng.gamma(shape, size=12), shape) for _ in range(1000)]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    assert steadiness_p_value(5 + 0.1 * rng.standard_normal(12), shape) < 1e-6


@settings(max_examples=10)
@given(hz=st.floats(20.0, 470.0), amplitude=st.floats(0.2, 50.0))
def test_a_sine_is_found_with_its_frequency_and_amplitude(hz: float, amplitude: float) -> None:
    (line,) = found(tone(20000, hz, amplitude) + noise(20000))["lines"]
    assert abs(line["hz"] - hz) < 5 * line["hz_stderr"] + 1e-4
    assert line["amplitude"] == pytest.approx(amplitude, abs=4 * 2**0.5 * 0.014 + 1e-3 * amplitude)
    assert line["p_value"] < 1e-9
    assert not line["moves"]


def test_the_errors_that_are_stated_are_those_that_are_made() -> None:
    errors, covered = [], []
    for seed in range(40):
        hz = 50 + 0.001 * seed
        (line,) = found(tone(10000, hz, 0.3, seed) + noise(10000, seed))["lines"]
        errors.append((line["hz"] - hz) / line["hz_stderr"])
        covered.append(line["amplitude_low"] <= 0.3 <= line["amplitude_high"])
    assert 0.5 < np.std(errors) < 1.3
    assert np.mean(covered) > 0.75


@settings(max_examples=6)
@given(scale=st.floats(1e-9, 1e9), offset=st.floats(-1e3, 1e3), slope=st.floats(-0.1, 0.1))
def test_unit_offset_and_trend_change_no_line(scale: float, offset: float, slope: float) -> None:
    x = tone(8000, 77.7, 0.5) + noise(8000)
    (line,) = found(x)["lines"]
    (other,) = found(scale * (x + offset + slope * np.arange(8000)))["lines"]
    assert other["hz"] == pytest.approx(line["hz"], abs=1e-3)
    assert other["amplitude"] == pytest.approx(scale * line["amplitude"], rel=1e-3)


def test_time_reversed_there_are_the_same_lines_and_the_opposite_drift() -> None:
    t = np.arange(60000) / RATE
    x = np.sin(2 * np.pi * (50 * t + 0.005 * t**2)) + 0.2 * noise(60000)
    (line,), (back,) = found(x)["lines"], found(x[::-1])["lines"]
    assert line["drift_hz"] == pytest.approx(0.6, abs=0.05)
    assert back["drift_hz"] == pytest.approx(-line["drift_hz"], abs=0.02)
    assert line["hz"] == pytest.approx(50.3, abs=0.02)
    assert back["hz"] == pytest.approx(line["hz"], abs=0.01)
    assert line["moves"]
    assert line["lowest_hz"] < 50.15 < 50.45 < line["highest_hz"]


def test_no_line_in_white_noise() -> None:
    # Of 40 records at 1%, more than 3 have a probability of 0.07%.
    assert sum(bool(lines_hz(noise(4096, seed))) for seed in range(40)) <= 3


def test_the_weaker_a_line_the_rarer_its_hit() -> None:
    counts = []
    for amplitude in (0.03, 0.06, 0.1, 0.2):
        hits = [lines_hz(tone(8192, 123.4, amplitude) + noise(8192, seed)) for seed in range(12)]
        counts.append(sum(any(abs(hz - 123.4) < 0.3 for hz in hit) for hit in hits))
    assert counts == sorted(counts)
    assert counts[0] <= 2
    assert counts[-1] == 12


def test_a_burst_and_a_spike_are_no_lines() -> None:
    n = 20000
    burst = np.where(abs(np.arange(n) - 6000) < 600, tone(n, 90.0, 20.0), 0.0)
    assert not any(not line["moves"] for line in found(burst + noise(n))["lines"])
    spike = noise(n)
    spike[7000] = 1e5
    assert lines_hz(spike) == []


def test_a_resonance_is_a_rhythm_and_no_line() -> None:
    n, r = 40000, np.exp(-np.pi * 50 / RATE / 8)
    a = [1, -2 * r * np.cos(2 * np.pi * 50 / RATE), r * r]
    for seed in range(3):
        x = scipy.signal.lfilter([1.0], a, noise(n, seed)) + noise(n, seed + 50)
        channel = found(x)
        assert channel["lines"] == []
        rhythm = max(channel["rhythms"], key=lambda one: one["excess_db"])
        assert rhythm["hz"] == pytest.approx(50, abs=2)
        assert 2 < rhythm["bandwidth_hz"] < 15


def test_the_bend_of_a_low_pass_is_no_rhythm() -> None:
    sos = scipy.signal.butter(4, 80, fs=RATE, output="sos")
    x = scipy.signal.sosfilt(sos, noise(40000)) + 1e-3 * noise(40000, 1)
    assert found(x)["rhythms"] == []
    assert lines_hz(x) == []


def test_a_line_through_gaps() -> None:
    x = tone(20000, 60.0) + noise(20000)
    x[3000:5000] = np.nan
    x[::17] = np.nan
    (line,) = found(x)["lines"]
    assert line["hz"] == pytest.approx(60.0, abs=0.01)
    assert line["amplitude"] == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize(
    ("orders", "f0"),
    [((1, 2, 3, 4), 50.0), ((2, 3, 4), 50.0), ((1, 3, 5), 50.0), ((3, 5), 50.0), ((1, 2), 25.0),
     ((1,), 50.0), ((1, 7), 50.0)],
)  # fmt: skip
def test_lines_at_multiples_are_one_comb_of_the_largest_fundamental(
    orders: tuple[int, ...], f0: float
) -> None:
    (comb,) = group_harmonics([line_at(n * f0) for n in orders])
    assert comb.f0_hz == pytest.approx(f0, abs=1e-3)
    assert comb.orders == orders
    assert comb.power == pytest.approx(0.5 * len(orders))


def test_lines_that_have_nothing_in_common_are_not_grouped() -> None:
    rng = np.random.default_rng(3)
    grouped = 0
    for _ in range(100):
        combs = group_harmonics([line_at(hz) for hz in rng.uniform(5, 450, 6)])
        grouped += len(combs) < 6
    # Of 100 sets at 1% more than 5 have a probability of 0.05%.
    assert grouped <= 5


def test_two_combs_are_told_apart() -> None:
    lines = [line_at(50.0 * n, 2.0) for n in (1, 2, 3, 4)] + [line_at(23.41 * n) for n in (1, 2, 3)]
    combs = group_harmonics(lines)
    assert [round(comb.f0_hz, 2) for comb in combs] == [50.0, 23.41]


def test_folded_harmonics_are_named() -> None:
    lines = [line_at(50.0), line_at(100.0), line_at(106.0), line_at(77.123)]
    named = {c.f0_hz: c.alias for c in name_aliases(group_harmonics(lines), 256.0)}
    assert "150 Hz (3 x 50) folded at 128 Hz" in named[106.0]
    assert named[77.123] == ""
    # At another rate the same line is no fold.
    assert not any(c.alias for c in name_aliases(group_harmonics(lines), 999.7))


def test_a_comb_in_noise_and_its_fundamental() -> None:
    x = noise(40000) + sum(tone(40000, 49.93 * k, 1 / k, k) for k in (2, 3, 4, 5))
    findings, warnings = find_in_recording(from_array(x, RATE))
    comb = strongest_comb(findings)
    assert warnings == []
    assert comb is not None
    assert comb.f0_hz == pytest.approx(49.93, abs=1e-3)
    assert comb.orders == (2, 3, 4, 5)
    assert strongest_comb(find_in_recording(from_array(noise(4000), RATE))[0]) is None


def wandering_comb(orders: tuple[int, ...], amplitude: float) -> np.ndarray:
    """Harmonics of 50 Hz that goes up by 0.04 Hz in a minute, and sways."""
    t = np.arange(60000) / RATE
    turns = 50 * t + 0.02 * t**2 / 60 + 0.02 * np.sin(2 * np.pi * t / 17)
    return noise(60000) + sum(amplitude * np.sin(2 * np.pi * k * turns + k) for k in orders)


def test_orders_of_a_comb_that_moves_are_found_at_its_multiples() -> None:
    orders = (1, 2, 3, 5, 6, 7, 8, 9)
    channel = found(wandering_comb(orders, 0.2))
    (comb,) = channel["combs"]
    assert comb["orders"] == list(orders)
    for order, line in zip(orders, channel["lines"], strict=True):
        # Both errors count: the sway adds to a drift that is taken for linear.
        assert abs(line["drift_hz"] - 0.04 * order) < 4 * line["drift_stderr"] + 0.01 * order
        assert line["amplitude"] == pytest.approx(0.2, rel=0.2)
    assert channel["lines"][-1]["moves"]
    assert any(line["by_comb"] for line in channel["lines"])


def test_a_faint_harmonic_is_found_where_no_lone_line_is() -> None:
    n, hits, false = 10000, 0, 0
    for seed in range(8):
        faint = tone(n, 150.0, 0.07, seed) + noise(n, seed)
        strong = tone(n, 50.0, 1.0)
        (alone,) = tonesieve.find(faint, RATE)["channels"]
        assert not alone["lines"] or alone["lines"][0]["hz"] == pytest.approx(150, abs=0.2)
        orders = found(faint + strong)["combs"][0]["orders"]
        hits += (3 in orders) - bool(alone["lines"])
        false += any(n not in (1, 3) for n in orders)
    assert hits >= 2
    # At 1% more than one of 8 has a probability of 0.3%.
    assert false <= 1


def test_the_error_of_a_mean_holds_for_a_course_that_wanders() -> None:
    # Oracle: the spread of means of autoregressions about their true mean.
    rng, n, errors = np.random.default_rng(4), 40, []
    for _ in range(300):
        x = scipy.signal.lfilter([1.0], [1.0, -0.7], rng.standard_normal(n + 100))[100:]
        fit = fit_course(np.arange(float(n)), x, float(n))
        errors.append((fit.mean / fit.mean_stderr, fit.drift_hz / fit.drift_stderr))
    mean, drift = np.std(errors, axis=0)
    assert 0.85 < mean < 1.35
    assert 0.85 < drift < 1.35


def test_a_record_longer_than_a_segment() -> None:
    n = MAX_SEGMENT + MAX_SEGMENT // 2
    x = noise(n) + tone(n, 50.0, 0.03)
    (line,) = found(x)["lines"]
    assert line["hz"] == pytest.approx(50.0, abs=1e-3)


@pytest.mark.parametrize(
    ("samples", "message"),
    [(np.zeros(10), "too short"), (np.zeros((2, 500)), "single row"), (["a"] * 100, "single row")],
)
def test_what_cannot_be_searched(samples: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tonesieve.find(samples, RATE)
    with pytest.raises(UserError, match="rate_hz"):
        tonesieve.find(np.zeros(100))


@pytest.mark.parametrize(
    ("samples", "message"),
    [(np.full(500, 3.7), "constant"), (np.full(500, np.nan), "no number")],
)
def test_what_holds_nothing_is_said(samples: np.ndarray, message: str) -> None:
    result = tonesieve.find(samples, RATE)
    assert message in result["warnings"][0]
    assert result["channels"][0]["lines"] == []


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    n = 20000
    x = noise(n) + tone(n, 50.02) + tone(n, 100.04, 0.5) + tone(n, 77.0, 0.4)
    path = tmp_path / "log.csv"
    y = noise(n, 1)
    path.write_text("x,y\n" + "".join(f"{a:.6f},{b:.6f}\n" for a, b in zip(x, y, strict=True)))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tonesieve", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_the_command_prints_a_table_json_and_a_picture(command, recording: Path) -> None:
    words = ("find", recording, "--rate", "1000", "--column", "all")
    code, out, _ = command(*words)
    assert code == 0
    assert "50.0" in out
    assert "y: no line" in out
    assert "false-alarm rate 1%" in out
    code, out, _ = command(*words, "--json", "--picture")
    result = json.loads(out)
    first, second = result["channels"]
    assert [comb["orders"] for comb in first["combs"]] == [[1, 2], [1]]
    assert second["combs"] == []
    picture = recording.with_name("log.csv.find.png")
    assert result["picture"] == str(picture)
    assert picture.stat().st_size > 20_000
    code, _, err = command(*words, "--picture")
    assert code == 2
    assert "exists" in err


def test_extract_takes_the_strongest_comb(command, recording: Path) -> None:
    words = ("extract", recording, "--rate", "1000", "--column", "x", "--with", "tracker")
    code, out, _ = command(*words, "--hz", "auto", "--json")
    assert code == 0
    tones = json.loads(out)["tones"]
    assert [round(one["hz"], 2) for one in tones] == [50.02, 100.04]
    code, _, err = command(*words)
    assert code == 2
    assert "found, strongest first: 50.0" in err
    assert "77" in err
    assert len(err) < 700
    assert err.count("\n") == 1
    code, _, err = command(*words, "--hz", "high")
    assert code == 2
    assert "--hz high" in err
    words = ("extract", recording, "--rate", "1000", "--column", "y", "--hz", "auto")
    code, _, err = command(*words)
    assert code == 2
    assert "no line was found" in err


def test_pull_takes_the_strongest_comb() -> None:
    x = noise(8000) + tone(8000, 50.0)
    tones, _, _ = tonesieve.pull(x, RATE, "auto", with_="tracker")
    assert np.mean((tones[2000:, 0] - tone(8000, 50.0)[2000:]) ** 2) < 0.05
    with pytest.raises(UserError, match="auto"):
        tonesieve.pull(x, RATE, "loud", with_="tracker")


@pytest.mark.slow
def test_false_alarms_in_noise_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "docs"))
    import find_noises

    n_records, total = 12, 0
    for name, make in {**find_noises.STATIONARY, **find_noises.IRREGULAR}.items():
        hits = [
            bool(lines_hz(make(20000, np.random.default_rng([seed, 9]))))
            for seed in range(n_records)
        ]
        # At 1%, more than 2 of 12 have a probability of 0.02%.
        assert sum(hits) <= 2, name
        total += sum(hits)
    # At 1%, more than 8 of 288 have a probability of 0.4%.
    assert total <= 8
