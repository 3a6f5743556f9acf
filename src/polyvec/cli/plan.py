"""``polyvec plan``: what a run of ``fit`` will take, told before it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from polyvec.cli.run_options import (
    CHOSEN_BY_BUDGET,
    STREAM,
    SYSTEMS,
    RunOptions,
    resolve,
    run_options,
    told_choice,
)

if TYPE_CHECKING:
    from typing import Unpack

    from polyvec.systems.plan import Plan


class Options(RunOptions):
    """Options of the verb, as click hands them over."""

    as_json: bool


@click.command()
@click.argument("system", type=click.Choice((*SYSTEMS, STREAM)))
@click.argument("dataset", type=click.Path(path_type=Path))
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one JSON object.")
def command(system: str, dataset: Path, **options: Unpack[Options]) -> None:
    """Tell what `polyvec fit SYSTEM DATASET` will take with the same options: parameters, bytes and steps.

    The untrained model is made, and loss and gradients of the widest batch are worked out once, to see what a
    batch takes; what the optimizer takes is told without making it. What a stream takes (cel-lite) follows
    from its interactions, users and items. Nothing is written.

    \b
    polyvec plan guim shop.dataset
    polyvec plan guim shop.dataset --budget 200MB
    polyvec plan sasrec shop.dataset --set item_table=clustered --set item_rows=2000 --json
    polyvec plan cel-lite january.dataset --set ring=10000000
    """  # noqa: D301
    from polyvec.data.dataset import Dataset

    if system == STREAM:
        from polyvec.cli.streams import plan_stream

        plan_stream(dataset, options)
        return
    run = resolve(system, options)
    data = Dataset.open(dataset)
    config, training, moment = run.config, run.configured["training"], run.moment(data, options)
    if options["budget"] and run.chooses_tables:
        config = run.system.settled(data, config, training, **moment)
        click.echo(told_choice(config), err=True)
    told = _told(run.system.plan(data, config, training, **moment))
    chosen = {key: getattr(config, key) for key in (*CHOSEN_BY_BUDGET, "budget") if hasattr(config, key)}
    if options["as_json"]:
        click.echo(json.dumps({"system": system, **chosen, **told}))
        return
    print_sizes(_LABELS, told)


def print_sizes(labels: dict[str, str], told: dict[str, int]) -> None:
    """Print a line for each of some sizes."""
    for key, label in labels.items():
        click.echo(f"{label:38} {told[key]:>16,}")


def _told(plan: Plan) -> dict[str, Any]:
    model, training = plan.model, plan.training
    return {
        "parameters": plan.parameters,
        "model_bytes": model.total,
        "item_table_bytes": model.item_table,
        "other_tables_bytes": model.other_tables,
        "rest_bytes": model.rest,
        "network_bytes": training.network,
        "optimizer_bytes": training.optimizer,
        "clusters_bytes": training.clusters,
        "gradients_bytes": training.gradients,
        "batch_bytes": training.batch,
        "process_bytes": plan.process,
        "peak_bytes": plan.peak,
        "steps_per_epoch": plan.steps_per_epoch,
        "epochs": plan.epochs,
    }


_LABELS = {
    "parameters": "parameters",
    "model_bytes": "bytes of the model as it is kept",
    "item_table_bytes": "  item table",
    "other_tables_bytes": "  other tables",
    "rest_bytes": "  the rest",
    "peak_bytes": "bytes in training, at most",
    "network_bytes": "  weights",
    "optimizer_bytes": "  optimizer",
    "clusters_bytes": "  statistics of clusters",
    "gradients_bytes": "  gradients",
    "batch_bytes": "  widest batch",
    "process_bytes": "  libraries and data",
    "steps_per_epoch": "steps per epoch",
    "epochs": "epochs, at most",
}
