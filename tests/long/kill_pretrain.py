"""Kill `bigs pretrain` at random moments, resume it, and compare it bit for bit with an uninterrupted run.

A tiny model on the CPU saves a checkpoint every 10 of 300 steps, so that many kills interrupt the writing of one. Each
kill comes up to 0.3 s after a random step or, in one of five cases, up to 6 s after the start, while Python and JAX
load or a checkpoint is read.

Run: python -m tests.long.kill_pretrain [--kills 20] [--steps 300] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from bigs_cli.checkpoints.orbax import steps
from tests.tiny import bigs, pretrain, start_bigs, write_shards
from tests.training.test_checkpoints import kill
from tests.training.test_resume import same, training_log


def main() -> None:
    """Print one line per kill, and the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    changes = {
        "steps": args.steps,
        "checkpoint__every_steps": 10,
        "checkpoint__keep_every": 50,
        "checkpoint__keep_best": "true",
        "evaluate__every_steps": 25,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BIGS_CACHE"] = str(Path(folder, "cache"))
        shards = write_shards(Path(folder))
        steady, killed = Path(folder, "steady"), Path(folder, "killed")
        bigs(*pretrain(shards, steady, **changes)).fine()
        moments = sorted(rng.randrange(1, args.steps) for _ in range(args.kills))
        for number, step in enumerate(moments):
            resume = (killed / "recipe.yaml").exists()
            if rng.random() < 0.2:
                delay = rng.uniform(0, 6)
                running = start_bigs(*pretrain(shards, killed, *(["--resume"] if resume else []), **changes))
                time.sleep(delay)
                running.kill()
                running.communicate()
                when = f"{delay:.2f} s after its start"
            else:
                delay = rng.uniform(0, 0.3)
                if not kill(shards, killed, step, delay, resume, **changes):
                    sys.exit("the run finished before it could be killed; choose more --steps")
                when = f"{delay:.2f} s after step {step}"
            saved = sorted(entry.name for entry in (killed / "checkpoints").glob("*"))
            print(f"kill {number + 1}: {when}; on disk: {', '.join(saved) or 'no checkpoint'}", flush=True)
        bigs(*pretrain(shards, killed, "--resume")).fine()
        if not same(steady / "checkpoints", killed / "checkpoints"):
            sys.exit("the final parameters differ")
        if training_log(steady) != training_log(killed):
            sys.exit("the logs differ")
        if steps(steady / "checkpoints") != steps(killed / "checkpoints"):
            sys.exit("the kept checkpoints differ")
    print(f"{args.kills} kills: parameters, log and kept checkpoints are those of the uninterrupted run.")


if __name__ == "__main__":
    main()
