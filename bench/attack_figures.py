"""The tables of docs/how-to/what-protection-buys.md, out of the committed results of `privacy_attacks`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.harness import RESULTS, ROOT
from bench.render import newest

PAGE = ROOT / "docs" / "how-to" / "what-protection-buys.md"

HEADS = {
    "first layer": "| what is seen | PSNR | a guess | |\n| --- | --: | --: | --- |",
    "convolutions": "| what is seen | PSNR | a guess | |\n| --- | --: | --: | --- |",
    "members": "| what is seen | AUC | a guess | |\n| --- | --: | --: | --- |",
}
"""Kinds of attack, as rows begin, and the heads of their tables."""


def filled(text: str, results: Path = RESULTS) -> str:
    """Return the page's text with the figures of the largest size that was measured, between its marks."""
    runs = newest(results / "privacy_attacks.jsonl")
    size = next((size for size in ("large", "medium", "small") if size in runs), "")
    for kind, head in HEADS.items():
        rows = [line for line in runs.get(size, []) if line["what"].startswith(kind)]
        table = "".join(f"{line}\n" for line in (head, *(_line(row, len(kind) + 2) for row in rows)))
        marks = rf"(<!-- figures of {kind} -->\n).*?(<!-- end of figures -->)"
        text = re.sub(marks, lambda found, table=table: f"{found[1]}\n{table}\n{found[2]}", text, flags=re.DOTALL)
    return text


def write(page: Path = PAGE) -> Path:
    """Fill the page in. Returns its path."""
    page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return page


def _line(row: dict[str, Any], prefix: int) -> str:
    what = row["what"][prefix:]
    form, unit = (".2f", "") if "AUC" in row["unit"] else (".0f", " dB")
    figures = " | ".join(f"{row[key]:{form}}{unit}" for key in ("ours", "limit"))
    return f"| {what[0].upper()}{what[1:]} | {figures} | {row['note']} |"
