"""The Python API: one model class per head, with `from_pretrained`, `predict`, `embed` and `save_pretrained`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
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
from bigs_cli.core.paths import check_local, url_of
from bigs_cli.export.formats import write_tokenizer
from bigs_cli.models.config import BiGSConfig, Head
from bigs_cli.models.functional import Parameters, count, initialize, make_apply, memoize, unstack_layers
from bigs_cli.models.heads import Outputs
from bigs_cli.models.init import init_parameter
from bigs_cli.models.published import published_shapes, to_unstacked, unnested
from bigs_cli.prediction.inputs import checked_inputs, checked_positions
from bigs_cli.prediction.items import Input, items_of, record
from bigs_cli.prediction.predictor import Predictor
from bigs_cli.prediction.settings import settings_for, tokenizer_of
from bigs_cli.recipe.groups import Compute
from bigs_cli.tasks.items import TEXT_OR_PAIR
from bigs_cli.tasks.types import type_of_model


class Pretrained:
    """A BiGS model that can be called. Calls are compiled once for each input shape.

    Attributes:
        config: the configuration, including the head.
        transfer: the parameters that `from_pretrained` loaded, initialized or did not use; None for other models.
        untrained: paths of the dense layers of the head and the pooler that were never trained.
        source: origin of the parameters.
    """

    head: ClassVar[Head]

    def __init__(self, config: BiGSConfig, params: Parameters | None = None, *, seed: int = 0) -> None:
        """Create a model of `config` with unstacked `params`, or with parameters initialized from `seed`.

        Raises:
            ValueError: the config is for another head, the seed is negative, or `params` do not fit the config.
        """
        if not isinstance(config, BiGSConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"config is a {type(config).__name__}; {type(self).__name__} requires a BiGSConfig.")
        if config.head != self.head:
            raise ValueError(f"{type(self).__name__} has the head {self.head}; the config is for {config.head}.")
        if params is None:
            if not _is_count(seed, 0):
                raise ValueError(f"seed is {seed!r}; it must be a non-negative integer.")
            params = unstack_layers(initialize(config, seed))
            self.untrained = untrained_layers({}, config)
        else:
            _check_params(params, config)
            self.untrained = ()
        self.config = config
        self.transfer: Transfer | None = None
        self.source = "initial parameters"
        self._params = params
        self._origin: OpenModel | None = None
        self._compile()

    def _compile(self) -> None:
        """Create the compiled functions, which are not pickled or copied."""
        self._predictors: dict[tuple[Any, ...], Predictor] = {}
        self._run = _compiled_model(self.config)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for `pickle` and `copy`, with parameters as NumPy arrays."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_run", "_predictors")}
        return state | {"_params": jax.tree.map(np.asarray, self._params)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `__getstate__`."""
        self.__dict__.update(state)
        self._params = jax.tree.map(jnp.asarray, self._params)
        self._compile()

    def __repr__(self) -> str:
        kind = type_of_model(self.config)
        labels = {"labels": self.config.num_labels} if kind is not None and kind.has_labels else {}
        facts: dict[str, Any] = {
            "head": self.head,
            **labels,
            "parameters": f"{self.num_parameters:,}",
            "layers": self.config.num_hidden_layers,
            "hidden_size": self.config.hidden_size,
            "source": self.source,
            **({"untrained": ", ".join(self.untrained)} if self.untrained else {}),
        }
        return f"{type(self).__name__}({'; '.join(f'{name}: {value}' for name, value in facts.items())})"

    @classmethod
    def from_pretrained(cls, model: str | Path, *, revision: str | None = None, **changes: Any) -> Self:
        """Load `model`: a run, a folder, a hub id, or a short name such as "mnli".

        `revision` is a branch, tag or commit of a model on the hub. Downloads are cached; with HF_HUB_OFFLINE=1, only
        the cache is used.

        If the model has another head, its encoder is loaded. `.transfer` lists the loaded, new and unused parameters;
        to show it, print `model.transfer.describe()`. A warning names parameters that are new or were never trained;
        `predict` raises an error for a head with such parameters. `changes` are fields of the config to change, such as
        `num_labels=3`, which also removes the label names.

        Raises:
            bigs_cli.core.errors.BigsError: the model or a config field does not exist, or a file is malformed.
        """
        return cls._from_open(_open(model, revision), changes)

    @classmethod
    def _from_open(cls, opened: OpenModel, changes: dict[str, Any]) -> Self:
        config = _changed(opened.config, {"head": cls.head, **changes})

        def new(path: str, shape: tuple[int, ...]) -> Any:
            return init_parameter(path, shape, config, NEW_HEAD_SEED)

        flat, report = transfer(opened.flat, opened.config, config, new)
        opened.flat.clear()  # Release the arrays, so that there is one copy of the model in memory.
        untrained = untrained_layers(flat, config)
        loaded = cls(config, to_unstacked(flat))
        loaded.transfer, loaded.source, loaded.untrained = report, opened.source, untrained
        loaded._origin = replace(opened, config=config, flat={})
        if report.new:
            warnings.warn(
                f"Some parameters of {cls.__name__} are not in {opened.source} and are newly initialized: "
                f"{', '.join(report.new)}. Train the model before you use its outputs.",
                stacklevel=3,
            )
        elif untrained:
            warnings.warn(
                f"Some layers of {opened.source} were never trained: {', '.join(untrained)}. Train the model before "
                "you use its outputs.",
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
        """Run the model on token ids `[B, L]`, for multiple choice `[B, choices, L]`, as arrays or lists.

        By default, the attention mask excludes [PAD] and token types are 0. Masked-language models return logits at all
        positions, or only at `positions` `[B, P]`. With `output_hidden_states`, `.hidden_states` has the embeddings and
        the output of each layer.

        Raises:
            ValueError: an array is empty or has the wrong shape, a value is out of range, or there are more tokens than
                the model has positions.
        """
        inputs = checked_inputs(self.config, input_ids, attention_mask, token_type_ids)
        keywords = {} if positions is None else {"positions": checked_positions(self.config, positions, inputs[0])}
        return self._run(self._params, bool(output_hidden_states), list(inputs), keywords)

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
        """Return the predictions for texts, as `bigs predict` does. A single text gives a list with one prediction.

        A text is a str or a pair (text, pair). Question answering takes {"question": …, "context": …}, multiple choice
        {"text": …, "endings": […, …]}, and token classification also a list of words. The keys of a dict are copied to
        the prediction; one that is also a key of the prediction is renamed to ``input.NAME`` (or ``input.NAME.2``, …).

        | head | keys of a prediction |
        |---|---|
        | masked-lm, pretraining | `filled`, and `masks`: the `top` tokens of each [MASK] with their probabilities |
        | sequence-classification | `prediction`, and for classes `scores`: label → probability |
        | token-classification | `entities` (IOB2 labels), else `words`: text, type or tag, probability, start, end |
        | question-answering | `prediction`, `score`, `probability`, `start`, `end`, and `nbest`: the `top` answers |
        | multiple-choice | `prediction`: index from 0, `ending`, `scores`: probability of each ending |
        | next-sentence | `prediction`: whether the second text follows the first, `probability` that it does |

        `start` and `end` are character offsets. `length`, `batch_size` and `trim_padding` are as in `bigs predict`.
        Texts with more than `length` tokens are truncated, with a warning; contexts of questions are read in windows.

        Raises:
            bigs_cli.core.errors.BigsError: there is no tokenizer, an argument is out of range, a text does not fit the
                model, or the head was never trained and `allow_untrained` is False.
        """
        predictor = self._predictor(top, length, batch_size, trim_padding)
        if not allow_untrained:
            check_trained(self.untrained, self.config, self.source, "set allow_untrained=True")
        items = items_of(_listed(texts), predictor.pipeline.takes, predictor.settings.task)
        rows = [record(item.columns.items(), answer) for window in predictor.answers(items) for item, answer in window]
        _warn_if_truncated(predictor)
        return rows

    def embed(
        self,
        texts: Input | Iterable[Input],
        *,
        length: int | None = None,
        batch_size: int | None = None,
        trim_padding: bool | None = None,
    ) -> np.ndarray[Any, Any]:
        """Return float32 embeddings `[n, H]` of texts or pairs: the mean of the last hidden state over their tokens.

        Raises:
            bigs_cli.core.errors.BigsError: there is no tokenizer, an argument is out of range, or a text is invalid.
        """
        predictor = self._predictor(5, length, batch_size, trim_padding)
        vectors = [window for _, window in predictor.embeddings(items_of(_listed(texts), TEXT_OR_PAIR))]
        _warn_if_truncated(predictor)
        return np.concatenate(vectors) if vectors else np.zeros((0, self.config.hidden_size), np.float32)

    def _predictor(self, top: int, length: int | None, batch_size: int | None, trim: bool | None) -> Predictor:
        for name, value, least in (("top", top, 1), ("length", length, 4), ("batch_size", batch_size, 1)):
            if not _is_count(value, least) and (value is not None or name == "top"):
                raise RequestError(f"{name} is {value!r}; it must be an integer of at least {least}.")
        if trim not in (None, True, False):
            raise RequestError(f"trim_padding is {trim!r}; it must be True, False or None.")
        if self._origin is None:
            raise RequestError(
                f"This {type(self).__name__} has no tokenizer, because the model was created from a config, not "
                f"loaded. Load a model with {type(self).__name__}.from_pretrained(MODEL), or call this one with token "
                "ids."
            )
        key = (top, length, batch_size, trim)
        if key not in self._predictors:
            settings = settings_for(self._origin, length, batch_size, trim, top)
            self._predictors[key] = Predictor(self.config, self._params, tokenizer_of(self._origin), settings)
        self._predictors[key].cut = 0
        return self._predictors[key]

    @property
    def num_parameters(self) -> int:
        """The number of parameters."""
        return count(self._params)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and flax_model.msgpack, and the tokenizer if there is one, to a new folder.

        Raises:
            bigs_cli.core.errors.RequestError: the folder is in use, is a URL, or cannot be written.
        """
        check_local(folder)
        with atomic_directory(Path(folder)) as tmp:
            if self._origin is not None and self._origin.tokenizer is not None:
                write_tokenizer(self._origin.tokenizer, tmp, self.config.max_position_embeddings)
            write_flax(tmp, self.config, {path: np.asarray(leaf) for path, leaf in unnested(self._params)})


class BiGSModel(Pretrained):
    """The encoder and the pooler. Outputs: `last_hidden_state` `[B, L, H]`, `pooler_output` `[B, H]`."""

    head = "encoder"


class BiGSForMaskedLM(Pretrained):
    """Masked language modelling. Outputs: `logits` `[B, L, V]`."""

    head = "masked-lm"


class BiGSForPreTraining(Pretrained):
    """Masked language modelling and next-sentence prediction.

    Outputs: `prediction_logits` `[B, L, V]`, `seq_relationship_logits` `[B, 2]`.
    """

    head = "pretraining"


class BiGSForNextSentencePrediction(Pretrained):
    """Next-sentence prediction. Outputs: `logits` `[B, 2]`."""

    head = "next-sentence"


class BiGSForSequenceClassification(Pretrained):
    """Classification, or with one label regression, of texts or pairs. Outputs: `logits` `[B, num_labels]`."""

    head = "sequence-classification"


class BiGSForTokenClassification(Pretrained):
    """Classification of tokens. Outputs: `logits` `[B, L, num_labels]`."""

    head = "token-classification"


class BiGSForQuestionAnswering(Pretrained):
    """Extractive question answering. Outputs: `start_logits` and `end_logits`, each `[B, L]`."""

    head = "question-answering"


class BiGSForMultipleChoice(Pretrained):
    """Multiple choice. Outputs: `logits` `[B, choices]`."""

    head = "multiple-choice"


@memoize
def _compiled_model(config: BiGSConfig) -> Callable[..., Outputs]:
    """Return the compiled function from (params, with hidden states, inputs, named inputs) to the outputs."""
    apply = make_apply(config, Compute(), unstacked=True)

    def run(params: Parameters, hidden_states: bool, inputs: list[Any], named: dict[str, Any]) -> Outputs:
        outputs = apply(params, *inputs, **named)
        if not hidden_states:
            del outputs["hidden_states"]  # Saves memory in compiled code.
        return outputs

    return jax.jit(run, static_argnums=1)


def _open(model: str | Path, revision: str | None) -> OpenModel:
    name = url_of(model) or str(model)
    return open_model(find_model(f"{name}@{revision}" if revision else name))


def _listed(texts: Input | Iterable[Input]) -> Iterable[Any]:
    """Return a single text as a list."""
    if isinstance(texts, str | Mapping):
        return [texts]
    if not isinstance(texts, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RequestError(f"texts is a {type(texts).__name__}; it must be a text, a pair, a dict, or a list of these.")
    return texts


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= least


def _check_params(params: Parameters, config: BiGSConfig) -> None:
    shapes = {path: np.shape(array) for path, array in unnested(params)}
    expected = published_shapes(config)
    wrong = [path for path in (*expected, *shapes) if shapes.get(path) != expected.get(path)]
    if wrong:
        raise ValueError(
            f"params do not fit the config: {listed(dict.fromkeys(wrong))} are missing or differ in shape."
        )


def _warn_if_truncated(predictor: Predictor) -> None:
    if predictor.cut:
        warnings.warn(f"Texts truncated to {predictor.settings.length} tokens: {predictor.cut:,}.", stacklevel=3)


def _changed(config: BiGSConfig, changes: dict[str, Any]) -> BiGSConfig:
    """Return `config` with `changes`. If the number of labels changes, label names are removed."""
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
        raise RequestError(f"The config is invalid. {subject}{first['msg']}.") from None


CLASSES: dict[Head, type[Pretrained]] = {cls.head: cls for cls in Pretrained.__subclasses__()}


def load_model(model: str | Path, *, revision: str | None = None) -> Pretrained:
    """Load `model` (a run, a folder, a hub id or a short name) with the head in its config.

    Raises:
        bigs_cli.core.errors.BigsError: the model does not exist, or a file is malformed.
    """
    opened = _open(model, revision)
    return CLASSES[opened.config.head]._from_open(opened, {})
