"""Recordings that tests write themselves: coloured noise, and a tone that wanders in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import lfilter

RATE_HZ, TONE_HZ, AMPLITUDE = 100.0, 10.03, 2.0


def hum(n_samples: int, *, amplitude: float = AMPLITUDE, seed: int = 1) -> np.ndarray:
    """White noise of RMS 1 through one pole, an offset, and a tone that drifts a little."""
    rng = np.random.default_rng(seed)
    noise = lfilter([1.0], [1.0, -0.6], rng.standard_normal(n_samples))
    t = np.arange(n_samples) / RATE_HZ
    phase = 2 * np.pi * TONE_HZ * t + 0.3 * np.sin(2 * np.pi * t / 40)
    return noise + 50.0 + amplitude * np.sin(phase)


def write_csv(path: Path, samples: np.ndarray) -> Path:
    """One column, with the time beside it."""
    t = np.arange(len(samples)) / RATE_HZ
    lines = (f"{a:.2f},{b:.6g}" for a, b in zip(t, samples, strict=True))
    path.write_text("time_s,x\n" + "\n".join(lines) + "\n")
    return path
