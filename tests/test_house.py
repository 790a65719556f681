"""The layout: which package may import which, how long a module may be, and which words it uses."""

from __future__ import annotations

import ast
import doctest
import graphlib
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

TABLE_ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)

# Words that the code does not use: the field has words of its own for what they were used for.
PRIVATE_WORDS = re.compile(
    r"\b(?:heard|hears?|hearing|told|tells?|answers?|answered|listens?|foretold|foreseen|surprises?"
    r"|so many|so-manieth|goes on|stood|knobs?)\b",
    re.IGNORECASE,
)
MAX_PRIVATE_WORDS = 3.0  # per 1000 lines

# Names that modules had before they were named by what they do.
OLD_MODULES = """
    advice ahead answering arithmetic arrays audio averaging balance bank bothways bridging building
    candidates catalogue cells classical cli_use cli_words console contents courses credible
    datasets densities devices diagnosis edf engines evidence exporting family figures forecasts
    fused generality generation graphs hearing inspection judging layouts limits lines listening
    live loading noises observing oscillators own_noise packing pairing parquet parts passing plain
    plans posterior reading readings recording_figures regression removal reporting rivals
    runs saved searches settings shelves sources survey sweep_figures sweeps tables tasks telling
    thinning timing trials use vectors weigher weighing workers
"""


def layout(text: str) -> dict[str, set[str]]:
    """Packages of CONTRIBUTING's table, from the bottom up, and the modules in their row."""
    layers: dict[str, set[str]] = {}
    for package, row in TABLE_ROW.findall(text):
        assert package not in layers, f"{package} has two rows"
        layers[package] = set()
        folder = package
        for name in re.findall(r"`([\w/]+)`", row):
            if "/" in name:
                folder = name.replace("/", ".")
            else:
                assert f"{folder}.{name}" not in layers[package], f"{name} is listed twice"
                layers[package].add(f"{folder}.{name}")
        layers[package] = layers[package] or {package}
    return layers


CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
LAYERS = layout(CONTRIBUTING.partition("## Layout\n")[2].partition("\n## ")[0])
ORDER = list(LAYERS)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path) for path in MODULES}


def imported(path: Path) -> set[str]:
    """Every module of an import statement anywhere in a file."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def used(path: Path) -> set[str]:
    """Modules of the package that a file imports."""
    names = {n.removeprefix("tonesieve.") for n in imported(path) if n.startswith("tonesieve.")}
    return (names & NAMES) - {module_name(path)}


def test_every_module_is_in_the_layout() -> None:
    plain = {module_name(path) for path in MODULES if path.name != "__init__.py"}
    assert plain - {"__main__"} == set().union(*LAYERS.values())


def upward(path: Path) -> set[str]:
    """What a file imports from packages above its own."""
    layer = ORDER.index(module_name(path).partition(".")[0])
    return {name for name in used(path) if ORDER.index(name.partition(".")[0]) > layer}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_upward_import(path: Path) -> None:
    if module_name(path) not in {"", "__main__"}:
        assert not upward(path)


def test_no_circular_import() -> None:
    graph = {module_name(path): used(path) - {""} for path in MODULES if module_name(path)}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_import_reader_finds_a_violation(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from tonesieve.learning.data import batches\n    import torch\n")
    names = {n.removeprefix("tonesieve.") for n in imported(bad)}
    assert "learning.data.batches" in names & NAMES
    assert "torch" in imported(bad)


def test_the_layout_reader_refuses_a_module_listed_twice() -> None:
    assert layout("| `util` | `files`, `util/sub`: `files` |") == {
        "util": {"util.files", "util.sub.files"}
    }
    with pytest.raises(AssertionError, match="twice"):
        layout("| `util` | `files`, `files` |")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_torch_lives_in_learning_alone(path: Path) -> None:
    uses = {n.split(".")[0] for n in imported(path)} & {"torch", "lightning_fabric"}
    assert not uses or module_name(path).startswith("learning")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_scipy_is_imported_whole(path: Path) -> None:
    """``import scipy`` loads its parts where they are used, ``from scipy import signal`` at once.

    The latter would add most of a second to every start.
    """
    assert not {name for name in imported(path) if name.startswith("scipy.")}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def private_words(paths: list[Path]) -> tuple[int, int]:
    """How many of the private words are in these files, and how many lines they have."""
    texts = [path.read_text(encoding="utf-8") for path in paths]
    n_words = sum(len(PRIVATE_WORDS.findall(text)) for text in texts)
    return n_words, sum(len(text.splitlines()) for text in texts)


def test_the_code_uses_the_words_of_the_field() -> None:
    n_words, n_lines = private_words(MODULES)
    assert 1000 * n_words / n_lines <= MAX_PRIVATE_WORDS, f"{n_words} words in {n_lines} lines"


def test_the_count_finds_whole_words_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("# Told by so many knobs.\ntold_by = 'unheard answering'\n")
    assert private_words([file]) == (3, 2)


def test_no_module_has_its_old_name() -> None:
    parts = {part for name in NAMES for part in name.split(".")}
    assert not parts & set(OLD_MODULES.split())


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


def test_a_filter_extracts_a_tone_without_torch(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "".join(f"{n % 4}\n" for n in range(400)))
    code = (
        "import sys, tonesieve; tonesieve.extract('a.csv', [25.0], rate_hz=100.0); "
        "tonesieve.limit('window10', stderr=0.05); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "a.tone.csv").exists()


# Each takes a considerable part of a second to load, and the default extractor needs none.
SLOW_TO_LOAD = {"matplotlib", "pandas", "scipy.signal", "torch"}
PRINT_LOADED_MODULES = "; print(*sys.modules, file=sys.stderr)"


def test_a_stream_starts_without_what_is_slow_to_load() -> None:
    code = "import sys, tonesieve, tonesieve.cli.app; tonesieve.stream([50.0], rate_hz=1000.0)"
    done = subprocess.run(
        [sys.executable, "-c", code + PRINT_LOADED_MODULES],
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
        [sys.executable, "-c", code + PRINT_LOADED_MODULES],
        check=True, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert SLOW_TO_LOAD & set(done.stderr.split()) == {"pandas"}  # which reads the table


def test_every_public_name_is_importable() -> None:
    for name in tonesieve.__all__:
        assert getattr(tonesieve, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tonesieve.nonsense


@pytest.mark.parametrize("name", tonesieve.__all__)
def test_the_examples_of_the_public_docstrings_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    public = {"tonesieve": tonesieve, **{n: getattr(tonesieve, n) for n in tonesieve.__all__}}
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(recurse=False).find(public[name], name, globs=public):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
