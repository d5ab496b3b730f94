"""`--sweep` trains once for every combination of values, resumes, and compares the settings."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import jax
import pytest
from scipy.stats import ttest_rel

from bigs_cli.checkpoints.sweep import combinations, parse_axes
from bigs_cli.commands import jobs
from bigs_cli.core.errors import RequestError
from tests.tiny import LENGTH, bigs, finetune, pretrain, snapshot

SWEEP = ("--sweep", "optimizer.learning_rate=1e-3,3e-3", "--sweep", "epochs=1,2", "--seeds", 2)
NAMES = [f"learning_rate={rate},epochs={epochs}" for rate in ("1e-3", "3e-3") for epochs in (1, 2)]


@pytest.fixture(scope="module")
def sweep(pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over CoLA with two seeds. Do not modify it."""
    root = tmp_path_factory.mktemp("sweep") / "cola"
    done = bigs(*finetune("cola", pretrained, glue, root, *SWEEP)).fine()
    assert done.out == f"{root}\n"
    assert "Setting 4 of 4: optimizer.learning_rate=3e-3 epochs=2" in done.err
    return root


def results(root: Path) -> dict[str, str]:
    """Return the results of every run but their times."""
    found = {path.parent: json.loads(path.read_text()) for path in root.rglob("results.json")}
    return {str(run.relative_to(root)): json.dumps(one | {"seconds": 0}) for run, one in found.items()}


def test_every_combination_has_a_run_per_seed(sweep: Path) -> None:
    assert set(results(sweep)) == {f"{name}/seed-{seed}" for name in NAMES for seed in (42, 43)}
    recipe = (sweep / NAMES[1] / "seed-43" / "recipe.yaml").read_text()
    assert {"learning_rate: 0.001", "seed: 43"} <= {line.strip() for line in recipe.splitlines()}
    assert len(set(results(sweep).values())) > 4


