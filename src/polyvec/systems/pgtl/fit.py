"""Train PGTL, or a method that it is compared with: from a Dataset of two markets to a Model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from polyvec.data.dataset import days
from polyvec.data.exposures import has_exposures
from polyvec.data.market import Market
from polyvec.errors import DataError, UsageError
from polyvec.evaluation.classification import auc
from polyvec.systems.folder import (
    REFIT,
    check_refit,
    claim_workspace,
    run_name,
    told_by,
    told_reach,
    write_model,
)
from polyvec.systems.pgtl.card import model_card
from polyvec.systems.pgtl.config import PGTLConfig, default
from polyvec.systems.pgtl.features import STRONG, UNRELATED, WEAK, Texts
from polyvec.systems.pgtl.model import PGTL, SYSTEM, encode, relations_of
from polyvec.systems.pgtl.network import SINGLE, SOURCE, TARGET, PGTLNetwork
from polyvec.systems.pgtl.objective import Objective, PairPlan
from polyvec.systems.pgtl.pairs import draw_pairs
from polyvec.systems.pgtl.view import Samples, View
from polyvec.systems.plan import Plan
from polyvec.training.cluster_steps import cluster_steps
from polyvec.training.loop import Trainer, choose_device
from polyvec.training.optimizers import make_optimizers
from polyvec.training.options import TrainingOptions

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.market import Role
    from polyvec.systems.pgtl.pairs import Pairs
    from polyvec.training.checkpoint import Progress

Validation = Literal["window", "none"]
ALONE, FIRST = "alone", "first"
"""Folders of the runs beside: the target alone (the guard), and the source's, which is then fine-tuned."""
VALIDATED: dict[str, tuple[Role, ...]] = {"source": (SOURCE,), "fine_tune": (SOURCE, TARGET)}
"""Markets that a method is validated on; the others on the target."""
VALIDATION_SEED = 1_000_000
LEAST_GAIN = 0.002
"""AUC by which transfer must beat the target alone on validation to be said to pay."""


