"""Write docs/benchmarks.md from the results kept under docs/results/benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kept import FOLDER, kept

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Made by `make bench` from the results kept in [docs/results/benchmarks](results/benchmarks);
`make bench-all` makes those again (hours). Machines are noisy: what stands beside each other was
taken in turn, in one run, and times are medians, with the smallest and largest in brackets.
"""
# What each preset is for: figure, goal, and how it is read.
GOALS = [
    ("limit10", "windows, L=10, last position", "last", 1.02, 120),
    ("limit50", "windows, L=50", "last", 1.05, 300),
    ("limit100", "windows, L=100", "last", 1.10, 600),
    ("sieve", "stateful, settled (1 to 10 s)", "settled", 1e-4, 120),
    ("settled", "stateful, settled", "settled", 2e-5, 600),
    ("onset", "stateful, first 200 ms", "onset", 1.10, 600),
    ("free", "free regime, settled", "free", 1.2, 600),
]
ROWS = {"step": "one step", "block": "block of 100,000", "streams": "256 streams, a stream"}
WAYS = ("tonesieve", "torch, nn.LSTM", "torch, LSTMCell", "ONNX Runtime", "SciPy, sosfilt")
STREAM_GOALS = {"step": 1.0, "block": 0.65, "streams": 0.40}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: float) -> str:
    return f"{value:.3g}"


def times(row: dict[str, Any]) -> str:
    return f"{number(row['median'])} ({number(row['least'])} to {number(row['most'])})"


def verdict(value: float, goal: float) -> str:
    return "reached" if value <= goal else "missed"


def figure(run: dict[str, Any], kind: str) -> tuple[float, str]:
    """What a goal is about, and how it is written."""
    if kind == "settled":
        found = run["settled"]
        return found["mse"], f"{found['mse']:.2e} ± {found['stderr']:.0e}"
    found = run["settled"] if kind == "free" else run[kind]
    return found["ratio"], f"{found['ratio']:.4f} ± {found['ratio_stderr']:.4f} x"


