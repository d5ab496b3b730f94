"""A small text, and a vocabulary trained on it."""

import random

import pytest

from bigs_cli.data.tokenizer import train_tokenizer
from tests.data.hdf5_files import corpus, small_blocks  # noqa: F401
from tests.data.hub_reading import hub, start  # noqa: F401

WORDS = "the a river stone bridge crosses under over slowly water old light of and near falls"


def sentence(rng):
    return " ".join(rng.choices(WORDS.split(), k=rng.randint(4, 12))).capitalize() + "."


def make_documents(count, seed=0, most=12):
    rng = random.Random(seed)
    return [
        "\n\n".join(" ".join(sentence(rng) for _ in range(3)) for _ in range(rng.randint(1, most)))
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def documents():
    return make_documents(60)


@pytest.fixture(scope="session")
def tokenizer(documents):
    return train_tokenizer(documents, 200)
