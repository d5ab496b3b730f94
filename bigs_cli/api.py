"""The Python API: a model object with `from_pretrained`, a call, and `save_pretrained`, one class a head."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import numpy as np

from bigs_cli.checkpoint.folder import new_folder, write_flax
from bigs_cli.checkpoint.names import to_apart, to_flat, unnested
from bigs_cli.checkpoint.resolve import OpenModel, find_model, open_model
from bigs_cli.checkpoint.transfer import Transfer, transfer
from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.export.tokenizer import write_tokenizer
from bigs_cli.model.functional import Parameters, count, hold_apart, initialize, make_apply
from bigs_cli.model.heads import Outputs
from bigs_cli.prediction.item import Asked, items_of, record
from bigs_cli.prediction.predictor import Predictor
from bigs_cli.prediction.settings import Origin, settings_for, tokenizer_of
from bigs_cli.recipe.config import BiGSConfig, Head
from bigs_cli.recipe.schema import Compute


class Pretrained:
    """A BiGS model ready to be called. Its calls are compiled, once for each shape of input.

    Attributes:
        config: size, shape and head.
        transfer: what `from_pretrained` loaded, made new and left out; None for a model made otherwise.
        source: where the parameters came from.
    """

    head: ClassVar[Head]

    def __init__(self, config: BiGSConfig, params: Parameters | None = None, *, seed: int = 0) -> None:
        """Make a model of `config` with fresh parameters (by `seed`), or with `params`, layers held apart.

        Raises:
            ValueError: the config is for another head.
        """
        if config.head != self.head:
            raise ValueError(f"{type(self).__name__} has the head {self.head}; the config is for {config.head}.")
        self.config = config
        self.transfer: Transfer | None = None
        self.source = "fresh parameters"
        self._params = hold_apart(initialize(config, seed)) if params is None else params
        self._origin: Origin | None = None
        self._predictors: dict[tuple[Any, ...], Predictor] = {}
        apply = make_apply(config, Compute(), apart=True)

        def run(params: Parameters, hidden_states: bool, inputs: list[Any], named: dict[str, Any]) -> Outputs:
            outputs = apply(params, *inputs, **named)
            if not hidden_states:
                del outputs["hidden_states"]  # Compiled code then need not keep them.
            return outputs

        self._run = jax.jit(run, static_argnums=1)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None, **changes: Any) -> Self:
        """Load `model`: a run, a folder, a hub id, or a short name such as "mnli".

        `revision` is a branch, tag or commit of a model on the hub. What was fetched once is kept in the hub's cache
        and not fetched again; with HF_HUB_OFFLINE=1 the hub is not asked.

        A model with another head gives its encoder; what was loaded, what is new and what was left out is in
        `.transfer` (print `model.transfer.describe()`). `changes` are config fields to differ in, such as
        `num_labels=3`, which also drops the old labels' names.

        Raises:
            bigs_cli.core.errors.BigsError: there is no such model or config field, or its files are malformed.
        """
        name = f"{model}@{revision}" if revision else str(model)
        return cls._from_open(open_model(find_model(name)), changes)

    @classmethod
    def _from_open(cls, opened: OpenModel, changes: dict[str, Any]) -> Self:
        config = _changed(opened.config, {"head": cls.head, **changes})
        origin = Origin.of(opened)
        fresh: dict[str, Any] = {}

        def new(path: str, shape: tuple[int, ...]) -> Any:
            if not fresh:
                fresh.update(to_flat(initialize(config, 0), config))
            return fresh[path]

        flat, report = transfer(opened.flat, opened.config, config, new)
        opened.flat.clear()  # Each array is let go as it is taken over: one copy of the model at a time.
        loaded = cls(config, to_apart(flat))
        loaded.transfer, loaded.source, loaded._origin = report, opened.source, origin
        return loaded

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        *,
        output_hidden_states: bool = False,
        **named: Any,
    ) -> Outputs:
        """Run the model on ids `[B, L]` (multiple choice `[B, choices, L]`); arrays or lists.

        The mask defaults to "not [PAD]", the token types to 0. A masked-LM model also takes `positions` `[B, P]`.
        With `output_hidden_states`, `.hidden_states` has the embeddings and what each layer gave.

        Raises:
            ValueError: ids of another shape, beyond the vocabulary, or more of them than the model has positions.
        """
        inputs = [None if a is None else np.asarray(a) for a in (input_ids, attention_mask, token_type_ids)]
        self._check(np.asarray(input_ids))
        further = {name: np.asarray(value) for name, value in named.items()}
        return self._run(self._params, output_hidden_states, inputs, further)

    def _check(self, ids: np.ndarray[Any, Any]) -> None:
        """Refuse what compiled code would turn into NaN, or into an error about something else."""
        form = "[B, choices, L]" if self.head == "multiple-choice" else "[B, L]"
        if ids.ndim != form.count(",") + 1:
            raise ValueError(f"input_ids has the shape {list(ids.shape)}; {type(self).__name__} takes {form}.")
        if ids.size and not 0 <= ids.min() <= ids.max() < self.config.vocab_size:
            held = f"input_ids holds ids from {ids.min()} to {ids.max()}"
            raise ValueError(f"{held}; the vocabulary has {self.config.vocab_size}, from 0.")

    def predict(
        self,
        texts: Asked | Iterable[Asked],
        *,
        top: int = 5,
        length: int | None = None,
        batch_size: int | None = None,
        trim_padding: bool | None = None,
    ) -> list[dict[str, Any]]:
        """Return what the model's head says of each text, as `bigs predict` does; a single text is a list of one.

        A text is a str; a pair (text, pair); for questions {"question": …, "context": …}; for choices {"text": …,
        "endings": […, …]}; for entities a list of words too. A dict's keys go on into the answer; one that has the
        name of an answer's becomes ``input.NAME``, or ``input.NAME.2``, … if there is such a key too.

        | head | keys of an answer |
        |---|---|
        | masked words | `filled`, `masks`: for every [MASK] its `top` tokens with their probabilities |
        | classes, or one score | `prediction`, `scores`: label → probability |
        | entities (IOB2 labels), or other tags | `entities`, or `words`: text, type or tag, probability, start, end |
        | questions | `prediction`, `score`, `probability`, `start`, `end`, and `nbest`: the same of the `top` answers |
        | choices | `prediction`: a place from 0, `ending`, `scores`: a probability each |
        | next sentence | `prediction`: whether the second text follows, `probability`: that it does |

        `start` and `end` are characters. `length`, `batch_size` and `trim_padding` are as its options; texts longer
        than `length` tokens are cut, with a warning, but those that questions are about.

        Raises:
            bigs_cli.core.errors.BigsError: there is no tokenizer, or a text is not what the model takes.
        """
        predictor = self._predictor(top, length, batch_size, trim_padding)
        items = items_of(_listed(texts), predictor.answerer.takes, predictor.settings.task)
        made = [record(item.columns.items(), answer) for window in predictor.answers(items) for item, answer in window]
        _warn_of_cut(predictor)
        return made

    def embed(
        self,
        texts: Asked | Iterable[Asked],
        *,
        length: int | None = None,
        batch_size: int | None = None,
        trim_padding: bool | None = None,
    ) -> np.ndarray[Any, Any]:
        """Return float32 vectors `[n, H]` of texts or pairs: the mean of the last hidden state over their tokens.

        Raises:
            bigs_cli.core.errors.BigsError: there is no tokenizer, or a text is none.
        """
        predictor = self._predictor(5, length, batch_size, trim_padding)
        vectors = [found for _, found in predictor.embeddings(items_of(_listed(texts), "texts"))]
        _warn_of_cut(predictor)
        return np.concatenate(vectors) if vectors else np.zeros((0, self.config.hidden_size), np.float32)

    def _predictor(self, *asked: Any) -> Predictor:
        if self._origin is None:
            raise RequestError(
                f"This {type(self).__name__} was not loaded and has no tokenizer, so it cannot read text. Load one: "
                f"{type(self).__name__}.from_pretrained(MODEL), or call it with token ids."
            )
        if asked not in self._predictors:
            top, length, batch_size, trim = asked
            settings = settings_for(self.config, self._origin, length, batch_size, trim, top)
            tokenizer = tokenizer_of(self.config, self._origin)
            self._predictors[asked] = Predictor(self.config, self._params, tokenizer, settings)
        self._predictors[asked].cut = 0
        return self._predictors[asked]

    @property
    def num_parameters(self) -> int:
        """The number of trained numbers."""
        return count(self._params)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and flax_model.msgpack, the published layout, to a new folder.

        The tokenizer files of a model that was loaded with one are written beside them.

        Raises:
            bigs_cli.core.errors.RequestError: the folder is in use, or cannot be written.
        """
        with new_folder(Path(folder)) as draft:
            if self._origin is not None and self._origin.tokenizer is not None:
                write_tokenizer(self._origin.tokenizer, draft, self.config.max_position_embeddings)
            write_flax(draft, self.config, {path: np.asarray(leaf) for path, leaf in unnested(self._params)})


