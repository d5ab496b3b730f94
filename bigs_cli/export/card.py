"""The model card, README.md: what the model is, how it did, what it was made from, how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.metric_names import by_split, is_fraction, key_in_words, log_key, percent
from bigs_cli.core.wording import without_folders
from bigs_cli.export.settings import Exported, Format, Settings, trained_length
from bigs_cli.export.snippets import snippet
from bigs_cli.models.config import Head

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
    "**Padding is part of this model**: its layers read it, so that a text padded to another length has other outputs. "
    "Pad as it was trained, to {length} tokens."
)
_PAPER = "[Pretraining Without Attention](https://arxiv.org/abs/2212.10544)"


def write_card(
    folder: Path, model: OpenModel, form: str, chosen: Format, exported: Exported, settings: Settings, name: str
) -> None:
    """Write README.md into `folder`, which will be called `name`."""
    config = model.config
    front: dict[str, Any] = {
        "tags": ["bigs", "state-space-model", "attention-free"],
        "pipeline_tag": _TAGS[config.head],
    }
    if settings.license:
        front["license"] = settings.license
    if model.repo:
        front["base_model"] = model.repo.partition("@")[0]
    if form == "transformers":
        front["library_name"] = "transformers"
    reads_padding = not config.mask_padding
    code = snippet(model, chosen, name, next(iter(exported.differences)), settings.lengths[0])
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {model.name}",
        f"A BiGS model: a bidirectional language model without attention ({_PAPER}). {_size(model)}",
        f"```python\n{code}```",
        *(f"**Warning**: {warning}" for warning in exported.warnings),
        *([_PADDING.format(length=trained_length(model))] if reads_padding else []),
        *_about_the_run(model),
        "## This export",
        f"Format `{form}`: {chosen.what}. Loaded again, on one batch of random ids, it differs from the model by "
        "this much of the largest output:",
        "\n".join(
            ["| file | difference |", "|---|---|", *(f"| {f} | {d:.1e} |" for f, d in exported.differences.items())]
        ),
        *exported.notes,
        f"Licence: {settings.license}." if settings.license else "No licence has been stated by who exported it.",
        "Written by `bigs export`.",
    ]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _size(model: OpenModel) -> str:
    config = model.config
    numbers = sum(array.size for array in model.flat.values())
    labels = f" Labels: {', '.join(config.labels)}." if config.labels else ""
    return (
        f"Head: {config.head}. {numbers / 1e6:,.1f}M parameters: {config.num_hidden_layers} layers, H = "
        f"{config.hidden_size}, I = {config.intermediate_size}, N = {config.num_ssm}, {config.vocab_size:,} words, "
        f"at most {config.max_position_embeddings:,} tokens.{labels}"
    )


def _rows_of_results(results: dict[str, Any]) -> list[str]:
    """Return what a run ended with, fractions in percent; without what was not finite."""
    found = results["metrics"]
    if results.get("task"):
        found = {log_key(split, name): value for split, of in by_split(results).items() for name, value in of.items()}
    return [
        f"| {key_in_words(key)} | {f'{percent(value)}%' if is_fraction(key) else f'{value:.4g}'} |"
        for key, value in found.items()
        if value is not None
    ]


def _about_the_run(model: OpenModel) -> list[str]:
    """Return the metrics, data and recipe of the run the model comes from, or where else it comes from."""
    run = model.run
    if run is None:
        origin = model.repo or Path(model.source).name
        return [f"Exported from `{origin}`; how it was trained, on what data and under what licence is told there."]
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
    recipe = yaml.safe_dump(without_folders(yaml.safe_load(run.recipe_file.read_bytes())), sort_keys=False).rstrip()
    versions = {package: version for package, version in run.environment().get("packages", {}).items() if version}
    parts += ["## Recipe", f"```yaml\n{recipe}\n```"]
    if versions:
        parts.append("Trained with " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".")
    return parts
