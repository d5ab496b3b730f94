"""The table that describes token shards."""

from __future__ import annotations

from rich.table import Table

from bigs_cli.data.manifest import Manifest
from bigs_cli.reporting.console import table


def report_table(manifest: Manifest) -> Table:
    """Return a table that describes the rows of shards and the text in them. Rows without a value are left out."""
    report, packing = manifest.report, manifest.packing
    by_document = report.heldout_unit == "documents"
    result = table("", "item", "count", right=("count",))
    lines = [
        ("documents", f"{report.documents:,}" if packing else ""),
        ("  held out", f"{report.heldout_documents:,}" if packing and by_document else ""),
        ("  too short (skipped)", f"{report.short_documents:,}" if packing else ""),
        (f"{report.heldout_unit} held out", "" if by_document else f"{report.heldout_documents:,}"),
        ("duplicate documents (skipped)", f"{report.duplicate_documents:,}" if report.duplicate_documents else ""),
        ("unreadable records (skipped)", f"{report.bad_records:,}" if report.bad_records else ""),
        (packing.split if packing else "", f"{report.sentences:,}" if report.sentences else ""),
        ("tokens", f"{report.tokens:,}"),
        ("  unknown", f"{report.unknown_rate:.4%}"),
        ("vocabulary", f"{manifest.vocab_size:,}"),
        (f"rows of {manifest.sequence_length} tokens", f"{report.sequences:,}"),
        ("  training", f"{manifest.rows('train'):,}"),
        ("  held out", f"{manifest.rows('heldout'):,}"),
        ("  filled", f"{report.fill_rate:.1%}"),
        ("tokens/s", f"{report.tokens_per_second:,.0f}"),
    ]
    for name, value in lines:
        if value:
            result.add_row(name, value)
    return result
