"""Try thousands of corrupt files on every parser of bigs, each parser in its own process.

A case that breaks a parser (an error without a message, a new process or connection, a write elsewhere, too much time
or memory, a crash) is saved under --keep and becomes a test. With --atheris (pip install atheris), the coverage of our
code guides the choice of bytes, for one parser and the number of runs in --cases (-1: without end).

Run: python -m tests.long.fuzz [PARSER …] [--cases 10000] [--seed 0] [--keep faults] [--atheris]
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FunctionType

from tests.fuzz.targets import BY_NAME
from tests.fuzz.trial import Trial

ADDRESSES = 12 << 30  # limit on the address space of a parser in bytes: larger allocations fail


def main() -> None:
    """Print one line per parser, and exit with 1 if a case was neither read nor refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(BY_NAME))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("faults"))
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument(
        "--here", action="store_true", help="run in this process (used for the processes of the parsers)"
    )
    args = parser.parse_args()
    if unknown := [name for name in args.parsers if name not in BY_NAME]:
        sys.exit(f"There is no parser {', '.join(unknown)}. They are: {', '.join(BY_NAME)}.")
    if args.atheris:
        explore(args.parsers[0], args.cases)
    elif args.here:
        sys.exit(draw(args.parsers[0], args.cases, args.seed, args.keep))
    else:
        broken = [name for name in args.parsers or BY_NAME if not start(name, args)]
        sys.exit(f"broken: {', '.join(broken)}" if broken else 0)


def start(name: str, args: argparse.Namespace) -> bool:
    """Test a parser in its own process, so that a crash does not end the others."""
    options = ("--cases", str(args.cases), "--seed", str(args.seed), "--keep", str(args.keep), "--here")
    done = subprocess.run([sys.executable, "-m", "tests.long.fuzz", name, *options], check=False)
    if done.returncode < 0:
        print(f"{name}: ended by signal {-done.returncode}; its last case is {args.keep / 'last'}", flush=True)
    return done.returncode == 0


def draw(name: str, cases: int, number: int, keep: Path) -> int:
    """Try `cases` cases; return the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    keep = keep.absolute()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIGS_CACHE"] = str(Path(folder, "cache"))
        Path(folder, "files").mkdir()
        trial = Trial(BY_NAME[name], Path(folder, "files"))
        began = time.monotonic()
        report = trial.attempt(cases, number)
        took = time.monotonic() - began
    print(
        f"{name}: {report.tried:,} cases in {took:.0f} s, {report.read:,} read, {report.tried - report.read:,} refused "
        f"or at fault; {len(report.faults)} faults",
        flush=True,
    )
    for index, (fault, case) in enumerate(report.faults.items()):
        keep.mkdir(exist_ok=True)
        place = keep / f"{name.replace(' ', '-').replace('/', '-')}-{index}"
        place.write_bytes(case)
        print(f"  {fault} ({place})", flush=True)
    return int(bool(report.faults))


def explore(name: str, runs: int) -> None:
    """Let atheris search for cases that reach new code."""
    import atheris  # pyright: ignore[reportMissingImports]

    folder = Path(tempfile.mkdtemp())
    os.environ["BIGS_CACHE"] = str(folder / "cache")
    (folder / "files").mkdir()
    (folder / "corpus").mkdir()
    trial = Trial(BY_NAME[name], folder / "files")
    for number, content in enumerate(trial.seeds):
        (folder / "corpus" / str(number)).write_bytes(content)
    for one in gc.get_objects():  # only our functions: the libraries have fifty thousand
        if isinstance(one, FunctionType) and (one.__module__ or "").startswith("bigs_cli."):
            atheris.instrument_func(one)

    def once(data: bytes) -> None:
        trial.run(data)
        for fault in trial.report.faults:
            raise AssertionError(fault)

    atheris.Setup([sys.argv[0], f"-runs={runs}", str(folder / "corpus")], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
