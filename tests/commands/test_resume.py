"""The printed command to continue works as printed; options and data that contradict the run are refused."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.evaluation.mlm import MaskedLMEvaluator
from bigs_cli.evaluation.task import TaskEvaluator
from tests.tiny import DOCUMENTS, bigs, finetune, parameters, pretrain, snapshot
from tests.training.test_resume import same

TINY = [
    word
    for value in ("epochs=2", "batch_size=8", "eval_batch_size=8", "sequence_length=24", "optimizer.learning_rate=3e-3")
    for word in ("--set", value)
]


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Interrupt every evaluation, so that a run stops with a checkpoint at its first one; `stops.undo()` ends this."""
    with monkeypatch.context() as patch:
        for evaluator, name in ((MaskedLMEvaluator, "__call__"), (TaskEvaluator, "measure")):
            measure = getattr(evaluator, name)

            def interrupted(self: Any, *arguments: Any, measure: Any = measure) -> Any:
                signal.raise_signal(signal.SIGINT)
                return measure(self, *arguments)

            patch.setattr(evaluator, name, interrupted)
        yield patch


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose name needs quotes."""
    folder = tmp_path / "my work's place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def stopped(*arguments: object) -> list[str]:
    """Run a command that is interrupted, and return the arguments of the command it prints to continue."""
    done = bigs(*arguments)
    assert (done.code, done.out) == (130, ""), done.err
    (line,) = [line for line in done.err.splitlines() if "Continue with: " in line]
    name, *command = shlex.split(line.partition("Continue with: ")[2])
    assert name == "bigs"
    return command


def refused(*arguments: object) -> str:
    """Run a command that is refused, and return its error message."""
    done = bigs(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    return done.err


def relative(path: Path) -> str:
    return os.path.relpath(path)


def write_table(path: Path) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("body", "kind"))
        rows.writerows((text, ("sea", "land")["sea" not in text]) for text in DOCUMENTS * 2)
    return path


def test_pretraining(shards: Path, pretrained: Path, here: Path, stops: pytest.MonkeyPatch) -> None:
    command = stopped(*pretrain(Path(relative(shards)), Path("a run")))
    assert command == ["pretrain", "--resume", "--run", "a run"]
    stops.undo()
    assert bigs(*command).fine().out == "a run\n"
    assert same(here / "a run" / "checkpoints", pretrained / "checkpoints")
    data = [json.loads((run / "results.json").read_text())["data"] for run in (here / "a run", pretrained)]
    assert data[0] == data[1] | {"path": relative(shards)}


@pytest.mark.parametrize("task", ["mrpc", "files", "word-order", "glue"])
def test_fine_tuning(
    task: str, pretrained: Path, glue: Path, here: Path, stops: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With relative paths, from another working directory, and without the start model once there are checkpoints."""
    base, run = shutil.copytree(pretrained, here / "base"), here / "new run"
    text = here / "text.jsonl"
    documents = (f"{one} {two}" for one in DOCUMENTS for two in DOCUMENTS if one != two)
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    table = write_table(here / "all.csv").name
    options = {
        "mrpc": ["mrpc", "--data", relative(glue)],
        "files": ["--train", table, "--dev", table, "--text", "body", "--label", "kind"],
        "word-order": ["word-order", "--data", text.name],
        "glue": ["glue", "--data", relative(glue)],
    }[task]
    command = stopped("finetune", *options, "--from", "base", "--run", "new run", *TINY)
    assert command == ["finetune", "--resume", "--run", "new run"]
    stops.undo()
    monkeypatch.chdir("..")
    if task != "glue":
        shutil.rmtree(base)
    done = bigs(*(str(run) if word == "new run" else word for word in command)).fine()
    assert done.out == f"{run}\n"
    ended = {str(path.parent.relative_to(run)) for path in run.rglob("results.json")}
    assert ended == ({"cola", "mnli", "mrpc", "stsb"} if task == "glue" else {"."})
    (following,) = [line for line in done.err.splitlines() if line.startswith("Next: bigs ")]
    bigs(*shlex.split(following)[2:]).fine()
    if task == "glue":
        assert f"{run / 'mrpc'} is finished." in bigs("finetune", "--resume", "--run", run).fine().err
        message = refused("finetune", "glue", "--from", pretrained, "--run", run)
        assert shlex.join(["bigs", "finetune", "--resume", "--run", str(run)]) in message


