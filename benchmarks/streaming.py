"""One sample at a time: an LSTM of 64 units with four outputs, ours and its rivals in one run.

``python benchmarks/streaming.py`` takes every way in turn, several times over: medians and
spreads; then the slowest steps, memory over ten million samples, and the time from import to the
first estimate, with a compiled core at hand and without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from kept import keep, memory_mb, spread
from onnx import TensorProto, helper, numpy_helper
from scipy.signal import butter, sosfilt
from torch import nn

from tonesieve.config.config import make_config
from tonesieve.inference.compiled_network import CompiledNetwork
from tonesieve.inference.run_directory import as_compiled
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.learning.network_files import save_network

HIDDEN, N_OUTPUTS = 64, 4
ROUNDS = 7
N_STEPS, N_BLOCK, N_STREAMS, N_STREAMED = 2_000, 100_000, 256, 200
N_SLOW, N_LONG = 1_000_000, 10_000_000
CONFIG = make_config({"model": {"hidden_size": HIDDEN, "selector": "readout"}})

Way = Callable[[], None]


def ours() -> tuple[CompiledNetwork, nn.Module]:
    """The network as the compiled core has it, and as PyTorch has it."""
    network = build_network(CONFIG).eval()
    compiled = as_compiled(to_arrays(network.state_dict()), CONFIG)
    assert compiled is not None
    return compiled, network


def one_step(compiled: CompiledNetwork, network: Any) -> dict[str, tuple[Way, int]]:
    """One stream, one sample a call: a way, and how many samples it takes.

    Every way gets its samples ready made, and leaves its estimates in place.
    """
    samples = np.random.default_rng(0).standard_normal(N_STEPS)
    numbers = samples.tolist()
    single = torch.from_numpy(samples).float()
    lstm, readout = network.parts["lstm"].cell, network.readout
    cell = nn.LSTMCell(1, HIDDEN)
    cell.load_state_dict({n.removesuffix("_l0"): t for n, t in lstm.state_dict().items()})
    session, sections = onnx_session(network), butter(2, [0.001, 0.003], "bandpass", output="sos")
    take = compiled.stepper()
    whole, flat = list(single.view(-1, 1, 1, 1)), list(single.view(-1, 1, 1))
    vectors = list(samples.reshape(-1, 1))
    arrays = [np.array([[[number]]], np.float32) for number in numbers]

    def step_ours() -> None:
        for number in numbers:
            take(number)

    @torch.inference_mode()
    def step_lstm() -> None:
        state = (torch.zeros(1, 1, HIDDEN), torch.zeros(1, 1, HIDDEN))
        for value in whole:
            hidden, state = lstm(value, state)
            readout(hidden)

    @torch.inference_mode()
    def step_cell() -> None:
        state = (torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN))
        for value in flat:
            state = cell(value, state)
            readout(state[0])

    def step_onnx() -> None:
        h, c = (np.zeros((1, 1, HIDDEN), np.float32) for _ in range(2))
        for value in arrays:
            _, h, c = session.run(None, {"x": value, "h": h, "c": c})

    def step_filter() -> None:
        state = np.zeros((len(sections), 2))
        for value in vectors:
            _, state = sosfilt(sections, value, zi=state)

    ways = {
        "tonesieve": step_ours,
        "torch, nn.LSTM": step_lstm,
        "torch, LSTMCell": step_cell,
        "ONNX Runtime": step_onnx,
        "SciPy, sosfilt": step_filter,
    }
    return {name: (way, N_STEPS) for name, way in ways.items()}


def blocks(compiled: CompiledNetwork, network: Any) -> dict[str, tuple[Way, int]]:
    """One stream in one piece."""
    samples = np.random.default_rng(1).standard_normal((1, N_BLOCK))
    single = samples.astype(np.float32)
    session, sections = onnx_session(network), butter(2, [0.001, 0.003], "bandpass", output="sos")
    return {
        "tonesieve": (lambda: _discard(compiled.extract(samples)), N_BLOCK),
        "torch, nn.LSTM": (lambda: _through_torch(network, single), N_BLOCK),
        "ONNX Runtime": (lambda: _through_onnx(session, single), N_BLOCK),
        "SciPy, sosfilt": (lambda: _discard(sosfilt(sections, samples)), N_BLOCK),
    }


def streams(compiled: CompiledNetwork, network: Any) -> dict[str, tuple[Way, int]]:
    """Many streams at once; PyTorch's cell step by step."""
    samples = np.random.default_rng(2).standard_normal((N_STREAMS, N_STREAMED))
    single = samples.astype(np.float32)
    session, n = onnx_session(network), samples.size
    lstm, readout = network.parts["lstm"].cell, network.readout
    cell = nn.LSTMCell(1, HIDDEN)
    cell.load_state_dict({n.removesuffix("_l0"): t for n, t in lstm.state_dict().items()})

    @torch.inference_mode()
    def step_cell() -> None:
        state = (torch.zeros(N_STREAMS, HIDDEN), torch.zeros(N_STREAMS, HIDDEN))
        for value in torch.from_numpy(single).T[:, :, None]:
            state = cell(value, state)
            readout(state[0])

    return {
        "tonesieve": (lambda: _discard(compiled.extract(samples)), n),
        "torch, nn.LSTM": (lambda: _through_torch(network, single), n),
        "torch, LSTMCell": (step_cell, n),
        "ONNX Runtime": (lambda: _through_onnx(session, single), n),
    }


