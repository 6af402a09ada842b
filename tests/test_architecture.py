"""The arrows of the layout: ``whimbrel -> qmp_driver, sim -> engine``, a pure engine, one import namespace."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = ROOT / "whimbrel"

LAYERS: dict[str, frozenset[str]] = {
    "engine": frozenset(),
    "qmp_driver": frozenset({"engine"}),
    "sim": frozenset({"engine"}),
}
"""Which other layers a layer may import. The public face stands above them and may import all."""

IMPURE = frozenset({"asyncio", "socket", "time", "random", "os", "subprocess", "threading"})
COMMAND_LINE = frozenset({"typer", "rich"})
COMMAND_LINE_MODULES = frozenset({"cli.py", "render.py", "live.py"})
MOST_LINES = 500


@dataclass(frozen=True)
class Import:
    """One absolute import: where it stands and what it names."""

    file: Path
    line: int
    name: str

    @property
    def head(self) -> str:
        """The top-level package."""
        return self.name.split(".", maxsplit=1)[0]

    @property
    def layer(self) -> str | None:
        """The layer of ours that it reaches for; ``None``: none of them."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "whimbrel" and len(parts) > 1 and parts[1] in LAYERS else None

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.name}"


def imports_in(text: str, file: Path) -> Iterator[Import]:
    """Every absolute import of a source text, also those inside functions and ``if TYPE_CHECKING``.

    ``from whimbrel import engine`` names ``whimbrel.engine``, as ``import whimbrel.engine`` does.
    """
    for node in ast.walk(ast.parse(text, filename=str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}")


def parent_relative(text: str, file: Path) -> Iterator[str]:
    """Every import that climbs out of its own package."""
    for node in ast.walk(ast.parse(text, filename=str(file))):
        if isinstance(node, ast.ImportFrom) and node.level > 1:
            yield f"{file.relative_to(ROOT)}:{node.lineno}"


def files_of(layer: str) -> list[Path]:
    """The Python files of a layer, through the public face, so that an unpacked source archive will do."""
    return sorted((PUBLIC / layer).rglob("*.py"))


def own_files() -> list[Path]:
    """The Python files of the public face itself."""
    return sorted(path for path in PUBLIC.rglob("*.py") if path.relative_to(PUBLIC).parts[0] not in LAYERS)


def imports_of(files: list[Path]) -> list[Import]:
    """Every absolute import of some files."""
    return [found for file in files for found in imports_in(file.read_text(), file)]


def offences(layer: str, found: Import) -> Iterator[str]:
    """What is wrong with an import that stands in a layer."""
    if found.head in LAYERS:
        yield f"{found}: the bare name loads a second copy of every class"
    if found.head == "whimbrel" and found.layer is None:
        yield f"{found}: a layer may not reach up"
    if found.layer is not None and found.layer != layer and found.layer not in LAYERS[layer]:
        yield f"{found}: no arrow leads there"
    if layer == "engine":
        if found.head in IMPURE:
            yield f"{found}: the engine does no I/O, reads no clock and throws no dice"
        if found.head != "whimbrel" and found.head not in sys.stdlib_module_names:
            yield f"{found}: the engine stands on the standard library alone"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_lies_below_it(layer: str) -> None:
    files = files_of(layer)
    assert files, f"no files were found in {layer}: this test would pass on nothing"
    assert [offence for found in imports_of(files) for offence in offences(layer, found)] == []


@pytest.mark.parametrize(
    ("layer", "statement"),
    [
        ("engine", "import asyncio"),
        ("engine", "from time import monotonic"),
        ("engine", "import os.path"),
        ("engine", "import msgspec"),
        ("engine", "from whimbrel.qmp_driver import runner"),
        ("engine", "from whimbrel import sim"),
        ("engine", "import whimbrel"),
        ("engine", "def f():\n    import socket"),
        ("qmp_driver", "from whimbrel.sim.explorer.world import World"),
        ("qmp_driver", "from whimbrel.migration import migrate"),
        ("sim", "import whimbrel.qmp_driver.runner"),
        ("sim", "from engine.states import Phase"),
        ("qmp_driver", "import engine"),
    ],
)
def test_an_import_against_the_arrows_is_found(layer: str, statement: str) -> None:
    """The canary: each of these must be an offence."""
    found = imports_in(statement, ROOT / "made_up.py")
    assert [offence for each in found for offence in offences(layer, each)]


@pytest.mark.parametrize(
    ("layer", "statement"),
    [
        ("engine", "from .states import Phase"),
        ("engine", "from whimbrel.engine.policy import Decision"),
        ("engine", "import dataclasses"),
        ("qmp_driver", "import asyncio, msgspec\nfrom whimbrel.engine.states import Phase"),
        ("sim", "from whimbrel.engine import machine\nimport heapq"),
    ],
)
def test_an_import_along_the_arrows_is_none(layer: str, statement: str) -> None:
    found = imports_in(statement, ROOT / "made_up.py")
    assert [offence for each in found for offence in offences(layer, each)] == []


def test_nobody_imports_a_bare_twin() -> None:
    """``import engine`` works in a checkout, and makes classes that are not those of ``whimbrel.engine``."""
    everywhere = own_files() + [
        path for name in ("tests", "benchmarks") for path in sorted((ROOT / name).rglob("*.py"))
    ]
    assert len(everywhere) > 20
    assert [str(found) for found in imports_of(everywhere) if found.head in LAYERS] == []


def test_no_import_climbs_out_of_its_package() -> None:
    every = [file for layer in LAYERS for file in files_of(layer)] + own_files()
    assert [place for file in every for place in parent_relative(file.read_text(), file)] == []


def test_only_the_command_line_imports_what_draws_it() -> None:
    files = own_files() + [file for layer in LAYERS for file in files_of(layer)]
    users = {found.file for found in imports_of(files) if found.head in COMMAND_LINE}
    others = {path.relative_to(PUBLIC).as_posix() for path in users if path.parent != PUBLIC / "commands"}
    assert others <= COMMAND_LINE_MODULES
    assert users, "the command line was not found"


@pytest.mark.parametrize("layer", LAYERS)
def test_the_links_are_whole(layer: str) -> None:
    """In a checkout the layer is a folder beside the public face; in a source archive only inside it."""
    assert (PUBLIC / layer).is_dir()
    if (ROOT / layer).exists():
        assert (PUBLIC / layer).samefile(ROOT / layer)
        assert (PUBLIC / layer).is_symlink()
        assert not (PUBLIC / layer).readlink().is_absolute()


def test_importing_whimbrel_loads_no_twin_and_no_command_line() -> None:
    """An embedder pays for what it uses; seen in a fresh interpreter that could import the twins."""
    program = (
        "import sys, whimbrel, whimbrel.engine, whimbrel.qmp_driver, whimbrel.sim\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(ran.stdout.split())
    assert "whimbrel" in loaded
    assert loaded & (set(LAYERS) | COMMAND_LINE) == set()


def modules() -> list[str]:
    """Every module that can be imported without running a program."""
    import whimbrel

    names = [module.name for module in pkgutil.walk_packages(whimbrel.__path__, "whimbrel.")]
    return ["whimbrel", *(name for name in names if not name.endswith("__main__"))]


def test_what_is_exported_exists_and_is_named_once() -> None:
    """Of every module that has an ``__all__``; the public face must."""
    exporting = 0
    for name in modules():
        module = importlib.import_module(name)
        exported: list[str] | None = getattr(module, "__all__", None)
        if exported is None:
            continue
        exporting += 1
        assert [word for word, times in Counter(exported).items() if times > 1] == [], name
        assert [word for word in exported if not hasattr(module, word)] == [], name
    assert exporting >= 1
    assert hasattr(importlib.import_module("whimbrel"), "__all__")


def test_everything_in_the_public_face_is_of_whimbrel_and_documented() -> None:
    import whimbrel

    for word in whimbrel.__all__:
        thing = getattr(whimbrel, word)
        if callable(thing) and hasattr(thing, "__module__") and word != "Policy":
            assert thing.__module__.startswith("whimbrel."), word
            assert thing.__doc__, word


def test_no_file_is_too_long_to_be_read() -> None:
    files = own_files() + [file for layer in LAYERS for file in files_of(layer)]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}
