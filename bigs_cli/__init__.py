"""BiGS: a bidirectional language model without attention.

    from bigs_cli import BiGSForSequenceClassification
    model = BiGSForSequenceClassification.from_pretrained("JunxiongWang/BiGS_512_MNLI")
    model(input_ids, attention_mask=mask, token_type_ids=types).logits

Importing the package is cheap: JAX is imported when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bigs_cli.api import (
        BiGSForMaskedLM,
        BiGSForMultipleChoice,
        BiGSForNextSentencePrediction,
        BiGSForPreTraining,
        BiGSForQuestionAnswering,
        BiGSForSequenceClassification,
        BiGSForTokenClassification,
        BiGSModel,
        load_model,
    )
    from bigs_cli.models.config import BiGSConfig

    __version__: str

__all__ = [
    "BiGSConfig",
    "BiGSForMaskedLM",
    "BiGSForMultipleChoice",
    "BiGSForNextSentencePrediction",
    "BiGSForPreTraining",
    "BiGSForQuestionAnswering",
    "BiGSForSequenceClassification",
    "BiGSForTokenClassification",
    "BiGSModel",
    "load_model",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("bigs")
    if name not in __all__:
        raise AttributeError(f"module 'bigs_cli' has no attribute {name!r}")
    import importlib

    module = "bigs_cli.models.config" if name == "BiGSConfig" else "bigs_cli.api"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
