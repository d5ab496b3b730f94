"""`transformers`: a folder with weights and PyTorch code that the Auto classes of the library load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bigs_cli.checkpoints import safetensors_file
from bigs_cli.checkpoints.arrays import Array
from bigs_cli.checkpoints.config_json import ARCHITECTURES, config_values
from bigs_cli.checkpoints.folder import CONFIG, read_model
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.files import write_json
from bigs_cli.export.check import model_run
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.settings import Format, Inputs, Readback, Run, Settings
from bigs_cli.export.weights import stored
from bigs_cli.models.config import Head
from bigs_cli.models.published import completed, to_torch

AUTO_CLASSES: dict[str, Head] = {
    "AutoModel": "encoder",
    "AutoModelForMaskedLM": "masked-lm",
    "AutoModelForPreTraining": "pretraining",
    "AutoModelForNextSentencePrediction": "next-sentence",
    "AutoModelForSequenceClassification": "sequence-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
}
"""The `transformers` class that loads each head."""

_HAVE_PROBLEM_TYPE: tuple[Head, ...] = ("sequence-classification",)
"""The heads whose config in `transformers` states a `problem_type`."""

CODE = ("configuration_bigs.py", "layers_bigs.py", "modeling_bigs.py")


def write(folder: Path, model: OpenModel, settings: Settings) -> None:
    """Write the weights with the names of the PyTorch port, the config with its Auto classes, and their code."""
    config = model.config
    state = to_torch(stored(completed(model.flat, config), settings.dtype), config)
    derived = ["embeddings.position_ids", "bigs.embeddings.position_ids", "cls.predictions.decoder.bias"]
    if config.tie_word_embeddings:
        derived.append("cls.predictions.decoder.weight")
    for name in derived:  # The library creates these itself.
        state.pop(name, None)
    safetensors_file.write(folder / "model.safetensors", state)
    classes = {auto: f"modeling_bigs.{ARCHITECTURES[head]}" for auto, head in AUTO_CLASSES.items()}
    values = config_values(config) | {
        "auto_map": {"AutoConfig": "configuration_bigs.BiGSConfig", **classes},
        "dtype": settings.dtype,
    }
    if config.head in _HAVE_PROBLEM_TYPE:
        several = "multi_label_classification" if config.multi_label else "single_label_classification"
        values["problem_type"] = "regression" if config.num_labels == 1 else several
    write_json(folder / CONFIG, values)
    shipped = resources.files("bigs_cli.export.shipped")
    for name in CODE:
        with resources.as_file(shipped / name) as path:
            shutil.copyfile(path, folder / name)


def read_back(folder: Path, model: OpenModel, settings: Settings) -> Iterator[Readback]:
    """Run the weights in our own model and, if PyTorch and `transformers` are installed, in the shipped code."""
    exact = settings.dtype == "float32"
    loaded = read_model(folder)
    yield Readback("model.safetensors", model_run(loaded.config, loaded.flat), settings.lengths, exact)
    if find_spec("torch") and find_spec("transformers"):
        yield Readback("modeling_bigs.py", torch_run(folder, model.config.head), settings.lengths, exact)


def torch_run(folder: Path, head: Head) -> Run:
    """Return a function that runs the model in the folder on PyTorch, with the shipped code."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers.utils.logging import disable_progress_bar  # pyright: ignore[reportMissingImports]

    from bigs_cli.export.shipped import modeling_bigs

    disable_progress_bar()  # shown while the library loads a model
    torch_model = getattr(modeling_bigs, ARCHITECTURES[head]).from_pretrained(folder, use_safetensors=True)
    torch_model.train(False)

    def run(inputs: Inputs) -> list[Array]:
        ids, mask, types = (torch.from_numpy(np.asarray(a, np.int64)) for a in inputs)
        with torch.no_grad():
            outputs = torch_model(input_ids=ids, attention_mask=mask, token_type_ids=types)
        return [outputs[name].float().numpy() for name in OUTPUTS[head]]

    return run


SNIPPET = """from transformers import {auto}
{torch_inputs}
model = {auto}.from_pretrained("{folder}", trust_remote_code=True)
outputs = model(**inputs)
"""

TRANSFORMERS = Format(
    "transformers",
    "a folder that `transformers` loads, on PyTorch, with trust_remote_code=True",
    write,
    read_back,
    SNIPPET,
    stores_dtype=True,
)
