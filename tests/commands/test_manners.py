"""Rules for every command: error messages, exit codes, only results on stdout, and no changes by a refused command."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from bigs_cli.recipe import load_recipe
from tests.tiny import HANG, LENGTH, ROOT, bigs, pretrain, settings, snapshot, start_bigs, wait_until

COMMANDS = (
    ("tokenize",),
    ("pretrain",),
    ("finetune",),
    ("evaluate",),
    ("eval",),
    ("predict",),
    ("export",),
    ("demo",),
    ("doctor",),
    ("runs", "list"),
    ("runs", "show"),
    ("runs", "compare"),
    ("runs", "plot"),
    ("runs", "report"),
    ("runs", "serve"),
    ("recipes", "list"),
    ("recipes", "show"),
    ("recipes", "copy"),
    ("recipes", "validate"),
    *(("bench", name) for name in ("load", "tokenize", "train", "mixing", "export", "predict", "recipes")),
)


@pytest.fixture
def place(shards: Path, pretrained: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with shards, a run and tasks, and a corrupt version of each; offline, so that no hub is used."""
    here = tmp_path / "here"
    shutil.copytree(shards, here / "shards")
    shutil.copytree(pretrained, here / "runs" / "base")
    shutil.copytree(glue, here / "glue")
    (here / "other").mkdir()
    (here / "other" / "notes.txt").write_text("mine")
    (here / "bad.yaml").write_text("extends: demo\nstep: 3\n")
    shutil.copytree(glue / "MRPC", here / "torn")
    lines = (here / "torn" / "train.tsv").read_text().splitlines()
    (here / "torn" / "train.tsv").write_text("\n".join([*lines[:3], "1\tone\ttwo", *lines[3:]]) + "\n")
    shutil.copytree(glue / "MRPC", here / "labels")
    (here / "labels" / "dev.tsv").write_text(f"{lines[0]}\n7\t1\t2\ta\tb\n")
    shutil.copytree(pretrained, here / "runs" / "corrupt")
    config = here / "runs" / "corrupt" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 24}))
    shutil.copytree(shards, here / "cut")
    with (here / "cut" / "train-00000.bin").open("r+b") as file:
        file.truncate(100)
    (here / "f.png").mkdir()
    os.utime(here / "runs" / "base" / "recipe.yaml", (4e9, 4e9))  # the newest
    monkeypatch.chdir(here)
    monkeypatch.setenv("BIGS_RUNS", "runs")
    for name, value in {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    # The libraries read the variables when they are imported, which may have happened in an earlier test.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return here


def train(*more: str, size: int | None = None, **changes: object) -> list[str]:
    """Return the arguments of a tiny pretraining into runs/new."""
    size = size or json.loads(Path("shards/manifest.json").read_text())["vocab_size"]
    return ["pretrain", "--recipe", "demo", *settings(model__vocab_size=size, **changes), *more]


TUNE = ("finetune", "mrpc", "--from", "runs/base", "--data", "glue")
NEW = ("--data", "shards", "--run", "runs/new")

# The arguments (a function is called in the working folder), the exit code, and parts of stderr.
REFUSALS: dict[str, tuple[object, int, tuple[str, ...]]] = {
    "recipe key": (lambda: train(*NEW, "--set", "optimiser.beta2=1"), 2, ("no key 'optimiser'", "'optimizer'")),
    "recipe key in a file": (("pretrain", "-r", "bad.yaml", *NEW), 2, ("bad.yaml:2:1", "no key 'step'", "'steps'")),
    "recipe type": (lambda: train(*NEW, "--set", "steps=many"), 2, ("'steps' should be a whole number", "'many'")),
    "recipe value": (lambda: train(*NEW, "--set", "steps"), 2, ("KEY=VALUE",)),
    "unknown recipe": (("pretrain", "-r", "smal", *NEW), 2, ("no recipe 'smal'", "'small'", "bigs recipes list")),
    "missing recipe file": (("pretrain", "-r", "my.yaml", *NEW), 2, ("my.yaml",)),
    "recipe of the other verb": (("pretrain", "-r", "mrpc", *NEW), 2, ("bigs finetune mrpc",)),
    "recipe of another task": ((*TUNE, "--recipe", "cola"), 2, ("for the task cola, not mrpc",)),
    "unknown task": (("finetune", "mrcp", "--from", "runs/base"), 2, ("no task 'mrcp'", "'mrpc'")),
    "unknown task to measure": (("eval", "sst"[:2] + "x"), 2, ("no task 'ssx'",)),
    "unknown model": (("eval", "mlm", "--model", "bose"), 2, ("no model 'bose'", "'base'", "bigs runs list")),
    "model out of reach": (("export", "--model", "bigs-512"), 1, ("JunxiongWang/BiGS_512", "HF_HUB_OFFLINE")),
    "folder that is no model": (("export", "--model", "other"), 2, ("other contains neither a run", "config.json")),
    "missing data folder": ((*TUNE[:-1], "gleu"), 2, ("There is no folder gleu", "MRPC")),
    "data folder without the task": ((*TUNE[:-1], "other"), 2, ("other/MRPC/train.tsv", "other/train.tsv")),
    "malformed TSV": ((*TUNE[:-1], "torn"), 2, ("torn/train.tsv:4 has 3 cells", "Correct the row")),
    "unknown label": ((*TUNE[:-1], "labels"), 2, ("labels/dev.tsv:2: '7' is not a label of MRPC", "0 (not_eq")),
    "missing shards": (lambda: train("--data", "none", "--run", "n"), 2, ("no token shards in none", "bigs tokenize")),
    "cut shards": (
        lambda: train("--data", "cut", "--run", "runs/new"),
        2,
        ("cut/train-00000.bin is trunc", "bigs tok"),
    ),
    "shards of another length": (
        lambda: train(*NEW, data__sequence_length=16, model__max_position_embeddings=16),
        2,
        (f"rows of {LENGTH} tokens", "--length 16"),
    ),
    "shards of another vocabulary": (lambda: train(*NEW, size=999), 2, ("vocabulary of", "999", "--set model.vocab")),
    "model of another size": (
        lambda: train(*NEW, "--from", "runs/base", model__hidden_size=8),
        2,
        ("hidden_size 8 instead of 16", "start from another model"),
    ),
    "mesh that does not fit": (lambda: train(*NEW, mesh__tensor=3), 2, ("tensor 3", "does not fit", "`mesh`")),
    "dry run of a model of another size": (
        lambda: train(*NEW, "--dry-run", "--from", "runs/base", model__hidden_size=8),
        2,
        ("hidden_size 8 instead of 16", "start from another model"),
    ),
    "checkpoint of the wrong shape": (
        ("export", "--model", "runs/corrupt"),
        2,
        ("runs/corrupt/checkpoints/6", "config"),
    ),
    "run folder in use": (
        lambda: train("--data", "shards", "--run", "runs/base"),
        2,
        ("runs/base is in use", "--resume", "--run runs/base-2"),
    ),
    "folder of something else": (lambda: train("--data", "shards", "--run", "other"), 2, ("other is in use", "--run ")),
    "file for a folder": (lambda: train("--data", "shards", "--run", "bad.yaml"), 2, ("bad.yaml is a file",)),
    "nothing to resume": (lambda: train(*NEW, "--resume"), 2, ("no run to resume in runs/new", "Leave out --resume")),
    "fine-tuning into a folder in use": ((*TUNE, "--run", "other"), 2, ("other is in use", "--run")),
    "no tuning to resume": ((*TUNE, "--run", "t", "--resume"), 2, ("no run to resume in t", "Leave out --resume")),
    "export into a folder in use": (("export", "--output", "other"), 2, ("other is in use", "--output")),
    "unknown format": (("export", "--format", "torhc"), 2, ("no format 'torhc'", "'torch'", "flax, torch")),
    "task of another head": (("eval", "mrpc", "--data", "glue"), 2, ("masked-lm", "bigs finetune mrpc")),
    "unknown logger": (lambda: train(*NEW, "--logger", "wandbb"), 2, ("no logger 'wandbb'", "'wandb'")),
    "logger in a recipe": (lambda: train(*NEW, "--set", "loggers=[tensorbord]"), 2, ("loggers", "tensorboard")),
    "unknown run": (("runs", "show", "bsae"), 2, ("no run 'bsae'", "'base'", "bigs runs list")),
    "folder that is no run": (("runs", "plot", "other"), 2, ("other is not a run", "recipe.yaml")),
    "comparison with nothing": (("runs", "compare", "base"), 2, ("bigs runs compare base ANOTHER",)),
    "picture of another kind": (("runs", "plot", "base", "-o", "p.gif"), 2, ("p.gif", ".png nor .svg")),
    "picture in a folder's place": (("runs", "plot", "base", "-o", "f.png"), 2, ("f.png is a folder",)),
    "unknown option": (("export", "--ouput", "x"), 2, ("--ouput", "--output")),
    "missing option": (("pretrain",), 2, ("--recipe",)),
    "unknown verb": (("pretain",), 2, ("pretain",)),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_an_invalid_request_prints_a_sentence_and_changes_nothing(place: Path, what: str) -> None:
    request, code, parts = REFUSALS[what]
    arguments = request() if callable(request) else request
    before = snapshot(place)
    done = bigs(*arguments)  # type: ignore[misc]
    assert (done.code, done.out) == (code, ""), done.err
    assert "Traceback" not in done.err
    stderr = " ".join(done.err.replace("│", " ").split())
    assert [part for part in parts if part not in stderr] == [], done.err
    assert snapshot(place) == before


def test_a_run_folder_locked_by_another_process_is_refused(place: Path) -> None:
    (place / "runs" / "busy").mkdir()
    with (place / "runs" / "busy" / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = snapshot(place)
        done = bigs(*train("--data", "shards", "--run", "runs/busy"))
        assert (done.code, done.out) == (2, "")
        assert "Another process is running in runs/busy. Wait for it to finish" in done.err
        assert snapshot(place) == before


def test_stdout_has_only_results(place: Path) -> None:
    """Only the run folder, a JSON object or a folder, so that commands can be chained."""
    done = bigs(*pretrain(Path("shards"), Path("runs/new"), steps=2)).fine()
    assert done.out == "runs/new\n"
    assert "step 2/2" in done.err
    measured = bigs("eval", "--json", "--model", "runs/new").fine()
    assert json.loads(measured.out)["task"] == "mlm"
    assert bigs("export", "--model", "runs/new", "--output", "e").fine().out == "e\n"


def test_ctrl_c_exits_with_130(shards: Path, tmp_path: Path) -> None:
    """At any moment: here during the start of the run or its first steps."""
    run = tmp_path / "run"
    running = start_bigs(*pretrain(shards, run, steps=100_000))
    wait_until((run / "recipe.yaml").exists, running)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=HANG)
    assert (running.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert not (run / "results.json").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(command: tuple[str, ...]) -> None:
    done = bigs(*command, "--help").fine()
    assert "Example" in done.out
    verb = {"eval": "eval", "evaluate": "eval"}.get(command[0], " ".join(command))
    assert f"bigs {verb}" in done.out
    assert done.err == ""


def test_help_states_the_default_of_each_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command, default in (("predict", "32"), ("eval blimp", "128"), ("eval task", "the run's, else 32")):
        assert f"Rows per batch. [default: ({default})]" in bigs(*command.split(), "--help").fine().out


def test_help_wraps_at_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERMINAL_WIDTH", "60")
    paragraph = start_bigs("runs", "compare", "--help").communicate(timeout=HANG)[0].split("For fine-tuning runs", 1)[1]
    lines = f"For fine-tuning runs{paragraph.split('╭', 1)[0]}".strip().splitlines()
    assert all(len(line.split()) > 4 for line in lines[:-1]), lines


def test_completion_is_installed_and_completes(tmp_path: Path) -> None:
    """In an empty home folder and with bash itself; the script calls the `bigs` on the path, which is ours."""
    program = tmp_path / "bin" / "bigs"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom bigs_cli.cli import main\nmain()\n")
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT)}
    # Typer installs for the shell among the parent processes, which must not depend on what started the tests.
    install = ["bash", "--noprofile", "--norc", "-c", f"{program} --install-completion bash || exit"]
    done = subprocess.run(install, env=environment, capture_output=True, text=True, check=True)
    script = home / ".bash_completions" / "bigs.sh"
    assert str(script) in done.stdout + done.stderr
    assert str(script) in (home / ".bashrc").read_text()
    complete = (
        f"source {script}; function=$(complete -p bigs | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n"
        'COMP_WORDS=(bigs pre); COMP_CWORD=1; $function bigs; echo "${COMPREPLY[@]}"'
    )
    shell = ["bash", "--noprofile", "--norc", "-c", complete]
    completed = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True)
    assert completed.stdout.split() == ["pretrain", "predict"], completed.stderr


def test_help_imports_no_heavy_packages() -> None:
    """The cost is measured in packages instead of seconds, which depend on the machine."""
    show = (
        "import sys; sys.argv, before = ['bigs', '--help'], set(sys.modules)\n"
        "from bigs_cli.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "more = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(*sorted(more), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True)
    assert "Usage: bigs" in done.stdout
    typer_needs = {"annotated_doc", "click", "markdown_it", "mdurl", "pygments", "rich", "shellingham", "typer"}
    assert set(done.stderr.split()) <= typer_needs | {"bigs_cli", "typing_extensions"}


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    running = start_bigs("--debug", "recipes", "show", "none-such")
    assert "Traceback" in running.communicate(timeout=HANG)[1]
    assert load_recipe("demo")
