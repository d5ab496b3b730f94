"""The table of export formats, and `export`, which writes a model in one of them and checks the result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bigs_cli.checkpoints.folder import atomic_directory
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.untrained import untrained_layers
from bigs_cli.checkpoints.weights import INDEX, WEIGHTS
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.hub import Destination
from bigs_cli.data.encode import add_special_tokens
from bigs_cli.data.tokenizer import load_tokenizer, save_tokenizer
from bigs_cli.export import onnx_file, sentence_transformers, stablehlo_file, transformers_folder, weights
from bigs_cli.export.card import write_card
from bigs_cli.export.check import differences
from bigs_cli.export.settings import Exported, Format, Settings

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        weights.FLAX,
        weights.TORCH,
        weights.SAFETENSORS,
        transformers_folder.TRANSFORMERS,
        sentence_transformers.SENTENCE_TRANSFORMERS,
        onnx_file.ONNX,
        stablehlo_file.STABLEHLO,
    )
}
_DEFAULTS = Settings()
_CHECKED_LENGTH = 64
_CHECKED_LONG = 1280  # long enough for chunked mixing


def export(model: OpenModel, name: str, output: Path, settings: Settings = _DEFAULTS) -> Exported:
    """Write `model` in the format `name` to the new folder `output`, with tokenizer, config and card, and check it.

    Empty `settings.lengths` default to the model's maximum length or, if its outputs depend on padding, to the length
    in training. If a float32 file differs by more than 5e-5 of the largest output, `output` is not created.

    Raises:
        RequestError: the format is unknown, it does not support a setting, or `output` is in use.
        BigsError: the outputs differ when read back, or a package that the format needs is not installed.
    """
    if name not in FORMATS:
        raise RequestError(f"There is no format '{name}'.{did_you_mean(name, FORMATS)} Formats: {', '.join(FORMATS)}.")
    form = FORMATS[name]
    settings = replace(settings, lengths=_lengths(model, form, settings.lengths))
    if settings.int8 and name != "onnx":
        raise RequestError(f"--int8 is for the format onnx; {name} has no 8-bit weights.")
    if settings.dtype != "float32" and not form.stores_dtype:
        raise RequestError(f"The format {name} is written in float32; leave out --dtype {settings.dtype}.")
    with atomic_directory(output) as tmp:
        form.write(tmp, model, settings)
        if model.tokenizer is not None:
            write_tokenizer(model.tokenizer, tmp, model.config.max_position_embeddings)
        exported = Exported(differences(tmp, model, form, settings), _warnings(model, form, settings))
        if settings.int8:
            exported.notes += onnx_file.int8_notes(tmp, model, settings)
        write_card(tmp, model, form, exported, settings, output.name)
    return exported


def write_tokenizer(source: Path, folder: Path, longest: int) -> None:
    """Write tokenizer.json, vocab.txt and tokenizer_config.json, which `AutoTokenizer` and our own reader load."""
    save_tokenizer(
        add_special_tokens(load_tokenizer(source)),
        folder,
        model_max_length=longest,
        model_input_names=["input_ids", "attention_mask", "token_type_ids"],
        clean_up_tokenization_spaces=True,
    )


def _warnings(model: OpenModel, form: Format, settings: Settings) -> list[str]:
    """Return warnings about untrained layers and about config fields that the tool of the format ignores."""
    warnings: list[str] = []
    if untrained := untrained_layers(model.flat, model.config):
        warnings.append(
            f"Layers that were never trained, or are not in the model: {', '.join(untrained)}. Train the model before "
            "you use their outputs."
        )
    return warnings + (form.tool.warnings(model, settings) if form.tool else [])


def _lengths(model: OpenModel, form: Format, requested: tuple[int, ...]) -> tuple[int, ...]:
    longest = model.config.max_position_embeddings
    if requested and not form.fixes_length:
        raise RequestError(f"The format {form.name} takes texts of any length; leave out --length.")
    invalid = [length for length in requested if not 1 <= length <= longest]
    if invalid:
        raise RequestError(f"--length {invalid[0]}: this model takes 1 to {longest} tokens.")
    if form.fixes_length:
        # A model whose outputs depend on padding needs as much padding as in training.
        return tuple(dict.fromkeys(requested)) or (longest if model.config.ignores_padding else model.trained_length,)
    long = [_CHECKED_LONG] if longest >= _CHECKED_LONG else []
    return tuple(dict.fromkeys((min(longest, _CHECKED_LENGTH), *long)))


def other_weights(to: Destination, files: list[str], folder: Path) -> str:
    """Return a note on older weights among the `files` of a repository after the push of `folder`, or ""."""
    pushed = {path.name for path in folder.iterdir()}
    others = [name for name in files if name.removesuffix(INDEX) in WEIGHTS and name not in pushed]
    if not others:
        return ""
    branch = f" --revision {to.branch}" if to.branch else ""
    return (
        f"{to.repo} also holds {listed(others)} from before, which other tools may load instead. Delete them with: "
        f"hf repos delete-files {to.repo} {' '.join(others)}{branch}"
    )
