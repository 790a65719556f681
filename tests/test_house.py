"""The house keeps its plan: who may use whom, and how large a room may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tonesieve
from tonesieve.config.presets import FILTER_NAMES
from tonesieve.config.schema import ModelSettings
from tonesieve.extractors.filters.registry import FILTERS
from tonesieve.learning.models import FAMILIES

PACKAGE = Path(tonesieve.__file__).parent
REPOSITORY = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top down: a room uses only rooms above it.
ROOMS = [
    "errors",
    "files",
    "settings",
    "config",
    "advice",
    "reporting",
    "kernels.densities",
    "kernels.posterior",
    "kernels.regression",
    "kernels.program",
    "kernels.vectors",
    "kernels.arithmetic",
    "kernels.cells",
    "kernels.lstm",
    "kernels.observing",
    "kernels.averaging",
    "kernels.lanes",
    "kernels.candidates",
    "kernels.whitening",
    "kernels.telling",
    "kernels.listening",
    "kernels.thinning",
    "kernels.weighing",
    "kernels.answering",
    "signals.backgrounds",
    "signals.synthesis",
    "signals.datasets",
    "signals.removal",
    "signals.noises",
    "signals.courses",
    "signals.family",
    "recordings.spool",
    "recordings.contents",
    "recordings.timing",
    "recordings.lines",
    "recordings.text",
    "recordings.parquet",
    "recordings.audio",
    "recordings.edf",
    "recordings.arrays",
    "recordings.recording",
    "recordings.survey",
    "recordings.resampling",
    "extractors.protocol",
    "extractors.weights",
    "extractors.classical",
    "extractors.regression",
    "extractors.bandpass",
    "extractors.baseband",
    "extractors.filters",
    "extractors.hearing",
    "extractors.pretrained",
    "extractors.bothways",
    "extractors.bridging",
    "extractors.streaming",
    "extractors.reading",
    "extractors.credible",
    "extractors.packing",
    "extractors.plain",
    "extractors.recurrent",
    "extractors.hearing",
    "extractors.pretrained",
    "extractors.bothways",
    "extractors.densities",
    "extractors.bayes",
    "extractors.limits",
    "graphs.building",
    "graphs.states",
    "graphs.parts",
    "graphs.network",
    "learning.threads",
    "learning.history",
    "learning.schedules",
    "learning.lanes",
    "learning.layouts",
    "learning.balance",
    "learning.processes",
    "learning.ahead",
    "learning.devices",
    "learning.models.network",
    "learning.models.attention",
    "learning.models.fused",
    "learning.models.recurrent",
    "learning.models.convolution",
    "learning.models.oscillators",
    "learning.models.observer",
    "learning.models.bank",
    "learning.models",
    "learning.optimizers",
    "learning.checkpoints",
    "learning.saved",
    "learning.network_extractor",
    "learning.inspection",
    "learning.tasks",
    "learning.validation",
    "learning.training",
    "learning.evidence",
    "learning.weigher",
    "learning.pretraining",
    "judging.metrics",
    "judging.evaluation",
    "judging.pairing",
    "judging.diagnosis",
    "judging.probes",
    "judging.comparison",
    "judging.injection",
    "judging.rivals",
    "judging.generality",
    "judging.figures",
    "judging.recording_figures",
    "judging.sweep_figures",
    "tables",
    "catalogue",
    "sources",
    "passing",
    "readings",
    "extraction",
    "loading",
    "generation",
    "forecasts",
    "own_noise",
    "runs",
    "sweeping.plans",
    "sweeping.shelves",
    "sweeping.workers",
    "sweeping.searches",
    "sweeping.engines",
    "sweeping.results",
    "sweeps",
    "trials",
    "live",
    "use",
    "exporting",
    "console",
    "cli_words",
    "cli_use",
    "cli",
    "__main__",
]
# Doors, not rooms: they hold nothing but a docstring or lazy names.
DOORS = {
    "", "kernels", "signals", "recordings", "extractors", "graphs", "learning", "judging",
    "sweeping",
}  # fmt: skip


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module named in an import statement anywhere in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_rooms(path: Path) -> set[str]:
    names = {n.removeprefix("tonesieve.") for n in imported(path) if n.startswith("tonesieve.")}
    return names & set(ROOMS)


def test_every_module_has_its_place() -> None:
    assert {room(path) for path in MODULES} - DOORS == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_rooms_use_only_rooms_above(path: Path) -> None:
    if room(path) in DOORS:
        return
    place = ROOMS.index(room(path))
    below = {r for r in own_rooms(path) if ROOMS.index(r) >= place and r != room(path)}
    assert not below


def test_the_import_reader_sees_a_violation(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from tonesieve.learning import layouts\n    import torch\n")
    assert "learning.layouts" in own_rooms(bad)
    assert "torch" in imported(bad)


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_torch_lives_in_learning_alone(path: Path) -> None:
    uses = {n.split(".")[0] for n in imported(path)} & {"torch", "lightning_fabric"}
    assert not uses or room(path).startswith("learning")


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_scipy_is_imported_whole(path: Path) -> None:
    """``import scipy`` loads its parts where they are used, ``from scipy import signal`` at once.

    That would cost every start most of a second.
    """
    assert not {name for name in imported(path) if name.startswith("scipy.")}


@pytest.mark.parametrize("path", MODULES, ids=room)
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_one_table_of_families() -> None:
    kinds = ModelSettings.model_fields["kind"].annotation
    assert set(FAMILIES) == set(kinds.__args__)


def test_one_table_of_filters() -> None:
    assert tuple(FILTERS) == FILTER_NAMES


def test_nothing_reaches_outside_the_repository() -> None:
    outside = re.compile(r"[\"'](?:/(?:home|root|work|opt|mnt|srv)\b|(?:\.\./)+[a-z]+/)|https?://")
    for path in [*MODULES, *(REPOSITORY / "tests").rglob("*.py")]:
        if path.name == "test_house.py":
            continue
        assert not outside.search(path.read_text(encoding="utf-8")), path


def test_importing_the_command_line_costs_no_torch_nor_scipy() -> None:
    code = (
        "import sys, tonesieve.cli.app; tonesieve.presets(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy.signal', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_filter_takes_a_tone_out_without_torch(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "".join(f"{n % 4}\n" for n in range(400)))
    code = (
        "import sys, tonesieve; tonesieve.extract('a.csv', [25.0], rate_hz=100.0); "
        "tonesieve.limit('window10', stderr=0.05); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "a.tone.csv").exists()


# Each takes a good part of a second to load, and the default filter needs none of them.
SLOW_TO_LOAD = {"matplotlib", "pandas", "scipy.signal", "torch"}
THEN_SAY_WHAT_IS_LOADED = "; print(*sys.modules, file=sys.stderr)"


def test_a_stream_starts_without_what_is_slow_to_load() -> None:
    code = "import sys, tonesieve, tonesieve.cli.app; tonesieve.stream([50.0], rate_hz=1000.0)"
    done = subprocess.run(
        [sys.executable, "-c", code + THEN_SAY_WHAT_IS_LOADED],
        check=True, input="1\n2\n3\n", capture_output=True, text=True,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 3
    loaded = set(done.stderr.split())
    assert "tonesieve.commands.line_stream" in loaded
    assert not SLOW_TO_LOAD & loaded


def test_a_table_is_extracted_without_what_is_slow_to_load(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "".join(f"{n % 4}\n" for n in range(400)))
    code = "import sys, tonesieve; tonesieve.extract('a.csv', [25.0], rate_hz=100.0)"
    done = subprocess.run(
        [sys.executable, "-c", code + THEN_SAY_WHAT_IS_LOADED],
        check=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert SLOW_TO_LOAD & set(done.stderr.split()) == {"pandas"}  # it reads the table


def test_every_public_name_is_there() -> None:
    for name in tonesieve.__all__:
        assert getattr(tonesieve, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tonesieve.nonsense
