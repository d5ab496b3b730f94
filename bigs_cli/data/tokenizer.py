"""Loading, training and saving tokenizers: WordPiece as in BERT, or any `tokenizer.json` with BERT's special tokens."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.files import atomic_write
from bigs_cli.core.folders import check_link
from bigs_cli.core.hub import fetch_first
from bigs_cli.core.paths import check_local
from bigs_cli.data.tokenizer_config import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL_TOKENS,
    TOKENIZER_CONFIG,
    UNK,
    TokenizerConfig,
    read_tokenizer_config,
    write_tokenizer_config,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_JSON = "tokenizer.json"
VOCAB_TXT = "vocab.txt"
PUBLISHED_TOKENIZER = "google-bert/bert-large-uncased"
"""The tokenizer of the published models, whose repositories may not contain one."""
RESERVED = (PAD, *(f"[unused{i}]" for i in range(99)), UNK, CLS, SEP, MASK)
"""The first 104 entries of a trained vocabulary, which give the special tokens BERT's ids."""

_MOST_CHARACTERS = 1000  # maximum size of the alphabet, as in `BertWordPieceTokenizer.train` of `tokenizers`
_LEAST_FREQUENCY = 2  # minimum frequency of a merged pair of pieces, as in the same function
_MOST_GAPS = 10_000  # number of unused ids that any vocabulary may have; chosen by this project


def find_tokenizer(source: str | Path) -> Path:
    """Return the `tokenizer.json` or `vocab.txt` at `source`: a file, a folder that contains one, or a hub id.

    Files from the hub are downloaded to its cache, which is also used without network access.

    Raises:
        RequestError: there is none, or `source` is a URL.
        BigsError: the hub cannot be reached.
    """
    check_local(source)
    path = Path(source)
    check_link(path)
    if path.is_dir():
        for name in (TOKENIZER_JSON, VOCAB_TXT):
            if (path / name).is_file():
                return path / name
        raise RequestError(f"The folder {path} contains no tokenizer: neither {TOKENIZER_JSON} nor {VOCAB_TXT}.")
    if path.is_file():
        return path
    if path.is_absolute() or path.suffix in (".json", ".txt") or str(source).count("/") > 1:
        raise RequestError(f"There is no vocabulary {path}. Name a {VOCAB_TXT}, a {TOKENIZER_JSON} or a hub id.")
    try:
        fetched = fetch_first(str(source), (TOKENIZER_JSON, VOCAB_TXT))
        if fetched is not None and fetched.name == VOCAB_TXT:
            fetch_first(str(source), (TOKENIZER_CONFIG,), fetched.parent.name)
    except BigsError as error:
        raise type(error)(f"The tokenizer {source}: {error} Name a {VOCAB_TXT} or {TOKENIZER_JSON}.") from None
    if fetched is None:
        raise RequestError(f"{source} on the hub has neither {TOKENIZER_JSON} nor {VOCAB_TXT}.")
    return fetched


