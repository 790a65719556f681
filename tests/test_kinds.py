"""The benchmark of kinds: its members are consistent, and its metrics reject wrong estimates."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

DOCS = Path(__file__).parent.parent / "docs"
RECORDS = Path(__file__).parent / "data" / "records"
MAX_RECORD_BYTES = 120_000


@pytest.fixture(scope="module", autouse=True)
def kinds() -> Any:
    """The script, imported by name."""
    sys.path.insert(0, str(DOCS))
    try:
        import kinds

        yield kinds
    finally:
        sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def metrics(kinds: ModuleType) -> ModuleType:
    return kinds.metrics


def member(kinds: ModuleType, kind: int, name: str) -> Any:
    return next(e for e in kinds.ENTRIES if (e.kind, e.name) == (kind, name)).draw(0)


@pytest.mark.parametrize("kind", range(1, 13))
def test_members_are_known_tones_and_a_known_rest(kinds: ModuleType, kind: int) -> None:
    entries = [entry for entry in kinds.ENTRIES if entry.kind == kind]
    assert len({entry.name for entry in entries}) == len(entries) >= 3
    assert any(entry.quick for entry in entries)
    for entry in entries:
        one = entry.draw(0)
        n = len(one.rest)
        assert one.tones.shape == (n, len(one.hz)), entry.name
        assert np.allclose(one.samples - one.rest, one.tones.sum(axis=1), atol=1e-6), entry.name
        assert np.isfinite(one.samples).all(), entry.name
        assert all(0 < hz < one.rate_hz / 2 for hz in one.hz), entry.name
        assert set(one.rivals) <= set(kinds.RIVALS), entry.name
        absent = "nothing" in one.own.get("expected", "")
        assert one.tones.any() != absent, entry.name


@pytest.mark.parametrize("kind", range(1, 13))
def test_the_tones_lie_near_their_nominal_frequencies(kinds: ModuleType, kind: int) -> None:
    for entry in kinds.ENTRIES:
        if entry.kind != kind:
            continue
        one = entry.draw(0)
        for k, hz in enumerate(one.hz):
            if not one.tones[:, k].any():
                continue
            n = 8 * len(one.rest)
            spectrum = np.abs(np.fft.rfft(one.tones[:, k] * np.hanning(len(one.rest)), n))
            peak = np.argmax(spectrum) * one.rate_hz / n
            assert abs(peak - hz) < 0.11 * hz, entry.name
            if one.phase_rad is None:
                continue
            rotor = np.exp(-1j * one.phase_rad[:, k])
            turned = np.sum(one.tones[:, k] * rotor) / np.sum(np.abs(one.tones[:, k]))
            assert abs(np.angle(turned)) < 0.05, entry.name
            assert abs(turned) > 0.7, entry.name


def test_draws_are_those_of_the_seed(kinds: ModuleType) -> None:
    for name in ("hum a tenth of R", "real ecg at 360 Hz"):
        entry = next(e for e in kinds.ENTRIES if e.kind == 4 and e.name == name)
        assert np.array_equal(entry.draw(1).samples, entry.draw(1).samples)
        assert not np.array_equal(entry.draw(0).tones[:99], entry.draw(1).tones[:99])


def test_the_error_of_wrong_estimates(kinds: ModuleType, metrics: ModuleType) -> None:
    one = member(kinds, 1, "white 0.5%")
    assert metrics.nmse_db(one, one.tones) < -200
    assert metrics.nmse_db(one, np.zeros_like(one.tones)) == pytest.approx(0, abs=1e-9)
    assert metrics.nmse_db(one, 2 * one.tones) == pytest.approx(0, abs=1e-9)
    assert metrics.nmse_db(one, -one.tones) == pytest.approx(6.02, abs=0.01)
    assert metrics.nmse_db(one, np.full_like(one.tones, np.nan)) == np.inf
    half = np.where(np.arange(len(one.rest))[:, None] < len(one.rest) // 2, 0, one.tones)
    assert metrics.nmse_db(one, half) == pytest.approx(-3.01, abs=0.05)
    assert metrics.settled_db(one, half) < -200
    nothing = member(kinds, 11, "no tone, white noise")
    assert metrics.nmse_db(nothing, nothing.tones) is None


def test_bands_that_are_too_narrow(kinds: ModuleType, metrics: ModuleType) -> None:
    one = member(kinds, 1, "white 0.5%")
    error = np.random.default_rng(0).standard_normal(one.tones.shape)
    band = np.full(one.tones.shape, 1.645)
    assert metrics.covered(one, one.tones + error, band) == pytest.approx(0.9, abs=0.01)
    assert metrics.covered(one, one.tones + error, band / 10) < 0.2
    assert metrics.covered(one, one.tones + error, None) is None


def test_damage_is_what_is_taken_beside_the_tone(kinds: ModuleType, metrics: ModuleType) -> None:
    one = member(kinds, 12, "white, strong tone")
    hz = one.hz[0]
    assert metrics.damage_db(one, one.tones) < -200

    def with_band(low: float, high: float) -> np.ndarray:
        edges = butter(4, (low * hz, high * hz), "bandpass", fs=one.rate_hz, output="sos")
        return one.tones + sosfiltfilt(edges, one.rest)[:, None]

    assert metrics.damage_db(one, with_band(0.7, 1.4)) == pytest.approx(0, abs=0.3)
    assert metrics.damage_db(one, with_band(0.995, 1.005)) < -20
    assert metrics.damage_db(one, 0.5 * one.tones) < -50
    short = member(kinds, 8, "two to four periods")
    assert metrics.damage_db(short, short.tones) is None


def test_the_metrics_of_single_kinds(kinds: ModuleType, metrics: ModuleType) -> None:
    heart = member(kinds, 4, "hum a tenth of R")
    assert metrics.own_metrics(heart, heart.tones)["r_worst_percent"] == pytest.approx(0, abs=1e-9)
    peaks = np.zeros_like(heart.tones)
    peaks[heart.own["r_peaks"]] = 0.25 * heart.rest[heart.own["r_peaks"], None]
    assert -35 < metrics.own_metrics(heart, heart.tones + peaks)["r_median_percent"] < -15
    burst = member(kinds, 5, "chirps beside 331 Hz")
    taken = burst.tones + burst.own["burst"][:, None]
    assert metrics.own_metrics(burst, taken)["burst_error_db"] == pytest.approx(0, abs=1)
    assert metrics.own_metrics(burst, burst.tones)["burst_error_db"] < -200
    reference = member(kinds, 10, "steady reference")
    low = metrics.own_metrics(reference, 0.88 * reference.tones)
    assert low["amplitude_bias_percent"] == pytest.approx(-12, abs=0.01)
    nothing = member(kinds, 11, "no tone, white noise")
    found = metrics.own_metrics(nothing, nothing.rest[:, None])["found_over_rest"]
    assert found == pytest.approx(1, abs=0.01)


def test_every_rival_extracts_a_steady_tone(kinds: ModuleType) -> None:
    rate, hz, n = 250.0, 10.0, 5000
    tone = np.cos(2 * np.pi * hz * np.arange(n) / rate + 1)
    x = tone + 0.05 * np.random.default_rng(0).standard_normal(n)
    for name, (estimate, _causal) in kinds.RIVALS.items():
        error = estimate(x, rate, (hz,))[n // 2 : -n // 8, 0] - tone[n // 2 : -n // 8]
        assert 10 * np.log10(np.mean(error**2) / 0.5) < -25, name
    off = kinds.RIVALS["sine fit"][0](x, rate, (hz * 1.005,))[:, 0] - tone
    assert 10 * np.log10(np.mean(off**2) / 0.5) < -45


def test_causal_rivals_use_no_later_sample(kinds: ModuleType) -> None:
    x = np.random.default_rng(0).standard_normal(2000)
    other = np.concatenate([x[:1000], np.zeros(1000)])
    for name, (estimate, causal) in kinds.RIVALS.items():
        same = np.allclose(
            estimate(x, 250.0, (10.0,))[:1000], estimate(other, 250.0, (10.0,))[:1000]
        )
        assert same is causal, name


def test_the_gap_is_to_the_best_rival_of_its_way(kinds: ModuleType) -> None:
    row = {
        "whole": {"nmse_db": -20.0},
        "causal": {"nmse_db": -20.0},
        "rivals": {"tracker": {"nmse_db": -30.0}, "tracker, causal": {"nmse_db": -25.0}},
    }
    assert kinds.gap_db(row, "whole") == 10
    assert kinds.gap_db(row, "causal") == 5


def test_the_script_writes_what_it_measured(
    kinds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = [e for e in kinds.ENTRIES if (e.kind, e.name) == (8, "2 s")]
    monkeypatch.setattr(kinds, "chosen", lambda only, *, quick: one)
    out = tmp_path / "kinds.json"
    monkeypatch.setattr(sys, "argv", ["kinds.py", "--quick", "--out", str(out)])
    kinds.main()
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert [row["kind"] for row in kept["kinds"]] == ["trials"]
    assert len(kept["records"]) == 8
    assert all(0 <= row["whole"]["covered"] <= 1 for row in kept["records"])
    assert {row["example"] for row in kept["worked_examples"]} == {"mains", "wobble", "edf"}


def test_an_unknown_kind_is_refused(kinds: ModuleType) -> None:
    with pytest.raises(SystemExit, match="13: no such kind"):
        kinds.chosen(["4", "13"], quick=True)
    assert {entry.kind for entry in kinds.chosen(["4", "trials"], quick=True)} == {4, 8}


def test_every_record_is_described_and_small(kinds: ModuleType) -> None:
    described = (RECORDS / "README.md").read_text(encoding="utf-8")
    files = sorted(RECORDS.glob("*.npz"))
    names = {path.stem for path in files}
    assert {*names, "seismometer"} == set(kinds.kinds_records.NAMES)
    for path in files:
        assert f"`{path.name}`" in described
        assert path.stat().st_size < MAX_RECORD_BYTES
        samples, rate_hz = kinds.kinds_records.load(path.stem)
        assert len(samples) / rate_hz > 6
