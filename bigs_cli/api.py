"""The Python API: a model object with `from_pretrained`, a call, and `save_pretrained`, one class a head."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import ValidationError

from bigs_cli.checkpoints.folder import atomic_directory, write_flax
from bigs_cli.checkpoints.resolve import OpenModel, find_model, open_model
from bigs_cli.checkpoints.transfer import Transfer, transfer
from bigs_cli.checkpoints.untrained import NEW_HEAD_SEED, check_trained, untrained_layers
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.paths import refuse_address
from bigs_cli.export.formats import write_tokenizer
from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.models.functional import Parameters, count, initialize, make_apply, unstack_layers
from bigs_cli.models.heads import Outputs
from bigs_cli.models.init import init_parameter
from bigs_cli.models.published import published_shapes, to_unstacked, unnested
from bigs_cli.prediction.inputs import checked_inputs, checked_positions
from bigs_cli.prediction.items import Input, items_of, record
from bigs_cli.prediction.predictor import Predictor
from bigs_cli.prediction.settings import Origin, settings_for, tokenizer_of
from bigs_cli.recipe.schema import Compute
from bigs_cli.tasks.items import TEXT_OR_PAIR
from bigs_cli.tasks.types import TASK_TYPES


class Pretrained:
    """A BiGS model ready to be called. Its calls are compiled, once for each shape of input.

    Attributes:
        config: size, shape and head.
        transfer: what `from_pretrained` loaded, made new and left out; None for a model made otherwise.
        untrained: the dense layers of the head and the pooler that have never been trained, by path.
        source: where the parameters came from.
    """

    head: ClassVar[Head]

    def __init__(self, config: BiGSConfig, params: Parameters | None = None, *, seed: int = 0) -> None:
        """Make a model of `config` with fresh parameters (by `seed`), or with unstacked `params`.

        Raises:
            ValueError: the config is for another head, the seed is negative, or `params` are not those of the config.
        """
        if not isinstance(config, BiGSConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"config is a {type(config).__name__}; {type(self).__name__} takes a BiGSConfig.")
        if config.head != self.head:
            raise ValueError(f"{type(self).__name__} has the head {self.head}; the config is for {config.head}.")
        if params is None:
            if not _is_count(seed, 0):
                raise ValueError(f"seed is {seed!r}; it takes a whole number from 0.")
            params = unstack_layers(initialize(config, seed))
            self.untrained = untrained_layers({}, config)
        else:
            _check_params(params, config)
            self.untrained = ()
        self.config = config
        self.transfer: Transfer | None = None
        self.source = "fresh parameters"
        self._params = params
        self._origin: Origin | None = None
        self._compile()

    def _compile(self) -> None:
        """Make what compiled functions need: all that a pickled or copied model does not take along."""
        self._predictors: dict[tuple[Any, ...], Predictor] = {}
        apply = make_apply(self.config, Compute(), unstacked=True)

        def run(params: Parameters, hidden_states: bool, inputs: list[Any], named: dict[str, Any]) -> Outputs:
            outputs = apply(params, *inputs, **named)
            if not hidden_states:
                del outputs["hidden_states"]  # Compiled code then need not keep them.
            return outputs

        self._run = jax.jit(run, static_argnums=1)

    def __getstate__(self) -> dict[str, Any]:
        """Return what `pickle` and `copy` keep; parameters as NumPy arrays."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_run", "_predictors")}
        return state | {"_params": jax.tree.map(np.asarray, self._params)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what `__getstate__` returned."""
        self.__dict__.update(state)
        self._params = jax.tree.map(jnp.asarray, self._params)
        self._compile()

    def __repr__(self) -> str:
        of = self.config
        kind = TASK_TYPES.get(self.head)
        labels = {"labels": of.num_labels} if kind is not None and kind.has_labels else {}
        facts: dict[str, Any] = {
            "head": self.head,
            **labels,
            "parameters": f"{self.num_parameters:,}",
            "layers": of.num_hidden_layers,
            "hidden_size": of.hidden_size,
            "source": self.source,
            **({"untrained": ", ".join(self.untrained)} if self.untrained else {}),
        }
        return f"{type(self).__name__}({'; '.join(f'{name}: {value}' for name, value in facts.items())})"

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None, **changes: Any) -> Self:
        """Load `model`: a run, a folder, a hub id, or a short name such as "mnli".

        `revision` is a branch, tag or commit of a model on the hub. What was fetched once is kept in the hub's cache
        and not fetched again; with HF_HUB_OFFLINE=1 the hub is not asked.

        A model with another head gives its encoder; what was loaded, what is new and what was left out is in
        `.transfer` (print `model.transfer.describe()`). A warning names the parameters that are new, or that were
        never trained: `predict` refuses a head of these. `changes` are config fields to differ in, such as
        `num_labels=3`, which also drops the old labels' names.

        Raises:
            bigs_cli.core.errors.BigsError: there is no such model or config field, or its files are malformed.
        """
        return cls._from_open(_open(model, revision), changes)

    @classmethod
    def _from_open(cls, opened: OpenModel, changes: dict[str, Any]) -> Self:
        config = _changed(opened.config, {"head": cls.head, **changes})
        origin = Origin.of(opened)

        def new(path: str, shape: tuple[int, ...]) -> Any:
            return init_parameter(path, shape, config, NEW_HEAD_SEED)

        flat, report = transfer(opened.flat, opened.config, config, new)
        opened.flat.clear()  # Each array is let go as it is taken over: one copy of the model at a time.
        untrained = untrained_layers(flat, config)
        loaded = cls(config, to_unstacked(flat))
        loaded.transfer, loaded.source, loaded._origin, loaded.untrained = report, opened.source, origin, untrained
        if report.new:
            warnings.warn(
                f"Some parameters of {cls.__name__} are not in {opened.source} and are newly initialized: "
                f"{', '.join(report.new)}. Train the model before you use what they compute.",
                stacklevel=3,
            )
        elif untrained:
            warnings.warn(
                f"Some layers of {opened.source} were never trained: {', '.join(untrained)}. Train the model before "
                "you use what they compute.",
                stacklevel=3,
            )
        return loaded

    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        *,
        positions: Any = None,
        output_hidden_states: bool = False,
    ) -> Outputs:
        """Run the model on ids `[B, L]` (multiple choice `[B, choices, L]`); arrays or lists.

        The mask defaults to "not [PAD]", the token types to 0. A model that predicts masked words does so at all
        positions, or only at `positions` `[B, P]`. With `output_hidden_states`, `.hidden_states` has the embeddings
        and what each layer gave.

        Raises:
            ValueError: an array is empty or of another shape, holds a value out of its range, or has more tokens than
                the model has positions.
        """
        inputs = checked_inputs(self.config, input_ids, attention_mask, token_type_ids)
        named = {} if positions is None else {"positions": checked_positions(self.config, positions, inputs[0])}
        return self._run(self._params, bool(output_hidden_states), list(inputs), named)

    def predict(
        self,
        texts: Input | Iterable[Input],
        *,
        top: int = 5,
        length: int | None = None,
        batch_size: int | None = None,
        trim_padding: bool | None = None,
        allow_untrained: bool = False,
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
            bigs_cli.core.errors.BigsError: there is no tokenizer, an argument is out of its range, a text is not what
                the model takes, or its head was never trained and `allow_untrained` is not set.
        """
        predictor = self._predictor(top, length, batch_size, trim_padding)
        if not allow_untrained:
            check_trained(self.untrained, self.config, self.source, "set allow_untrained=True")
        items = items_of(_listed(texts), predictor.pipeline.takes, predictor.settings.task)
        made = [record(item.columns.items(), answer) for window in predictor.answers(items) for item, answer in window]
        _warn_of_cut(predictor)
        return made

    def embed(
        self,
        texts: Input | Iterable[Input],
        *,
        length: int | None = None,
        batch_size: int | None = None,
        trim_padding: bool | None = None,
    ) -> np.ndarray[Any, Any]:
        """Return float32 vectors `[n, H]` of texts or pairs: the mean of the last hidden state over their tokens.

        Raises:
            bigs_cli.core.errors.BigsError: there is no tokenizer, an argument is out of its range, or a text is none.
        """
        predictor = self._predictor(5, length, batch_size, trim_padding)
        vectors = [found for _, found in predictor.embeddings(items_of(_listed(texts), TEXT_OR_PAIR))]
        _warn_of_cut(predictor)
        return np.concatenate(vectors) if vectors else np.zeros((0, self.config.hidden_size), np.float32)

    def _predictor(self, top: int, length: int | None, batch_size: int | None, trim: bool | None) -> Predictor:
        for name, value, least in (("top", top, 1), ("length", length, 4), ("batch_size", batch_size, 1)):
            if not _is_count(value, least) and (value is not None or name == "top"):
                raise RequestError(f"{name} is {value!r}; it takes a whole number from {least}.")
        if trim not in (None, True, False):
            raise RequestError(f"trim_padding is {trim!r}; it takes True, False or None.")
        if self._origin is None:
            raise RequestError(
                f"This {type(self).__name__} was not loaded and has no tokenizer, so it cannot read text. Load one: "
                f"{type(self).__name__}.from_pretrained(MODEL), or call it with token ids."
            )
        asked = (top, length, batch_size, trim)
        if asked not in self._predictors:
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
            bigs_cli.core.errors.RequestError: the folder is in use, is an address, or cannot be written.
        """
        refuse_address(folder)
        with atomic_directory(Path(folder)) as draft:
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


def _open(model: str | Path, revision: str | None) -> OpenModel:
    refuse_address(model)
    return open_model(find_model(f"{model}@{revision}" if revision else str(model)))


def _listed(texts: Input | Iterable[Input]) -> Iterable[Any]:
    """Return a text that stands alone as a list of it."""
    if isinstance(texts, str | Mapping):
        return [texts]
    if not isinstance(texts, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"texts is a {type(texts).__name__}; it takes a text, a pair, a dict, or a list of these.")
    return texts


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def _check_params(params: Parameters, config: BiGSConfig) -> None:
    given = {path: np.shape(array) for path, array in unnested(params)}
    expected = published_shapes(config)
    wrong = [path for path in (*expected, *given) if given.get(path) != expected.get(path)]
    if wrong:
        raise ValueError(f"params are not those of the config: {listed(dict.fromkeys(wrong))} are missing or differ.")


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
    try:
        return BiGSConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        subject = f"{name} is {first['input']!r}: " if name else ""
        raise RequestError(f"This is no BiGS config. {subject}{first['msg']}.") from None


CLASSES: dict[Head, type[Pretrained]] = {cls.head: cls for cls in Pretrained.__subclasses__()}


def load_model(model: str | Path, *, revision: str | None = None) -> Pretrained:
    """Load `model` (a run, a folder, a hub id or a short name) with the head its config names.

    Raises:
        bigs_cli.core.errors.BigsError: there is no such model, or its files are malformed.
    """
    opened = _open(model, revision)
    return CLASSES[opened.config.head]._from_open(opened, {})
