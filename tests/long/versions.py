"""Run the whole test suite with other Pythons, and with the oldest or newest allowed release of every dependency.

Each pair gets its own virtual environment under --folder, which later runs use again. "oldest" pins each requirement
of pyproject.toml, extras included, to its lower bound; "newest" lets pip choose.

Run: python -m tests.long.versions [--python python3.11 …] [--releases oldest …] [-- -k …]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PYTHONS = ("python3.11", "python3.12", "python3.13")
RELEASES = ("oldest", "newest")
# An old library may use features of a newer dependency that are now deprecated; this is not a fault of bigs.
LENIENT = {"oldest": ("-W", "default::DeprecationWarning", "-W", "default::FutureWarning"), "newest": ()}
VERSION = "import platform; print(platform.python_version())"


def requirements(extras: list[str]) -> list[Requirement]:
    """Return the requirements of pyproject.toml and of these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for name in extras for line in project["optional-dependencies"][name])]
    return [Requirement(line) for line in lines]


def oldest(wanted: list[Requirement]) -> list[str]:
    """Return a constraint per requirement that pins its lower bound."""
    bounds = ((one.name, spec.version) for one in wanted for spec in one.specifier if spec.operator == ">=")
    return [f"{name}=={version}" for name, version in bounds]


def prepare(folder: Path, python: str, releases: str, extras: list[str]) -> Path:
    """Return the interpreter of a virtual environment in which bigs and the wanted releases are installed."""
    inside = folder / f"{Path(python).name}-{releases}"
    interpreter = inside / "bin" / "python"
    if not interpreter.exists():
        subprocess.run([python, "-m", "venv", inside], check=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    install = [interpreter, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{','.join(extras)}]"]
    if releases == "oldest":
        pins = inside / "constraints.txt"
        pins.write_text("".join(f"{line}\n" for line in oldest(requirements(extras))), encoding="utf-8")
        install += ["--constraint", pins]
    else:
        install += ["--upgrade", "--upgrade-strategy", "eager"]
    subprocess.run(install, check=True)
    return interpreter


def installed(interpreter: Path, names: list[str]) -> str:
    """Return the installed releases of the packages `names` on one line."""
    script = "import importlib.metadata as m, sys; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    done = subprocess.run([interpreter, "-c", script, *names], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main() -> None:
    """Print the releases and pytest's last line of each pair, and exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", default=PYTHONS, help="names or paths")
    parser.add_argument("--releases", nargs="+", choices=RELEASES, default=RELEASES)
    parser.add_argument("--extras", default="dev,hdf5,torch,onnx,tensorboard")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "versions")
    parser.add_argument("--only-install", action="store_true")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    args = parser.parse_args()
    extras = args.extras.split(",")
    names = sorted({one.name for one in requirements(extras)})
    failed = []
    for python in args.python:
        try:  # A shim of pyenv may exist although that Python is not installed.
            subprocess.run([python, "-c", ""], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            failed.append(f"{python} is not on this machine")
            continue
        for releases in args.releases:
            interpreter = prepare(args.folder.absolute(), python, releases, extras)
            number = subprocess.run([interpreter, "-c", VERSION], check=True, capture_output=True, text=True).stdout
            print(f"Python {number.strip()}, {releases}: {installed(interpreter, names)}", flush=True)
            if args.only_install:
                continue
            # The cache key of a compiled program contains the release of jaxlib, but not that of Python.
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(args.folder.absolute() / "jax")}
            command = [interpreter, "-m", "pytest", "-n", "2", *LENIENT[releases], *args.pytest]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            lines = done.stdout.splitlines() or done.stderr.splitlines()
            report = [line for line in lines if line.startswith(("FAILED", "ERROR"))] + lines[-1:]
            print(*(f"  {line}" for line in report), sep="\n", flush=True)
            if done.returncode:
                failed.append(f"Python {number.strip()} with the {releases} releases")
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
