"""Records without a steady line, in which ``tonesieve.find`` should find none.

Every maker takes a length and a generator. Frequencies are in cycles a sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from tonesieve.signals.interference import draw_mixture

Maker = Callable[[int, np.random.Generator], np.ndarray]


def power_law(n: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of density 1 / f^exponent, of variance 1, cut from a circle twice as long."""
    f = np.fft.rfftfreq(2 * n)
    f[0] = f[1]
    z = rng.standard_normal((2, len(f)))
    x = np.fft.irfft((z[0] + 1j * z[1]) * f ** (-exponent / 2), 2 * n)[:n]
    return np.asarray(x / x.std())


def resonance(n: int, freq_cycles: float, quality: float, rng: np.random.Generator) -> np.ndarray:
    """An autoregression of order 2, of variance 1."""
    r = np.exp(-np.pi * freq_cycles / quality)
    lead = int(20 * quality / freq_cycles)
    a = [1.0, -2 * r * np.cos(2 * np.pi * freq_cycles), r * r]
    x = scipy.signal.lfilter([1.0], a, rng.standard_normal(n + lead))[lead:]
    return np.asarray(x / x.std())


def filtered(n: int, sos: np.ndarray, rest: float, rng: np.random.Generator) -> np.ndarray:
    """White noise through a filter, and the rest that a converter adds."""
    x = scipy.signal.sosfilt(sos, rng.standard_normal(n + 5000))[5000:]
    return np.asarray(x / x.std() + rest * rng.standard_normal(n))


def mixture(kind: str) -> Maker:
    """Speech- or music-like signals."""

    def make(n: int, rng: np.random.Generator) -> np.ndarray:
        while True:
            x, about = draw_mixture(n, 0.1, 1.0, (), rng=rng)
            if about["mixture"] == kind:
                return np.asarray(x + 0.01 * x.std() * rng.standard_normal(n))

    return make


def autoregression(n: int, rng: np.random.Generator) -> np.ndarray:
    """An autoregression of order 2 with random poles, of a Q below 30."""
    freq, quality = rng.uniform(0.02, 0.45), np.exp(rng.uniform(np.log(0.5), np.log(30)))
    return resonance(n, freq, quality, rng)


def smooth_colour(n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose density is a smooth random curve of 60 dB over logarithmic frequency."""
    f = np.fft.rfftfreq(2 * n)
    knots = np.linspace(np.log(1 / n), np.log(0.5), 9)
    levels = rng.standard_normal(len(knots))
    levels *= 60 / np.ptp(levels)
    curve = scipy.interpolate.CubicSpline(knots, levels)(np.log(np.maximum(f, 1 / n)))
    z = rng.standard_normal((2, len(f)))
    return np.asarray(np.fft.irfft((z[0] + 1j * z[1]) * 10 ** (curve / 20), 2 * n)[:n])


def steep_band(n: int, rng: np.random.Generator) -> np.ndarray:
    """A band of random place and width with edges of an elliptic filter."""
    low = rng.uniform(0.02, 0.3)
    high = low * rng.uniform(1.2, 3.0)
    order, ripple = int(rng.integers(4, 9)), rng.uniform(0.1, 1.0)
    sos = scipy.signal.ellip(order, ripple, 80, [2 * low, 2 * min(high, 0.48)], "band",
                             output="sos")  # fmt: skip
    return filtered(n, sos, 10 ** rng.uniform(-5, -2), rng)


def _swell(n: int, rng: np.random.Generator) -> np.ndarray:
    """A loudness that goes up and down at a random rate."""
    depth, cycles = rng.uniform(0.3, 1.0), np.exp(rng.uniform(np.log(2), np.log(2000)))
    return np.asarray(1 + depth * np.sin(2 * np.pi * (cycles * np.arange(n) / n + rng.random())))


def modulated(n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of a random colour whose loudness goes up and down: its mean becomes a sine."""
    return _swell(n, rng) * power_law(n, rng.uniform(0, 2), rng)


def modulated_white(n: int, rng: np.random.Generator) -> np.ndarray:
    """White noise whose loudness goes up and down, through one pole."""
    x = _swell(n, rng) * rng.standard_normal(n)
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -rng.uniform(-0.9, 0.9)], x))


def fractional(n: int, rng: np.random.Generator) -> np.ndarray:
    """ARFIMA(1, d, 0): fractionally integrated noise through one pole."""
    d, pole = rng.uniform(-0.45, 0.45), rng.uniform(-0.9, 0.9)
    k = np.arange(1, 2 * n)
    weights = np.concatenate([[1.0], np.cumprod((k - 1 + d) / k)])
    x = scipy.signal.fftconvolve(rng.standard_normal(2 * n), weights)[n : 2 * n]
    return np.asarray(scipy.signal.lfilter([1.0], [1.0, -pole], x))