class BiGSModel(Pretrained):
    """The encoder and its pooler: `last_hidden_state` `[B, L, H]`, `pooler_output` `[B, H]`."""

    head = "encoder"


class BiGSForMaskedLM(Pretrained):
    """Masked words: `logits` `[B, L, V]`."""

    head = "masked-lm"


class BiGSForPreTraining(Pretrained):
    """Masked words and next sentence: `prediction_logits` `[B, L, V]`, `seq_relationship_logits` `[B, 2]`."""

    head = "pretraining"


class BiGSForNextSentencePrediction(Pretrained):
    """Next sentence: `logits` `[B, 2]`."""

    head = "next-sentence"


class BiGSForSequenceClassification(Pretrained):
    """A class, or with one label a score, for a text or a pair of texts: `logits` `[B, num_labels]`."""

    head = "sequence-classification"


class BiGSForTokenClassification(Pretrained):
    """A class for every token: `logits` `[B, L, num_labels]`."""

    head = "token-classification"


class BiGSForQuestionAnswering(Pretrained):
    """Where the answer starts and ends: `start_logits`, `end_logits`, each `[B, L]`."""

    head = "question-answering"


class BiGSForMultipleChoice(Pretrained):
    """A score for each choice: `logits` `[B, choices]`."""

    head = "multiple-choice"


