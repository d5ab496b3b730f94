"""A URL such as s3://bucket/run is refused wherever only a local path can be used, and quoted as typed.

test_urls.py tests the places where it can be used.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.models import ArgumentInfo

from bigs_cli import BiGSForMaskedLM, load_model
from bigs_cli.checkpoints.resolve import find_model
from bigs_cli.cli import app
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import find_tokenizer
from bigs_cli.recipe import load_recipe
from tests.tiny import bigs

ADDRESS = "s3://b/x"
TEXTS = {
    *("tokenize --input", "bench tokenize --input"),  # These read addresses.
    *(
        "tokenize --text-column",
        "tokenize --part",
        "predict TEXT",
        "predict --pair",
        "predict --question",
        "predict --ending",
    ),
    *("predict --text", "finetune --text", "finetune --pair", "finetune --label", "finetune --delimiter"),
    "finetune --negative",
    *(f"evaluate {kind} --{name}" for kind in ("pairs", "agreement") for name in ("by", "good", "bad")),
    *("evaluate agreement --sentence", "evaluate agreement --columns", "finetune TASK", "evaluate task TASK"),
    *(
        "evaluate task --split",
        "pretrain --set",
        "finetune --set",
        "pretrain --sweep",
        "finetune --sweep",
        "pretrain --logger",
        "finetune --logger",
    ),
    *(
        "pretrain --coordinator",
        "finetune --coordinator",
        *(f"evaluate {kind} --coordinator" for kind in ("task", "glue", "mlm", "blimp", "pairs", "agreement")),
        "pretrain --budget",
        "export --format",
        "export --from-format",
        "export --license",
        "export --push",
    ),
    *("export --revision", "bench train --shape", "bench train --setting", "bench mixing --mixer"),
    *("bench mesh --set", "pretrain --push", "bench export --shape", "bench export --runner", "bench recipes --set"),
}
"""Parameters whose values are texts or names, but not names of files."""


READ = {
    *("pretrain --data", "pretrain --validation", "pretrain --from", "pretrain --teacher"),
    *("finetune --data", "finetune --from", "finetune --teacher", "finetune --train", "finetune --dev"),
    *("evaluate task --data", "evaluate glue --data", "evaluate mlm --data"),
    *(f"evaluate {kind} --data" for kind in ("blimp", "pairs", "agreement")),
    *(f"evaluate {kind} --model" for kind in ("task", "glue", "mlm", "blimp", "pairs", "agreement")),
    *("predict --model", "predict --input", "export --model", "bench predict --model"),
}
"""Parameters that take URLs from which a copy can be made."""
WRITTEN = {"pretrain --run", "finetune --run", "predict --output", "export --output"}
"""Parameters that take URLs to which files can be written."""


def parameters(group: typer.Typer, verb: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield every parameter that takes paths or free text as `verb --option`, and arguments that pass it an address."""
    for below in group.registered_groups:
        assert below.typer_instance is not None
        if below.hidden is True:
            continue
        yield from parameters(below.typer_instance, (*verb, str(below.name)))
    for command in group.registered_commands:
        assert command.callback is not None
        words = (*verb, command.name or command.callback.__name__.replace("_", "-"))
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            kind, info = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
            if command.hidden or not {str, Path} & {kind, *get_args(kind), *get_args(next(iter(get_args(kind)), None))}:
                continue
            declared = [info.default, *(info.param_decls or ())]  # Typer stores the first name as the default.
            named = [one for one in declared if str(one).startswith("--")] or [f"--{name}".replace("_", "-")]
            option = [] if isinstance(info, ArgumentInfo) else named[:1]
            yield " ".join([*words, *(option or [(info.metavar or name).upper()])]), [*words, *option, ADDRESS]


ALL = dict(parameters(app))


def test_every_path_parameter_is_covered() -> None:
    assert ALL.keys() >= TEXTS | READ | WRITTEN
    assert len(ALL.keys() - TEXTS) > 40


@pytest.mark.parametrize("which", sorted(READ | WRITTEN))
def test_unusable_urls_are_refused(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIGS_CACHE", str(tmp_path / "cache"))
    problem = "a URL that cannot be used here" if which in READ else "a URL to which nothing can be written"
    for url in ("file:///b/x", "zip://x::s3://b/y.zip"):
        refused = bigs(*(url if word == ADDRESS else word for word in ALL[which]))
        assert (refused.code, refused.out) == (2, ""), shlex.join(ALL[which])
        assert f"bigs: {url} is {problem}" in refused.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("which", sorted(ALL.keys() - TEXTS - READ - WRITTEN))
def test_urls_are_refused_as_paths(which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = bigs(*ALL[which])
    assert (refused.code, refused.out) == (2, ""), shlex.join(ALL[which])
    assert f"bigs: {ADDRESS} is a URL" in refused.err
    assert not list(tmp_path.iterdir())


def test_unusable_urls_in_recipes_are_refused(tmp_path: Path) -> None:
    url = "file:///b/x"
    places = {"small": ("data.path", "data.validation", "from", "teacher"), "sst2": ("from", "teacher", "files.dev")}
    for recipe, key in ((recipe, key) for recipe, keys in places.items() for key in keys):
        own = [] if key in ("from", "teacher") else ["files.train=a.csv", "files.dev=a.csv"][: 2 * (recipe == "sst2")]
        with pytest.raises(RequestError, match=f"--set {key}={url}: {url} is a URL"):
            load_recipe(recipe, [*own, f"{key}={url}"])
        load_recipe(recipe, [*own, f"{key}={ADDRESS}"])
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: small\ndata:\n  path: {url}\n")
    refused = bigs("recipes", "validate", mine)
    assert (refused.code, f"{mine}:3:9: {url} is a URL" in refused.err) == (2, True), refused.err
    mine.write_text(f"extends: {ADDRESS}\n")
    assert f"{ADDRESS} is a URL" in bigs("recipes", "validate", mine).err


def test_urls_in_environment_variables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIGS_RUNS", ADDRESS)
    assert f"$BIGS_RUNS: {ADDRESS} is a URL" in bigs("runs", "list").err
    monkeypatch.setenv("BIGS_CACHE", ADDRESS)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    assert f"$BIGS_CACHE: {ADDRESS} is a URL" in bigs("doctor").err
    assert not list(tmp_path.iterdir())


def test_urls_in_the_api(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that `Path` has changed to s3:/b/x."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    model = load_model(models / "masked-lm")
    for given in (ADDRESS, Path(ADDRESS)):
        for call in (model.save_pretrained, find_tokenizer):
            with pytest.raises(RequestError, match=f"^{ADDRESS} is a URL"):
                call(given)
        for call in (load_model, BiGSForMaskedLM.from_pretrained):
            with pytest.raises(RequestError, match=f"^{ADDRESS} requires a package that is not installed"):
                call(given)
    with pytest.raises(RequestError, match="write its id, OWNER/NAME"):
        find_model("https://huggingface.co/JunxiongWang/BiGS_512")
    assert not list(tmp_path.iterdir())
    (tmp_path / "s3:").mkdir()
    model.save_pretrained(Path("s3:/b"))
    load_model(Path("s3:/b"))
    bigs("predict", "a [MASK]", "--model", "./s3:/b").fine()
