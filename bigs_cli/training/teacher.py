"""The scores of a teacher for the training examples of a task, from which another model learns (distillation).

They are computed once and kept in the cache folder, for every epoch, seed, setting of a sweep, and resumed run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.cache import cache_root
from bigs_cli.core.error_messages import nonfinite_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import atomic_write
from bigs_cli.core.processes import any_process
from bigs_cli.data.encode import check_token_types
from bigs_cli.data.tokenizer import fingerprint
from bigs_cli.evaluation.task import ModelOnTask, Split, settings_for
from bigs_cli.reporting.console import err, progress
from bigs_cli.tasks.splits import data_digest
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of
from bigs_cli.training.finetune import TaskData

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def with_teacher_scores(data: TaskData, task: Task, teacher: OpenModel, tokenizer: Tokenizer) -> TaskData:
    """Return the data of a task with the scores of a teacher, a model of that task with any size and `tokenizer`.

    The parameters of `teacher` are taken from it; do not use it afterwards.

    Raises:
        RequestError: the teacher is a model for something else, or models of this task cannot learn from a teacher.
        BigsError: its scores are not finite.
    """
    task_type = type_of(task)
    if not task_type.learns_from_teacher:
        raise RequestError(
            f"Models for {task.title} cannot learn from a teacher; models for classes, scores, several labels and "
            "multiple choice can. Leave out the teacher."
        )
    settings = settings_for(teacher, task)
    models = [teacher.digest, teacher.config.model_dump_json(), fingerprint(tokenizer), task.labels]
    inputs = [data_digest(data.train), settings.length, settings.batch_size, settings.trim, settings.compute.dtype]
    key = hashlib.sha256(json.dumps([models, inputs]).encode()).hexdigest()
    file = cache_root() / "teacher" / f"{key}.npy"
    result = replace(data, teacher_digest=teacher.digest)
    if not any_process(not file.is_file()):  # All processes compute the scores together, or none does.
        return replace(result, teacher=np.load(file, allow_pickle=False))
    source = teacher.source
    model = ModelOnTask(teacher, tokenizer, task, settings)
    encoded = task_type.encode(tokenizer, data.train, settings.length)
    check_token_types(encoded, teacher.config)
    with progress("teacher", len(encoded), "example") as advance:
        scores = model.scores(model.params, [Split("train", data.train, encoded)], advance)["train"]
    if not np.isfinite(scores).all():
        raise nonfinite_error(f"The teacher {source}")
    try:
        with atomic_write(file) as stream:
            np.save(stream, scores)
    except OSError as error:  # A cache that cannot be written only costs time.
        err.print(f"The teacher's scores are not cached: {error}")
    return replace(result, teacher=scores)
