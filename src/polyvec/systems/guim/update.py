"""The daily update of a GUIM: the window slides on, and the weights go on learning where they stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.dataset import days, format_time
from polyvec.data.offers import is_within
from polyvec.data.split import check_time_kind, cut, period_after
from polyvec.errors import DataError, UsageError
from polyvec.layers.tables import PopularTable
from polyvec.systems.folder import check_time_zone, claim_workspace, version_of
from polyvec.systems.guim.card import updated_card
from polyvec.systems.guim.fit import trainer_of
from polyvec.systems.guim.model import GUIM
from polyvec.systems.guim.validation import Validator
from polyvec.systems.guim.windows import TrainingWindows, latest_windows
from polyvec.systems.updating import (
    Comparison,
    UpdateOptions,
    check,
    check_growing,
    held_out,
    one_pass,
    with_counts,
    with_update,
)
from polyvec.systems.versions import next_version, publish
from polyvec.training.checkpoint import OPTIMIZERS
from polyvec.training.growth import begin_at_means, go_on, grow
from polyvec.training.loop import choose_device

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows
    from polyvec.training.checkpoint import Progress
    from polyvec.training.options import TrainingOptions

RECALL = "recall"
MOST_ASKED = 20_000  # users whose purchases are foretold


def update(
    path: Path | str,
    dataset: Dataset,
    options: TrainingOptions | None = None,
    how: UpdateOptions | None = None,
    *,
    until: int | None = None,
    gate: bool = True,
    resume: bool = False,
) -> GUIM:
    """Let a fitted GUIM learn the purchases that came since, and publish it in the place of the old one.

    The model first foretells the new purchases from what came before them (progressive validation). Then it
    goes on learning in one pass: windows of history and target as in ``fit``, slid on to the end of the new
    period, of the users who bought in it. Then it is compared with the old one on users that were held out.
    Items, categories and words that are new get rows of their own, those of items begin at the mean of their
    category.

    Parameters
    ----------
    path
        A Model folder. It is replaced by the updated Model, whole, or stays as it is; the old one is kept:
        see :mod:`polyvec.systems.versions`.
    dataset
        A log with the new purchases and with those before them, which are the histories.
    options, how
        How to train, :func:`polyvec.systems.updating.one_pass` of the model's own without it; and by whom to
        judge.
    until
        Nothing at or after this time is read. None reads everything.
    gate
        Whether a model that is worse is refused. Without it, it is published all the same.
    resume
        Go on from the latest checkpoint of an interrupted update; or, of one that was refused, ask again.

    Raises
    ------
    DataError
        If nothing is new, or nothing can be learned from it.
    TrainingError
        If the new model is worse than the old one, which then stays; or the loss is not finite.
    UsageError
        If the model's item table takes no new items, or the data has no timestamps or is by another clock.
    ArtifactError
        If the folder is missing, damaged, or holds a model of another system.
    """
    path = Path(path).resolve()  # a link goes on leading to it
    model = GUIM.open(path)
    check_time_kind(model.time_kind, dataset)
    check_time_zone(model.manifest, dataset)
    check_growing(model.config.item_table, model.config.item_rows, len(model.fields.popular))
    purchases = dataset.only_action()
    since, stop = period_after(purchases, model.trained_until, until)
    options, how = options or one_pass(model.options), how or UpdateOptions()
    if how.rehearsal:
        raise UsageError(
            "rehearsal is for samples: the windows that GUIM learns from reach back by themselves",
            mend="leave out rehearsal",
        )
    settings = {
        "updates": version_of(model),
        "training": asdict(options),
        "moment": [since, stop, how.share, how.decay],
    }
    news = News.of(model, purchases, since, stop, how.share)
    with claim_workspace(path, dataset, settings, resume=resume, overwrite=True) as workspace:
        model.network.to(choose_device(options.device))
        foretold = _recalls(model, purchases, news.foretold)
        larger = news.grown(model, purchases)
        progress = _train(
            replace(larger, options=options), news, purchases, workspace, path / OPTIMIZERS, how
        )
        comparisons = {}
        if len(news.held_out):
            before, after = (_recalls(one, purchases, news.held_out) for one in (model, larger))
            comparisons[RECALL] = Comparison.of(RECALL, before, after, news.held_out.user_rows)
        if gate:
            check(comparisons, how.tolerance)
        told = {
            "version": next_version(path),
            "from": format_time(since, dataset.time_kind),
            "to": format_time(stop, dataset.time_kind),
            "samples": {"windows": len(news.training)},
            "new_items": len(larger.fields.popular) - len(model.fields.popular),
            "foretold": {RECALL: round(float(foretold.mean()), 5)} if len(foretold) else {},
            "gate": {name: one.told for name, one in comparisons.items()},
            "steps": progress.step,
            "update_seconds": round(progress.seconds, 3),
        }
        meta = with_update(model.manifest.meta if model.manifest else {}, larger.meta, told)
        publish(path, larger, dataset, workspace, meta, updated_card(path, meta), model.manifest)
        return GUIM.open(path)


@dataclass(frozen=True)
class News:
    """What a period brought.

    Attributes
    ----------
    stop
        Its end.
    training
        Windows to learn from: of the users who bought in the period, but for those held out.
    foretold, held_out
        What was bought in the period after what came before it: of all users, and of those held out.
    counts
        Purchases of every item of the Dataset in the period, int64 ``[N]``.
    """

    stop: int
    training: Windows
    foretold: Windows
    held_out: Windows
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, model: GUIM, purchases: Dataset, since: int, stop: int, share: float) -> News:
        """Cut windows.

        Raises
        ------
        DataError
            If there are none to learn from.
        """
        seed = model.options.seed + since // days(1)
        windows = latest_windows(purchases, model.config, since, stop)
        begun = np.asarray(purchases.times)[np.maximum(windows.target_end - 1, 0)] >= since
        windows = windows[np.flatnonzero(begun & (windows.target_end > windows.history_start))]
        judging = held_out(windows.user_rows, purchases.num_users, share, seed)
        if judging.all():
            raise DataError(
                "no window has anything new to learn from",
                expected=f"purchases at or after {format_time(since, purchases.time_kind)}",
                mend="update with a longer period, or hold out fewer users (--set share=…)",
            )
        foretold = cut(purchases, since, model.config.history_days, (stop - since) / days(1))
        foretold = foretold.with_targets().with_history()
        some = np.random.default_rng(seed).permutation(len(foretold))[:MOST_ASKED]
        foretold = foretold[np.sort(some)]
        others = held_out(foretold.user_rows, purchases.num_users, share, seed)
        is_new = is_within(purchases, since, stop)
        counts = np.bincount(purchases.item_rows[is_new], minlength=purchases.num_items).astype(np.int64)
        return cls(
            stop,
            windows[np.flatnonzero(~judging)],
            foretold,
            foretold[np.flatnonzero(others)],
            counts,
        )

    def grown(self, model: GUIM, purchases: Dataset) -> GUIM:
        """The model with rows for what is new."""
        config, table = model.config, purchases.item_table
        fields = model.fields.grown(table, self.counts, config.max_popular, config.max_words)
        trained = with_counts(model.trained_items, purchases, self.counts)
        larger = GUIM.new(config, model.options, fields, trained, self.stop, model.time_kind)
        grow(larger.network, model.network.state_dict())
        ids = larger.network.f_i.ids
        if isinstance(ids, PopularTable):
            found = fields.encode(table)
            begin_at_means(ids.weight, found.slots, found.categories, len(model.fields.popular) + 1)
        return larger


def _train(
    larger: GUIM, news: News, purchases: Dataset, workspace: Path, remembered: Path, how: UpdateOptions
) -> Progress:
    """One pass over the windows, in place."""
    larger.network.to(choose_device(larger.options.device))
    seed = larger.options.seed + news.stop // days(1)  # every day in another order
    larger = replace(larger, options=replace(larger.options, seed=seed))
    windows = TrainingWindows(news.training, news.training[:0], news.stop)
    trainer = trainer_of(larger, purchases, windows, None, workspace, 0)
    trainer.name = "updating"
    go_on(remembered, trainer.optimizers or [], begin=0.0, decay=how.decay)
    return trainer.run()


def _recalls(model: GUIM, purchases: Dataset, windows: Windows) -> npt.NDArray[np.float64]:
    """Recall of every window, ``[W]``."""
    return Validator(model, purchases, windows).of_each() if len(windows) else np.empty(0)
