"""Kill every verb that writes (SIGKILL) at random moments; each time it must end as one that was left alone.

After a kill nothing that counts as the product is there, or it is whole and the same. Then the command is given again,
with --resume where something can be resumed, and killed again; at last it is left to its end. Its product has the same
bytes, and nothing else lies beside it. Half of the kills come at any moment after the start, half after the first file
was written.

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
    """Print one line a verb; exit with 1 if one ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    rng, failed = random.Random(asked.seed), False
    with tempfile.TemporaryDirectory() as folder:
        for number, verb in enumerate(prepare(Path(folder))):
            if asked.only in verb.name:
                problems, what = _torture(verb, Path(folder, str(number)), asked.kills, rng)
                failed = failed or bool(problems)
                print(f"{verb.name}: {what}; {'; '.join(problems) or 'the same in the end'}", flush=True)
    sys.exit(failed)


def _torture(verb: Verb, place: Path, kills: int, rng: random.Random) -> tuple[list[str], str]:
    """Return what went wrong, and what was done."""
    steady, killed = place / "steady", place / "killed"
    steady.mkdir(parents=True)
    killed.mkdir()
    err = verb.start(steady).communicate(timeout=300)[1]  # so that what is compiled is so for all that follows
    if not verb.finished(steady):
        return [f"it fails if left alone: {err[-300:]}"], "nothing"
    wanted = verb.made(steady)
    shutil.rmtree(steady)
    steady.mkdir()
    started = time.monotonic()
    running = verb.start(steady)
    first = _first_file(running, steady, started + 300) - started
    running.communicate(timeout=300)
    took = time.monotonic() - started
    problems = [f"twice differs: {', '.join(wrong[:5])}" for wrong in [differences(wanted, verb.made(steady))] if wrong]
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
            problems.append(f"after {len(moments)} kills it says: {err.splitlines()[-1:]}")
            break
        if verb.finished(killed):
            if wrong := differences(wanted, verb.made_of(killed, verb.product)):
                problems.append(f"taken for whole: {', '.join(wrong[:5])}")
            shutil.rmtree(killed)
            killed.mkdir()
        if len(moments) == kills:
            break
    running = verb.start(killed)
    err = running.communicate(timeout=300)[1]
    if running.returncode:
        problems.append(f"in the end it says: {err.splitlines()[-1:]}")
    elif wrong := differences(wanted, verb.made(killed)):
        problems.append(f"differs: {', '.join(wrong[:5])}")
    return problems, f"{took:.1f} s alone, killed after {', '.join(moments)} s"


def _first_file(running: subprocess.Popen[str], place: Path, ends: float) -> float:
    """Wait until there is something in `place`, or the time is up; return when that was."""
    while time.monotonic() < ends and running.poll() is None and not any(place.iterdir()):
        time.sleep(0.002)
    return time.monotonic()


if __name__ == "__main__":
    main()
