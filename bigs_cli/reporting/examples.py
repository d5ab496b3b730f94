"""Print rows of token shards: masked as in training, decoded, with the tokens to predict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.columns import Columns
from rich.padding import Padding
from rich.text import Text
from tokenizers.decoders import DecodeStream

from bigs_cli.core.wording import printable
from bigs_cli.data.corpus import Array, Corpus
from bigs_cli.data.manifest import Split
from bigs_cli.data.masking import MaskedBatch, mask_ids, masked_batch
from bigs_cli.recipe.groups import Masking
from bigs_cli.reporting.console import out

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WIDTH = 100  # maximum number of columns: longer lines are hard to read
_PREDICTED = "bold yellow"


def print_examples(shards: Corpus, masking: Masking, count: int, seed: int, split: Split = "train") -> None:
    """Print `count` (at least 1) masked rows of a split, or all if it has fewer, and the tokens to predict, to stdout.

    The rows are spread over the split; `seed` determines them and the masks. Rows and positions are counted from 0.
    With seed 0, held-out rows have the masks of `bigs eval mlm`.

    Raises:
        RequestError: the split is empty, the tokenizer was replaced, or the recipe masks whole words and the tokenizer
            does not mark words.
    """
    rows, tokenizer = shards.split(split), shards.tokenizer()
    chosen, batch = masked_rows(shards, split, masking, count, seed)
    for n, row in enumerate(chosen):
        filled = int(batch.attention_mask[n].sum())
        ids = batch.input_ids[n, :filled].tolist()
        predicted = batch.weights[n] > 0
        labels = dict(zip(batch.positions[n, predicted].tolist(), batch.labels[n, predicted].tolist(), strict=True))
        tokens = f"{filled} of {batch.input_ids.shape[1]} tokens"
        header = f"{split} row {row:,} of {len(rows):,}: {tokens}, {len(labels)} to predict"
        text = Text.assemble(*((piece, _PREDICTED if p in labels else "") for p, piece in pieces(tokenizer, ids)))
        predictions = [
            Text.assemble(
                f"{p:>{len(str(filled))}}  ",
                (token_name(tokenizer, ids[p]), _PREDICTED),
                f" → {token_name(tokenizer, label)}",
            )
            for p, label in sorted(labels.items())
        ]
        out.print(Text(header, "bold"))
        for part in (text, Columns(predictions, padding=(0, 3), equal=True, column_first=True)):
            out.print(Padding(part, (0, 0, 1, 2)), width=min(_WIDTH, out.width), soft_wrap=False)


def masked_rows(corpus: Corpus, split: Split, masking: Masking, count: int, seed: int) -> tuple[Array, MaskedBatch]:
    """Return the numbers of `count` rows of a split, or of all, and these rows, masked; see `print_examples`."""
    rows = corpus.split(split)
    chosen = _spread(len(rows), count, seed)
    special = mask_ids(corpus, masking, corpus.manifest.vocab_size)
    mask = jax.jit(masked_batch, static_argnames=("special", "masking"))
    batch = {**rows.take(chosen), "row": chosen}
    return chosen, jax.device_get(mask(jax.random.key(seed), batch, special=special, masking=masking))


def _spread(rows: int, count: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Draw one row from each of `count` equal parts of a split; return all rows if there are no more than `count`."""
    edges = np.arange(min(count, rows) + 1) * rows // min(count, rows)
    return np.random.default_rng(seed).integers(edges[:-1], edges[1:])


def pieces(tokenizer: Tokenizer, ids: list[int]) -> Iterator[tuple[int, str]]:
    """Yield each position and the text that its token adds; the last byte of a character adds the character."""
    stream = DecodeStream(skip_special_tokens=False)
    for position, token_id in enumerate(ids):
        yield position, printable(stream.step(tokenizer, token_id) or "")


def token_name(tokenizer: Tokenizer, token_id: int) -> str:
    """Return the text of a token, or its vocabulary entry if the text is blank or not a whole character."""
    text = tokenizer.decode([token_id], skip_special_tokens=False).strip()
    if not text or "\N{REPLACEMENT CHARACTER}" in text:
        return tokenizer.id_to_token(token_id) or f"token {token_id}"
    return printable(text)
