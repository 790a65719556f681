"""Pulse trains and single events: where, how high and how wide they are."""

from __future__ import annotations

from itertools import count, islice

import numpy as np
import pytest
from scipy.signal import find_peaks

from tonesieve.signals import transients
from tonesieve.signals.transients import (
    FORMS,
    About,
    draw_pulses,
    draw_transients,
    scatter_gaussians,
)

N = 20000


def test_gaussians_are_what_a_loop_adds() -> None:
    rng = np.random.default_rng(1)
    centres, widths = rng.uniform(-20.0, 320.0, 40), rng.uniform(0.7, 12.0, 40)
    heights = rng.standard_normal(40)
    expected = np.zeros(300)
    for n in range(300):
        for centre, width, height in zip(centres, widths, heights, strict=True):
            expected[n] += height * np.exp(-((n - centre) ** 2) / (2 * width**2))
    np.testing.assert_allclose(
        scatter_gaussians(300, centres, widths, heights), expected, atol=2e-5
    )


def pulse_trains(freq_cycles: float, n_draws: int) -> list[tuple[np.ndarray, About]]:
    """Trains without ectopic pulses and slow waves, about a tone of amplitude 2."""
    drawn = (
        draw_pulses(N, freq_cycles, 2.0, rng=np.random.default_rng((2, seed))) for seed in count()
    )
    lone = (
        (pulses, about)
        for pulses, about in drawn
        if "ectopic_share" not in about and about["slow_waves"] == 0
    )
    return list(islice(lone, n_draws))


@pytest.mark.parametrize("freq_cycles", [0.002, 0.03, 0.4])
def test_pulses_come_as_often_as_drawn(freq_cycles: float) -> None:
    irregular = []
    for pulses, about in pulse_trains(freq_cycles, 25):
        distance, height = float(about["pulse_distance"]), float(about["pulse_height"])
        assert 2.0 <= abs(height) <= 100.0
        assert 2.9 <= distance * freq_cycles <= 300
        # The largest excursion of every pulse, whatever its sign.
        peaks, _ = find_peaks(np.abs(pulses), height=0.3 * abs(height), distance=0.5 * distance)
        assert len(peaks) == pytest.approx(float(about["n_pulses"]), abs=2)
        if len(peaks) > 20:
            intervals = np.diff(peaks)
            assert intervals.mean() == pytest.approx(distance, rel=0.06)
            if distance > 100 and float(about["rate_memory"]) < 0.5:
                irregular.append(
                    np.log(intervals / distance).std() / float(about["rate_variation"])
                )
            # The top of a narrow pulse falls between two samples.
            low = 0.85 if float(about["pulse_width"]) > 4 else 0.6
            assert low < np.abs(pulses[peaks]).mean() / abs(height) < 1.15
    if freq_cycles == 0.03:
        assert len(irregular) >= 2
        assert np.mean(irregular) == pytest.approx(1.0, abs=0.2)


def test_the_main_wave_is_as_wide_as_drawn() -> None:
    """A lone Gaussian is above half its height for its full width at half maximum."""
    widths = []
    for pulses, about in pulse_trains(0.01, 40):
        width = float(about["pulse_width"])
        assert 1.5 - 1e-9 <= width <= max(3.0 / 0.01, 1.5)
        assert width <= float(about["pulse_distance"]) / 8 + 1e-9
        if about["pulse_shape"] == "triphasic":
            above = pulses / float(about["pulse_height"]) > 0.5
            widths.append(above.sum() / float(about["n_pulses"]) / width)
    assert len(widths) > 8
    # Negative waves beside it take off some of it; heights vary by up to 15%.
    assert 0.75 < np.median(widths) < 1.1


def test_pulse_shapes_have_height_1() -> None:
    grid = np.linspace(-10.0, 10.0, 4001)
    for shape in transients.PULSE_SHAPES:
        for seed in range(20):
            parts = transients._pulse_shape(shape, np.random.default_rng(seed))
            total = sum(w * np.exp(-0.5 * ((grid - at) / s) ** 2) for at, s, w in parts)
            assert np.abs(total).max() == pytest.approx(1.0, abs=0.01)


def test_some_trains_have_ectopic_pulses_and_slow_waves() -> None:
    drawn = [draw_pulses(2000, 0.05, 1.0, rng=np.random.default_rng((3, n)))[1] for n in range(200)]
    assert 0.15 < np.mean(["ectopic_share" in about for about in drawn]) < 0.35
    assert {about["slow_waves"] for about in drawn} == {0.0, 1.0, 2.0}
    assert {about["pulse_shape"] for about in drawn} == set(transients.PULSE_SHAPES)


