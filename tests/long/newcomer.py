"""Follow the README as a new user, in an empty folder, and save the output of the terminal.

The steps are a fresh clone of this repository; `make demo`, which installs bigs and runs the whole lifecycle; then the
commands that the demo prints at its end, `bigs doctor`, and a few invalid commands. A traceback or an unexpected exit
code is a fault.

Run: python -m tests.long.newcomer [--keep transcript.txt]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.tiny import ROOT

STEPS: tuple[tuple[str, int], ...] = (
    ("make demo", 0),
    ("bigs --version", 0),
    ("bigs doctor", 0),
    ("bigs recipes list", 0),
    ("bigs recipes show demo", 0),
    ("bigs runs list", 0),
    ("bigs runs show demo/pretrained", 0),
    ("bigs runs plot demo/pretrained --output demo/course.png", 0),
    ("bigs predict --model demo/pretrained 'the value of the [MASK] is returned.'", 0),
    ("bigs eval mlm --model demo/pretrained --data demo/shards", 0),
    ("bigs pretrain --recipe demo --data demo/shards --dry-run", 0),
    ("bigs export --model demo/word-order --format flax --output demo/again", 0),
    ("bigs pretrain --recipe smal", 2),
    ("bigs predict --model nothing 'a text'", 2),
    ("bigs tokenize --input nothing.txt --length 128 --train-vocab 8192 --output shards", 2),
    ("bigs export --model demo/word-order --format flax --output demo/again", 2),
)


def main() -> None:
    """Print the transcript, and exit with 1 if a step has an unexpected result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, default=Path("transcript.txt"))
    keep = parser.parse_args().keep.absolute()
    wrong, transcript = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "bigs")
        subprocess.run(["git", "clone", "--quiet", ROOT, home], check=True)
        # The environment of a new user: no cache, no runs, and the command on the path.
        own = {"HOME": folder, "PATH": f"{home / '.venv' / 'bin'}:{os.environ['PATH']}"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("BIGS_", "JAX_"))}
        for command, expected in STEPS:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=home,
                env=environment | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            transcript.append(f"$ {command}\n{done.stdout}")
            print(transcript[-1], flush=True)
            if done.returncode != expected or "Traceback" in done.stdout:
                wrong.append(f"{command}: exit code {done.returncode}, expected {expected}")
    keep.write_text("\n".join(transcript).replace(folder, "~"), encoding="utf-8")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
