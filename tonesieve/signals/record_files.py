"""Records as files of their own: mixture, targets and settings, without pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from tonesieve.config.config import DataSettings, to_yaml
from tonesieve.config.parsing import parse_yaml
from tonesieve.errors import UserError
from tonesieve.signals.synthesis import Records
from tonesieve.util.files import replacing

FORMATS = (".npz", ".csv")


def save(records: Records, path: Path, *, force: bool = False) -> None:
    """Write one record to ``.npz`` (lossless, with settings) or ``.csv`` (a column each).

    Parameters
    ----------
    records : Records
        Of ``.csv`` the first record alone is written.
    path : Path
        Its ending selects the format.
    force : bool
        Whether to replace a file (default False).

    Raises
    ------
    UserError
        For another ending, or where the file exists and ``force`` is off.
    """
    writers = {".npz": _write_npz, ".csv": _write_csv}
    ending = path.suffix.lower()
    if ending not in writers:
        raise UserError(f"{path}: ending {path.suffix!r}; choose {' or '.join(FORMATS)}")
    with replacing(path, force=force) as file:
        writers[ending](records, file)


def load(path: Path) -> Records:
    """Read what `save` wrote as ``.npz``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Records
        Mixture, targets and settings.

    Raises
    ------
    UserError
        For a file that is missing or that `save` did not write.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            data = DataSettings.model_validate(parse_yaml(str(stored["settings"]), where=str(path)))
            return Records(stored["mixture"], stored["targets"], data)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a whole dataset written by tonesieve ({error})") from None


def _write_npz(records: Records, file: BinaryIO) -> None:
    settings = np.array(to_yaml(records.data))
    np.savez(
        file,
        time_s=records.time_s,
        mixture=records.mixture,
        targets=records.targets,
        settings=settings,
    )


def _write_csv(records: Records, file: BinaryIO) -> None:
    columns = {"time_s": records.time_s, "mixture": records.mixture[0]}
    for k, f in enumerate(records.data.frequencies_hz):
        columns[f"target_{f:.12g}Hz"] = records.targets[0, :, k]
    settings = "".join(f"# {line}\n" for line in to_yaml(records.data).splitlines())
    file.write(settings.encode())
    pd.DataFrame(columns).to_csv(file, index=False, lineterminator="\n")
