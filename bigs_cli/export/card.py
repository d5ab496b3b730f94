"""The model card, README.md: the model, its results, data and recipe, and code that loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.metric_names import is_fraction, key_in_words, metrics_by_key, percent
from bigs_cli.core.wording import without_folders
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.settings import Exported, Format, Settings
from bigs_cli.export.transformers_folder import AUTO_CLASSES
from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.recipe.source import dump, read_value

_TAGS: dict[Head, str] = {
    "encoder": "feature-extraction",
    "masked-lm": "fill-mask",
    "pretraining": "fill-mask",
    "next-sentence": "text-classification",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
}
_PADDING = (
    "**Padding changes the outputs** of this model: they depend on how far texts are padded. Pad texts as in training, "
    "to {length} tokens."
)
_EXAMPLES: dict[Head, str] = {
    "masked-lm": '"The goal of life is [MASK]."',
    "pretraining": '"The goal of life is [MASK]."',
    "next-sentence": '"She opened the door.", "It was cold outside."',
    "question-answering": '"What is the capital?", "Oslo is the capital of Norway."',
    "multiple-choice": '["She opened the door"] * 2, ["and went in.", "and flew away."]',
}
_PAPER = "[Pretraining Without Attention](https://arxiv.org/abs/2212.10544)"


def write_card(folder: Path, model: OpenModel, form: Format, exported: Exported, settings: Settings, name: str) -> None:
    """Write README.md into `folder`, whose final name is `name`."""
    config = model.config
    front: dict[str, Any] = {
        "tags": ["bigs", *([] if config.attends else ["state-space-model", "attention-free"])],
        "pipeline_tag": _TAGS[config.head],
    }
    if settings.license:
        front["license"] = settings.license
    if model.repo:
        front["base_model"] = model.repo.partition("@")[0]
    if form.name in ("transformers", "sentence-transformers"):
        front["library_name"] = form.name
    code = snippet(model, form, name, next(iter(exported.differences)), settings.lengths[0])
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {model.name}",
        f"{_kind(model)} {_size(model)}",
        f"```python\n{code}```",
        *(f"**Warning**: {warning}" for warning in exported.warnings),
        *([] if config.ignores_padding else [_PADDING.format(length=model.trained_length)]),
        *_about_the_run(model),
        "## This export",
        f"Format `{form.name}`: {form.description}. The files were read back and run on a batch of random ids. Their "
        "outputs differ from those of the model by these fractions of the largest output:",
        "\n".join(
            ["| file | difference |", "|---|---|", *(f"| {f} | {d:.1e} |" for f, d in exported.differences.items())]
        ),
        *exported.notes,
        f"Licence: {settings.license}." if settings.license else "No licence was specified at export.",
        "Written by `bigs export`.",
    ]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _kind(model: OpenModel) -> str:
    if model.config.attends:
        return f"A bidirectional language model with attention, for comparison with BiGS ({_PAPER})."
    return f"A BiGS model: a bidirectional language model without attention ({_PAPER})."


def _size(model: OpenModel) -> str:
    config = model.config
    count = sum(array.size for array in model.flat.values())
    labels = f" Labels: {', '.join(config.labels)}." if config.labels else ""
    mixer = f"{config.num_attention_heads} attention heads" if config.attends else f"N = {config.num_ssm}"
    return (
        f"Head: {config.head}. {count / 1e6:,.1f}M parameters: {config.num_hidden_layers} {config.block} "
        f"layers, H = {config.hidden_size}, I = {config.intermediate_size}, {mixer}, {config.vocab_size:,} words, "
        f"at most {config.max_position_embeddings:,} tokens.{labels}"
    )


def _rows_of_results(results: dict[str, Any]) -> list[str]:
    """Return table rows with the finite metrics of a run; fractions are in percent."""
    return [
        f"| {key_in_words(key)} | {f'{percent(value)}%' if is_fraction(key) else f'{value:.4g}'} |"
        for key, value in metrics_by_key(results).items()
        if value is not None
    ]


def _about_the_run(model: OpenModel) -> list[str]:
    """Return the metrics, data and recipe of the run that trained the model or, without a run, its source."""
    run = model.run
    if run is None:
        origin = model.repo or Path(model.source).name
        return [f"Exported from `{origin}`. Its training, data and licence are documented there."]
    parts: list[str] = []
    if run.finished:
        results = run.results()
        task = results.get("task")
        rows = _rows_of_results(results)
        if rows:
            head = f"## Results{f' on {task}' if task else ''}"
            parts += [head, "\n".join(["| metric | value |", "|---|---|", *rows])]
        data = results.get("data")
        if isinstance(data, dict):
            hashes = [f"| {part} | `{value}` |" for part, value in sorted(data.items()) if part != "path"]
            parts += ["## Data", "\n".join(["| part | SHA-256 |", "|---|---|", *hashes])]
    values, _ = read_value(run.recipe_file.read_text(encoding="utf-8"), str(run.recipe_file))
    recipe = dump(without_folders(values)).rstrip()
    versions = {package: version for package, version in run.environment().get("packages", {}).items() if version}
    parts += ["## Recipe", f"```yaml\n{recipe}\n```"]
    if versions:
        parts.append("Trained with " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".")
    return parts


def snippet(model: OpenModel, form: Format, folder: str, file: str, length: int) -> str:
    """Return code that loads and runs the exported `file` in `folder`, a path relative to its parent.

    `length` is the row length in tokens for formats that fix it.
    """
    config = model.config
    path = json.dumps(folder, ensure_ascii=False)[1:-1]  # escaped for a string in double quotes
    numpy_inputs = _with_tokenizer(config, path, length) if model.tokenizer else _without_tokenizer(config, length)
    return form.snippet.format(
        folder=path,
        file=file,
        auto=next(auto for auto, head in AUTO_CLASSES.items() if head == config.head),
        outputs=f"[{', '.join(OUTPUTS[config.head])}]",
        numpy_inputs=numpy_inputs,
        torch_inputs=_torch_inputs(model, path),
    )


def _example(config: BiGSConfig) -> str:
    return _EXAMPLES.get(config.head, '"A text."')


def _with_tokenizer(config: BiGSConfig, folder: str, length: int) -> str:
    """Return code that encodes an example as `ids`, `mask` and `types` with the `tokenizers` library."""
    choices = config.has_choices
    texts = f"list(zip({_example(config)}))" if choices else f"[({_example(config)})]"
    array = (
        "np.array([[getattr(row, name) for row in rows]])"
        if choices
        else "np.array([getattr(row, name) for row in rows])"
    )
    return f"""from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{folder}/tokenizer.json")
