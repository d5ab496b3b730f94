"""`sentence-transformers`: the folder of `transformers` with the pooling of sentence embeddings."""

from __future__ import annotations

from pathlib import Path

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.export import transformers_folder
from bigs_cli.export.settings import Format, Settings

_MODULES = (("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"))
"""The name, the folder and the class of each step from a text to its embedding."""


def write(folder: Path, model: OpenModel, settings: Settings) -> None:
    """Write the folder of `transformers`, and the files that describe the mean of the last hidden state.

    Raises:
        RequestError: the model has another head than the encoder.
    """
    config = model.config
    if config.head != "encoder":
        raise RequestError(
            f"{model.source} is a {config.head} model. The format sentence-transformers is for sentence embeddings; "
            f"train them with: bigs finetune --task-type embedding --from {model.source} …"
        )
    transformers_folder.write(folder, model, settings)
    steps = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, path, kind in _MODULES
    ]
    write_json(folder / "modules.json", steps)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": model.trained_length})
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})
    pooling = folder / "1_Pooling"
    pooling.mkdir()
    write_json(
        pooling / "config.json", {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
    )


SNIPPET = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{folder}", trust_remote_code=True)
embeddings = model.encode(["A text.", "Another text."])
"""

SENTENCE_TRANSFORMERS = Format(
    "sentence-transformers",
    "a folder that `SentenceTransformer` loads, with trust_remote_code=True",
    write,
    transformers_folder.read_back,
    SNIPPET,
    stores_dtype=True,
)
