"""What is built is what is in the tree: one import namespace, complete, and never an empty shell.

The build backend is installed once into a temporary folder, since the project's environment has no use for it;
everything is built from a copy of the tree.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("engine", "qmp_driver", "sim")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache", ".hypothesis", ".coverage*")
IN_THE_TREE = (
    "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "Makefile", "whimbrel", *LAYERS,
    "tests", "benchmarks", "docs", "tools",
)  # fmt: skip


@dataclass(frozen=True)
class Backend:
    """The build backend, in a folder of its own."""

    folder: Path

    def build(self, tree: Path, target: str, out: Path) -> subprocess.CompletedProcess[str]:
        """Build ``wheel`` or ``sdist`` of a tree; the caller looks at the exit status."""
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def built(self, tree: Path, target: str, out: Path) -> Path:
        """Build it and give the one file that came of it."""
        ran = self.build(tree, target, out)
        assert ran.returncode == 0, ran.stderr
        (file,) = out.iterdir()
        return file


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """The backend that pyproject.toml names, from the configured index."""
    folder = tmp_path_factory.mktemp("backend")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(folder),
    ]
    ran = subprocess.run([*command, "hatchling>=1.27"], capture_output=True, text=True, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    return Backend(folder)


def copy_tree(to: Path) -> Path:
    """A copy of the tree with its links as links; an unpacked source archive has fewer folders."""
    to.mkdir()
    for name in IN_THE_TREE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, symlinks=True, ignore=IGNORED)
        elif source.exists():
            shutil.copy2(source, to / name)
    return to


def flatten_links(tree: Path) -> None:
    """What a zip download, or a checkout without symbolic links, makes of the links: text files."""
    for layer in LAYERS:
        place = tree / "whimbrel" / layer
        if place.is_symlink():
            place.unlink()
        else:
            # An unpacked source archive has the real folder here: as a checkout it stands beside.
            shutil.move(place, tree / layer)
        place.write_text(f"../{layer}")


def package_files() -> dict[str, str]:
    """Every file of the package as it must be in a wheel, with the digest of its content."""
    found: dict[str, str] = {}
    for top in (ROOT / "whimbrel", *(ROOT / "whimbrel" / layer for layer in LAYERS)):
        for path in top.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = (Path("whimbrel") / path.relative_to(ROOT / "whimbrel")).as_posix()
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def wheel_files(wheel: Path) -> dict[str, str]:
    """Every file of a wheel but its metadata, with the digest of its content."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The package as it was when the tests of this file began: others may be at work in the same tree."""
    return package_files()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, before: dict[str, str]) -> Path:
    """A copy of the tree."""
    assert before
    return copy_tree(tmp_path_factory.mktemp("copy") / "tree")


@pytest.fixture(scope="module")
def wheel(tree: Path, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tree."""
    return backend.built(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive of the tree."""
    return backend.built(tree, "sdist", tmp_path_factory.mktemp("sdist"))


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path, before: dict[str, str]) -> None:
    names = set(wheel_files(wheel))
    assert names == set(before)
    assert {"whimbrel/py.typed", "whimbrel/guest/image/guest.elf"} <= names
    for layer in LAYERS:
        assert f"whimbrel/{layer}/__init__.py" in names
    assert {name.split("/")[0] for name in names} == {"whimbrel"}, "a bare twin would be imported by others"


def test_the_wheel_says_what_can_be_run_and_plugged_in(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (points,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("METADATA"))
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert "whimbrel = whimbrel.cli:main" in points
    assert "[whimbrel.policies]" in points
    from whimbrel import __version__

    assert f"\nVersion: {__version__}\n" in metadata


def test_an_unpacked_wheel_is_imported_as_one_namespace(wheel: Path, tmp_path: Path) -> None:
    """Away from the tree, with nothing but the wheel's own files."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib.resources
import whimbrel, whimbrel.cli, whimbrel.engine.machine, whimbrel.qmp_driver.runner, whimbrel.sim
from whimbrel.engine.states import Phase
assert Phase.__module__ == "whimbrel.engine.states"
assert (importlib.resources.files("whimbrel.guest") / "image" / "guest.elf").read_bytes()[:4] == b"\\x7fELF"
print(whimbrel.__file__, whimbrel.engine.machine.__file__)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "site")],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert all(Path(file).is_relative_to(tmp_path) for file in ran.stdout.split())


def test_the_source_archive_gives_the_same_wheel(sdist: Path, wheel: Path, backend: Backend, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not any(member.issym() or member.islnk() for member in archive), "real files, each once"
        names = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        archive.extractall(tmp_path / "unpacked")
    assert "whimbrel/engine/machine.py" in names
    assert not any(name.startswith(tuple(f"{layer}/" for layer in LAYERS)) for name in names)
    assert {"README.md", "LICENSE", "pyproject.toml", "Makefile", "tests/test_packaging.py"} <= names
    (top,) = (tmp_path / "unpacked").iterdir()
    again = backend.built(top, "wheel", tmp_path / "wheel")
    assert wheel_files(again) == wheel_files(wheel)


def test_flattened_links_are_refused_loudly(backend: Backend, tmp_path: Path) -> None:
    """Unguarded, the backend would build a wheel with three text files in it and call that a success."""
    tree = copy_tree(tmp_path / "tree")
    flatten_links(tree)
    for target in ("wheel", "sdist"):
        out = tmp_path / target
        ran = backend.build(tree, target, out)
        assert ran.returncode != 0, f"a {target} was built from flattened links"
        assert "_version.py" in ran.stderr + ran.stdout
        assert not out.exists() or not list(out.iterdir())


def test_make_mends_flattened_links(backend: Backend, tmp_path: Path, wheel: Path) -> None:
    """What the Makefile does before anything else; the wheel is then the right one."""
    tree = copy_tree(tmp_path / "tree")
    flatten_links(tree)
    ran = subprocess.run(["make", "links"], cwd=tree, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    for layer in LAYERS:
        assert (tree / "whimbrel" / layer).samefile(tree / layer)
    mended = wheel_files(backend.built(tree, "wheel", tmp_path / "wheel"))
    assert set(mended) == set(wheel_files(wheel))
