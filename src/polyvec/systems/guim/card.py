"""The model card: what a fitted GUIM was made from and chosen by, for whoever finds the folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from polyvec.data.dataset import format_time
from polyvec.systems.folder import told_budget, told_updates
from polyvec.systems.guim.config import default

if TYPE_CHECKING:
    from pathlib import Path

    from polyvec.data.dataset import Dataset
    from polyvec.systems.guim.model import GUIM
    from polyvec.systems.guim.windows import TrainingWindows, Validation

UPDATES = "\n## Updates\n"
_VALIDATED_ON = {
    "users": "held-out users, in a window whose other users were trained on",
    "window": "the latest window of all users, later than anything that model was trained on",
}


def model_card(
    model: GUIM,
    meta: dict[str, Any],
    dataset: Dataset,
    windows: TrainingWindows,
    validation: Validation,
    *,
    refit: bool,
) -> str:
    """Markdown text of ``card.md``; ``meta`` are the manifest's entries, the rest is what ``fit`` had."""
    config = model.config
    lines = [
        "# GUIM model",
        "",
        f"{meta['C']} vectors of {meta['D']} numbers per user, one per item; a user and an item are joined "
        "by the largest cosine. Learned from purchases as in Yang et al. 2022 (GUIM).",
        "",
        "## Data",
        "",
        f"* {dataset.num_events:,} purchases of {dataset.num_users:,} users and {dataset.num_items:,} items, "
        f"of which {len(model.trained_items):,} items were trained on",
        f"* {len(windows.training):,} windows of a history and what followed it; nothing {_moment(model)}",
        "",
        "## Training",
        "",
        f"* {meta['parameters']:,} weights, {meta['steps']:,} steps, seed {model.options.seed}",
        f"* {meta['bytes']:,} bytes, {meta['item_table_bytes']:,} of them the item table"
        f"{told_budget(meta['budget'])}",
        *_chosen(meta, validation, refit=refit),
        f"* settings that differ from the default preset: {_differences(model) or 'none'}",
        "",
        "## Use",
        "",
        "* retrieval of items for users and of similar items, and features for ranking and profile models",
        f"* users are encoded from the {config.history_days:g} days before the moment asked for; without "
        "purchases there they get the learned prior (state `empty`)",
        "* items that were not trained on are encoded from category and title (state `cold`); with neither, "
        "all of them get the same vector (state `empty`)",
        "* what sells much and who buys much weighs more than the rest; figures for groups of users or items "
        "that matter to you are in the report of `polyvec evaluate`, or yours to compute",
        "",
    ]
    return "\n".join(lines)


def updated_card(path: Path, meta: dict[str, Any]) -> str:
    """Card of an updated model: that of the model in ``path``, with what the updates learned."""
    before = (path / "card.md").read_text("utf-8").split(UPDATES)[0].rstrip()
    return "\n".join([before, UPDATES, *told_updates(meta), ""])


def _moment(model: GUIM) -> str:
    if model.time_kind == "order":
        return "that was held back"
    return f"at or after {format_time(model.trained_until, 'timestamp')}"


def _chosen(meta: dict[str, Any], validation: Validation, *, refit: bool) -> list[str]:
    if meta["validation"] is None:
        return ["* nothing was validated"]
    again = "; then trained again on everything" if refit else ""
    habits = ", ".join(f"{name} {weight:g}" for name, weight in meta["habits"].items())
    return [
        f"* recall {meta['validation']:.4f} after epoch {meta['best_epoch'] + 1}, the best on "
        f"{_VALIDATED_ON[validation]}{again}",
        f"* weights of the habits: {habits}",
    ]


def _differences(model: GUIM) -> str:
    plain = default()
    ours, theirs = ({**asdict(c), **asdict(o)} for c, o in ((model.config, model.options), plain))
    return ", ".join(f"{key} = {ours[key]}" for key in ours if ours[key] != theirs[key])
