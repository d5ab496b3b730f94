"""SWAG and CODAH: which of four endings continues a text.

Zellers et al. 2018 (https://arxiv.org/abs/1808.05326, files from https://github.com/rowanz/swagaf) and Chen et al. 2019
(https://arxiv.org/abs/1904.04365, files from https://github.com/Websail-NU/CODAH).
"""

from __future__ import annotations

from bigs_cli.tasks.task import Hub, Task

_ENDINGS = ("ending0", "ending1", "ending2", "ending3")

SWAG = Task(
    name="swag",
    type="multiple-choice",
    title="SWAG",
    source="https://arxiv.org/abs/1808.05326",
    folder="swag",
    files={"train": ("train.csv",), "dev": ("val.csv",), "test": ("test.csv",)},
    text_a="startphrase",
    endings=_ENDINGS,
    labels=None,
    metrics=("accuracy",),
    sizes={"train": 73546, "dev": 20006, "test": 20005},
    hub=Hub("regular", "startphrase", None, {"train": "train", "dev": "validation", "test": "test"}, "allenai/swag"),
)

CODAH = Task(
    name="codah",
    type="multiple-choice",
    title="CODAH",
    source="https://arxiv.org/abs/1904.04365",
    folder="codah",
    # The first of the five folds, unless the folder is itself a fold.
    files={split: (f"{split}.tsv", f"cv_split/fold_0/{split}.tsv") for split in ("train", "dev", "test")}
    | {"full": ("full_data.tsv",)},
    headerless_columns=("category", "prompt", *_ENDINGS, "label"),
    text_a="prompt",
    endings=_ENDINGS,
    labels=None,
    metrics=("accuracy",),
    sizes={"train": 1665, "dev": 556, "test": 555, "full": 2776},
)
