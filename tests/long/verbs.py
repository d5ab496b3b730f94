"""Every writing command with small inputs: its arguments, how to resume it, and its product for comparisons."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.data.test_build import content as shard_content
from tests.tiny import bigs, finetune, parameters, pretrain, start_bigs, write_shards, write_tasks
from tests.training.test_resume import TIMES

_IGNORED = {"environment.json", ".lock"}  # files of a run that are not compared


@dataclass(frozen=True)
class Verb:
    """A command that writes `product` in its working folder; it can be resumed as soon as `begun` exists."""

    name: str
    command: tuple[object, ...]
    product: str
    whole: str = ""
    """The file of the product that is written last: if it exists, the product is finished. "": the product itself."""
    begun: str | None = None

    def arguments(self, place: Path) -> tuple[object, ...]:
        """Return the arguments of the command, or those that resume it if `place` has something to resume."""
        if self.begun is None or not any(place.glob(f"{self.product}/{self.begun}")):
            return self.command
        words = list(self.command)
        while "--set" in words:
            at = words.index("--set")
            del words[at : at + 2]
        return (*words, "--resume")

    def start(self, place: Path) -> subprocess.Popen[str]:
        """Start or resume the command in `place`."""
        return start_bigs(*self.arguments(place), cwd=place, BIGS_RUNS=str(place / "none"))

    def finished(self, place: Path) -> bool:
        """Return whether `place` contains the finished product."""
        return (place / self.product / self.whole).exists()

    def made(self, place: Path) -> dict[str, Any]:
        """Return the contents of the product and of every other file by their paths in `place`, without times."""
        found: dict[str, Any] = {}
        for path in sorted(path for path in place.rglob("*") if path.is_file()):
            name = str(path.relative_to(place))
            if path.name not in _IGNORED and "/checkpoints/" not in name and "/best/" not in name:
                found[name] = _plain(path)
        for run in sorted(path.parent for path in place.rglob("recipe.yaml")):
            for kept in (path for path in (run / "checkpoints", run / "best") if path.is_dir()):
                name = str(kept.relative_to(place))
                found[name] = sorted(path.name for path in kept.iterdir())
                found |= {f"{name}{key}": value.tobytes() for key, value in parameters(kept).items()}
        if (place / self.product / "manifest.json").is_file():
            found |= {f"{self.product}/{name}": value for name, value in shard_content(place / self.product).items()}
        return found

    def made_of(self, place: Path, product: str) -> dict[str, Any]:
        """Return what `made` does for the files of the product only."""
        return {name: value for name, value in self.made(place).items() if name.split("/")[0] == product}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of the contents that differ, and their values if these are short."""
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    values = ((name, f"{one.get(name)!r} ≠ {other.get(name)!r}") for name in names)
    return [f"{name} ({value})" if len(value) < 400 else name for name, value in values]


def prepare(folder: Path) -> list[Verb]:
    """Make the inputs of all commands in `folder`, and return the commands."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["BIGS_CACHE"] = str(folder / "cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["PYTHONPATH"] = str(ROOT)  # use this code in every working folder
    shards, glue = write_shards(folder), write_tasks(folder / "glue")
    base, tuned = folder / "base", folder / "tuned"
    bigs(*pretrain(shards, base)).fine()
    bigs(*finetune("mrpc", base, glue, tuned)).fine()
    text = folder / "texts.jsonl"
    rows = ({"text": f"Row {i}: the ship left the town.", "pair": "The lake freezes."} for i in range(3000))
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    many = folder / "many.txt"
    many.write_text("\n\n".join(f"{line} {number}. And the river rises." for number in range(20) for line in LINES))
    cut = ("--length", 32, "--train-vocab", 400, "--heldout", 0.1, "--text-documents", "block", "--drop-duplicates")
    steps = {"steps": 60, "checkpoint__every_steps": 5, "evaluate__every_steps": 20, "checkpoint__keep_best": "true"}
    run = Path("out")
    formats = ["flax", "torch", "safetensors", "transformers", "stablehlo", *(["onnx"] if find_spec("onnx") else [])]
    ask = ("--model", tuned, "--input", text, "--pair", "pair")
    return [
        Verb("tokenize", ("tokenize", "--input", many, *cut, "--output", "out"), "out", "manifest.json", ".partial"),
        Verb("pretrain", tuple(pretrain(shards, run, **steps)), "out", "results.json", "recipe.yaml"),
        Verb("finetune", tuple(finetune("mrpc", base, glue, run)), "out", "results.json", "recipe.yaml"),
        Verb(
            "finetune --seeds",
            tuple(finetune("mrpc", base, glue, run, "--seeds", 2)),
            "out",
            "seeds.json",
            "sweep.json",
        ),
        Verb("finetune glue", tuple(finetune("glue", base, glue, run)), "out", "stsb/results.json", "sweep.json"),
        Verb("eval", ("eval", "mrpc", "--model", tuned, "--data", glue, "--predictions", "out.jsonl"), "out.jsonl"),
        Verb("predict", ("predict", *ask, "--output", "out.jsonl"), "out.jsonl"),
        Verb("predict --embed", ("predict", *ask, "--embed", "--output", "out.npy"), "out.npy"),
        *(
            Verb(f"export {form}", ("export", "--model", tuned, "--format", form, "--output", "out"), "out")
            for form in formats
        ),
        Verb("runs plot", ("runs", "plot", base, "--output", "out.svg"), "out.svg"),
        Verb("runs report", ("runs", "report", tuned, "--output", "out.html"), "out.html"),
        Verb("recipes copy", ("recipes", "copy", "small", "out.yaml", "--force"), "out.yaml"),
    ]


LINES = [f"Document {i} tells of the town, the lake and the sea" for i in range(300)]


def _plain(path: Path) -> Any:
    """Return a file's content without times and speeds."""
    if path.name == "metrics.jsonl":
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        return [{name: value for name, value in entry.items() if name not in TIMES} for entry in entries]
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text()))
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if not name.startswith("seconds")}
    return [_timeless(part) for part in value] if isinstance(value, list) else value