def _discard(estimate: Any) -> None:
    del estimate


@torch.inference_mode()
def _through_torch(network: Any, samples: np.ndarray) -> None:
    network(torch.from_numpy(samples)[:, :, None], None, network.initial_state(len(samples), None))


def _through_onnx(session: Any, samples: np.ndarray) -> None:
    h, c = (np.zeros((1, len(samples), HIDDEN), np.float32) for _ in range(2))
    session.run(None, {"x": np.ascontiguousarray(samples.T)[:, :, None], "h": h, "c": c})


def onnx_session(network: Any) -> Any:
    """The same weights in ONNX Runtime: (T, B, 1) in, (T, B, 4) out, the state beside them."""
    of = to_arrays(network.state_dict())
    order = [0, 3, 1, 2]  # i, f, g, o as ONNX has them: i, o, f, c

    def gates(name: str) -> np.ndarray:
        parts = np.split(of[f"parts.lstm.cell.{name}_l0"], 4)
        return np.concatenate([parts[k] for k in order])

    constants = {
        "W": gates("weight_ih")[None],
        "R": gates("weight_hh")[None],
        "B": np.concatenate([gates("bias_ih"), gates("bias_hh")])[None],
        "V": np.ascontiguousarray(of["readout.weight"].T),
        "b": of["readout.bias"],
        "axis": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "", "h", "c"], ["y4", "hn", "cn"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["y4", "axis"], ["y3"]),
        helper.make_node("MatMul", ["y3", "V"], ["y2"]),
        helper.make_node("Add", ["y2", "b"], ["y"]),
    ]
    state = [1, "B", HIDDEN]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in {
            "x": ["T", "B", 1],
            "h": state,
            "c": state,
            "y": ["T", "B", N_OUTPUTS],
            "hn": state,
            "cn": state,
        }.items()
    }
    graph = helper.make_graph(
        nodes,
        "lstm",
        [values[n] for n in ("x", "h", "c")],
        [values[n] for n in ("y", "hn", "cn")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def timed(ways: dict[str, tuple[Way, int]]) -> dict[str, Any]:
    """Microseconds a sample of every way, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for way, _ in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, (way, n) in ways.items():
            began = time.perf_counter()
            way()
            found[name].append((time.perf_counter() - began) / n * 1e6)
    return {name: spread(values) for name, values in found.items()}


def agreement(compiled: CompiledNetwork, network: Any) -> dict[str, float]:
    """Largest differences of the estimates for one record."""
    samples = np.random.default_rng(3).standard_normal((1, 1000))
    ours = compiled.extract(samples)
    single = samples.astype(np.float32)
    with torch.inference_mode():
        theirs = network(torch.from_numpy(single)[:, :, None], None, network.initial_state(1, None))
    h = np.zeros((1, 1, HIDDEN), np.float32)
    onnx = onnx_session(network).run(None, {"x": single.T[:, :, None], "h": h, "c": h})[0]
    return {
        "torch": float(np.abs(ours[0] - theirs[0][0].numpy()).max()),
        "onnx": float(np.abs(ours[0] - onnx[:, 0]).max()),
    }


def slowest(compiled: CompiledNetwork) -> dict[str, float]:
    """Quantiles of a single step, the clock's own cost included, microseconds."""
    take, clock = compiled.stepper(), time.perf_counter_ns
    spent = np.empty(N_SLOW, dtype=np.int64)
    for n in range(N_SLOW):
        began = clock()
        take(0.25)
        spent[n] = clock() - began
    names = {"median": 50, "99": 99, "99.9": 99.9, "most": 100}
    return {name: float(np.percentile(spent, q)) / 1000 for name, q in names.items()}


def growth(compiled: CompiledNetwork) -> dict[str, float]:
    """Memory held after a hundredth of many samples, and after all: MB."""
    take = compiled.stepper()
    for n in range(N_LONG):
        take(0.25)
        if n == N_LONG // 100:
            before = memory_mb()
    return {"before_mb": before, "after_mb": memory_mb(), "samples": N_LONG}


FIRST = """
import sys, time
import numpy as np
from tonesieve.inference.run_directory import load_compiled
network = load_compiled(sys.argv[1])
samples = np.sin(np.arange(500.0))[None]
first, state = network.step(samples[:, :1], network.initial_state(1))
print(time.time())
rest, state = network.step(samples[:, 1:], state)
from tonesieve.inference.compiled_network import compiled_core
compiled_core()
print(time.time(), "torch" in sys.modules)
whole = network.extract(samples)
print(np.abs(np.concatenate([first, rest], axis=1) - whole).max())
"""


def first_estimate(network: Any) -> dict[str, Any]:
    """Seconds from the start of Python to the first estimate, warm and cold, and until compiled."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        (run / "config.yaml").write_text("model: {hidden_size: 64, selector: readout}\n")
        save_network(network, CONFIG, run / "weights.safetensors")
        for name in ("cold", "warm"):
            tries = []
            for n in range(ROUNDS):
                cache = f"{folder}/cache-{n}"
                began = time.time()
                done = subprocess.run(
                    [sys.executable, "-c", FIRST, str(run)],
                    env={**os.environ, "NUMBA_CACHE_DIR": cache},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                first, (compiled, torch_there), (difference,) = (
                    line.split() for line in done.stdout.splitlines()
                )
                assert torch_there == "False"
                tries.append((float(first[0]) - began, float(compiled) - began, float(difference)))
            columns = list(zip(*tries, strict=True))
            found[name] = {
                "first_s": spread(list(columns[0])),
                "compiled_s": spread(list(columns[1])),
                "difference": max(columns[2]),
            }
    return found


def main() -> None:
    torch.set_num_threads(1)
    compiled, network = ours()
    result = {
        "rounds": ROUNDS,
        "step": timed(one_step(compiled, network)),
        "block": timed(blocks(compiled, network)),
        "streams": timed(streams(compiled, network)),
        "difference": agreement(compiled, network),
        "slowest": slowest(compiled),
        "growth": growth(compiled),
        "start": first_estimate(network),
    }
    keep("streaming", result)
    for part in ("step", "block", "streams"):
        for name, row in result[part].items():
            print(
                f"{part:8} {name:18} {row['median']:.3g} us ({row['least']:.3g}..{row['most']:.3g})"
            )
    for part in ("difference", "slowest", "growth", "start"):
        print(part, result[part])


if __name__ == "__main__":
    main()
