"""Kill `bigs pretrain` at random moments, resume it, and compare with a run that was left alone, bit for bit.

A tiny model on the CPU, with a checkpoint every 10 of 300 steps, so that many kills fall into the writing of one. Each
kill comes up to 0.3 s after a step drawn at random, or, one in five, up to 6 s after the start: while Python and JAX
load, or a checkpoint is read.

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
    """Print one line a kill, and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    changes = {
        "steps": asked.steps,
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
        moments = sorted(rng.randrange(1, asked.steps) for _ in range(asked.kills))
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
            sys.exit("the logged courses differ")
        if steps(steady / "checkpoints") != steps(killed / "checkpoints"):
            sys.exit("other checkpoints were kept")
    print(f"{asked.kills} kills: parameters, log and kept checkpoints are those of the run left alone.")


if __name__ == "__main__":
    main()
