"""Printed examples of masked rows show the inputs and labels of the model, for any vocabulary and text."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bigs_cli.data.manifest import MANIFEST, Manifest, Report, dtype_for
from bigs_cli.data.masking import MaskIds, mask_tokens
from bigs_cli.data.shard_writer import ShardWriter
from bigs_cli.data.shards import Shards, open_shards
from bigs_cli.data.tokenizer import SPECIAL_TOKENS, fingerprint, save_tokenizer, special_ids, train_tokenizer
from bigs_cli.evaluation.mlm import SEED
from bigs_cli.recipe.groups import Masking
from bigs_cli.reporting import examples
from tests.tiny import DOCUMENTS

L = 48
ALL_MASKED = Masking(mask_fraction=1, random_fraction=0, whole_word=True)


def make_shards(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> Shards:
    """Write each text as a training row and half of them also as held-out rows."""
    pad, cls, sep = (tokenizer.token_to_id(name) for name in ("[PAD]", "[CLS]", "[SEP]"))
    rows = np.full((len(texts), L), pad)
    for row, text in zip(rows, texts, strict=True):
        ids = [cls, *tokenizer.encode(text, add_special_tokens=False).ids[: L - 2], sep]
        row[: len(ids)] = ids
    size = tokenizer.get_vocab_size()
    splits = {}
    for split, mine in (("train", rows), ("heldout", rows[::2])):
        writer = ShardWriter(folder, split, dtype_for(size), L)
        writer.write(mine)
        splits[split] = writer.finish()
    counts = dict.fromkeys(Report.model_fields.keys() - {"heldout_unit"}, 0)
    manifest = Manifest(
        sources=("test",),
        sequence_length=L,
        dtype=dtype_for(size),
        vocab_size=size,
        special_ids=special_ids(tokenizer),
        tokenizer=fingerprint(tokenizer),
        packing=None,
        splits=splits,
        report=Report.model_validate(counts),
    )
    save_tokenizer(tokenizer, folder)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return open_shards(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return make_shards(tmp_path_factory.mktemp("shards"), train_tokenizer(DOCUMENTS, 300), DOCUMENTS * 3)


@dataclass
class Example:
    """A printed example; `predictions` maps positions to (input token, original token)."""

    row: int
    filled: int
    text: str
    predictions: dict[int, tuple[str, str]]


def printed(shards: Shards, masking: Masking, count: int, seed: int = 0, split: str = "train") -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        examples.print_examples(shards, masking, count, seed, split)  # pyright: ignore[reportArgumentType]
    return out.getvalue()


def parsed(output: str, split: str, rows: int) -> list[Example]:
    header = rf"{split} row (\d+) of {rows}: (\d+) of {L} tokens, (\d+) to predict"
    _, *parts = re.split(f"^{header}$", output, flags=re.MULTILINE)
    found = []
    for row, filled, count, body in zip(*(parts[i::4] for i in range(4)), strict=True):
        text, predictions, end = re.split(r"\n\s*\n", body.lstrip("\n"))
        each = re.findall(r"(\d+)  (\S+) → (\S+)", predictions)
        assert len(each) == int(count)
        assert not end.strip()
        found.append(Example(int(row), int(filled), " ".join(text.split()), {int(p): (a, b) for p, a, b in each}))
    return found


def test_filling_in_the_predictions_restores_the_text(shards: Shards) -> None:
    tokenizer, rows = shards.tokenizer(), shards.split("train")
    output = printed(shards, ALL_MASKED, 5)
    assert max(map(len, output.splitlines())) <= 100
    shown = parsed(output, "train", 30)
    assert len(shown) == 5
    for example in shown:
        ids = rows.take(np.array([example.row]))["input_ids"][0]
        assert example.filled == (ids != 0).sum()
        assert {read for read, _ in example.predictions.values()} == {"[MASK]"}
        assert all(tokenizer.id_to_token(ids[p]) == word for p, (_, word) in example.predictions.items())
        text = example.text
        for _, word in sorted(example.predictions.items()):
            text = text.replace(" [MASK]", word[1][2:] if word[1].startswith("##") else f" {word[1]}", 1)
        whole = tokenizer.decode(ids[: example.filled].tolist(), skip_special_tokens=False)
        assert text.replace(" ", "") == whole.replace(" ", "")  # the restored text has a space before each full stop


def test_rows_are_spread_over_the_split(shards: Shards) -> None:
    chosen = [example.row for example in parsed(printed(shards, Masking(), 5, 3), "train", 30)]
    assert [row // 6 for row in chosen] == [0, 1, 2, 3, 4]
    assert printed(shards, Masking(), 5, 3) == printed(shards, Masking(), 5, 3)
    assert [example.row for example in parsed(printed(shards, Masking(), 5, 4), "train", 30)] != chosen
    every = parsed(printed(shards, Masking(), 99, split="heldout"), "heldout", 15)
    assert [example.row for example in every] == list(range(15))


def test_held_out_masks_are_those_of_the_evaluation(shards: Shards) -> None:
    rows, masking = shards.split("heldout"), Masking()
    ids = rows.take(np.arange(len(rows)))["input_ids"]
    special = MaskIds.of(shards, masking, shards.manifest.vocab_size)
    batch = mask_tokens(jax.random.key(SEED), np.arange(len(ids)), ids, special, masking)
    for example in parsed(printed(shards, masking, 4, SEED, "heldout"), "heldout", 15):
        assert {*example.predictions} == {
            *np.asarray(batch.positions[example.row])[batch.weights[example.row] > 0].tolist()
        }


def test_predicted_tokens_are_highlighted_on_a_terminal(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=50, color_system="standard", markup=False)
    monkeypatch.setattr(examples, "out", screen)
    examples.print_examples(shards, ALL_MASKED, 1, 0)
    output = screen.file.getvalue()
    assert "\x1b[1;33m [MASK]\x1b[0m" in output
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in output.splitlines()) <= 50


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    """A byte-level vocabulary: every second mask splits a character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    shards = make_shards(tmp_path, tokenizer, ["[red]é[/red] :smile:\n\x1b[2J 中", "ééé中中"])
    nothing = Masking(mask_fraction=0, random_fraction=0)
    output = printed(shards, nothing, 2)
    assert r"[CLS][red]é[/red] :smile:\n\x1b[2J 中[SEP]" in output
    assert "[CLS]ééé中中[SEP]" in output
    for seed in range(3):
        assert "\x1b" not in printed(shards, Masking(rate=0.5), 2, seed)