def _listed(texts: Asked | Iterable[Asked]) -> Iterable[Any]:
    """Return a text that stands alone as a list of it."""
    return [texts] if isinstance(texts, str | Mapping) else texts


def _warn_of_cut(predictor: Predictor) -> None:
    if predictor.cut:
        length = predictor.settings.length
        told = f"Cut to {length} tokens: {predictor.cut:,}. What lies beyond was not read."
        warnings.warn(told, stacklevel=3)


def _changed(config: BiGSConfig, changes: dict[str, Any]) -> BiGSConfig:
    """Return `config` with `changes`; label names that no longer fit in number are dropped."""
    for name in changes:
        if name not in BiGSConfig.model_fields:
            raise RequestError(f"A BiGS config has no field '{name}'.{did_you_mean(name, BiGSConfig.model_fields)}")
    values = {**config.model_dump(), **changes}
    if values["num_labels"] != config.num_labels and "labels" not in changes:
        values["labels"] = None
    return BiGSConfig.model_validate(values)


CLASSES: dict[Head, type[Pretrained]] = {cls.head: cls for cls in Pretrained.__subclasses__()}


def load_model(model: str | Path, *, revision: str | None = None) -> Pretrained:
    """Load `model` (a run, a folder, a hub id or a short name) with the head its config names.

    Raises:
        bigs_cli.core.errors.BigsError: there is no such model, or its files are malformed.
    """
    name = f"{model}@{revision}" if revision else str(model)
    opened = open_model(find_model(name))
    return CLASSES[opened.config.head]._from_open(opened, {})
