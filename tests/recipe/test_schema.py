"""Checks of the values in a recipe, and the hyperparameters of the shipped recipes."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe, Recipe, load_recipe, recipe_comment, recipe_names
from bigs_cli.recipe.catalog import recipe_kind
from bigs_cli.recipe.groups import Masking

GLUE = ("cola", "sst2", "qqp", "mnli", "qnli", "mrpc", "stsb", "rte", "wnli")
OTHER = ("imdb", "contract-nli", "wikiann", "squad", "squad2", "swag", "codah", "word-order", "custom", "embedding")
SMALL = tuple(
    f"{task}-small"
    for task in ("cola", "sst2", "mrpc", "stsb", "rte", "imdb", "wikiann", "squad", "codah", "custom", "embedding")
)


def pretraining(name: str, *overrides: str) -> PretrainRecipe:
    recipe = load_recipe(name, overrides)
    assert isinstance(recipe, PretrainRecipe)
    return recipe


def finetuning(name: str, *overrides: str) -> FinetuneRecipe:
    recipe = load_recipe(name, overrides)
    assert isinstance(recipe, FinetuneRecipe)
    return recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_has_a_comment(name: str) -> None:
    recipe, comment = load_recipe(name), recipe_comment(name)
    assert recipe.kind == recipe_kind(name)
    assert re.search(r"Published|Measured.*: .*\d", comment)
    assert comment.splitlines()[-1].startswith(f"Run: bigs {recipe.kind} ")
    if isinstance(recipe, FinetuneRecipe):
        task = "--train" if recipe.task == "custom" else recipe.task
        assert comment.splitlines()[-1].startswith(f"Run: bigs finetune {task} ")


def test_the_catalog_is_complete_and_unambiguous() -> None:
    glue = {f"{task}{length}{freeze}" for task in GLUE for length in ("", "-128") for freeze in ("", "-freeze")}
    assert set(recipe_names("finetune")) == {*glue, *OTHER, *SMALL}
    tokens = {"128-11b", "128-29b", "128-97b", "512", "1024", "4096"}
    small = {"small", "small-15m", "small-gated-attention", "small-stacked-ssm", "small-stacked-attention"}
    assert set(recipe_names("pretrain")) == {f"wiki-books-{of}" for of in tokens} | small | {"demo"}
    assert len(recipe_names()) == len(set(recipe_names()))


def test_published_pretraining() -> None:
    recipe = pretraining("wiki-books-128-11b")
    model, adamw, schedule = recipe.model, recipe.optimizer, recipe.schedule
    assert (model.num_hidden_layers, model.hidden_size, model.intermediate_size, model.num_ssm) == (
        23,
        1024,
        3072,
        64,
    )
    assert (model.vocab_size, model.hidden_dropout_prob, model.layer_norm_eps) == (30522, 0.1, 1e-12)
    assert (model.scaling, model.mask_padding, model.max_position_embeddings) == ("hippo", False, 128)
    assert (recipe.batch_size, recipe.steps, recipe.seed, recipe.masking.predictions(recipe.data.sequence_length)) == (
        131 * 8,
        100_000,
        42,
        20,
    )
    assert (adamw.learning_rate, adamw.beta1, adamw.beta2) == (6e-4, 0.9, 0.98)
    assert (adamw.epsilon, adamw.weight_decay, adamw.clip_norm) == (1e-6, 0.05, None)
    assert (adamw.ssm.lr_multiplier, adamw.ssm.weight_decay) == (1.0, None)
    assert (schedule.kind, schedule.warmup_steps, schedule.min_lr_ratio) == ("cosine", 2000, 0.1)
    assert recipe.masking == Masking(
        rate=0.15, max_predictions=20, mask_fraction=0.8, random_fraction=0.1, whole_word=False
    )


@pytest.mark.parametrize(
    ("name", "billions", "start"),
    [
        ("wiki-books-128-29b", 29, None),
        ("wiki-books-128-97b", 97, None),
        ("wiki-books-512", 108, None),
        ("wiki-books-1024", 2, "JunxiongWang/BiGS_512"),
        ("wiki-books-4096", 2, "JunxiongWang/BiGS_512"),
    ],
)
def test_steps_match_the_published_number_of_tokens(name: str, billions: int, start: str | None) -> None:
    recipe = pretraining(name)
    per_step = recipe.batch_size * recipe.data.sequence_length
    assert 0 <= recipe.steps * per_step - billions * 10**9 < per_step
    assert recipe.data.sequence_length == recipe.model.max_position_embeddings
    assert recipe.from_ == start


@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parametrize("length", [512, 128])
@pytest.mark.parametrize("freeze", [False, True])
def test_published_finetuning(task: str, length: int, freeze: bool) -> None:
    recipe = finetuning(f"{task}{'-128' if length == 128 else ''}{'-freeze' if freeze else ''}")
    adamw, schedule = recipe.optimizer, recipe.schedule
    assert (recipe.task, recipe.sequence_length, recipe.freeze_ssm) == (task, length, freeze)
    assert (recipe.epochs, recipe.batch_size) == (3.0, 16)
    assert (adamw.learning_rate, adamw.beta1, adamw.beta2) == (2e-5, 0.9, 0.999)
    assert (adamw.epsilon, adamw.weight_decay) == (1e-6, 0.01)
    assert (schedule.kind, schedule.warmup_fraction, schedule.min_lr_ratio) == ("linear", 0.1, 0.0)
    from_mnli = task in ("mrpc", "stsb", "rte") and not freeze
    mnli = "mnli" if length == 512 else "JunxiongWang/BiGS_128_MNLI"
    assert recipe.from_ == (mnli if from_mnli else f"JunxiongWang/BiGS_{length}")


def test_one_cpu_recipes_do_not_depend_on_padding() -> None:
    assert pretraining("small").model.mask_padding
    assert pretraining("demo").model.mask_padding


def test_the_number_of_predictions_depends_on_the_length() -> None:
    rows = ("masking.max_predictions=null", "model.max_position_embeddings=512")
    for length, expected in ((128, 20), (100, 15), (512, 77)):
        recipe = pretraining("demo", *rows, f"data.sequence_length={length}")
        assert recipe.masking.predictions(length) == expected


def test_a_schedule_has_exactly_one_warmup() -> None:
    by_fraction = pretraining("demo", "schedule.warmup_steps=null", "schedule.warmup_fraction=0.1").schedule
    assert (by_fraction.warmup_steps, by_fraction.warmup_fraction) == (None, 0.1)
    neither = pretraining("demo", "schedule.warmup_steps=null").schedule
    assert (neither.warmup_steps, neither.warmup_fraction) == (0, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.warmup_fraction=0.1", "Set one of them to null"),
        ("schedule.warmup_steps=801", "more than steps, which is 800"),
        ("data.sequence_length=256", "model.max_position_embeddings = 128"),
        ("masking.max_predictions=129", "a row has 128 tokens"),
        ("masking.random_fraction=0.3", "add up to more than 1"),
        ("masking.whole_word=1", "should be true or false, not 1"),
        ("gradient_accumulation_steps=3", "batch_size 32 is not divisible by gradient_accumulation_steps 3"),
        ("mesh.fsdp=-1", "only one can take all remaining devices"),
        ("mesh.tensor=0", "no devices"),
        ("model.head=encoder", "the masked-lm head, not encoder"),
        ("optimizer.learning_rate=0", "should be greater than 0, not 0"),
        ("optimizer.learning_rate=1e999", "should be a finite number"),
        ("steps=true", "should be a whole number, not true"),
        ("steps=1e3", "should be a whole number, not 1000.0"),
        ("batch_size=0", "should be greater than or equal to 1, not 0"),
        ("compute.dtype=bfloat", "Did you mean 'bfloat16'?"),
        ("compute.mixing=attention", "should be 'auto', 'dense' or 'chunked', not 'attention'"),
    ],
)
def test_invalid_values_are_refused(override: str, message: str) -> None:
    with pytest.raises(RequestError, match=r"^--set ") as caught:
        load_recipe("demo", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", Recipe.__args__)
def test_every_key_is_described(kind: type[BaseModel]) -> None:
    for name, field in kind.model_fields.items():
        assert field.description, name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            test_every_key_is_described(field.annotation)