def test_a_resumed_sweep_trains_what_is_missing_and_shows_the_same_table(
    sweep: Path, tmp_path: Path, pretrained: Path
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(sweep, root)
    whole = bigs("finetune", "--resume", "--run", root).fine().err
    assert whole.count("is finished") == 8
    shutil.rmtree(root / NAMES[3])
    (root / NAMES[0] / "seed-43" / "results.json").unlink()
    again = bigs("finetune", "--resume", "--run", root).fine().err
    assert again.count(f"{root}/{NAMES[1]}/seed-42 is finished") == 1
    assert results(root) == results(sweep)
    table = whole[whole.index("learning_rate  epochs") :]
    assert again.endswith(table)
    for name in NAMES:
        mean = json.loads((root / name / "seeds.json").read_text())["metrics"]["matthews"]["mean"]
        rate, epochs = (part.partition("=")[2] for part in name.split(","))
        assert any(line.split()[:3] == [rate, epochs, f"{100 * mean:.2f}"] for line in table.splitlines())
    assert table.count("best\n") == 1
    assert "The best Matthews correlation is that of optimizer.learning_rate=" in table


def test_settings_with_the_same_shapes_are_compiled_once(
    pretrained: Path, glue: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    axes = ("--sweep", "optimizer.learning_rate=1e-3,2e-3", "--sweep", "epochs=1,1.5", "--seeds", 2)
    with jax.log_compiles():
        bigs(*finetune("cola", pretrained, glue, tmp_path / "sweep", *axes, "--set", "optimizer.beta1=0.8")).fine()
    compiled = [one.getMessage() for one in caplog.records if "Finished XLA compilation" in one.getMessage()]
    # Eight runs; their batches are padded to 16 or 24 tokens.
    assert sum("jit(step)" in message for message in compiled) == 2


def test_runs_show_plot_and_report_a_sweep(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGS_RUNS", str(sweep.parent))
    shown = bigs("runs", "show", sweep.name).fine()
    assert "best\n" in shown.out
    assert "95% interval" in shown.err
    plot, page = tmp_path / "sweep.svg", tmp_path / "report.html"
    bigs("runs", "plot", sweep.name, "--output", plot).fine()
    assert all(name in plot.read_text() for name in (*NAMES, "Matthews correlation"))
    bigs("runs", "report", sweep, "--output", page).fine()
    assert all(name in page.read_text() for name in (*NAMES, f"Sweep {sweep}", "Confusion matrix"))


def test_the_report_describes_the_best_run_of_the_best_setting(sweep: Path, tmp_path: Path) -> None:
    root, page = shutil.copytree(sweep, tmp_path / "sweep"), tmp_path / "report.html"
    for name in NAMES:
        file = root / name / "seed-43" / "results.json"
        values = json.loads(file.read_text())
        better = {"metrics": {"matthews": 0.99}, "splits": {"dev": {"matthews": 0.99}}}
        file.write_text(json.dumps(values | better))
    bigs("runs", "report", root, "--output", page).fine()
    assert "\nseed: 43\n" in page.read_text()  # in its recipe


def losses(run: Path) -> float:
    return json.loads((run / "results.json").read_text())["metrics"]["heldout_loss"]


def test_pretraining_with_several_seeds(shards: Path, tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    done = bigs(*pretrain(shards, root, "--sweep", "steps=2,4", "--seeds", 2)).fine()
    assert done.out == f"{root}\n"
    assert set(results(root)) == {f"steps={steps}/seed-{seed}" for steps in (2, 4) for seed in (42, 43)}
    assert "steps  validation loss" in done.err
    assert "The lowest validation loss is that of steps=4." in done.err
    values = {steps: [losses(root / f"steps={steps}/seed-{seed}") for seed in (42, 43)] for steps in (2, 4)}
    p = ttest_rel(values[2], values[4]).pvalue
    told = (
        f"With these seeds, the best setting is not significantly better than steps=2 (p {p:.2f}) (paired t-test)."
        in done.err
    )
    assert told == (p >= 0.05)
    seeds = tmp_path / "seeds"
    both = bigs(*pretrain(shards, seeds, "--seeds", 2, steps=2)).fine()
    assert "Setting" not in both.err
    assert results(seeds)["seed-43"] == results(root)["steps=2/seed-43"]
    alone = tmp_path / "alone"
    bigs(*pretrain(shards, alone, "--set", "seed=43", steps=2)).fine()
    assert results(alone)["."] == results(root)["steps=2/seed-43"]


def test_the_others_are_trained_if_a_setting_diverges(shards: Path, tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    words = ("--sweep", "optimizer.learning_rate=1e30,1e-3", "--set", "optimizer.stop_after_nonfinite=1")
    failed = bigs(*pretrain(shards, root, *words, steps=4))
    assert (failed.code, failed.out) == (1, "")
    assert set(results(root)) == {"learning_rate=1e-3"}
    assert f"1 run failed: {root}/learning_rate=1e30." in failed.err
    assert "1e-3" in failed.err
    all_failed = bigs(
        *pretrain(shards, tmp_path / "all", "--sweep", "optimizer.learning_rate=1e30", *words[2:], steps=4)
    )
    assert all_failed.code == 1
    assert f"bigs: 1 run failed: {tmp_path}/all/learning_rate=1e30. Repeat with: bigs pretrain" in all_failed.err


def test_invalid_requests_change_nothing(pretrained: Path, glue: Path, tmp_path: Path, sweep: Path) -> None:
    root = tmp_path / "new"
    before = snapshot(sweep)
    for words, message in (
        (["--sweep", "epochs"], "name a key and its values"),
        (["--sweep", "epochs=1,1"], "repeats a value"),
        (["--sweep", "epochs=1", "--sweep", "epochs=2"], "is given twice"),
        (["--sweep", "epoch=1,2"], "Did you mean 'epochs'?"),
        (["--sweep", "epochs=1,x"], "'epochs'"),
        (["--sweep", "epochs=1,2", "--profile", tmp_path / "profile"], "--profile is for a single run"),
    ):
        refused = bigs(*finetune("cola", pretrained, glue, root, *words))
        assert (refused.code, message in refused.err) == (2, True), refused.err
    refused = bigs(*finetune("cola", pretrained, tmp_path / "nothing", root, "--sweep", "epochs=1,2"))
    assert refused.code == 2
    assert not root.exists()
    assert "is in use. Continue the runs" in bigs(*finetune("cola", pretrained, glue, sweep, *SWEEP)).err
    assert "has its own options" in bigs("finetune", "mrpc", "--resume", "--run", sweep).err
    assert "Resume it with that command" in bigs("pretrain", "--resume", "--run", sweep).err
    for words, message in (
        (
            ["finetune", "cola", "--resume", "--sweep", "epochs=1,2"],
            "There is no sweep, suite or set of seeds to resume",
        ),
        (
            ["pretrain", "--resume", "--seeds", 2, "--run", pretrained],
            "There is no sweep, suite or set of seeds to resume",
        ),
        (["pretrain", "--seeds", 2], "Name a recipe"),
        (finetune("cola", pretrained, glue, root, "--sweep", "from=a,b"), "another option sets from for all runs"),
        (finetune("cola", pretrained, glue, root, "--sweep", "files.dev=a,b"), "different dev sets do not compare"),
    ):
        refused = bigs(*words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
    assert not root.exists()
    for words, message in (
        (finetune("cola", pretrained, glue, root / "x" / "y", "--seeds", 2, "--data", tmp_path / "none"), "none"),
        (finetune("cola", pretrained, glue, root, "--seeds", 2, "--sweep", "seed=1,2"), "both set the seed"),
        (("pretrain", "--recipe", "demo", "--run", root, "--sweep", "data.path=a,b"), "validate all runs on"),
    ):
        refused = bigs(*words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
        assert not root.exists()
    assert "needs a single task" in bigs("finetune", "glue", "--from", pretrained, "--sweep", "epochs=1,2").err
    assert snapshot(sweep) == before


def test_pretraining_settings_need_held_out_rows_to_compare(shards: Path, tmp_path: Path) -> None:
    words = ("--length", LENGTH, "--train-vocab", 400, "--heldout", 0, "--output", tmp_path / "shards")
    bigs("tokenize", "--input", shards.parent / "text.jsonl", *words).fine()
    refused = bigs(*pretrain(tmp_path / "shards", tmp_path / "sweep", "--sweep", "steps=2,4"))
    assert (refused.code, "has no held-out rows, so runs cannot be compared" in refused.err) == (2, True)
    assert not (tmp_path / "sweep").exists()


def test_a_dry_run_lists_the_runs(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    root = tmp_path / "new"
    done = bigs(*finetune("cola", pretrained, glue, root, "--dry-run", *SWEEP)).fine()
    assert [line for line in done.err.splitlines() if line.startswith(str(root))] == [
        f"{root}/{name}/seed-{seed}" for name in NAMES for seed in (42, 43)
    ]
    assert "task: cola" in done.out
    assert not root.exists()


def test_runs_as_processes_give_the_same_results(pretrained: Path, glue: Path, tmp_path: Path, sweep: Path) -> None:
    """The first printed command is run by hand, then the others two at a time."""
    root = tmp_path / "cola"
    axes = [*SWEEP[:2], "--sweep", "epochs=1", "--seeds", 1]
    done = bigs(*finetune("cola", pretrained, glue, root, *axes, "--jobs", 0)).fine()
    commands = [shlex.split(line) for line in done.out.splitlines()]
    assert len(commands) == 2
    assert done.err.endswith(f"compare them with: bigs finetune --resume --run {root}\n")
    bigs(*commands[0][1:]).fine()
    again = bigs("finetune", "--resume", "--run", root, "--jobs", 2).fine()
    assert f"{root / NAMES[2]} has started; its messages are in {root / NAMES[2]}.log" in again.err
    assert "Done in" in (root / f"{NAMES[2]}.log").read_text()
    whole = results(sweep)
    assert results(root) == {name: whole[f"{name}/seed-42"] for name in (NAMES[0], NAMES[2])}
    (root / NAMES[2] / "results.json").unlink()
    (root / NAMES[2] / "recipe.yaml").write_text("kind: nonsense\n")
    failed = bigs("finetune", "--resume", "--run", root, "--jobs", 2)
    assert (failed.code, f"1 run failed: {root / NAMES[2]}. Repeat with: bigs finetune --resume" in failed.err) == (
        1,
        True,
    )
    assert "1e-3" in failed.err
    refused = bigs(*finetune("cola", pretrained, glue, tmp_path / "one", "--jobs", 2))
    assert (refused.code, "--jobs is for several runs" in refused.err) == (2, True)


def test_a_process_that_cannot_be_started_does_not_block_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise OSError("There are too many processes.")

    monkeypatch.setattr(jobs.subprocess, "run", fail)
    with pytest.raises(OSError, match="too many processes"):
        jobs.run_processes({tmp_path / "a": ["pretrain"], tmp_path / "b": ["pretrain"]}, 1)


def test_commas_in_brackets_and_quotes_do_not_separate() -> None:
    axes = parse_axes(["batch_size_warmup={start: 8, steps: 2},null", 'model.block=gated,"stacked"'])
    assert axes == {
        "batch_size_warmup": ("{start: 8, steps: 2}", "null"),
        "model.block": ("gated", '"stacked"'),
    }
    names = [setting.name for setting in combinations(axes)]
    assert names[0] == "batch_size_warmup=-start-8-steps-2-,block=gated"
    for text in ("epochs=[1,2", "epochs=1]", "epochs=", "=1,2", "epochs=1,2]#"):
        with pytest.raises(RequestError, match="name a key and its values"):
            parse_axes([text])
