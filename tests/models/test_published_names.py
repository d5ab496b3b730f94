from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.models.published import (
    from_torch,
    guess_head,
    optional_paths,
    published_shapes,
    to_flat,
    to_torch,
    to_tree,
    torch_name,
)
from tests.checkpoints.tiny import HEADS, config, parameters, same

# Flax path → Torch name, for one parameter of every kind. Published files depend on these names.
GOLDEN = {
    "s4_bert/embeddings/word_embeddings/embedding": "bigs.embeddings.word_embeddings.weight",
    "s4_bert/embeddings/position_embeddings/embedding": "bigs.embeddings.position_embeddings.weight",
    "s4_bert/embeddings/token_type_embeddings/embedding": "bigs.embeddings.token_type_embeddings.weight",
    "s4_bert/embeddings/LayerNorm/scale": "bigs.embeddings.LayerNorm.weight",
    "s4_bert/embeddings/LayerNorm/bias": "bigs.embeddings.LayerNorm.bias",
    "s4_bert/encoder/layer/1/LayerNorm/scale": "bigs.encoder.layer.1.LayerNorm.weight",
    "s4_bert/encoder/layer/1/LayerNorm/bias": "bigs.encoder.layer.1.LayerNorm.bias",
    "s4_bert/encoder/layer/1/dv/kernel": "bigs.encoder.layer.1.dv.weight",
    "s4_bert/encoder/layer/1/dv/bias": "bigs.encoder.layer.1.dv.bias",
    "s4_bert/encoder/layer/1/du_forward/kernel": "bigs.encoder.layer.1.du_forward.weight",
    "s4_bert/encoder/layer/1/du_backward/kernel": "bigs.encoder.layer.1.du_backward.weight",
    "s4_bert/encoder/layer/1/duc_forward/kernel": "bigs.encoder.layer.1.duc_forward.weight",
    "s4_bert/encoder/layer/1/duc_backward/bias": "bigs.encoder.layer.1.duc_backward.bias",
    "s4_bert/encoder/layer/1/dol/kernel": "bigs.encoder.layer.1.dol.weight",
    "s4_bert/encoder/layer/1/do/kernel": "bigs.encoder.layer.1.do.weight",
    "s4_bert/encoder/layer/1/fs4/A_re": "bigs.encoder.layer.1.fs4.kernel.A_re",
    "s4_bert/encoder/layer/1/fs4/A_im": "bigs.encoder.layer.1.fs4.kernel.A_im",
    "s4_bert/encoder/layer/1/bs4/C": "bigs.encoder.layer.1.bs4.kernel.C",
    "s4_bert/encoder/layer/1/bs4/log_step": "bigs.encoder.layer.1.bs4.kernel.log_step",
    "s4_bert/encoder/layer/1/bs4/D": "bigs.encoder.layer.1.bs4.D",
    "s4_bert/pooler/dense/kernel": "bigs.pooler.dense.weight",
    "cls/predictions/bias": "cls.predictions.bias",
    "cls/predictions/decoder/kernel": "cls.predictions.decoder.weight",
    "cls/predictions/transform/dense/kernel": "cls.predictions.transform.dense.weight",
    "cls/predictions/transform/LayerNorm/scale": "cls.predictions.transform.LayerNorm.weight",
    "cls/seq_relationship/kernel": "cls.seq_relationship.weight",
    "classifier/kernel": "classifier.weight",
    "qa_outputs/bias": "qa_outputs.bias",
    "embeddings/word_embeddings/embedding": "embeddings.word_embeddings.weight",
    "pooler/dense/bias": "pooler.dense.bias",
}
HEAD_SHAPES = {
    "encoder": {"pooler/dense/kernel": (4, 4), "pooler/dense/bias": (4,)},
    "masked-lm": {
        "cls/predictions/transform/dense/kernel": (4, 4),
        "cls/predictions/transform/dense/bias": (4,),
        "cls/predictions/transform/LayerNorm/scale": (4,),
        "cls/predictions/transform/LayerNorm/bias": (4,),
        "cls/predictions/bias": (11,),
    },
    "next-sentence": {
        "s4_bert/pooler/dense/kernel": (4, 4),
        "s4_bert/pooler/dense/bias": (4,),
        "cls/seq_relationship/kernel": (4, 2),
        "cls/seq_relationship/bias": (2,),
    },
    "sequence-classification": {
        "s4_bert/pooler/dense/kernel": (4, 4),
        "s4_bert/pooler/dense/bias": (4,),
        "classifier/kernel": (4, 3),
        "classifier/bias": (3,),
    },
    "token-classification": {"classifier/kernel": (4, 3), "classifier/bias": (3,)},
    "question-answering": {"qa_outputs/kernel": (4, 2), "qa_outputs/bias": (2,)},
    "multiple-choice": {
        "s4_bert/pooler/dense/kernel": (4, 4),
        "s4_bert/pooler/dense/bias": (4,),
        "classifier/kernel": (4, 1),
        "classifier/bias": (1,),
    },
}
HEAD_SHAPES["pretraining"] = HEAD_SHAPES["masked-lm"] | HEAD_SHAPES["next-sentence"]


