"""What docs/kinds.py measures of an estimate (T, K) of a member's tones.

Ratios are in dB. None stands where a metric has no meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kinds_members import Member
from scipy.signal import butter, hilbert, sosfiltfilt

# The neighbourhood of a tone, over its frequency, and what of it counts as the tone itself.
NEIGHBOURHOOD, OWN_BAND = (0.8, 1.25), 0.025
# Guard: a record that does not resolve the tone's own band has no neighbourhood.
MIN_PERIODS = 4 / (2 * OWN_BAND)


def db(ratio: float) -> float:
    """Of a ratio of powers."""
    return float(10 * np.log10(max(ratio, 1e-30)))


def nmse_db(member: Member, tones: np.ndarray, scored: np.ndarray | None = None) -> float | None:
    """Squared error over the power of the tones, both summed over these; none without a tone."""
    scored = member.mask if scored is None else member.mask & scored
    power = np.sum(member.tones[scored] ** 2)
    if power == 0:
        return None
    error = tones[scored] - member.tones[scored]
    return db(float(np.sum(error**2) / power)) if np.isfinite(error).all() else np.inf


def settled_db(member: Member, tones: np.ndarray) -> float | None:
    """`nmse_db` of the second half."""
    n = len(tones)
    return nmse_db(member, tones, np.arange(n) >= n // 2)


def covered(member: Member, tones: np.ndarray, band: np.ndarray | None) -> float | None:
    """Fraction of the samples whose error is inside the band."""
    if band is None:
        return None
    return float(np.mean((np.abs(tones - member.tones) <= band)[member.mask]))


def damage_db(member: Member, tones: np.ndarray) -> float | None:
    """Error beside the tones over the rest's power there: what is taken from the neighbourhood."""
    n = len(tones)
    if n / member.rate_hz * min(member.hz) < MIN_PERIODS:
        return None
    hz = np.fft.rfftfreq(n, 1 / member.rate_hz)
    near, own = np.zeros(len(hz), bool), np.zeros(len(hz), bool)
    for one in member.hz:
        near |= (hz > NEIGHBOURHOOD[0] * one) & (hz < NEIGHBOURHOOD[1] * one)
        own |= np.abs(hz - one) <= OWN_BAND * one
    window, beside = np.hanning(n), near & ~own
    error = np.fft.rfft(window * (tones - member.tones).sum(axis=1))
    rest = np.fft.rfft(window * (member.rest - member.rest.mean()))
    return db(float(np.sum(np.abs(error[beside]) ** 2) / np.sum(np.abs(rest[beside]) ** 2)))


def own_metrics(member: Member, tones: np.ndarray) -> dict[str, Any]:
    """What the kind asks for beyond the error of the tone."""
    found: dict[str, Any] = {}
    if "r_peaks" in member.own:
        found |= r_peak_loss(member, tones)
    if "burst" in member.own:
        found["burst_error_db"] = burst_error_db(member, tones)
    if "amplitude_over" in member.own:
        found["amplitude_bias_percent"] = amplitude_bias(member, tones)
    if not member.tones.any():
        scale = np.std(member.rest[member.mask])
        found["found_over_rest"] = float(np.sqrt(np.mean(tones[member.mask] ** 2)) / scale)
    return found


def r_peak_loss(member: Member, tones: np.ndarray) -> dict[str, float]:
    """Change of the R peaks' heights in the samples less the tones, in percent of the height."""
    cleaned = member.samples - tones.sum(axis=1)
    change = []
    for at in member.own["r_peaks"]:
        around = slice(max(at - int(0.25 * member.rate_hz), 0), at + int(0.25 * member.rate_hz))
        height = member.rest[at] - np.median(member.rest[around])
        change.append(100 * (cleaned[at] - member.rest[at]) / height)
    return {
        "r_median_percent": float(np.median(change)),
        "r_worst_percent": float(change[int(np.argmax(np.abs(change)))]),
    }


def burst_error_db(member: Member, tones: np.ndarray) -> float:
    """Error in the bursts' band while they last over their power: what is taken from them."""
    band_pass = butter(4, member.own["burst_band_hz"], "bandpass", fs=member.rate_hz, output="sos")
    error = sosfiltfilt(band_pass, (tones - member.tones).sum(axis=1))
    burst = member.own["burst"]
    on = np.abs(hilbert(burst)) > 0.1 * np.abs(burst).max()
    return db(float(np.mean(error[on] ** 2) / np.mean(burst[on] ** 2)))


def amplitude_bias(member: Member, tones: np.ndarray) -> float:
    """Amplitude along the true course over the tone's own, less one, in percent."""
    assert member.phase_rad is not None
    on = member.own["amplitude_over"]
    rotor = np.exp(-1j * member.phase_rad[on, 0])
    found = np.real(np.mean(tones[on, 0] * rotor) / np.mean(member.tones[on, 0] * rotor))
    return float(100 * (found - 1))
