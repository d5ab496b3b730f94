"""`tokenizer_config.json`: the settings of a `vocab.txt`, in the format of BertTokenizer in `transformers`.

Settings and defaults: https://huggingface.co/docs/transformers/model_doc/bert#transformers.BertTokenizer
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.json_objects import checked, read_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_CONFIG = "tokenizer_config.json"

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""In the order of their ids, which in BERT's vocabularies are 0, 100, 101, 102 and 103."""

SPECIAL_KEYS = {PAD: "pad_token", UNK: "unk_token", CLS: "cls_token", SEP: "sep_token", MASK: "mask_token"}

# Classes that tokenize like BertTokenizer. BertJapaneseTokenizer, BertweetTokenizer and others also have a vocab.txt.
_WORDPIECE = re.compile(
    r"(Bert|DistilBert|Electra|MobileBert|ConvBert|Funnel|LayoutLM|Lxmert|SqueezeBert|PreTrained)Tokenizer(Fast)?"
    r"|TokenizersBackend"
)


def _content(value: Any) -> Any:
    """Return the name of a special token, which is a string or an object with options."""
    return value.get("content") if isinstance(value, dict) else value


_Token = Annotated[str | None, BeforeValidator(_content)]


class TokenizerConfig(BaseModel):
    """The settings of a BERT vocabulary in a `tokenizer_config.json`; all other settings are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tokenizer_class: str | None = None
    do_lower_case: bool = True
    strip_accents: bool | None = None
    """None: the value of `do_lower_case`."""
    tokenize_chinese_chars: bool = True
    pad_token: _Token = None
    unk_token: _Token = None
    cls_token: _Token = None
    sep_token: _Token = None
    mask_token: _Token = None

    def name_of(self, token: str) -> str:
        """Return the name that the vocabulary uses for the special token `token` (one of `SPECIAL_TOKENS`)."""
        return getattr(self, SPECIAL_KEYS[token]) or token


def read_tokenizer_config(path: Path) -> TokenizerConfig:
    """Return the settings in `path`; without that file, the defaults, which are those of BERT uncased.

    Raises:
        RequestError: the file cannot be read or is malformed, or it is for another kind of tokenizer.
    """
    if not path.exists():
        return TokenizerConfig()
    remedy = "Correct it, or download it again."
    config = checked(read_object(path, remedy), TokenizerConfig, path, remedy)
    if config.tokenizer_class and not _WORDPIECE.fullmatch(config.tokenizer_class):
        raise RequestError(
            f"{path} is for a {config.tokenizer_class}, which tokenizes differently from BERT's tokenizer. Name a "
            "tokenizer.json, or a vocabulary for BertTokenizer."
        )
    return config


def write_tokenizer_config(tokenizer: Tokenizer, folder: Path, **more: Any) -> None:
    """Write the settings of `tokenizer`, and `more`, into `folder` for its `vocab.txt` and for `AutoTokenizer`."""
    from tokenizers.normalizers import BertNormalizer

    settings: dict[str, Any] = {}
    if isinstance(normalizer := tokenizer.normalizer, BertNormalizer):
        settings = {
            "do_lower_case": normalizer.lowercase,
            "strip_accents": normalizer.strip_accents,
            "tokenize_chinese_chars": normalizer.handle_chinese_chars,
        }
    special = {key: token for token, key in SPECIAL_KEYS.items()}
    write_json(folder / TOKENIZER_CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast", **settings, **special, **more})