def test_torch_names_are_unchanged() -> None:
    assert {path: torch_name(path) for path in GOLDEN} == GOLDEN


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_the_published_parameters(head: str) -> None:
    shapes = published_shapes(config(head=head, num_labels=3))
    own = {path: shape for path, shape in shapes.items() if "/embeddings/" not in f"/{path}" and "/layer/" not in path}
    assert own == HEAD_SHAPES[head]
    assert len(shapes) - len(own) == 5 + 2 * 26
    assert all(path.startswith("s4_bert/") != (head == "encoder") for path in shapes.keys() - own.keys())


def test_an_untied_model_has_its_own_decoder() -> None:
    tied, untied = (published_shapes(config(tie_word_embeddings=tie)) for tie in (True, False))
    assert untied.items() - tied.items() == {("cls/predictions/decoder/kernel", (4, 11))}


def test_only_a_bare_encoder_may_lack_a_pooler() -> None:
    assert optional_paths(config(head="encoder")) == {"pooler/dense/kernel", "pooler/dense/bias"}
    assert not optional_paths(config(head="sequence-classification"))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_torch_names_round_trip(head: str, tied: bool) -> None:
    of = config(head=head, tie_word_embeddings=tied)
    flat = parameters(of)
    state = to_torch(flat, of)
    kernel = "encoder.layer.0.dv.weight" if head == "encoder" else "bigs.encoder.layer.0.dv.weight"
    assert state[kernel].shape == (6, 4)
    assert same(from_torch(state, of), flat)
    assert not state, "from_torch consumes its argument"


def test_the_decoder_bias_is_preferred_and_a_missing_decoder_is_tied() -> None:
    of = config()
    flat = parameters(of)
    state = to_torch(flat, of)
    assert np.array_equal(state["cls.predictions.decoder.weight"], flat["s4_bert/embeddings/word_embeddings/embedding"])
    state["cls.predictions.bias"] = np.zeros(11, np.float32)
    del state["cls.predictions.decoder.weight"]
    assert same(from_torch(state, of), flat)


def test_a_decoder_that_differs_from_the_embedding_is_kept() -> None:
    of = config()
    state = to_torch(parameters(of), of) | {"cls.predictions.decoder.weight": np.zeros((11, 4), np.float32)}
    assert "cls.predictions.decoder.weight" in from_torch(state, of)


@pytest.mark.parametrize("head", HEADS)
def test_the_training_tree_round_trips(head: str) -> None:
    of = config(head=head)
    flat = parameters(of)
    consumed = dict(flat)
    tree = to_tree(consumed, of)
    assert not consumed
    encoder = tree["encoder"] if head == "encoder" else tree["s4_bert"]["encoder"]
    assert encoder["layer"]["dv"]["kernel"].shape == (2, 4, 6)
    assert encoder["layer"]["fs4"]["C"].shape == (2, 3, 2)
    assert same(to_flat(tree, of), flat)


def test_an_encoder_without_a_pooler_round_trips() -> None:
    of = config(head="encoder")
    flat = {path: array for path, array in parameters(of).items() if "pooler" not in path}
    assert same(to_flat(to_tree(dict(flat), of), of), flat)


@pytest.mark.parametrize("head", HEADS)
def test_the_head_is_guessed_from_names_unless_it_is_a_classifier(head: str) -> None:
    of = config(head=head)
    shared = {"sequence-classification", "token-classification", "multiple-choice"}
    for names in (published_shapes(of), to_torch(parameters(of), of)):
        assert guess_head(names) == (None if head in shared else head)


def test_names_match_those_of_the_torch_port(shared: Path) -> None:
    published = json.loads((shared / "fixtures" / "torch_state_dict_keys_mlm.json").read_text())
    of = config(
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=96,
        num_ssm=16,
        max_position_embeddings=64,
        num_hidden_layers=2,
    )
    ours = {name: list(array.shape) for name, array in to_torch(parameters(of), of).items()}
    pooler = {"bigs.pooler.dense.weight", "bigs.pooler.dense.bias"}
    assert ours == {name: shape for name, shape in published.items() if name not in pooler}
