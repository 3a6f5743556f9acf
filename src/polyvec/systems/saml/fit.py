"""Train SAML, or a ranker that it is compared with: from a Dataset with scenarios to a Model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from polyvec.data.dataset import days
from polyvec.data.offers import EVER, draw_offers, is_within, labels_of
from polyvec.data.split import check_moment
from polyvec.errors import DataError, UsageError
from polyvec.systems.folder import (
    REFIT,
    check_refit,
    claim_workspace,
    run_name,
    told_best,
    told_by,
    told_reach,
    write_model,
)
from polyvec.systems.plan import Plan
from polyvec.systems.saml.config import SAMLConfig, default
from polyvec.systems.saml.features import Encoder, Fields, SamplePlan
from polyvec.systems.saml.model import SAML, SYSTEM
from polyvec.systems.saml.network import ID_OF, USER_ID
from polyvec.systems.saml.objective import Objective, Validator, calibrate, predict
from polyvec.systems.saml.samples import Samples, scenarios_of, taken_before
from polyvec.training.cluster_steps import ClusterSteps, Together, cluster_steps
from polyvec.training.loop import Hooks, Trainer, choose_device
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.offers import Offers
    from polyvec.training.checkpoint import Progress

Validation = Literal["window", "none"]
VALIDATION_SEED = 1_000_000


def fit(
    dataset: Dataset,
    out: Path | str,
    config: SAMLConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> SAML:
    """Train a ranker of many scenarios and write a Model folder.

    Parameters
    ----------
    dataset
        Data with a column ``scenario``.
    out
        The Model folder, whole or absent. While training, all that a resumed run needs lies in a hidden
        folder beside it.
    config, options
        What to train, and how; the default preset without them.
    until
        For timestamps: nothing at or after this time is read. None reads everything.
    held_back
        For ordered data: last events of every user that are not read.
    validation
        ``window``: the best epoch is chosen by the AUC, mean over scenarios, of the latest
        ``validation_days``, of ordered data of as many last events of every user. ``none``: all epochs are
        trained.
    refit
        Train again on everything for the number of epochs that validation found best.
    resume
        Go on from the latest checkpoint of an interrupted run of the same configuration.
    overwrite
        Replace an existing Model.

    Raises
    ------
    DataError
        If there are no scenarios, no labels, or nothing to learn from.
    TrainingError
        If the loss is not finite.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    UsageError
        If the data has no such moment or scenario, ``refit`` has no validation to follow, or the model would
        not keep within ``budget``.
    """
    defaults = default()
    out, config, options = Path(out), config or defaults[0], options or defaults[1]
    config = replace(config, labels=labels_of(dataset, config))  # of later data, too
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    stop = end_of(dataset, until, held_back)
    settings = {SYSTEM: asdict(config), "training": asdict(options), "moment": [stop, validation, refit]}
    lessons = Lessons.of(dataset, config, options, stop, validates=validation != "none")
    refuse_over_budget(lessons, config, options)
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        model, progress = train(dataset, lessons, lessons.untrained(config, options), workspace)
        runs = [progress]
        if refit:
            lessons = Lessons.of(dataset, config, options, stop, validates=False)
            refuse_over_budget(lessons, config, options)
            untrained = replace(lessons.untrained(config, options), calibration=model.calibration)
            model, again = train(dataset, lessons, untrained, workspace / REFIT, progress.best_epoch + 1)
            runs.append(again)
        meta = model.meta | told_by(runs, "AUC") | told_reach(dataset, stop, held_back) | lessons.told
        write_model(out, model, dataset, workspace, meta, card=card(meta), overwrite=overwrite)
        return SAML.open(out)


def plan(
    dataset: Dataset,
    config: SAMLConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
) -> Plan:
    """Tell what :func:`fit` would take; parameters and errors are the same."""
    defaults = default()
    config, options = config or defaults[0], options or defaults[1]
    check_moment(dataset, until, held_back)
    check_refit(validation, refit=refit)
    validates = validation != "none" and not refit
    lessons = Lessons.of(dataset, config, options, end_of(dataset, until, held_back), validates=validates)
    refuse_over_budget(lessons, config, options)
    model = lessons.untrained(config, options)
    return Plan.of(_trainer(dataset, lessons, model, Path()), model.sizes)


@dataclass(frozen=True)
class Lessons:
    """What is learned from, and what is validated on.

    Attributes
    ----------
    scenarios
        In the order that numbers them.
    fields
        What has a row in the tables.
    training
        Samples.
    held_out
        Those to validate on; None without validation.
    labels
        How they are labelled.
    stop
        End of what is learned from and validated on.
    time_kind
        ``timestamp`` or ``order``.
    trained_until
        The end as a time: after the last position that is read of ordered data.
    """

    scenarios: list[str]
    fields: Fields
    training: Samples
    held_out: Samples | None
    labels: str
    stop: int
    time_kind: TimeKind
    trained_until: int

    @classmethod
    def of(
        cls, dataset: Dataset, config: SAMLConfig, options: TrainingOptions, stop: int, *, validates: bool
    ) -> Lessons:
        """Draw samples, and learn what has a row.

        Raises
        ------
        DataError
            If there is nothing to learn from, or to validate on.
        """
        scenarios, past = scenarios_of(dataset, config), taken_before(dataset, config)
        is_ordered = dataset.time_kind == "order"
        length = config.validation_days if is_ordered else days(config.validation_days)
        cut = stop - length if validates else stop

        def samples(start: int, end: int, seed: int) -> Samples:
            offers = draw_offers(dataset, config, scenarios, start, end, seed)
            _check_labels(offers, config)
            return Samples.of(offers, dataset, past, config.max_length)

        if not config.scenarios:  # those that begin later are none yet
            seen = draw_offers(dataset, config, scenarios, EVER, cut, options.seed).scenarios
            scenarios = [scenarios[place] for place in np.unique(seen)]
        training = samples(EVER, cut, options.seed)
        _check_scenarios(training.offers, scenarios)
        held_out = samples(cut, stop, VALIDATION_SEED) if validates else None
        if held_out is not None:
            check_outcomes(held_out.offers, config)
        fields = Fields.learn(dataset, training, config, scenarios)
        trained_until = stop
        if is_ordered:
            trained_until = int(dataset.times[is_within(dataset, EVER, stop)].max(initial=-1)) + 1
        how = labels_of(dataset, config)
        return cls(scenarios, fields, training, held_out, how, stop, dataset.time_kind, trained_until)

    def untrained(self, config: SAMLConfig, options: TrainingOptions) -> SAML:
        """A new model."""
        return SAML.new(
            config, options, self.fields, self.scenarios, self.stop, self.time_kind, self.trained_until
        )

    @property
    def told(self) -> dict[str, Any]:
        """Manifest entries: samples and likes of every scenario, how they are labelled, and their fields."""
        offers, count = self.training.offers, len(self.scenarios)
        samples = np.bincount(offers.scenarios, minlength=count)
        taken = np.bincount(offers.scenarios, offers.labels, minlength=count)
        return {
            "labels": self.labels,
            "fields": [*self.fields.items, *self.fields.context],
            "samples": {
                name: {"all": int(samples[place]), "taken": int(taken[place])}
                for place, name in enumerate(self.scenarios)
            },
        }


def end_of(dataset: Dataset, until: int | None, held_back: int) -> int:
    """End of what is read, as :func:`polyvec.data.offers.draw_offers` takes it."""
    if dataset.time_kind == "order":
        return -held_back
    return dataset.time_span[1] + 1 if until is None else until


def refuse_over_budget(lessons: Lessons, config: SAMLConfig, options: TrainingOptions) -> None:
    """Refuse a model of more bytes than are allowed, before it is made."""
    with torch.device("meta"):  # no memory
        model = lessons.untrained(config, options)
    sizes, budget = model.sizes, model.config.budget
    if not budget or sizes.total <= budget:
        return
    own, everyone = model.network.view.own, model.network.view.everyone
    of_users = everyone.table(USER_ID).bytes() if USER_ID in everyone.rows else 0
    of_scenarios = 0 if own is None else sum(own.table(name).bytes() for name in own.rows)
    raise UsageError(
        f"a budget of {budget:,} bytes is too little for this model of {len(model.scenarios)} scenarios",
        expected=f"at least {sizes.total:,} bytes: {of_scenarios:,} of the scenarios' own tables, "
        f"{sizes.item_table:,} of the items' global one, "
        + (f"{of_users:,} of the users', " if of_users else "")
        + f"{sizes.total - of_scenarios - sizes.item_table - of_users:,} of the rest",
        mend=f"raise the budget, {'leave item_id out of specific_fields, ' if of_scenarios else ''}set "
        f"item_table=hash and item_rows{', user_table and user_rows' if of_users else ''}, or lower widths",
    )


def check_outcomes(held_out: Offers, config: SAMLConfig) -> None:
    """Refuse to validate where no scenario has both, what was taken and what was not.

    Raises
    ------
    DataError
        If none has.
    """
    for place in np.unique(held_out.scenarios):
        mine = held_out.labels[held_out.scenarios == place]
        if mine.any() and not mine.all():
            return
    raise DataError(
        f"none of the scenarios has samples to validate on that were taken and samples that were not "
        f"({len(held_out):,} samples)",
        expected="both in at least one of them",
        mend=f"change validation_days ({config.validation_days}), or pass --validation none",
    )


def _check_scenarios(training: Offers, scenarios: list[str]) -> None:
    """Refuse a scenario that nothing is known of."""
    samples = np.bincount(training.scenarios, minlength=len(scenarios))
    if not samples.all():
        raise DataError(
            f"scenario '{scenarios[int(samples.argmin())]}' has no samples to learn from",
            column="scenario",
            expected="some before what is validated on",
            mend="leave it out of scenarios, or train until a later moment",
        )


def _check_labels(offers: Offers, config: SAMLConfig) -> None:
    if not (offers.labels.any() and not offers.labels.all()):
        raise DataError(
            f"of {len(offers):,} samples of a period {int(offers.labels.sum()):,} were taken",
            expected="some that were taken and some that were not, in training and in validation",
            mend=f"see labels and action ('{config.action}') in --show-config, change validation_days "
            f"({config.validation_days}), or pass --validation none",
        )


def train(
    dataset: Dataset,
    lessons: Lessons,
    model: SAML,
    workspace: Path,
    stop_after: int = 0,
    hooks: Hooks | None = None,
) -> tuple[SAML, Progress]:
    """Train a model in place, or go on with the one in the workspace, and calibrate it if it is validated.

    ``stop_after`` epochs, or all for 0.
    """
    workspace.mkdir(exist_ok=True)
    progress = _trainer(dataset, lessons, model, workspace, stop_after, hooks).run()
    return calibrated(dataset, lessons, model), progress


def calibrated(dataset: Dataset, lessons: Lessons, model: SAML) -> SAML:
    """The model with the calibration that suits what is held out; as it is if nothing is."""
    if lessons.held_out is None:
        return model
    logits = predict(model.network, lessons.held_out, Encoder.of(dataset, lessons.fields))[0]
    return replace(model, calibration=calibrate(logits, lessons.held_out.offers.labels))


def _trainer(
    dataset: Dataset,
    lessons: Lessons,
    model: SAML,
    workspace: Path,
    stop_after: int = 0,
    hooks: Hooks | None = None,
) -> Trainer:
    options, device = model.options, choose_device(model.options.device)
    model.network.to(device)
    encoder = Encoder.of(dataset, lessons.fields)
    held_out = lessons.held_out
    plan = SamplePlan(lessons.training, encoder, options.batch_size, options.seed, device)
    optimizers = make_optimizers(model.network, options)
    clusters: dict[str, ClusterSteps] = {}
    if hooks is None:  # while a branch alone is trained, all stay where they are
        everyone = model.network.view.everyone
        for name in (name for name in ID_OF if name in everyone.rows):
            apart = replace(options, seed=options.seed + len(clusters))  # one's draws are not the other's
            if steps := cluster_steps(everyone.table(name), optimizers, len(plan), apart):
                clusters[name] = steps
    return Trainer(
        model.network,
        Objective(model.network, model.config, clusters),
        plan,
        None if held_out is None else Validator(model.network, held_out, encoder),
        options,
        workspace,
        stop_after,
        f"{run_name(workspace)}: {model.config.method}",
        optimizers=optimizers,
        hooks=hooks or Together.of(clusters.values()),
    )


def card(meta: dict[str, Any]) -> str:
    """Say in Markdown what was trained on what."""
    return "\n".join(
        [
            "# SAML model",
            "",
            f"Scores of items for users in {len(meta['scenarios'])} scenarios: method `{meta['variant']}`.",
            "",
            f"* labels: {meta['labels']}; fields: {', '.join(meta['fields'])}",
            *[
                f"* {name}: {found['all']:,} samples, {found['taken']:,} taken"
                for name, found in meta["samples"].items()
            ],
            f"* {meta['parameters']:,} weights in {meta['bytes']:,} bytes, {meta['steps']:,} steps; "
            f"{told_best(meta)}",
            "",
        ]
    )
