"""Real recordings, in whose noise benchmarks/peers.py puts known tones.

All are files that come inside packages: excerpts and examples that this repository keeps, and files
of the packages of the extra ``bench``. Axes: C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import kinds_records
import numpy as np

POLAR = kinds_records.ROOT / "examples" / "polar_motion" / "polar_motion_daily.csv"


@dataclass(frozen=True)
class Noise:
    """A recording and where it is from.

    Attributes
    ----------
    name : str
        How cases and page call it.
    about : str
        What was recorded.
    source : str
        The package that carries it.
    file : str
        The file in that package.
    unit : str
        Of the samples before they are scaled to a standard deviation of 1.
    licence : str
        As the package states it.
    read : callable
        Returns samples (C, T) and the rate in Hz.
    needs : str or None
        The package that must be installed to read it.
    """

    name: str
    about: str
    source: str
    file: str
    unit: str
    licence: str
    read: Callable[[], tuple[np.ndarray, float]]
    needs: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether it can be read in this installation."""
        return self.needs is None or find_spec(self.needs) is not None


def _kept(name: str) -> Callable[[], tuple[np.ndarray, float]]:
    def read() -> tuple[np.ndarray, float]:
        samples, rate_hz = kinds_records.load(name)
        return samples[None], rate_hz

    return read


def _polar_motion() -> tuple[np.ndarray, float]:
    """In days: a rate of 1."""
    return np.loadtxt(POLAR, delimiter=",", skiprows=1, usecols=1)[None], 1.0


def _obspy(file: str, part: slice = slice(None)) -> Callable[[], tuple[np.ndarray, float]]:
    def read() -> tuple[np.ndarray, float]:
        import obspy

        traces = obspy.read(Path(obspy.__file__).parent / file)
        rate_hz = float(f"{traces[0].stats.sampling_rate:.6g}")
        return np.stack([trace.data[part].astype(float) for trace in traces]), rate_hz

    return read


def _co2() -> tuple[np.ndarray, float]:
    """In weeks: a rate of 1. Weeks without a value are interpolated."""
    from statsmodels.datasets import co2

    return co2.load_pandas().data["co2"].interpolate().to_numpy(float)[None], 1.0


PLUX = "biosignalsnotebooks 0.6.14"
NOISES = {
    one.name: one
    for one in (
        Noise("ecg", "electrocardiogram, MIT-BIH record 208", "SciPy 1.9.3",
              "scipy/misc/ecg.dat", "mV", "ODC-By 1.0; BSD", _kept("ecg_mitbih")),
        Noise("ecg at rest", "electrocardiogram, lead II", PLUX,
              "ecg_20_sec_1000_Hz.h5", "counts", "MIT", _kept("ecg_plux")),
        Noise("eeg", "electroencephalogram at O1, S001R02", PLUX,
              "S001R02.edf", "µV", "ODC-By 1.0", _kept("eeg_physionet")),
        Noise("eeg, 1 kHz", "electroencephalogram, eyes closed or open", PLUX,
              "eeg_sample_closed_open_eyes.h5", "counts", "MIT", _kept("eeg_plux")),
        Noise("emg", "electromyogram, contractions of the biceps", PLUX,
              "emg_bursts.h5", "counts", "MIT", _kept("emg_plux")),
        Noise("pulse wave", "photoplethysmogram of a finger", "heartpy 1.2.7",
              "data.csv", "counts", "MIT", _kept("ppg_heartpy")),
        Noise("music", '"Vibe Ace" by Kevin MacLeod', "librosa 0.7.2",
              "example file", "full scale", "CC BY 3.0", _kept("music_vibe_ace")),
        Noise("seismometer", "ground motion with hum, BW.BGLD", "ObsPy 1.5.1",
              "signal/tests/data/timingquality.mseed", "counts", "LGPL 3", _kept("seismometer")),
        Noise("polar motion", "position of the Earth's pole, daily", "astropy-iers-data",
              "IERS EOP 20 C04", "arc seconds", "BSD", _polar_motion),
        Noise("geophones", "six geophones of a node array", "ObsPy",
              "io/rg16/tests/data/three_chans_six_traces.fcnt", "counts", "LGPL 3",
              _obspy("io/rg16/tests/data/three_chans_six_traces.fcnt"), "obspy"),
        Noise("strong motion", "six channels of an accelerograph", "ObsPy",
              "io/kinemetrics/tests/data/BX456_MOLA-02351.evt", "counts", "LGPL 3",
              _obspy("io/kinemetrics/tests/data/BX456_MOLA-02351.evt"), "obspy"),
        Noise("broadband", "broadband seismometer at 1 Hz, CH.BALST", "ObsPy",
              "io/mseed/tests/data/CH.BALST..LHE.D.2025.314", "counts", "LGPL 3",
              _obspy("io/mseed/tests/data/CH.BALST..LHE.D.2025.314"), "obspy"),
        Noise("very long period", "Earth after an earthquake at 0.1 Hz, ALE", "ObsPy",
              "io/ah/tests/data/st.ah", "counts", "LGPL 3",
              # Behind the surface waves, a thousand times as strong as the rest.
              _obspy("io/ah/tests/data/st.ah", slice(9000, None)), "obspy"),
        Noise("co2", "carbon dioxide at Mauna Loa, weekly", "statsmodels",
              "datasets/co2/co2.csv", "ppm", "public domain", _co2, "statsmodels"),
    )
}  # fmt: skip


@cache
def load(name: str) -> tuple[np.ndarray, float]:
    """Samples (C, T) of a recording, each channel of standard deviation 1, and the rate in Hz."""
    x, rate_hz = NOISES[name].read()
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True), rate_hz