tokenizer.enable_truncation({length})
tokenizer.enable_padding(length={length}, pad_id={config.pad_token_id})
rows = tokenizer.encode_batch({texts})
ids, mask, types = ({array} for name in ("ids", "attention_mask", "type_ids"))"""


def _without_tokenizer(config: BiGSConfig, length: int) -> str:
    shape = f"(1, 2, {length})" if config.has_choices else f"(1, {length})"
    return f"""
ids = np.random.default_rng(0).integers({config.vocab_size}, size={shape})  # there is no tokenizer: put your ids here
mask, types = np.ones_like(ids), np.zeros_like(ids)"""


def _torch_inputs(model: OpenModel, folder: str) -> str:
    """Return code that encodes an example as `inputs`, the arguments of a `transformers` model."""
    config, choices = model.config, model.config.has_choices
    longest = model.trained_length
    if not model.tokenizer:
        shape = f"(1, 2, {longest})" if choices else f"(1, {longest})"
        return f"""
import torch

inputs = {{"input_ids": torch.randint({config.vocab_size}, {shape})}}  # there is no tokenizer: put your ids here"""
    padding = ", padding=True" if choices else ""
    if not config.ignores_padding:
        padding = f', padding="max_length", max_length={longest}, truncation=True'
    row = "\ninputs = {name: value[None] for name, value in inputs.items()}" if choices else ""
    return f"""from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}", trust_remote_code=True)
inputs = tokenizer({_example(config)}{padding}, return_tensors="pt"){row}"""
