"""What files of any format hold, and in what two of them differ: for `unchanged.py`."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Keys of JSON and of metadata, and columns of tables, that are not compared.
IGNORED = {
    "seconds": "wall time",
    "wall_s": "wall time",
    "worker": "machine and process that did a run of a sweep",
    "us_per_sample": "wall time",
    "commit": "two commits differ in it by definition",
    "tonesieve": "version of the package",
    "bytes": "size of an ONNX file, which holds the names of internal nodes",
}
# Keys whose text is for people and may be reworded; values that are no text are compared.
PROSE = {
    "explanation": "a sentence",
    "information_estimator": "a sentence",
    "limit_note": "a sentence",
    "usage": "a paragraph",
    "view": "a phrase in `diagnose`; numbers in `limit`",
    "warnings": "sentences; their number is compared",
    "layer": "representation of a PyTorch module, which holds class names",
}
IGNORED_FILES = {
    ".lock": "empty",
    "sweep.log": "progress of worker processes, with times",
    "pull.py": "a script of `unchanged.py` itself",
    "pretrain.py": "a script of `unchanged.py` itself",
}


def compare_files(one: Path, other: Path) -> str:
    """In what two files differ; nothing where they do not."""
    if one.read_bytes() == other.read_bytes():
        return ""
    mine, theirs = _values(one), _values(other)
    if mine.keys() != theirs.keys():
        return f"in one alone: {', '.join(sorted(mine.keys() ^ theirs.keys()))}"
    found = {name: _difference(mine[name], theirs[name]) for name in mine}
    bad = [f"{name} {text}" for name, text in found.items() if text]
    return f"{len(bad)} of {len(found)} values: {bad[0]}" if bad else ""


def _difference(one: np.ndarray, other: np.ndarray) -> str:
    """In what two arrays differ."""
    if one.shape != other.shape:
        return f"has shapes {one.shape} and {other.shape}"
    if one.dtype == other.dtype and one.tobytes() == other.tobytes():
        return ""
    try:  # cells without a number are gaps
        pair = [np.where(x == "", "nan", x) if x.dtype.kind == "U" else x for x in (one, other)]
        a, b = (x.astype(complex) for x in pair)
    except ValueError:
        pairs = zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
        return next((f"is {a!r} and {b!r}" for a, b in pairs if a != b), "is of another type")
    if (np.isnan(a) != np.isnan(b)).any():
        return "has NaN at other places"
    apart = np.where((a == b) | np.isnan(a), 0.0, np.abs(a - b))
    scale = np.maximum(np.abs(a), np.abs(b))
    relative = np.divide(apart, scale, out=np.zeros_like(apart), where=scale > 0)
    return f"by at most {apart.max():.3g}, relative {relative.max():.3g} ({one.dtype})"


def _values(path: Path) -> Mapping[str, np.ndarray]:
    """What a file holds, by name; of a picture nothing."""
    raw = path.read_bytes()
    if path.suffix == ".png":
        return {}
    if path.suffix == ".json":
        return dict(_leaves(json.loads(raw)))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".safetensors":
        (size,) = struct.unpack("<Q", raw[:8])
        about, tensors = json.loads(raw[8 : 8 + size]), raw[8 + size :]
        values = dict(_metadata(about.pop("__metadata__", {})))
        types = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
        for name, tensor in about.items():
            data = tensors[slice(*tensor["data_offsets"])]
            values[name] = np.frombuffer(data, types[tensor["dtype"]]).reshape(tensor["shape"])
        return values
    if path.suffix == ".onnx":
        import onnx  # what `export` needs, too

        model = onnx.load_from_string(raw)
        values = dict(_metadata({entry.key: entry.value for entry in model.metadata_props}))
        for name in ("input", "output"):
            values[name] = np.array([_signature(value) for value in getattr(model.graph, name)])
        values["operators"] = np.array([node.op_type for node in model.graph.node])
        for i, tensor in enumerate(model.graph.initializer):
            values[f"initializer {i}"] = onnx.numpy_helper.to_array(tensor)
        return values
    if path.suffix in (".csv", ".parquet"):
        read = pd.read_parquet if path.suffix == ".parquet" else _read_csv
        columns = {name: column.to_numpy() for name, column in read(path).items()}
        return {
            str(name): column.astype(str) if column.dtype == object else column
            for name, column in columns.items()
            if name not in IGNORED
        }
    if path.suffix == ".txt":
        rows = [line.split(",") for line in raw.decode().splitlines()]
        if len({len(row) for row in rows}) == 1:
            return {
                f"column {i}": np.array(column) for i, column in enumerate(zip(*rows, strict=True))
            }
    return {"bytes": np.frombuffer(_without_dates(raw, path.suffix), np.uint8)}


def _without_dates(raw: bytes, ending: str) -> bytes:
    """A file without the time at which it was written."""
    if ending == ".edf":  # the header's recording identification, start date and time
        return raw[:88] + raw[184:]
    if ending == ".wav" and b"PEAK" in raw[: raw.find(b"data")]:
        # What libsndfile adds to floating-point samples: a time 12 bytes behind the chunk's name.
        begin = raw.find(b"PEAK") + 12
        return raw[:begin] + raw[begin + 4 :]
    return raw


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _signature(value: Any) -> str:
    """Name, type and shape of a graph's input or output; not what is said of it."""
    kind = value.type.tensor_type
    return f"{value.name} {kind.elem_type} {[d.dim_param or d.dim_value for d in kind.shape.dim]}"


def _metadata(texts: Mapping[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    """Metadata: texts, some of which are JSON."""
    for name, text in texts.items():
        if name not in IGNORED:
            try:
                yield from _leaves(json.loads(text), f"metadata {name}")
            except ValueError:
                yield f"metadata {name}", np.array(text)


def _leaves(value: Any, path: str = "", prose: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """Values in a JSON document by their paths; sentences as empty ones."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in IGNORED:
                yield from _leaves(inner, f"{path}.{key}", key in PROSE)
    elif isinstance(value, list):
        yield f"{path}.length", np.array(len(value))
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{i}]", prose)
    else:
        empty = prose and isinstance(value, str)
        yield path, np.array("" if empty else "null" if value is None else value)