def broad_rhythms(n: int, rng: np.random.Generator) -> np.ndarray:
    """Two to five resonances of a Q of 3 to 15 over noise of 1/f."""
    x = power_law(n, 1, rng)
    for _ in range(int(rng.integers(2, 6))):
        freq, quality = np.exp(rng.uniform(np.log(0.01), np.log(0.3))), rng.uniform(3, 15)
        x += rng.uniform(0.2, 2.0) * resonance(n, freq, quality, rng)
    return np.asarray(x)


def telegraph(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random telegraph signal: between two levels at random times, and some noise."""
    flips = rng.random(n) < np.exp(rng.uniform(np.log(1e-3), np.log(0.3)))
    return np.asarray((-1.0) ** np.cumsum(flips) + 0.1 * rng.standard_normal(n))


def coarse(n: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise in steps of a converter, of 0.3 to 3 standard deviations."""
    step = np.exp(rng.uniform(np.log(0.3), np.log(3)))
    return np.asarray(step * np.round(power_law(n, rng.uniform(0, 2), rng) / step))


def uneven(n: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise whose standard deviation changes by up to a hundred times."""
    knots = np.linspace(0, 1, int(rng.integers(4, 30)))
    log_level = np.interp(np.linspace(0, 1, n), knots, rng.uniform(-2.3, 2.3, len(knots)))
    return np.asarray(np.exp(log_level) * power_law(n, rng.uniform(0, 2), rng))


LOW_PASS = scipy.signal.butter(12, 0.3, output="sos")
BAND_PASS = scipy.signal.butter(8, [0.2, 0.25], "band", output="sos")
ELLIPTIC = scipy.signal.ellip(12, 0.1, 100, 0.3, output="sos")


def _white(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(n)


def _loudness(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(np.exp(4.5 * np.cumsum(rng.standard_normal(n)) / np.sqrt(n)))


# Noise that is Gaussian and stationary.
STATIONARY: dict[str, Maker] = {
    "white": _white,
    "pink, 1/f": lambda n, r: power_law(n, 1, r),
    "brown, a random walk": lambda n, r: np.cumsum(r.standard_normal(n)),
    "1/f^4": lambda n, r: power_law(n, 4, r),
    "blue, f^2": lambda n, r: power_law(n, -2, r),
    "resonance, Q 10": lambda n, r: resonance(n, 0.05, 10, r),
    "resonance, Q 50": lambda n, r: resonance(n, 0.05, 50, r),
    "resonance, Q 20, in white": lambda n, r: resonance(n, 0.05, 20, r) + 0.3 * _white(n, r),
    "low-passed": lambda n, r: filtered(n, LOW_PASS, 1e-4, r),
    "band-passed": lambda n, r: filtered(n, BAND_PASS, 1e-4, r),
    "elliptic low-pass": lambda n, r: filtered(n, ELLIPTIC, 1e-6, r),
}
# Noise that is not.
IRREGULAR: dict[str, Maker] = {
    "Student's t of 2 degrees": lambda n, r: r.standard_t(2, n),
    "Cauchy": lambda n, r: r.standard_t(1, n),
    "impulses": lambda n, r: _white(n, r) + (r.random(n) < 0.003) * 50 * _white(n, r),
    "one spike": lambda n, r: _white(n, r) + 1e4 * (np.arange(n) == r.integers(n)),
    "one burst": lambda n, r: _white(n, r) * np.where(abs(np.arange(n) - n / 3) < n / 40, 30, 1),
    "loudness a random walk": lambda n, r: _white(n, r) * _loudness(n, r),
    "steps of the level": lambda n, r: (
        _white(n, r) + np.repeat(10 * _white(10, r), n // 10 + 1)[:n]
    ),
    "quantised": lambda n, r: np.round(2 * power_law(n, 1, r)),
    "quantised below a step": lambda n, r: np.round(0.4 * _white(n, r)),
    "clipped": lambda n, r: np.clip(power_law(n, 1, r), -1, 1),
    "offset and parabola": lambda n, r: 1e6 + 50 * np.arange(n) ** 2 / n + _white(n, r),
    "ramp": lambda n, r: np.arange(n) + _white(n, r),
    "gaps": lambda n, r: np.where(np.arange(n) % (n // 7) < n // 20, np.nan, power_law(n, 2, r)),
}
# What is no noise, and has no steady line.
SOUNDS: dict[str, Maker] = {"speech-like": mixture("speech"), "music-like": mixture("music")}

# Noise that no threshold was set on: seeds and parameters are drawn for each record.
FRESH: dict[str, Maker] = {
    "autoregression, random poles": autoregression,
    "smooth random colour, 60 dB": smooth_colour,
    "random band, steep edges": steep_band,
    "loudness up and down": modulated_white,
    "1/f^3": lambda n, r: power_law(n, 3, r),
    "ARFIMA(1, d, 0)": fractional,
    "several broad rhythms": broad_rhythms,
    "random telegraph": telegraph,
    "coarse steps": coarse,
    "uneven variance": uneven,
}
# Red noise has a mean in any record. Where its loudness goes up and down, that mean is a true sine.
RED_MODULATED = "red noise, loudness up and down"