def limits() -> str:
    rows = []
    for name, what, kind, goal, seconds in GOALS:
        result = kept(f"limits-{name}")
        if result is None:
            continue
        figures = sorted((figure(run, kind) for run in result["runs"]), key=lambda f: f[0])
        middle = figures[len(figures) // 2]
        others = "" if len(figures) == 1 else f" ({', '.join(text for _, text in figures)})"
        bound = f"{goal:.0e}" if kind == "settled" else f"{goal:g} x"
        took = result["seconds"]
        rows.append(
            [
                f"`{name}`",
                what,
                f"{bound} in {seconds / 60:g} min",
                middle[1] + others,
                verdict(middle[0], goal),
                f"{took['median']:.0f}"
                + (f" ({took['least']:.0f} to {took['most']:.0f})" if len(figures) > 1 else ""),
                verdict(took["median"], seconds),
                f"{result['runs'][0]['parameters']:,}",
            ]
        )
    head = ["preset", "what", "goal", "found", "", "seconds of training", "", "parameters"]
    return f"""## Error over limit

Locked regime (and free, in the last row), phase_scale 0.01, random start, mean of the four tones.
The ratio is one plus the mean of the paired differences with the best possible extractor on the
same draws, over that extractor's error; drawn until its standard error is at most 0.5%. Settled:
MSE from 1 to 10 s, where the limit itself is nothing (free: beside the exact Kalman filter on the
same 64 records). Where several were trained, the median stands first. Training: one thread for the
network and one that draws the batches, validation included, on a machine of two cores that had
other work, too. `python benchmarks/limits.py NAME` trains and judges one.

{table(head, rows)}
What brought them there, most first: the best possible estimate as the target in place of the clean
tone (the same optimum, hardly any variance); SOAP in place of Adam; for carried states records of
random length whose errors count by age; and, in the free regime, an observer (one oscillator a
tone, corrected by a learned gain times the surprise) in place of a general network.

Tried and left: oscillators driven by a small network, with a rectified, gated or softmax readout
(at L=50 behind the LSTM for the same time; once settled ahead of it, until SOAP and balanced ages
helped the LSTM more), a dense network on the window (far behind from L=50 on), and a rate of 1e-2
for wide stateful networks under SOAP (diverges). One network for both the first 200 ms and the
settled error was on its way to neither goal within ten minutes; hence two presets. `limit50` has no
time to spare: the same settings with an eighth more steps reached 1.043 ± 0.005.
"""


def recipes() -> str:
    rows = []
    for name in ("window10", "deep50", "config-l1"):
        result = kept(f"recipe-{name}")
        if result is None:
            continue
        plain = result["plain"]
        seconds = sorted(run["seconds"] for run in result["ours"] if run["seconds"] is not None)
        reached = len(seconds) == len(result["ours"])
        ours = seconds[len(seconds) // 2] if reached else float("nan")
        rows.append(
            [
                f"`{name}`",
                f"{plain['mse']:.4f}",
                f"{plain['seconds']:.0f}",
                f"{plain['course'][-1][0]:.0f} ({plain.get('day', result['day'])})",
                f"`{result['preset']}`",
                f"{ours:.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f})" if reached else "not reached",
                f"{plain['seconds'] / ours:.0f} x" if reached else "",
            ]
        )
    head = [
        "recipe",
        "its best test MSE",
        "after s",
        "all its epochs, s",
        "ours",
        "as good after s",
    ]
    return f"""## Time to the write-ups' own best

Their recipe, plainly (a dataset of items, DataLoader, nn.LSTM, Adam, their settings:
[benchmarks/plain.py](../benchmarks/plain.py)), and when its test MSE was at its best; and how long
ours trains on the same task, from nothing, until its test MSE is as good: median of three seeds.
Ours is our own recipe, too: fresh noise, the teacher, our network; for `config-l1` it hears every
sample, where the recipe's lanes hear every 32nd. The recipe's time is that of its best epoch. Each
recipe ran in full before ours; a day stands beside each. The goal was 20 x.

{table([*head, "ratio"], rows)}"""


def throughput() -> str:
    result = kept("throughput")
    if result is None:
        return ""
    rows = [
        [
            name,
            times(result["gflops"][key]),
            f"{100 * result['share'][key]['median']:.0f}%" if key in result["share"] else "100%",
        ]
        for key, name in {
            "peak": "product of two 2048 x 2048 matrices, PyTorch",
            "torch": "PyTorch's LSTM",
            "ours": "ours",
        }.items()
    ]
    ratio = result["ours_over_torch"]
    return f"""## Training throughput

Hidden size 64, 32 streams, 100 steps, one thread; forward, backward and Adam. The goal was half of
the matrix product's peak, faster than PyTorch's layer, with its gradients.

{table(["", "GFLOP/s", "share"], rows)}
Ours over PyTorch's in the same round: {times(ratio)}. Largest difference of a gradient:
{result["gradients"]:.1e} of its largest entry. On this processor PyTorch's matrix product is far
from the hardware's own peak, which is why both shares are large. What mattered more in
whole trainings than either layer: that the C library keeps freed memory, which took a third off a
step of 64 windows of 100.
"""


def streaming() -> str:
    result = kept("streaming")
    if result is None:
        return ""
    rows = []
    for key, name in ROWS.items():
        found = [times(result[key][way]) if way in result[key] else "-" for way in WAYS]
        goal = STREAM_GOALS[key]
        reached = verdict(result[key]["tonesieve"]["median"], goal)
        rows.append([name, *found, f"{goal:g}", reached])
    slow, grown, start = result["slowest"], result["growth"], result["start"]
    return f"""## One sample at a time

Microseconds a sample, float32, one core: an LSTM of 64 units with four outputs, from Python; SciPy
runs a band-pass of fourth order.

{table(["", *WAYS, "goal", ""], rows)}
- Ours differs from PyTorch by at most {result["difference"]["torch"]:.1e}, and one step, a block
  and many streams agree to the last bit (`tests/test_recurrent.py`).
- A single step, the clock's own cost included: median {slow["median"]:.2f}, 99th percentile
  {slow["99"]:.2f}, 99.9th {slow["99.9"]:.2f}, slowest of a million {slow["most"]:.0f} us.
- Memory held after {grown["samples"] // 100:,} samples {grown["before_mb"]:.1f} MB, after
  {grown["samples"]:,} {grown["after_mb"]:.1f} MB.
- From the start of Python to the first estimate of a run on disk, without PyTorch:
  {times(start["warm"]["first_s"])} s with a core that was compiled before, and
  {times(start["cold"]["first_s"])} s without: NumPy then answers until the core is ready, after
  {times(start["cold"]["compiled_s"])} s, and differs by at most {start["cold"]["difference"]:.1e}.
- RTNeural (C++; 0.56 us a step in an earlier comparison) is not part of this run: it has no package
  in the registries.
"""


def recordings() -> str:
    large, day = kept("recordings-large"), kept("recordings-day")
    if large is None or day is None:
        return ""
    rows = [
        [f"{r['samples']:,}", f"{r['file_mb']:.0f}", f"{r['seconds']:.0f}", f"{r['peak_mb']:.0f}"]
        for r in large["result"]
    ]
    one = day["result"]
    same = "the very same bytes as" if one["same"] else "OTHER BYTES than"
    return f"""## Long recordings, long streams

`tonesieve extract --with tracker` of a WAV file, the whole recording both ways (what the default
costs, [the model card](model-card.md) says):

{table(["samples", "file, MB", "seconds", "peak memory, MB"], rows)}
A day at 1 kHz through `tonesieve stream --with tracker`, as fast as it goes: {one["lines"]:,}
lines (one of a
thousand is no number) in {one["seconds"]:.0f} s, {one["us_per_line"]:.2f} us a line, at most
{one["peak_mb"]:.0f} MB. The same again, killed (SIGKILL) in the middle and restored after line
{one["killed_after_lines"]:,}: {same} the unbroken one.
"""


def growth() -> str:
    result = kept("growth")
    if result is None:
        return ""
    rows = [
        [
            name,
            course["unit"],
            ", ".join(f"{x:g}: {number(y)}" for x, y in zip(course["x"], course["y"], strict=True)),
            f"{course['exponent']:.2f}",
        ]
        for name, course in result["courses"].items()
    ]
    return f"""## How cost grows

![Nine panels on logarithmic scales: training and extraction by size](figures/growth.png)

{table(["", "unit", "found", "exponent"], rows)}
Hidden size 64 (by record: 16) and one stream unless a row says otherwise; the exponents are fitted
where overhead no longer counts. Memory: what the work takes beyond what the process held before;
by record, all that it ever held, PyTorch included. A record that comes in pieces needs the same
memory however long it is.
"""


def provenance() -> str:
    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        result = kept(path.stem)
        assert result is not None
        of = result["machine"]
        rows.append(
            [
                f"[{path.stem}](results/benchmarks/{path.name})",
                result["day"],
                f"{of['processor']}, {of['cores']} cores",
                f"Python {of['python']}, NumPy {of['numpy']}, PyTorch {of['torch']}",
            ]
        )
    return "## Where the figures are from\n\n" + table(
        ["result", "day", "processor", "software"], rows
    )


def page() -> str:
    """The whole page."""
    parts = (limits(), recipes(), throughput(), streaming(), recordings(), growth(), provenance())
    accelerator = "None of the results is from an accelerator.\n"
    return "\n".join([HEAD, *(part for part in parts if part), accelerator])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
