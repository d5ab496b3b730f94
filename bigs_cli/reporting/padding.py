"""What a person should know before padding is cut off."""

from __future__ import annotations

from bigs_cli.models.config import BiGSConfig
from bigs_cli.reporting.console import err


def tell_of_trimming(config: BiGSConfig, trim: bool) -> None:
    """Say on stderr that a model of `config` gives other outputs if batches are trimmed, where it does."""
    if trim and not config.mask_padding:
        err.print("Padding is trimmed. This model reads its padding: its outputs are not those of full-length inputs.")
