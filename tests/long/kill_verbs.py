"""Kill every writing command (SIGKILL) at random moments, and compare its product with that of an uninterrupted one.

After a kill, there must be no finished product, or the product must be complete and the same. Then the command is
repeated, with --resume if there is something to resume, and killed again; at last it runs to its end. Its product must
have the same bytes, and there must be no other files. Half of the kills come at any moment after the start, half after
the first file was written.

Run: python -m tests.long.kill_verbs [--kills 4] [--seed 0] [--only NAME]
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.long.verbs import Verb, differences, prepare


def main() -> None:
    """Print one line per command; exit with 1 if one has problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    rng, failed = random.Random(args.seed), False
    with tempfile.TemporaryDirectory() as folder:
        for number, verb in enumerate(prepare(Path(folder))):
            if args.only in verb.name:
                problems, what = _kill_repeatedly(verb, Path(folder, str(number)), args.kills, rng)
                failed = failed or bool(problems)
                print(f"{verb.name}: {what}; {'; '.join(problems) or 'the same in the end'}", flush=True)
    sys.exit(failed)


def _kill_repeatedly(verb: Verb, place: Path, kills: int, rng: random.Random) -> tuple[list[str], str]:
    """Return the problems, and a description of the attempts."""
    steady, killed = place / "steady", place / "killed"
    steady.mkdir(parents=True)
    killed.mkdir()
    err = verb.start(steady).communicate(timeout=300)[1]  # fills the compilation cache for all later runs
    if not verb.finished(steady):
        return [f"it fails without kills: {err[-300:]}"], "nothing"
    wanted = verb.made(steady)
    shutil.rmtree(steady)
    steady.mkdir()
    started = time.monotonic()
    running = verb.start(steady)
    first = _first_file(running, steady, started + 300) - started
    running.communicate(timeout=300)
    took = time.monotonic() - started
    problems = [
        f"a second run differs: {', '.join(wrong[:5])}" for wrong in [differences(wanted, verb.made(steady))] if wrong
    ]
    moments: list[str] = []
    for _ in range(3 * kills):
        started = time.monotonic()
        running = verb.start(killed)
        if rng.random() < 0.5:
            _first_file(running, killed, started + took)
            time.sleep(rng.uniform(0, max(0.05, took - first)))
        else:
            time.sleep(rng.uniform(0, took))
        running.kill()
        err = running.communicate()[1]
        if running.returncode == -9:
            moments.append(f"{time.monotonic() - started:.1f}{' (resumed)' if '--resume' in str(running.args) else ''}")
        elif running.returncode:
            problems.append(f"after {len(moments)} kills it fails: {err.splitlines()[-1:]}")
            break
        if verb.finished(killed):
            if wrong := differences(wanted, verb.made_of(killed, verb.product)):
                problems.append(f"the product counts as finished: {', '.join(wrong[:5])}")
            shutil.rmtree(killed)
            killed.mkdir()
        if len(moments) == kills:
            break
    running = verb.start(killed)
    err = running.communicate(timeout=300)[1]
    if running.returncode:
        problems.append(f"the last run fails: {err.splitlines()[-1:]}")
    elif wrong := differences(wanted, verb.made(killed)):
        problems.append(f"differs: {', '.join(wrong[:5])}")
    return problems, f"{took:.1f} s without kills, killed after {', '.join(moments)} s"


def _first_file(running: subprocess.Popen[str], place: Path, ends: float) -> float:
    """Wait until `place` contains a file, or until the time `ends`; return the time."""
    while time.monotonic() < ends and running.poll() is None and not any(place.iterdir()):
        time.sleep(0.002)
    return time.monotonic()


if __name__ == "__main__":
    main()
