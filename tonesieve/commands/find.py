"""Lines, combs and rhythms of a recording: what there is to extract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tonesieve.errors import UserError
from tonesieve.extraction.finding import (
    find_in_recording,
    listed,
    searched_hz,
    strongest_comb,
)
from tonesieve.recordings.reader import check_rate
from tonesieve.recordings.recording import Recording, from_array, read_recording
from tonesieve.signals.spectral_lines import FALSE_ALARM_RATE
from tonesieve.util.files import refuse_existing
from tonesieve.util.progress import Reporter

# In place of frequencies: the strongest comb's.
AUTO = "auto"


def find(
    recording: Any,
    rate_hz: float | None = None,
    *,
    columns: Sequence[str] = (),
    time: str | None = None,
    picture: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Find the spectral lines of a recording, their combs, and broad rhythms.

    A recording of noise alone has any line with a probability of 1% at most, and any rhythm with
    another 1%. Memory does not grow with the recording.

    Parameters
    ----------
    recording : path or ndarray of shape (T,)
        A CSV, Parquet, WAV, FLAC, EDF or NPZ file, or samples in memory; NaN is a gap.
    rate_hz : float, optional
        Samples a second; for a file by default from the file or its time column.
    columns : sequence of str, optional
        Columns or channels by name, or by number from 1, or ``all``; may be left out for a
        recording that has one.
    time : str, optional
        The time column; by default found by its name.
    picture : bool, default=False
        Whether a PNG of the spectra is drawn beside the file: NAME.find.png.
    force : bool, default=False
        Whether a picture that exists is overwritten.
    reporter : Reporter, optional
        Receives the progress.

    Returns
    -------
    dict
        ``recording``, ``samples``, ``rate_hz``, ``searched_hz``, ``false_alarm_rate``,
        ``channels``, ``warnings`` and ``picture``. Each channel has ``lines``, ``combs`` and
        ``rhythms``. See Notes.

    Raises
    ------
    UserError
        If the recording cannot be read or is too short.

    Notes
    -----
    Keys of each of ``lines``:

    - ``hz``, ``hz_stderr``: mean frequency and its standard error.
    - ``drift_hz``, ``drift_stderr``: end minus start of a linear course; None where it is not seen.
    - ``lowest_hz``, ``highest_hz``: range of the frequency over time.
    - ``amplitude``, ``amplitude_low``, ``amplitude_high``: with its 90% band, in the recording's
      unit; ``floor`` is the amplitude of a sine as strong as the noise.
    - ``resolution_hz``, ``p_value``: bin width, and probability in a recording of noise.
    - ``moves``: whether it is a line in short segments alone, or moves with its comb.
    - ``by_comb``: whether it is found at a multiple of its comb's fundamental alone; ``p_value`` is
      then that at such places.

    Keys of each of ``combs``, the strongest first: ``f0_hz``, ``f0_stderr``, ``orders``,
    ``lines_hz``, ``amplitudes``, ``power``, ``chance`` (that the lines lie so by chance) and
    ``alias`` (what else it may be). Of ``rhythms``: ``hz``, ``bandwidth_hz``, ``excess_db``,
    ``p_value``.

    Examples
    --------
    >>> import numpy as np
    >>> import tonesieve
    >>> noise = np.random.default_rng(0).standard_normal(20000)
    >>> samples = noise + np.sin(2 * np.pi * 50.02 * np.arange(20000) / 1000)
    >>> result = tonesieve.find(samples, 1000.0)
    >>> [round(line["hz"], 2) for line in result["channels"][0]["lines"]]
    [50.02]
    """
    target = None
    if isinstance(recording, str | Path):
        path = Path(recording)
        if picture:  # before any work is done in vain
            from tonesieve.extraction.find_plots import draw_findings

            target = path.with_name(path.name + ".find.png")
            refuse_existing(target, force=force)
        opened = read_recording(path, columns=columns, rate_hz=rate_hz, time=time)
    else:
        if picture or columns or time:
            raise UserError("find: columns, time and picture are for files")
        opened = _from_samples(recording, rate_hz)
    n_run = opened.n_samples * len(opened.channels)
    with (reporter or Reporter()).task("searching", n_run) as task:
        findings, warnings = find_in_recording(opened, task.update)
    result = {
        "recording": str(opened.path),
        "samples": opened.n_samples,
        "rate_hz": opened.rate_hz,
        "searched_hz": list(searched_hz(opened)),
        "false_alarm_rate": FALSE_ALARM_RATE,
        "channels": [one.metrics() for one in findings],
        "warnings": warnings,
        "picture": None if target is None else str(target),
    }
    if target is not None:
        draw_findings(findings, opened.rate_hz, opened.path.name, target)
    return result


def _from_samples(samples: Any, rate_hz: float | None) -> Recording:
    row = np.asarray(samples)
    if row.ndim != 1 or row.dtype.kind not in "biuf":
        raise UserError(
            f"samples of shape {row.shape} and type {row.dtype}: must be a single row of numbers"
        )
    if rate_hz is None:
        raise UserError("rate_hz: give the samples per second")
    check_rate(Path("samples"), rate_hz, whose="rate_hz")
    values = row.astype(float)
    return from_array(np.where(np.isfinite(values), values, np.nan), float(rate_hz))


def choose_frequencies(recording: Recording) -> tuple[float, tuple[float, ...]]:
    """Fundamental and orders of the strongest comb; `UserError` where there is no line.

    Where at least half of the orders up to the highest are found, all are returned: one that is
    missing costs nothing.
    """
    findings, _ = find_in_recording(recording)
    comb = strongest_comb(findings)
    if comb is None:
        raise UserError(f"--hz {AUTO}: {recording.path}: {listed(findings)}; name the tone in Hz")
    orders, highest = comb.orders, max(comb.orders)
    if 2 * len(orders) >= highest:
        orders = tuple(range(1, highest + 1))
    return comb.f0_hz, tuple(map(float, orders))


def what_to_name(recording: Recording) -> str:
    """What was found in a recording, for a message to whom named no frequency."""
    try:
        return listed(find_in_recording(recording)[0])
    except UserError:
        return "the recording is too short for a search"
