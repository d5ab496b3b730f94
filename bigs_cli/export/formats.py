"""The export formats by name, and `export`, which writes one and checks it."""

from __future__ import annotations

from pathlib import Path

from bigs_cli.checkpoints.folder import atomic_directory
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.untrained import untrained_layers
from bigs_cli.checkpoints.weights import INDEX, WEIGHTS
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.hub import Destination
from bigs_cli.export import onnx_file, stablehlo_file, transformers_folder, weights
from bigs_cli.export.card import write_card
from bigs_cli.export.check import differences
from bigs_cli.export.settings import Exported, Format, Settings, WeightType, trained_length
from bigs_cli.export.tokenizer import write_tokenizer

FORMATS: dict[str, Format] = {
    "flax": weights.FLAX,
    "torch": weights.TORCH,
    "safetensors": weights.SAFETENSORS,
    "transformers": transformers_folder.TRANSFORMERS,
    "onnx": onnx_file.ONNX,
    "stablehlo": stablehlo_file.STABLEHLO,
}
_CHECKED_LENGTH = 64
_LONG = 1280  # beyond what is mixed by one matrix


def export(
    model: OpenModel,
    form: str,
    output: Path,
    *,
    lengths: tuple[int, ...] = (),
    int8: bool = False,
    dtype: WeightType = "float32",
    license: str | None = None,
) -> Exported:
    """Write `model` to the new folder `output` with tokenizer, config and card; load it again and compare outputs.

    `lengths` are those that an ``onnx`` or ``stablehlo`` file takes (default: the model's longest, or, where it reads
    its padding, that of training). Nothing is left at `output` where a float32 file differs by more than 5e-5 of the
    largest output.

    Raises:
        RequestError: the format is unknown, a setting is not of it, or `output` is in use.
        BigsError: what was read back differs, or a package that the format needs is absent.
    """
    if form not in FORMATS:
        raise RequestError(f"There is no format '{form}'.{did_you_mean(form, FORMATS)} Formats: {', '.join(FORMATS)}.")
    chosen = FORMATS[form]
    settings = Settings(_lengths(model, form, chosen, lengths), int8, dtype, license)
    if int8 and form != "onnx":
        raise RequestError(f"--int8 is of the format onnx; {form} has no 8-bit weights.")
    if dtype != "float32" and not chosen.stores_dtype:
        raise RequestError(f"The format {form} is written in float32; leave out --dtype {dtype}.")
    with atomic_directory(output) as draft:
        chosen.write(draft, model, settings)
        if model.tokenizer is not None:
            write_tokenizer(model.tokenizer, draft, model.config.max_position_embeddings)
        exported = Exported(differences(draft, model, chosen, settings), _warnings(model, chosen, settings))
        if int8:
            exported.notes += onnx_file.int8_notes(draft, model, settings)
        write_card(draft, model, form, chosen, exported, settings, output.name)
    return exported


def _warnings(model: OpenModel, chosen: Format, settings: Settings) -> list[str]:
    """Return what users of the export would not expect: what was never trained, and what its tool does not honour."""
    found: list[str] = []
    if untrained := untrained_layers(model.flat, model.config):
        found.append(
            f"Layers that were never trained, or are not in the model: {', '.join(untrained)}. Train the model before "
            "you use what they compute."
        )
    return found + (chosen.tool.warnings(model, settings) if chosen.tool else [])


def _lengths(model: OpenModel, form: str, chosen: Format, asked: tuple[int, ...]) -> tuple[int, ...]:
    longest = model.config.max_position_embeddings
    if asked and not chosen.fixes_length:
        raise RequestError(f"The format {form} takes texts of any length; leave out --length.")
    wrong = [length for length in asked if not 1 <= length <= longest]
    if wrong:
        raise RequestError(f"--length {wrong[0]}: this model takes 1 to {longest} tokens.")
    if chosen.fixes_length:
        # A model that reads its padding is asked with as much of it as in training.
        return tuple(dict.fromkeys(asked)) or (longest if model.config.mask_padding else trained_length(model),)
    return tuple(dict.fromkeys((min(longest, _CHECKED_LENGTH), *([_LONG] if longest >= _LONG else []))))


def other_weights(to: Destination, files: list[str], folder: Path) -> str:
    """Return a note on weights among the `files` of a repository that an export in `folder` did not push, or ""."""
    ours = {path.name for path in folder.iterdir()}
    others = [name for name in files if name.removesuffix(INDEX) in WEIGHTS and name not in ours]
    if not others:
        return ""
    branch = f" --revision {to.branch}" if to.branch else ""
    return (
        f"{to.repo} also holds {listed(others)} from before, which a reader may prefer. If it is of another model: "
        f"hf repos delete-files {to.repo} {' '.join(others)}{branch}"
    )
