"""What token shards hold, as a table."""

from __future__ import annotations

from rich.table import Table

from bigs_cli.data.manifest import Manifest
from bigs_cli.reporting.console import table


def report_table(manifest: Manifest) -> Table:
    """Return a table of what was read to make the shards, and what became of it. What did not occur has no line."""
    report, packing = manifest.report, manifest.packing
    whole = report.heldout_unit == "documents"
    made = table("", "what", "how much", right=("how much",))
    lines = [
        ("documents", f"{report.documents:,}" if packing else ""),
        ("  of them held out", f"{report.heldout_documents:,}" if packing and whole else ""),
        ("  of them too short, left out", f"{report.short_documents:,}" if packing else ""),
        (f"{report.heldout_unit} held out", "" if whole else f"{report.heldout_documents:,}"),
        ("equal documents, left out", f"{report.duplicate_documents:,}" if report.duplicate_documents else ""),
        ("unreadable records, left out", f"{report.bad_records:,}" if report.bad_records else ""),
        (packing.split if packing else "", f"{report.sentences:,}" if report.sentences else ""),
        ("tokens", f"{report.tokens:,}"),
        ("  of them unknown", f"{report.unknown_rate:.4%}"),
        ("vocabulary", f"{manifest.vocab_size:,}"),
        (f"rows of {manifest.sequence_length} tokens", f"{report.sequences:,}"),
        ("  to train on", f"{manifest.rows('train'):,}"),
        ("  held out", f"{manifest.rows('heldout'):,}"),
        ("  filled", f"{report.fill_rate:.1%}"),
        ("tokens/s", f"{report.tokens_per_second:,.0f}"),
    ]
    for name, value in lines:
        if value:
            made.add_row(name, value)
    return made
