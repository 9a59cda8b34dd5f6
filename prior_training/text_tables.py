"""The evaluation of text to image as Markdown."""

from typing import Any

from hash3d.table.report import markdown_table

COLUMNS = {
    "exact": "all three",
    "noun": "noun",
    "color": "colour",
    "view": "view",
    "view_asymmetric": "view, asymmetric objects",
}
"""What `text_scores.shares` gives, and the heads of the columns."""


def markdown(found: dict[str, Any]) -> str:
    """Two tables of percentages and a sentence on the nearest training renders, from what `evaluation.json` holds."""
    near = found["nearest"]
    paragraphs = [
        f"{found['captions']} captions of held-out objects, a quarter with each view; {found['steps']} DDIM steps. "
        f"{found['asymmetric']} objects are asymmetric: they look different from the front, the side and behind. "
        f"The judge is the matcher; its own errors are in the rows of true renders.",
        f"Right in the caption retrieved among {found['candidates']}, in %:",
        _table(found["scores"], "retrieval"),
        "Right in the likeliest of all nouns, of all colours and of all views, in %:",
        _table(found["scores"], "classification"),
        f"Distance to the nearest of {near['training_views']} training renders (RMS of the difference, of a range of "
        f"1, after averaging to 32x32): samples {near['samples_mean']:.4f} (least {near['samples_least']:.4f}), "
        f"held-out true renders {near['held_out_renders_mean']:.4f} (least {near['held_out_renders_least']:.4f}). "
        f"Copies would be much nearer than held-out renders are.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _table(rows: list[dict[str, Any]], kind: str) -> str:
    """One row for each set of pictures."""
    lines = [
        [row["pictures"], *(f"{100 * row[kind][name]:.1f}" if name in row[kind] else "-" for name in COLUMNS)]
        for row in rows
    ]
    return "\n".join(markdown_table(["pictures", *COLUMNS.values()], lines))