def test_several_seeds(
    pretrained: Path, here: Path, stops: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are those of uninterrupted runs, and more seeds can be added."""
    options = ["--train", write_table(here / "a.csv").name, "--dev", "a.csv", "--text", "body", "--label", "kind"]
    command = stopped("finetune", *options, "--from", pretrained, "--run", "run", "--seeds", 2, *TINY)
    stops.undo()
    bigs("finetune", *options, "--from", pretrained, "--run", "steady", "--seeds", 2, *TINY).fine()
    bigs(*command).fine()
    for seed in ("seed-42", "seed-43"):
        assert all(same(here / "run" / seed / kept, here / "steady" / seed / kept) for kept in ("best", "checkpoints"))
    monkeypatch.chdir("..")
    more = bigs("finetune", "--resume", "--run", here / "run", "--seeds", 3).fine()
    assert "Seed 3 of 3" in more.err
    assert json.loads((here / "run" / "seeds.json").read_text())["seeds"] == [42, 43, 44]
    assert "started with --seeds 3" in refused("finetune", "--resume", "--run", here / "run", "--seeds", 2)
    assert "is finished" in bigs("finetune", "--resume", "--run", here / "run").fine().err


def test_a_folder_in_use_is_refused_with_the_command_that_resumes(
    pretrained: Path, shards: Path, glue: Path, here: Path
) -> None:
    run = shutil.copytree(pretrained, here / "run")
    assert f"`{shlex.join(['bigs', 'pretrain', '--resume', '--run', str(run)])}`" in refused(*pretrain(shards, run))
    bigs(*finetune("cola", pretrained, glue, Path("tuned"), "--seeds", 2)).fine()
    again = refused(*finetune("cola", pretrained, glue, Path("tuned"), "--seeds", 2))
    assert "`bigs finetune --resume --run tuned`" in again
    assert "The folder tuned is in use." in refused(*finetune("cola", pretrained, glue, Path("tuned")))


def test_options_that_contradict_the_run_are_refused(pretrained: Path, shards: Path, glue: Path, here: Path) -> None:
    table = write_table(here / "a.csv").name
    options = ["--train", table, "--dev", table, "--text", "body", "--label", "kind", "--from", pretrained]
    bigs("finetune", *options, "--run", "tuned", *TINY).fine()
    run = shutil.copytree(pretrained, here / "base")
    before = snapshot(here)
    for words, message in (
        (("pretrain", "--run", run, "--recipe", "small"), "was started with --recipe demo"),
        (("pretrain", "--run", run, "--from", "tuned"), "was started from random initialization, not from tuned"),
        (("pretrain", "--run", run, "--validation", shards), "was started without --validation"),
        (("pretrain", "--run", run, "--set", "steps=9"), "Leave out --set"),
        (("pretrain", "--run", "tuned"), "Continue it with `bigs finetune --resume --run tuned`"),
        (("pretrain",), "Name the run to continue with --run RUN"),
        (("finetune", "--run", run), "is a pretraining run. Continue it with `bigs pretrain --resume"),
        (("finetune", "--run", "tuned", "--from", run), f"was started from {pretrained}, not from {run}"),
        (("finetune", "--run", "tuned", "--recipe", "mrpc"), "was started with --recipe custom"),
        (("finetune", "--run", "tuned", "--text", "kind"), "was started with --text body, not kind"),
        (("finetune", "--run", "tuned", "--pair", "body"), "was started without --pair, not body"),
        (("finetune", "--run", "tuned", "--seeds", 2), "to resume a single run, leave out --sweep and --seeds"),
        (("finetune", "mrpc", "--run", "tuned"), "is for the task custom, not mrpc"),
        (("finetune", "--run", "none"), "There is no run to resume in none"),
    ):
        assert message in refused(*words, "--resume")
    assert snapshot(here) == before
    # Options that repeat the settings of the run are accepted.
    same_again = ("--recipe", "demo", "--data", relative(shards), "--resume", "--run", run)
    assert bigs("pretrain", *same_again).fine().out == f"{run}\n"
    bigs("finetune", *options, "--run", "tuned", "--resume").fine()


def test_moved_data_is_recorded_for_later_resumes(
    shards: Path, pretrained: Path, here: Path, stops: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(shards, here / "shards")
    stopped(*pretrain(Path("shards"), Path("run"), steps=9))
    moved = own.rename(here / "moved")
    assert "There are no token shards in" in refused("pretrain", "--resume", "--run", "run")
    command = stopped("pretrain", "--resume", "--run", "run", "--data", moved.name)
    stops.undo()
    assert "after step 6" in bigs(*command).fine().err


def test_changed_dev_data_is_refused(pretrained: Path, glue: Path, here: Path, stops: pytest.MonkeyPatch) -> None:
    own = shutil.copytree(glue, here / "glue")
    command = stopped(*finetune("mrpc", pretrained, own, Path("run"), "--seeds", 2))
    stops.undo()
    dev = own / "MRPC" / "dev.tsv"
    lines = dev.read_text().splitlines()
    dev.write_text("\n".join([*lines[:-1], lines[1]]) + "\n")
    before = snapshot(here)
    message = refused(*command)
    assert "is not what run/seed-42 was trained on until step 3 (changed: dev)" in message
    assert snapshot(here) == before
    dev.write_text("\n".join(lines) + "\n")
    bigs(*command).fine()
    shutil.rmtree("run/seed-43")
    dev.write_text("\n".join([*lines[:-1], lines[1]]) + "\n")
    summary = Path("run/seeds.json").read_text()
    assert "run/seed-43 was not trained on the data of run/seed-42 (different: dev)" in refused(*command)
    assert Path("run/seeds.json").read_text() == summary


def test_moved_data_of_several_seeds_is_recorded(pretrained: Path, glue: Path, here: Path) -> None:
    own = shutil.copytree(glue, here / "glue")
    command = finetune("cola", pretrained, own, Path("run"), "--set", "epochs=1")
    bigs(*command, "--seeds", 2).fine()
    moved, other = own.rename(here / "moved"), shutil.copytree(pretrained, here / "other")
    plan = Path("run/sweep.json").read_text()
    assert f"{own} " in refused("finetune", "--resume", "--run", "run", "--seeds", 3)
    assert Path("run/sweep.json").read_text() == plan
    assert not Path("run/seed-44").exists()
    more = bigs("finetune", "--resume", "--run", "run", "--seeds", 3, "--data", "moved").fine()
    assert "Seed 3 of 3: run/seed-44" in more.err
    assert json.loads(Path("run/sweep.json").read_text())["arguments"]["data"] == str(moved)
    for words in (("--set", "epochs=1"), ("--from", other)):
        assert "run has its own options" in refused("finetune", "--resume", "--run", "run", *words, "--data", glue)
    again = bigs("finetune", "cola", "--from", pretrained, "--resume", "--run", "run").fine()
    assert again.err.count("is finished") == 3


def test_seeds_are_added_only_to_equal_ones(
    shards: Path, pretrained: Path, glue: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A summary must not mix recipes, start models or data."""
    monkeypatch.setenv("BIGS_RUNS", str(here / "runs"))
    base = shutil.copytree(pretrained, here / "base")
    recipe = here / "own.yaml"
    recipe.write_text("extends: _glue\ntask: cola\nepochs: 1\n")
    data = shutil.copytree(glue, here / "glue")
    table = write_table(here / "all.csv").name
    bigs("finetune", "CoLA", "--recipe", "own.yaml", "--from", base, "--data", data, "--seeds", 2, *TINY[2:]).fine()
    run = here / "runs" / "own"
    more = ("finetune", "--resume", "--run", run, "--seeds", 3)
    before = snapshot(run / "seed-42")
    recipe.write_text("extends: _glue\ntask: cola\nepochs: 2\n")
    assert f"differs from that of the other seed in {run}/seed-42 (epochs)" in refused(*more)
    recipe.write_text("extends: _glue\ntask: cola\nepochs: 1\n")
    weights = shutil.move(base / "checkpoints", here / "checkpoints")
    bigs(*pretrain(shards, Path("other"), seed=3)).fine()
    shutil.copytree("other/checkpoints", base / "checkpoints")
    assert f"has changed since {run}/seed-42 started from it" in refused(*more)
    shutil.rmtree(base / "checkpoints")
    shutil.move(weights, base / "checkpoints")
    assert not (run / "seed-44").exists()
    shutil.copytree(run / "seed-42", run / "seed-42-copy")
    recipe.unlink()
    assert bigs(*more[:-2]).fine().err.count("is finished") == 2
    recipe.write_text("extends: _glue\ntask: cola\nepochs: 1\n")
    bigs(*more).fine()
    assert json.loads((run / "seeds.json").read_text())["seeds"] == [42, 43, 44]
    assert snapshot(run / "seed-42") == before
    recipe.write_text("extends: _glue\ntask: cola\nepochs: 2\n")
    assert "seed-45 failed with exit code" in bigs(*more[:-1], 4, "--jobs", 1).err
    assert "differs from that of the other seed" in (run / "seed-45.log").read_text()
    # A custom table with settings that only apply to it.
    options = ("--train", table, "--dev", table, "--text", "body", "--label", "kind", "--delimiter", ";")
    custom = ("finetune", *options, "--from", base, "--set", "files.threshold=0.3", *TINY)
    bigs(*custom, "--seeds", 2).fine()
    assert (here / "runs" / "all" / "seed-43" / "results.json").is_file()


def test_one_seed_does_not_become_several(pretrained: Path, glue: Path, here: Path) -> None:
    bigs(*finetune("cola", pretrained, glue, Path("run"), "--sweep", "epochs=1,2")).fine()
    before = snapshot(here)
    assert "run was started with --seeds 1. Leave out --seeds." in refused(
        "finetune", "--resume", "--run", "run", "--seeds", 2
    )
    assert snapshot(here) == before


def test_settings_on_different_data_are_not_compared(pretrained: Path, glue: Path, here: Path) -> None:
    data = shutil.copytree(glue, here / "glue")
    words = finetune("cola", pretrained, data, Path("run"), "--sweep", "epochs=1,2")
    bigs(*words).fine()
    shutil.rmtree("run/epochs=2")
    dev = data / "CoLA" / "dev.tsv"
    dev.write_text("".join(dev.read_text().splitlines(keepends=True)[:-2]))
    assert "run/epochs=2 was not evaluated on the data of run/epochs=1" in refused(
        "finetune", "--resume", "--run", "run"
    )


def test_a_changed_tokenizer_is_refused(pretrained: Path, glue: Path, here: Path, stops: pytest.MonkeyPatch) -> None:
    command = stopped(*finetune("mrpc", pretrained, glue, Path("run")))
    stops.undo()
    tokenizer = json.loads(Path("run/tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    Path("run/tokenizer.json").write_text(json.dumps(tokenizer))
    assert "(changed: tokenizer)" in refused(*command)


def test_runs_of_earlier_releases_are_resumed_with_their_options(
    shards: Path, pretrained: Path, glue: Path, here: Path, stops: pytest.MonkeyPatch
) -> None:
    """Such runs have no resume.json, and one digest in their checkpoints."""
    save = Checkpoints.save

    def save_one_digest(self: Checkpoints, step: int, params: Any, *more: Any) -> None:
        optimizer, position, *others = more or (None, None)
        if position is not None:
            position["data"] = next(iter(position["data"].values()))
        save(self, step, params, optimizer, position, *others)

    stops.setattr(Checkpoints, "save", save_one_digest)
    for command in (pretrain(shards, here / "base"), finetune("mrpc", pretrained, glue, here / "tuned")):
        assert bigs(*command).code == 130
    stops.undo()
    for run in ("base", "tuned"):
        (here / run / "resume.json").unlink()
    other = shutil.copytree(glue, here / "glue")
    train = other / "MRPC" / "train.tsv"
    train.write_text(train.read_text().replace("sea", "see"))
    assert "(changed: train)" in refused(*finetune("mrpc", pretrained, other, here / "tuned", "--resume"))
    bigs(*finetune("mrpc", pretrained, glue, here / "tuned", "--resume")).fine()
    bigs(*pretrain(shards, here / "base", "--resume")).fine()
    assert same(here / "base" / "checkpoints", pretrained / "checkpoints")
    # Afterwards the run folder is sufficient.
    shutil.rmtree(here / "tuned" / "checkpoints" / "6")
    bigs("finetune", "--resume", "--run", "tuned").fine()


def test_a_run_without_a_checkpoint_restarts_from_the_same_model(shards: Path, pretrained: Path, here: Path) -> None:
    """As after a crash before the first checkpoint; the run must not start from a new model."""
    base = shutil.copytree(pretrained, here / "base")
    bigs(*pretrain(shards, Path("run"), "--from", "base")).fine()
    reached = parameters(here / "run" / "checkpoints")
    shutil.rmtree("run/checkpoints")
    again = bigs("pretrain", "--resume", "--run", "run").fine()
    assert same_arrays(parameters(here / "run" / "checkpoints"), reached)
    assert "Starting from base" in again.err
    shutil.rmtree("run/checkpoints")
    bigs(*pretrain(shards, Path("other"), seed=3)).fine()
    shutil.rmtree(base / "checkpoints")
    shutil.copytree("other/checkpoints", base / "checkpoints")
    assert "has changed since run started from it" in refused("pretrain", "--resume", "--run", "run")


def same_arrays(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all((ours[path] == theirs[path]).all() for path in ours)


def test_a_corrupt_record_is_reported(pretrained: Path, here: Path) -> None:
    shutil.copytree(pretrained, "run")
    Path("run/resume.json").write_text('{"files": 0}')
    assert "run/resume.json is corrupt: files" in refused("pretrain", "--resume", "--run", "run")


def test_a_dry_run_of_a_resumed_run(pretrained: Path, shards: Path, here: Path) -> None:
    before = snapshot(pretrained)
    shown = bigs("pretrain", "--resume", "--run", pretrained, "--dry-run").fine()
    assert f"path: {shards}" in shown.out
    assert snapshot(pretrained) == before