def load_tokenizer(source: str | Path) -> Tokenizer:
    """Return the tokenizer in a `vocab.txt`, a `tokenizer.json`, a folder that contains one, or at a hub id.

    A `vocab.txt` (one entry per line) is read as by BertTokenizer, with the settings of the `tokenizer_config.json` in
    the same folder; without that file, with those of BERT uncased: lower case, accents stripped, "##" pieces. Special
    tokens with other names in these settings are renamed to BERT's names. A `tokenizer.json` is used unchanged, but
    without its truncation and padding.

    Raises:
        RequestError: it is missing or malformed, or lacks a special token.
        BigsError: the hub cannot be reached.
    """
    path = find_tokenizer(source)
    if path.suffix == ".json":
        tokenizer = _from_json(path)
    else:
        tokenizer = _bert(_read_vocab(path), path, read_tokenizer_config(path.parent / TOKENIZER_CONFIG))
    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if missing:
        raise RequestError(
            f"{path} lacks {', '.join(missing)}: a masked language model requires {' '.join(SPECIAL_TOKENS)}. Name a "
            "BERT-like vocabulary, or train one with: bigs tokenize --train-vocab 8192"
        )
    largest, size = max(tokenizer.get_vocab().values()), tokenizer.get_vocab_size()
    if largest >= 2 * size + _MOST_GAPS:  # When the library saves the tokenizer, it loops over all missing ids.
        raise RequestError(
            f"{path} has an entry with the id {largest:,}, but only {size:,} entries. Download it again, or name "
            "another."
        )
    with _refusing(path):  # Incompatible parts fail only when they are used.
        tokenizer.decode(tokenizer.encode("The old river, 12 \u00e9\u4e2d\U0001f600.", "x").ids)
    return tokenizer


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Return a WordPiece tokenizer with `size` entries (fewer if there is too little text).

    The first entries are `RESERVED`, followed by the characters and by pieces learned from `texts`, which are kept in
    memory. Training is deterministic.

    Raises:
        RequestError: there is no text, or `size` is too small for the characters of the text.
    """
    from tokenizers.trainers import WordPieceTrainer

    texts = list(texts)
    tokenizer = _untrained({UNK: 0}, TokenizerConfig())
    # By default, the trainer numbers the "##" characters in the random order of a hash map, and uses these numbers to
    # break ties between pieces.
    fixed = [*RESERVED, *_alphabet(tokenizer, texts)]
    if len(fixed) == len(RESERVED):
        raise RequestError("There is no text to train a vocabulary on. Name an --input that contains text.")
    if len(fixed) > size:
        raise RequestError(
            f"A vocabulary of {size} entries is too small: {len(RESERVED)} are reserved and the characters of "
            f"this text take {len(fixed) - len(RESERVED)}. Use several thousand, such as --train-vocab 8192."
        )
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=_LEAST_FREQUENCY,
        special_tokens=fixed,
        limit_alphabet=_MOST_CHARACTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _bert(tokenizer.get_vocab(), Path("the trained vocabulary"), TokenizerConfig())


def _alphabet(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """Return the most frequent characters of the normalized text, without white space, sorted.

    First comes each as the start of a word, then as "##" pieces those that can occur inside a word.
    """
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for normalized in tokenizer.normalizer.normalize_str(character):
            counts[normalized] += count
    common = sorted(counts, key=lambda character: (-counts[character], character))[:_MOST_CHARACTERS]
    first = sorted(character for character in common if not character.isspace())
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    return [*first, *(f"##{character}" for character in first if len(split(f"a{character}")) == 1)]


def save_tokenizer(tokenizer: Tokenizer, folder: Path, **more: Any) -> None:
    """Write `tokenizer.json`, `vocab.txt` and `tokenizer_config.json` into `folder`.

    `more` are further entries of `tokenizer_config.json`.
    """
    with atomic_write(folder / TOKENIZER_JSON, "w") as file:
        file.write(tokenizer.to_str(pretty=True) + "\n")
    with atomic_write(folder / VOCAB_TXT, "w") as file:
        file.write(vocabulary_lines(tokenizer))
    write_tokenizer_config(tokenizer, folder, **more)


def vocabulary_lines(tokenizer: Tokenizer) -> str:
    """Return the content of `vocab.txt`: one entry per line, by id."""
    vocab = tokenizer.get_vocab()
    return "".join(f"{token}\n" for token in sorted(vocab, key=vocab.__getitem__))


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return a SHA-256 of everything that determines the ids of a text.

    Special tokens added around a text, and decoding, are not included.
    """
    parts = json.loads(tokenizer.to_str())
    cutting = {name: parts.get(name) for name in ("normalizer", "pre_tokenizer", "model")}
    added = {token["content"]: token["id"] for token in parts["added_tokens"]}
    canonical = json.dumps([cutting, added], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the id of each special token by its name; a tokenizer from `load_tokenizer` has all of them."""
    vocab = tokenizer.get_vocab()
    return {token: vocab[token] for token in SPECIAL_TOKENS}


def set_template(tokenizer: Tokenizer) -> None:
    """Configure `tokenizer` to add [CLS] before a text or pair of texts and [SEP] after each text; text_b has token
    type 1.

    As in BERT (Devlin et al. 2018, figure 2).
    """
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (CLS, SEP)],
    )


def _from_json(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    with _refusing(path):
        tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Convert any error of the library to a RequestError, including Rust panics, which are BaseExceptions.

    A panic also prints its location on stderr, which is therefore redirected to /dev/null.
    """
    try:
        with _stderr_closed():
            yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise RequestError(
            f"{path} is not a tokenizer that the `tokenizers` library can use ({error}). Download it again, or name "
            "another."
        ) from None


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _read_vocab(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Convert it, or download it again."
        ) from None
    if lines and not lines[-1]:
        lines.pop()
    vocab: dict[str, int] = {}
    for number, token in enumerate(lines):
        if vocab.setdefault(token, number) != number:
            raise RequestError(f"{path}:{number + 1}: '{token}' is already in line {vocab[token] + 1}.")
    return vocab


def _bert(vocab: dict[str, int], path: Path, config: TokenizerConfig) -> Tokenizer:
    """Return the WordPiece tokenizer of a vocabulary, which adds [CLS] and [SEP] to texts and pairs of texts."""
    from tokenizers import AddedToken

    missing = [config.name_of(token) for token in SPECIAL_TOKENS if config.name_of(token) not in vocab]
    if missing:
        raise RequestError(f"{path} is not a BERT vocabulary: it lacks {', '.join(missing)}.")
    for token in SPECIAL_TOKENS:
        swapped = {config.name_of(token): token, token: config.name_of(token)}
        vocab = {swapped.get(entry, entry): number for entry, number in vocab.items()}
    tokenizer = _untrained(vocab, config)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS])
    set_template(tokenizer)
    return tokenizer


def _untrained(vocab: dict[str, int], config: TokenizerConfig) -> Tokenizer:
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    tokenizer = Tokenizer(WordPiece(vocab, unk_token=UNK, max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(
        handle_chinese_chars=config.tokenize_chinese_chars,
        strip_accents=config.strip_accents,
        lowercase=config.do_lower_case,
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer
