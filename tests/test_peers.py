"""The benchmark of others' tools: its cases are what they say, and its own trackers are right."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def folders() -> Any:
    """The scripts, imported by name."""
    added = [str(ROOT / "benchmarks"), str(ROOT / "docs")]
    sys.path[:0] = added
    yield
    for folder in added:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def peers(folders: Any) -> ModuleType:
    import peers

    return peers


@pytest.fixture(scope="module")
def trackers(folders: Any) -> ModuleType:
    import peers_trackers

    return peers_trackers


@pytest.fixture(scope="module")
def here(folders: Any) -> list[Any]:
    """Rows whose noise needs no further package."""
    from peers_cases import ROWS
    from peers_noise import NOISES

    return [row for row in ROWS if NOISES[row.noise].needs is None]


def relative_db(error: np.ndarray, of: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.abs(error) ** 2) / np.mean(np.abs(of) ** 2)))


def test_there_are_cases_of_every_kind_in_eight_noises(peers: ModuleType) -> None:
    kinds = {
        "steady", "misnamed", "drifting", "fading", "bursts", "comb", "close pair",
        "close neighbour", "faint", "short", "stepped", "gappy", "slow", "near half the rate",
        "many", "many, in phase", "many, comb", "many, apart",
    }  # fmt: skip
    assert {row.kind for row in peers.ROWS} == kinds
    assert len({row.name for row in peers.ROWS}) == len(peers.ROWS) >= 36
    assert len({row.noise for row in peers.ROWS}) >= 8
    assert {row.noise for row in peers.ROWS} == set(peers.NOISES)


def test_a_case_is_a_known_tone_and_a_known_rest(peers: ModuleType, here: list[Any]) -> None:
    for row in here:
        case = peers.draw(row)
        n_channels, n = case.tones.shape
        assert n_channels == row.channels, row.name
        assert case.phase_rad.shape == (n_channels, n, len(case.hz)), row.name
        assert all(0 < hz < case.rate_hz / 2 for hz in case.hz), row.name
        known = ~case.missing
        assert np.allclose(case.samples[known], (case.rest + case.tones)[known]), row.name
        assert np.isnan(case.samples[~known]).all(), row.name
        assert (row.kind == "gappy") == bool(case.missing.any()), row.name
        turned = np.diff(case.phase_rad, axis=1) / (2 * np.pi) * case.rate_hz
        offset = np.abs(turned / np.array(case.hz) - 1).max()
        assert offset < 0.02, row.name
        assert np.isclose(offset, 0.006, atol=1e-9) == (row.kind == "misnamed"), row.name
        assert np.allclose(peers.draw(row).tones, case.tones), row.name
        assert peers.draw(row, 1).hz != case.hz, row.name


def test_the_power_of_a_tone_is_as_stated(peers: ModuleType, here: list[Any]) -> None:
    import kinds_records
    import peers_noise

    for row in (row for row in here if row.kind == "faint"):
        case = peers.draw(row)
        samples, rate_hz = peers_noise.load(row.noise)
        level = kinds_records.density_near(samples[0], rate_hz, case.hz[0])
        assert relative_db(case.tones, np.array(level)) == pytest.approx(-20, abs=0.1)


def test_the_tones_of_a_comb_share_one_course(peers: ModuleType, here: list[Any]) -> None:
    for row in (row for row in here if row.orders > 1):
        phase = peers.draw(row).phase_rad
        moved = phase - phase[:, :1]
        assert np.allclose(moved, moved[:1, :, :1] * np.arange(1, row.orders + 1))


def test_the_metrics_reject_a_wrong_estimate(peers: ModuleType, here: list[Any]) -> None:
    import peers_worker

    case = peers.draw(here[0])
    right = peers_worker.metrics(case, case.tones)
    assert right["nmse_db"] < -200
    assert right["left_db"] == pytest.approx(0, abs=1e-6)
    assert right["damage_db"] < -200
    nothing = peers_worker.metrics(case, 0 * case.tones)
    assert nothing["nmse_db"] == pytest.approx(0)
    assert nothing["left_db"] > 3
    everything = peers_worker.metrics(case, case.samples)
    assert everything["damage_db"] == pytest.approx(0, abs=0.1)
    late = case.tones.copy()
    late[:, : late.shape[1] // 2] = 0
    assert peers_worker.metrics(case, late)["settled_db"] < -200
    assert peers_worker.metrics(case, late)["nmse_db"] == pytest.approx(-3, abs=0.2)
    assert "error" in peers_worker.metrics(case, case.tones[:, 1:])
    assert "error" in peers_worker.metrics(case, np.full_like(case.tones, np.nan))


def test_sogi_fll_finds_a_misnamed_tone_and_is_causal(trackers: ModuleType) -> None:
    n = np.arange(6000)
    tone = np.cos(0.3 * n + 1)
    estimate = trackers.sogi_fll(np.append(0.0, tone), 0.3 * 1.02, 0.2, 0.05)[1:]
    assert relative_db((estimate - tone)[3000:], tone) < -60
    fixed = trackers.sogi_fll(np.append(0.0, tone), 0.3 * 1.02, 0.2, 0.0)[1:]
    assert relative_db((fixed - tone)[3000:], tone) > -30
    half = trackers.sogi_fll(np.append(0.0, tone[:2000]), 0.3 * 1.02, 0.2, 0.05)[1:]
    assert np.array_equal(half, estimate[:2000])


def test_vold_kalman_recovers_a_modulated_chirp(trackers: ModuleType) -> None:
    n = np.arange(8000)
    phase = 2 * np.pi * np.cumsum(0.05 + 0.1 * n / 8000)
    envelope = (1 + 0.5 * np.cos(2 * np.pi * n / 4000)) * np.exp(0.3j)
    tone = (envelope * np.exp(1j * phase)).real
    found = trackers.vold_kalman(tone, phase[:, None], 0.01)[:, 0]
    inside = slice(400, -400)  # at the ends the image at the negative frequency leaks in
    assert relative_db((found - envelope)[inside], envelope) < -55
    sum_of_two = tone + np.cos(2 * phase)
    both = trackers.vold_kalman(sum_of_two, phase[:, None] * [1, 2], 0.01)
    assert relative_db((both[:, 0] - envelope)[inside], envelope) < -50
    assert relative_db((both[:, 1] - 1)[inside], np.array(1.0)) < -50


def test_vold_kalman_is_the_least_squares_solution(trackers: ModuleType) -> None:
    rng = np.random.default_rng(0)
    n, phase = 40, np.cumsum(rng.uniform(0.3, 0.9, (40, 2)), axis=0)
    x = rng.standard_normal(n)
    weight = np.sqrt(trackers.smoothing_weight(0.05))
    difference = weight * np.diff(np.eye(n), 2, axis=0)
    carriers = [np.diag(np.exp(1j * one)) for one in phase.T]
    blank = np.zeros_like(difference)
    design = np.block([carriers, [difference, blank], [blank, difference]])
    wanted = np.concatenate([2 * x, np.zeros(2 * len(difference))])
    solved = np.linalg.lstsq(design, wanted, rcond=None)[0].reshape(2, n).T
    assert np.allclose(trackers.vold_kalman(x, phase, 0.05), solved, atol=1e-7)


def test_the_width_is_between_the_points_of_half_power(trackers: ModuleType) -> None:
    n, width = np.arange(20_001), 0.004
    phase = 0.5 * np.ones_like(n).cumsum()
    for offset, gain in ((0.0, 1.0), (width / 2, np.sqrt(0.5))):
        tone = np.cos(phase + 2 * np.pi * offset * n)
        found = np.abs(trackers.vold_kalman(tone, phase[:, None], width)[10_000, 0])
        assert found == pytest.approx(gain, abs=2e-3)


@pytest.mark.parametrize("orders", [(1,), (1, 2, 3)])
def test_the_course_is_found(trackers: ModuleType, orders: tuple[int, ...]) -> None:
    n = np.arange(8000)
    course = 0.06 * (1 + 0.01 * np.sin(2 * np.pi * n / 6000))
    phase = 2 * np.pi * np.cumsum(course)
    tones = sum(np.cos(order * phase + order) for order in orders)
    x = tones + 0.5 * np.random.default_rng(0).standard_normal(8000)
    found = trackers.course_phase(x[None], 0.06, orders, 40)
    estimate, _ = trackers.tones_along(x[None], found[:, None] * orders, 0.0006)
    assert relative_db(estimate[0] - tones, tones) < -20


def test_tonesieve_is_called_with_what_it_offers(
    peers: ModuleType, here: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import peers_packages
    import peers_tools

    called: list[Any] = []

    def pull(samples: Any, rate_hz: float, hz: Any, *, causal: bool, harmonics: int = 1) -> Any:
        called.append((np.shape(hz), harmonics))
        return type("Extracted", (), {"tones": np.zeros((len(samples), harmonics))})

    monkeypatch.setattr("tonesieve.pull", pull)
    comb = next(row for row in here if row.orders > 1)
    task = peers_packages.task_of(peers.draw(comb), gaps=True)
    assert peers_tools.pull(task, causal=True).shape == task.x.shape
    assert called == [((), comb.orders)]


def test_gaps_are_interpolated_for_others_alone(peers: ModuleType, here: list[Any]) -> None:
    import peers_packages

    case = peers.draw(next(row for row in here if row.kind == "gappy"))
    assert np.isnan(peers_packages.task_of(case, gaps=True).x).any()
    assert np.isfinite(peers_packages.task_of(case, gaps=False).x).all()


def test_cases_and_tools_are_chosen_by_name(peers: ModuleType) -> None:
    names = {
        peers.ROWS[number].name for number in peers.chosen_cases(["comb", "slow"], quick=False)
    }
    assert names
    assert all(name.startswith(("comb", "slow")) for name in names)
    quick = [peers.ROWS[number].kind for number in peers.chosen_cases([], quick=True)]
    assert len(quick) == len(set(quick))
    assert {tool.package for tool in peers.chosen_tools(["mne"])} == {"mne", "tonesieve"}
    with pytest.raises(SystemExit, match="nonsense: no such case"):
        peers.chosen_cases(["nonsense"], quick=False)
    with pytest.raises(SystemExit, match="nonsense: no such tool"):
        peers.chosen_tools(["nonsense"])


def test_every_case_where_another_is_ahead_has_its_reason(peers: ModuleType) -> None:
    kept = json.loads(peers.KEPT.read_text(encoding="utf-8"))
    page = peers.page(kept)
    assert peers.PAGE.read_text(encoding="utf-8") == page
    for group in peers.parts.lost(kept):
        (entry,) = re.findall(
            rf"^- \*\*{group['kind']}, {group['title']}\.\*\*(.*)$", page, re.MULTILINE
        )
        assert entry.strip(), group


def test_the_page_counts_what_was_measured(peers: ModuleType) -> None:
    def row(tool: str, default: float, best: float) -> dict[str, Any]:
        figures = [{"nmse_db": nmse, "cpu_s": 1.0, "peak_mb": 1.0} for nmse in (default, best)]
        return {"case": "a", "tool": tool, "default": figures[0], "best": figures[1]}

    rows = [
        row("tonesieve", -20, -20),
        row("tonesieve, causal", -10, -10),
        row("MNE fir", -15, -18),
        row("RLS", -12, -17),
        row("Vold-Kalman", -16, -24),
        row("Vold-Kalman, true course", -30, -30),
    ]
    parts = peers.parts
    assert parts.over_db(rows, "whole", "best", packages_alone=True) == 2
    assert parts.over_db(rows, "whole", "best") == -4
    assert parts.over_db(rows, "whole", "default") == 4
    assert parts.over_db(rows, "causal", "best") == -7
    assert parts.over_told(rows) == 10