def fit(
    dataset: Dataset,
    out: Path | str,
    config: PGTLConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> PGTL:
    """Learn item representations of the market ``target`` with the help of the market ``source``.

    Parameters
    ----------
    dataset
        Data with timestamps and a column ``scenario``.
    out
        The Model folder, whole or absent. While training, all that a resumed run needs lies in a hidden
        folder beside it.
    config, options
        What to train, and how; ``source`` and ``target`` have no defaults.
    until
        Nothing at or after this time is read. None reads everything.
    held_back
        For ordered data, which has no days: refused.
    validation
        ``window``: the best epoch is chosen by the AUC of the target's pairs of the latest ``target_days``
        (of the source's, if it alone is trained). ``none``: all epochs are trained.
    refit
        Train again on everything for the number of epochs that validation found best.
    resume
        Go on from the latest checkpoint of an interrupted run of the same configuration.
    overwrite
        Replace an existing Model.

    Raises
    ------
    DataError
        If there are no markets, no timestamps, or no pairs to learn from.
    TrainingError
        If the loss is not finite.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    UsageError
        If a market is not named or not in the data, or ``refit`` has no validation to follow.
    """
    out, config, options = Path(out), config or default()[0], options or default()[1]
    _check(config, held_back, validation, refit=refit)
    until = dataset.time_span[1] + 1 if until is None else until
    settings = {SYSTEM: asdict(config), "training": asdict(options), "moment": [until, validation, refit]}
    lessons = Lessons.of(dataset, config, options, until, validates=validation != "none")
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        run, kept = _train(lessons, config, options, workspace), workspace
        guard = None
        if config.guard != "off" and config.method not in ("source", "target") and run.own.best is not None:
            target = replace(config, method="target")
            alone = _train(lessons, target, options, workspace / ALONE)
            reached, own = run.own.best, alone.own.best or 0.0
            guard = {
                "validation": reached,
                "target_alone": own,
                "least_gain": LEAST_GAIN,
                "pairs": len(lessons.held_out[TARGET]),
                "pays": transfer_pays(reached, own),
            }
            if config.guard == "fall_back" and not guard["pays"]:
                config, run, kept = target, alone, workspace / ALONE
        runs = [run]
        if refit:
            lessons = Lessons.of(dataset, config, options, until, validates=False)
            runs.append(_train(lessons, config, options, workspace / REFIT, again=run))
        model = runs[-1].model
        meta = model.meta | told_by([one.whole for one in runs], "AUC")
        meta |= told_reach(dataset, until, held_back) | {"coverage": lessons.coverage, "guard": guard}
        card = model_card(meta, config)
        write_model(out, model, dataset, workspace, meta, card=card, overwrite=overwrite, first_run=kept)
        return PGTL.open(out)


def plan(
    dataset: Dataset,
    config: PGTLConfig | None = None,
    options: TrainingOptions | None = None,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    refit: bool = False,
) -> Plan:
    """Tell what :func:`fit` would take; parameters and errors are the same."""
    config, options = config or default()[0], options or default()[1]
    _check(config, held_back, validation, refit=refit)
    until = dataset.time_span[1] + 1 if until is None else until
    validates = validation != "none" and not refit
    lessons = Lessons.of(dataset, config, options, until, validates=validates)
    model = lessons.untrained(config, options)
    return Plan.of(_trainer(model, lessons, config, options, Path(), 0), model.sizes)


def _check(config: PGTLConfig, held_back: int, validation: str, *, refit: bool) -> None:
    check_refit(validation, refit=refit)
    if config.guard == "fall_back" and validation == "none":
        raise UsageError(
            "guard=fall_back has no validation to go by",
            mend="validate (--validation window), or set guard=off",
        )
    if held_back:
        raise UsageError(
            "held_back is for data with an order column, and PGTL's statistics need timestamps",
            mend="name a date with until (--until)",
        )
    for name in (SOURCE, TARGET):
        if not getattr(config, name):
            raise UsageError(
                f"the {name} market is not named",
                expected="a value of the column scenario",
                mend="--set source=LARGE --set target=SMALL",
            )


@dataclass(frozen=True)
class Lessons:
    """What is learned from, and what is validated on.

    Attributes
    ----------
    config
        Which markets, and which pairs.
    view
        Features, their buckets learned from the training samples.
    texts
        Which texts have a row.
    training
        Training pairs by market, with the features of their items; without prior.
    held_out
        Validation pairs by market, of those that the method is validated on; empty without validation.
    items
        ``item_id``, ``source`` and ``target``: events before the validation.
    coverage
        For the report: items of the target with training events, by their relation, and how pairs were drawn.
    until
        End of what is learned from.
    """

    config: PGTLConfig
    view: View
    texts: Texts
    training: dict[str, Samples]
    held_out: dict[str, Pairs]
    items: pl.DataFrame
    coverage: dict[str, Any]
    until: int

    @classmethod
    def of(
        cls, dataset: Dataset, config: PGTLConfig, options: TrainingOptions, until: int, *, validates: bool
    ) -> Lessons:
        """Draw pairs, relate items, learn buckets.

        Raises
        ------
        DataError
            If a market has no pairs, or there is nothing to validate on.
        """
        markets = {
            SOURCE: Market.of(dataset, config.source, until),
            TARGET: Market.of(dataset, config.target, until),
        }
        cut = until - days(config.target_days) if validates else until
        pairs = {name: _draw(market, config, None, cut, options.seed) for name, market in markets.items()}
        held_out: dict[str, Pairs] = {}
        if validates:
            for role in VALIDATED.get(config.method, (TARGET,)):
                held_out[role] = _draw(markets[role], config, cut, until, VALIDATION_SEED)
        for purpose, drawn in (("learn from", pairs), ("validate on", held_out)):
            for name, found in drawn.items():
                if not len(found) or found.labels_P.all() or not found.labels_P.any():
                    raise _no_pairs(markets[name].name, purpose, config)
        events = {name: market.before(cut).item_counts(config.action) for name, market in markets.items()}
        texts = Texts.learn(dataset.item_table, events[SOURCE] + events[TARGET], config)
        relations = relations_of(dataset.item_table, events[SOURCE], config)
        view = View.of(dataset, markets, config, texts, relations)
        training = {name: view.learn(name, some, config.buckets) for name, some in pairs.items()}
        known = dataset.item_table.select("item_id").with_columns(
            *(pl.Series(name, counts) for name, counts in events.items())
        )
        known = known.filter((pl.col(SOURCE) > 0) | (pl.col(TARGET) > 0))
        learned = {name: market.before(cut) for name, market in markets.items()}
        coverage = _coverage(learned, config.action, relations.kind_N[events[TARGET] > 0], training)
        return cls(config, view, texts, training, held_out, known, coverage, cut)

    def untrained(self, config: PGTLConfig, options: TrainingOptions) -> PGTL:
        """A new model of a method."""
        names = self.view.sights[SOURCE].names
        return PGTL.new(config, options, self.texts, self.view.buckets, names, self.items, self.until)

    def samples(self, config: PGTLConfig, role: Role) -> Samples:
        """Training samples of a market, with what a method knows beforehand."""
        return self._complete(self.training[role], config, role)

    def validation_samples(self, config: PGTLConfig, role: Role) -> Samples:
        """Those that are held out."""
        return self._complete(Samples.of(self.held_out[role], self.view, role), config, role)

    def _complete(self, samples: Samples, config: PGTLConfig, role: Role) -> Samples:
        return samples.with_prior(self.view, config) if role == TARGET else samples


@dataclass(frozen=True)
class Validator:
    """AUC of held-out pairs of a market.

    Attributes
    ----------
    network
        May go on training between calls.
    samples
        The pairs.
    role
        Of the market that they are of.
    """

    network: PGTLNetwork
    samples: Samples
    role: Role

    def __call__(self) -> float:
        """Chance that a similar pair is closer than a dissimilar one."""
        scores = score(self.network, self.samples, self.role)
        return float(auc(self.samples.labels_P[:, None], scores[:, None]).mean())


def score(network: PGTLNetwork, samples: Samples, role: Role) -> npt.NDArray[np.float32]:
    """Mean cosine of the items of every pair, ``[P]``."""
    vectors = encode(network, samples.instances, samples.prior, role)
    scores: npt.NDArray[np.float32] = np.einsum(
        "pd,pd->p", vectors[samples.rows_2P[0]], vectors[samples.rows_2P[1]]
    )
    return scores


def transfer_pays(reached: float, alone: float) -> bool:
    """Whether the guard keeps a method whose validation AUC is ``reached``, beside the target alone's."""
    return reached >= alone + LEAST_GAIN


@dataclass(frozen=True)
class _Run:
    """A model and how its run went; of fine-tuning also the run before it, on the source."""

    model: PGTL
    own: Progress
    before: _Run | None = None

    @property
    def whole(self) -> Progress:
        """What its own run found, and the steps and seconds of both."""
        if self.before is None:
            return self.own
        steps, seconds = self.own.step + self.before.own.step, self.own.seconds + self.before.own.seconds
        return replace(self.own, step=steps, seconds=seconds)


def _train(
    lessons: Lessons,
    config: PGTLConfig,
    options: TrainingOptions,
    workspace: Path,
    again: _Run | None = None,
) -> _Run:
    """Train a new model, or go on with the one in the workspace; ``again`` for as long as a run was best."""
    workspace.mkdir(exist_ok=True)
    model, before = lessons.untrained(config, options), None
    if config.method == "fine_tune":
        source, earlier = replace(config, method="source"), again.before if again else None
        before = _train(lessons, source, options, workspace / FIRST, earlier)
        model.network.load_state_dict(before.model.network.state_dict())
    stop_after = again.own.best_epoch + 1 if again else 0
    return _Run(model, _trainer(model, lessons, config, options, workspace, stop_after).run(), before)


def _trainer(
    model: PGTL,
    lessons: Lessons,
    config: PGTLConfig,
    options: TrainingOptions,
    workspace: Path,
    stop_after: int,
) -> Trainer:
    device = choose_device(options.device)
    model.network.to(device)
    learned: tuple[Role, ...] = (SOURCE, TARGET)
    if config.method in SINGLE:
        learned = (SOURCE,) if config.method == "source" else (TARGET,)
    samples = {role: lessons.samples(config, role) for role in learned}
    largest = max(map(len, lessons.training.values()))  # of both markets: methods have equally many steps
    steps = config.steps_per_epoch or -(-largest // options.batch_size)
    pairs = PairPlan(
        samples.get(SOURCE),
        samples.get(TARGET),
        options.batch_size,
        steps,
        options.epochs,
        options.seed,
        device,
    )
    validator = None
    if lessons.held_out:
        asked = learned[-1]
        validator = Validator(model.network, lessons.validation_samples(config, asked), asked)
    optimizers, clusters = make_optimizers(model.network, options), None
    if model.network.embedding.ids is not None:
        clusters = cluster_steps(model.network.embedding.ids, optimizers, len(pairs), options)
    return Trainer(
        model.network,
        Objective(model.network, clusters),
        pairs,
        validator,
        options,
        workspace,
        stop_after,
        f"{run_name(workspace)}: {config.method}",
        optimizers=optimizers,
        hooks=clusters,
    )


def _coverage(
    markets: dict[str, Market], action: str, kind_S: npt.NDArray[np.int64], training: dict[str, Samples]
) -> dict[str, Any]:
    """For the report: relations of the S items sold in the target, and what there is to learn from."""
    return {
        "items": len(kind_S),
        "strong": int((kind_S == STRONG).sum()),
        "weak": int((kind_S == WEAK).sum()),
        "unrelated": int((kind_S == UNRELATED).sum()),
        "pairs": {name: len(samples) for name, samples in training.items()},
        "negatives": {
            name: "exposed" if has_exposures(market, action) else "drawn" for name, market in markets.items()
        },
    }


def _draw(market: Market, config: PGTLConfig, start: int | None, stop: int, seed: int) -> Pairs:
    """Pairs of a market, as the configuration asks for them."""
    return draw_pairs(
        market,
        int(market.times.min(initial=0)) if start is None else start,
        stop,
        positive=config.action,
        partners=config.partners,
        history_days=config.history_days,
        most=config.max_pairs,
        seed=seed,
    )


def _no_pairs(market: str, purpose: str, config: PGTLConfig) -> DataError:
    """Say what is missing of a market that nothing can be learned from, or validated on."""
    return DataError(
        f"market '{market}' has no pairs of items to {purpose}, similar ones and others",
        expected=f"users with several '{config.action}' events within {config.history_days:g} days; "
        f"validation is on the latest {config.target_days:g}",
        mend="name another market or action, or set history_days, target_days or --validation none",
    )
