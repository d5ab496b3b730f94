"""The built wheel contains every module and recipe, and works from any folder once installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from bigs_cli.recipe import recipe_names

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, so that the source folder is not modified."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("bigs_cli", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(built),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(built.glob("*.whl"))


def test_the_wheel_contains_all_files(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bigs_cli").rglob("*.py")}
    recipes = {path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")}
    assert packed == modules | {f"bigs_cli/recipe/shipped/{name}" for name in recipes}


def test_an_installed_wheel_lists_the_recipes(wheel: Path, tmp_path: Path) -> None:
    """A new environment has bigs from the wheel; only its dependencies come from this environment."""
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    packages = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    # Python searches the path in a .pth file after site-packages and does not run .pth files in it,
    # so an editable installation of bigs there is not found.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    folder = tmp_path / "empty"
    folder.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def call(*command: str | Path) -> str:
        return subprocess.run(command, cwd=folder, env=clean, check=True, capture_output=True, text=True).stdout

    where = call(python, "-c", "import bigs_cli; print(bigs_cli.__file__)").strip()
    assert Path(where).is_relative_to(packages)
    lines = call(python.with_name("bigs"), "recipes", "list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == recipe_names()
    assert "kind: pretrain" in call(python.with_name("bigs"), "recipes", "show", "small", "--resolved")
    assert not list(folder.iterdir())
