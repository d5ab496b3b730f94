"""`--dry-run` describes what a run does, and writes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bigs_cli.training.dry_run import _size
from tests.tiny import LENGTH, bigs, finetune, pretrain, settings, snapshot


def rows(text: str) -> dict[str, str]:
    """Return the rows of tables: first cell → other cells."""
    return {first: " ".join(rest) for first, *rest in (line.strip().split("  ") for line in text.splitlines())}


def test_a_dry_run_describes_the_run_and_writes_nothing(
    pretrained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(shards), snapshot(pretrained)
    done = bigs(*pretrain(shards, tmp_path / "run", "--from", pretrained, "--dry-run")).fine()
    assert not any(tmp_path.iterdir())
    assert (snapshot(shards), snapshot(pretrained)) == before

    recipe, _, output = done.out.partition("\nrequirements")
    resolved, real = yaml.safe_load(recipe), yaml.safe_load((pretrained / "recipe.yaml").read_text())
    assert resolved == real | {"from": str(pretrained)}
    values = rows(output)
    size = json.loads((pretrained / "results.json").read_text())["parameters"]
    assert values["parameters"].split()[0] == f"{size:,}"
    assert f"{4 * size / 1000:.3g} kB" in values["parameters on each device"]
    assert f"{8 * size / 1000:.3g} kB" in values["optimizer state on each device"]
    # Computed by hand; see models/flops.py. Two layers, H 16, I 24, rows of 32 tokens, five predictions per row.
    row = 2 * 2 * 32 * (3 * 16 * 24 + 4 * 16 * 16) + 2 * 2 * 16 * 2 * 32 * 32
    row += 2 * 5 * (16 * 16 + 16 * real["model"]["vocab_size"])
    assert f"{3 * 8 * row:.3e}" in values["FLOPs per step"]
    assert "word_embeddings/embedding$" in values
    assert f"of {LENGTH} tokens" in output
    assert "[MASK] →" in output
    assert "nothing was written" in done.err


def test_without_shards_only_the_example_row_is_missing(
    pretrained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_shards = bigs(*pretrain(shards, tmp_path / "run", "--dry-run")).fine().out.partition("\nrequirements")[2]
    size = json.loads((shards / "manifest.json").read_text())["vocab_size"]
    done = bigs("pretrain", "--recipe", "demo", "--dry-run", *settings(model__vocab_size=size)).fine()
    output = done.out.partition("\nrequirements")[2]
    assert output.strip() == with_shards[: with_shards.index("train row")].strip()
    assert "There are no token shards in shards/demo" in done.err
    assert "Without shards, no masked row is shown." in done.err
    assert "batch on each device" in rows(bigs("pretrain", "--recipe", "wiki-books-512", "--dry-run").fine().out)
    assert not any(tmp_path.iterdir())


def test_memory_per_device_depends_on_the_mesh(shards: Path, tmp_path: Path) -> None:
    """A mesh is planned without its devices; on a machine that has them, the figures are the same."""
    size = json.loads((shards / "manifest.json").read_text())["vocab_size"]
    mesh = settings(model__vocab_size=size, mesh__data=1, mesh__fsdp=2, mesh__tensor=2)
    arguments = ["pretrain", "--recipe", "demo", "--data", str(shards), "--run", str(tmp_path / "run"), "--dry-run"]
    planned = bigs(*arguments, *mesh).fine().out.partition("\nrequirements")[2]
    script = (
        "import jax, sys; jax.config.update('jax_platforms', 'cpu'); jax.config.update('jax_num_cpu_devices', 4)\n"
        "from bigs_cli.cli import main; sys.argv = ['bigs', *sys.argv[1:]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments, *mesh], capture_output=True, text=True, check=True)
    values = rows(done.stdout.partition("\nrequirements")[2])
    assert "data 1 × fsdp 2 × sequence 1 × tensor 2" in values["devices"]
    assert "tensor, fsdp" in values["word_embeddings/embedding$"]
    assert "not on this machine: data 1 × fsdp 2 × sequence 1 × tensor 2" in rows(planned)["devices"]
    assert {**rows(planned), "devices": ""} == {**values, "devices": ""}
    assert not (tmp_path / "run").exists()


def test_the_published_run_is_planned_on_many_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mesh = ("--set", "mesh.data=8", "--set", "mesh.fsdp=8", "--set", "batch_size=1024")
    values = rows(bigs("pretrain", "--recipe", "wiki-books-512", "--dry-run", *mesh).fine().out)
    total = float(values["FLOPs per step"].split()[1])
    hours = float(values["time on H100"].split()[0]) * {"hours": 1, "days": 24}[values["time on H100"].split()[1]]
    assert hours == pytest.approx(total / (0.4 * 989e12 * 64) / 3600, rel=0.01)
    assert "40% of the bfloat16 peak of 64 devices" in values["time on A100"]


def test_the_total_has_gradients_and_the_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("pretrain", "--recipe", "demo", "--dry-run", *settings(optimizer__ema=0.9))
    needed = json.loads(bigs(*command, "--json").fine().out)
    held, size = needed["bytes_per_device"], 4 * needed["parameters"]
    assert [held[name] for name in ("parameters", "gradients", "ema")] == [size] * 3
    assert held["total"] == 3 * size + held["optimizer"] + held["batch"]
    values = rows(bigs(*command).fine().out.partition("\nrequirements")[2])
    assert values["total on each device"].strip().startswith(_size(held["total"]))
    assert "without activations" in values["total on each device"]
    assert json.loads(bigs(*command[:4], *settings(), "--json").fine().out)["bytes_per_device"]["ema"] == 0


def test_times_are_planned_at_a_given_utilization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("pretrain", "--recipe", "demo", "--dry-run", *settings())
    assumed, half = (json.loads(bigs(*command, "--json", *more).fine().out) for more in ((), ("--mfu", 0.2)))
    assert (assumed["mfu"], half["mfu"]) == (0.4, 0.2)
    assert half["seconds"]["H100"] == pytest.approx(2 * assumed["seconds"]["H100"])
    assert "20% of the bfloat16 peak" in bigs(*command, "--mfu", 0.2).fine().out
    refused = bigs("pretrain", "--recipe", "demo", "--mfu", 0.2)
    assert (refused.code, "Add --dry-run" in refused.err) == (2, True)


def test_a_dry_run_of_fine_tuning(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    before = snapshot(pretrained), snapshot(glue)
    done = bigs(*finetune("mrpc", pretrained, glue, tmp_path / "run", "--dry-run")).fine()
    assert (snapshot(pretrained), snapshot(glue)) == before
    assert not any(tmp_path.iterdir())
    assert yaml.safe_load(done.out.partition("\nrequirements")[0])["task"] == "mrpc"
    values = rows(done.out.partition("\nrequirements")[2])
    assert values["steps"].split()[0] == "6"
    # Computed by hand, as above: rows of 24 tokens, the pooler and two classes.
    row = 2 * 2 * 24 * (3 * 16 * 24 + 4 * 16 * 16) + 2 * 2 * 16 * 2 * 24 * 24 + 2 * 16 * 16 + 2 * 16 * 2
    assert f"{3 * 8 * row:.3e}" in values["FLOPs per step"]
    assert "of 24 tokens → " in done.out
    assert "[CLS] " in done.out


def test_sizes_have_decimal_units() -> None:
    assert [_size(n) for n in (0, 999, 1000, 16_384, 1_260_000_000, 5 * 10**13)] == [
        *("0 B", "999 B", "1 kB", "16.4 kB", "1.26 GB"),
        "5e+04 GB",
    ]