def events(freq_cycles: float, n_draws: int) -> list[tuple[np.ndarray, About]]:
    """Transients about a tone of amplitude 2."""
    return [
        draw_transients(4000, freq_cycles, 2.0, rng=np.random.default_rng((4, seed)))
        for seed in range(n_draws)
    ]


def listed(about: About) -> list[tuple[str, int, float]]:
    """Form, first sample and height of every event."""
    keys = [f"transient_{n}" for n in range(int(about["n_transients"]))]
    return [(str(about[k]), int(about[f"{k}_start"]), float(about[f"{k}_height"])) for k in keys]


def test_nothing_happens_before_the_first_event() -> None:
    for total, about in events(0.02, 60):
        first = min(start for _, start, _ in listed(about))
        assert not total[:first].any()
        assert total[first : first + 3].any()


def test_every_form_is_drawn_within_its_heights() -> None:
    drawn = [event for _, about in events(0.02, 200) for event in listed(about)]
    assert {form for form, _, _ in drawn} == set(FORMS)
    heights = np.abs([height for _, _, height in drawn]) / 2.0
    assert 0.2 <= heights.min() < 0.5
    assert 25 < heights.max() <= 50


def test_levels_are_steps_where_they_start() -> None:
    checked = 0
    for total, about in events(0.02, 200):
        found = listed(about)
        if {form for form, _, _ in found} != {"level"}:
            continue
        expected = np.zeros(4000)
        for n in range(4000):
            expected[n] = sum(height for _, start, height in found if start <= n)
        np.testing.assert_allclose(total, expected, atol=1e-9)
        checked += 1
    assert checked > 3


@pytest.mark.parametrize("freq_cycles", [0.004, 0.1, 0.35, 0.48])
def test_bursts_are_beside_the_tone(freq_cycles: float) -> None:
    sides = set()
    for seed in range(80):
        rng = np.random.default_rng((5, seed))
        burst, about = FORMS["burst"](N, freq_cycles, rng)
        spectrum = np.abs(np.fft.rfft(burst, 8 * N))
        ratio = np.argmax(spectrum) / (8 * N) / freq_cycles
        assert np.abs(burst).max() <= 1.0
        if len(burst) * float(about["freq"]) > 20 and float(about["freq"]) < 0.15:
            assert np.abs(burst).max() > 0.6
            assert ratio == pytest.approx(float(about["freq"]) / freq_cycles, rel=0.1)
        ratio = float(about["freq"]) / freq_cycles
        assert 0.2 <= ratio <= 0.9 or 1.1 <= ratio <= 3.0
        assert float(about["freq"]) <= 0.495
        sides.add(ratio > 1)
    assert sides == ({False} if freq_cycles > 0.45 else {False, True})


def test_chirps_run_from_their_first_to_their_last_frequency() -> None:
    crossed = 0
    for seed in range(80):
        chirp, about = FORMS["chirp"](N, 0.02, np.random.default_rng((6, seed)))
        first, last = (float(about[f"{which}_freq"]) for which in ("first", "last"))
        length = float(about["length"])
        crosses = (first - 0.02) * (last - 0.02) < 0
        crossed += crosses
        assert length * 0.02 <= (20.0 if crosses else 60.0)
        if length * min(first, last) < 4 or len(chirp) > N - 2:
            continue
        # Between crossings of zero about the middle, the frequency is the mean of both ends.
        zeros = np.flatnonzero(np.diff(np.signbit(chirp)))
        middle = zeros[np.abs(zeros - length / 2) < length / 4]
        if len(middle) > 4:
            found = (len(middle) - 1) / 2 / (middle[-1] - middle[0])
            assert found == pytest.approx((first + last) / 2, rel=0.25)
    assert 25 < crossed < 55


def test_clicks_pops_and_movements_have_their_height() -> None:
    rms = []
    for seed in range(100):
        rng = np.random.default_rng((7, seed))
        click, _ = FORMS["click"](N, 0.02, rng)
        assert click[0] == np.abs(click).max() == 1.0
        pop, about = FORMS["pop"](N, 0.001, rng)
        assert pop[0] == 0
        assert pop.max() == pytest.approx(1.0, abs=2e-2)
        late = round(3 * float(about["decay"]))
        if late + 100 < len(pop):
            ratio = pop[late + 100] / pop[late]
            assert ratio == pytest.approx(np.exp(-100 / float(about["decay"])), rel=0.01)
        movement, about = FORMS["movement"](N, 0.02, rng)
        if float(about["length"]) * float(about["width"]) > 3:
            rms.append(np.sqrt(np.mean(movement**2) / (3 / 8)))  # the mean of sin^4 is 3/8
    assert np.mean(rms) == pytest.approx(1.0, abs=0.2)
