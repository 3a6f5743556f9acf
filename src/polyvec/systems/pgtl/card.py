"""What is said of a fitted PGTL: what there was to transfer, and whether it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyvec.systems.folder import told_best
from polyvec.systems.pgtl.network import SOURCE, TARGET

if TYPE_CHECKING:
    from polyvec.systems.pgtl.config import PGTLConfig

FEW = 2_000  # pairs whose AUC is known to about ±0.025 (half the 95 % interval): more than transfer brings


def model_card(meta: dict[str, Any], config: PGTLConfig) -> str:
    """Say in Markdown what was trained on what, and whether transfer pays."""
    return "\n".join(
        [
            "# PGTL model",
            "",
            f"Items of market '{meta['target']}', learned with the help of market '{meta['source']}': method "
            f"`{meta['variant']}`, one vector of {meta['D']} numbers per item.",
            "",
            *[f"* {line}" for line in told_transfer(meta)],
            f"* {meta['parameters']:,} weights, {meta['steps']:,} steps; {told_best(meta)}",
            f"* {meta['features']} features, numbers in {config.buckets} buckets",
            "",
        ]
    )


def told_transfer(meta: dict[str, Any]) -> list[str]:
    """Relations of the target's items, pairs of both markets, and whether transfer pays where that was asked.

    Parameters
    ----------
    meta
        Manifest entries of a Model.
    """
    coverage = meta["coverage"]
    lines = [
        f"{coverage['items']:,} items were sold in '{meta['target']}': {coverage['strong']:,} in "
        f"'{meta['source']}', too (strong relations), {coverage['weak']:,} have others of their category "
        f"there (weak), {coverage['unrelated']:,} no relation"
    ]
    for role in (SOURCE, TARGET):
        drawn = coverage["negatives"][role] == "drawn"
        how = "drawn by popularity on the same day, for the log has no exposures"
        lines.append(
            f"{coverage['pairs'][role]:,} pairs of items in '{meta[role]}'; those that are not similar were "
            f"{how if drawn else 'exposed and not clicked'}"
        )
    return lines + ([_told_guard(meta)] if meta["guard"] else [])


def _told_guard(meta: dict[str, Any]) -> str:
    """Say plainly whether transfer pays."""
    guard = meta["guard"]
    found = f"AUC {guard['validation']:.4f} against {guard['target_alone']:.4f} of the target alone"
    if "pairs" in guard:  # of models made since December 2026
        few = ", too few to be sure" if guard["pairs"] < FEW else ""
        found += f" ({guard['pairs']:,} pairs{few})"
    if guard["pays"]:
        return f"transfer pays on validation: {found}"
    fell_back = meta["variant"] == "target"
    end = "this model is that of the target alone" if fell_back else "consider --set guard=fall_back"
    least = f"at least {guard['least_gain']:g} more is asked"
    return f"**transfer does not pay** on validation: {found}, and {least}; {end}"
