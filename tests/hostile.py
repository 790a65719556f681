"""Reads files named on its standard input, one after the other, and prints the outcome of each.

A process of its own, so that a crash of a C library is seen, and memory can be limited.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np


def outcome_of(order: dict) -> dict:
    """What comes of reading one file: its shape, a refusal, or a failure."""
    from tonesieve.errors import UserError
    from tonesieve.recordings.recording import read_recording

    path, start = Path(order["path"]), time.perf_counter()
    try:
        recording = read_recording(path, scratch=Path(order["scratch"]), **order["how"])
        samples = recording.read(0, min(recording.n_samples, 10**5))
        outcome = {
            "n_samples": recording.n_samples,
            "n_rows": len(recording.rows),
            "rate_hz": recording.rate_hz,
            "infinite": bool(np.isinf(samples).any()),
        }
    except UserError as error:
        outcome = {"refused": str(error)}
    except BaseException:
        outcome = {"failed": traceback.format_exc()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**outcome, "seconds": time.perf_counter() - start, "peak": peak}


def main(most_bytes: int) -> None:
    """Serve until the input ends."""

    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    warnings.simplefilter("error")
    for line in sys.stdin:
        print(json.dumps(outcome_of(json.loads(line))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
