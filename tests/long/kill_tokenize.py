"""Kill `bigs tokenize` at random moments, resume it, and compare the shards with those of an uninterrupted run.

Run: python -m tests.long.kill_tokenize --input TEXT [--input TEXT …] --vocab FILE [--kills 10] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.data.test_build import content


def main() -> None:
    """Print one line per kill, and the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", action="append", required=True)
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--length", default="128")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    rng = random.Random(args.seed)
    inputs = [word for source in args.input for word in ("--input", source)]
    command = [sys.executable, "-m", "bigs_cli", "tokenize", *inputs, "--vocab", args.vocab]
    command += ["--length", args.length, "--drop-duplicates", *more]
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder, "whole"), Path(folder, "parts")
        started = time.monotonic()
        subprocess.run([*command, "--output", str(whole)], check=True, capture_output=True)
        took = time.monotonic() - started
        print(f"uninterrupted: {took:.1f} s")
        kills = 0
        while kills < args.kills:
            running = subprocess.Popen(
                [*command, "--output", str(parts), "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            after = rng.uniform(0.0, 2.5 * took / args.kills + 2.0)
            try:
                err = running.communicate(timeout=after)[1]
            except subprocess.TimeoutExpired:
                running.kill()
                running.communicate()
                kills += 1
                saved = (parts / ".partial" / "progress.json").exists()
                print(f"kill {kills}: after {after:.1f} s, {'something' if saved else 'nothing'} saved")
                continue
            if running.returncode:
                sys.exit(f"a resumed run failed: {err.decode()}")
            print(f"finished after {kills} kills; compared and started again")
            compare(whole, parts)
        subprocess.run([*command, "--output", str(parts), "--resume"], check=True, capture_output=True)
        compare(whole, parts)
    print(f"{kills} kills: the shards are the same.")


def compare(whole: Path, parts: Path) -> None:
    """Exit if the contents of the two folders differ; else empty the second."""
    if content(whole) != content(parts):
        sys.exit("the shards differ")
    for path in parts.iterdir():
        path.unlink()


if __name__ == "__main__":
    main()
