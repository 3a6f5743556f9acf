"""What a ranker says of offers: those of a log, whose outcome is known, or pairs that somebody asks about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import expit

from polyvec.data.checks import common_id_type, to_ids
from polyvec.data.market import SCENARIO
from polyvec.data.offers import Offers, draw_offers
from polyvec.data.read import open_tables
from polyvec.data.split import check_time_kind
from polyvec.errors import DataError, UsageError, nearest_name
from polyvec.evaluation.scenarios import measures

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.read import Source
    from polyvec.systems.saml.model import SAML

    Ints = npt.NDArray[np.int64]

TEST_SEED = 2_000_000
PAIR = ("user_id", "item_id", SCENARIO)


@dataclass(frozen=True)
class Scored:
    """Offers with their scores.

    Attributes
    ----------
    table
        ``user_id, item_id, scenario, time, label, score`` of every offer, the latter the chance that it is
        taken; pairs that were asked about have neither time nor label.
    by_scenario
        AUC, GAUC and log-loss of the offers of each scenario, and how many they are; empty without labels.
    shares
        Mean of α: how much each scenario (row) asks the branch of each other one; empty without mutual unit.
    known
        Offers of the log that are of the time that the model has learned from.
    """

    table: pl.DataFrame
    by_scenario: dict[str, dict[str, float]]
    shares: dict[str, dict[str, float]]
    known: int = 0


def score_log(model: SAML, dataset: Dataset, since: int | None = None, until: int | None = None) -> Scored:
    """Score the offers of a log that were not trained on, and measure how well they are told apart.

    Parameters
    ----------
    model
        A fitted model.
    dataset
        The log.
    since
        First time of the offers; None stands for the end of what training and validation looked at.
    until
        First time after them; None stands for the end of the log.

    Raises
    ------
    UsageError
        If there are none, or the model has learned from another kind of time.
    DataError
        If the log lacks what the labels of the model need.
    """
    check_time_kind(model.time_kind, dataset)
    since = model.read_until if since is None else since
    if until is None:
        until = 0 if dataset.time_kind == "order" else dataset.time_span[1] + 1
    offers = draw_offers(dataset, model.config, model.scenarios, since, until, TEST_SEED)
    if not len(offers):
        raise UsageError(
            "there is nothing to score: the log has no offers in that time",
            expected="offers after what the model was trained on",
            mend="fit with --until DATE (with an order: --held-back N), or name other times",
        )
    logits, shares = model.score(dataset, offers)
    by_scenario = {
        name: measures(offers.labels[mine], logits[mine], offers.users[mine])
        for place, name in enumerate(model.scenarios)
        if (mine := offers.scenarios == place).any()
    }
    times = pl.Series(offers.times)
    if dataset.time_kind == "timestamp":
        times = times.cast(
            pl.Datetime("us", None if dataset.time_zone else "UTC")
        )  # the shop's clock has none
    table = pl.DataFrame({
        "user_id": dataset.users.take(offers.users),
        "item_id": dataset.items.take(offers.items),
        SCENARIO: pl.Series(model.scenarios).gather(offers.scenarios),
        "time": times,
        "label": offers.labels.astype(np.int8),
        "score": expit(logits),
    })  # fmt: skip
    known = 0
    if since < model.read_until:
        stop = min(until, model.read_until)
        known = len(draw_offers(dataset, model.config, model.scenarios, since, stop, TEST_SEED))
    return Scored(table, by_scenario, mean_shares(model.scenarios, offers.scenarios, shares), known)


def score_pairs(model: SAML, dataset: Dataset, source: Source, until: int | None = None) -> Scored:
    """Score pairs of a user and an item in a scenario, after all that happened before ``until``.

    Parameters
    ----------
    model
        A fitted model.
    dataset
        The log that histories are read from. Who is not in it has none; of an item that is not in it nothing
        is known.
    source
        ``user_id, item_id, scenario``: a path (CSV, Parquet, Arrow), a glob or a frame.
    until
        The moment; None stands for the end of the log.

    Raises
    ------
    DataError
        If the source cannot be read, a column is missing, a row is not whole, or a scenario is none that the
        model has learned.
    """
    check_time_kind(model.time_kind, dataset)
    pairs = _read_pairs(source)
    places = {name: place for place, name in enumerate(model.scenarios)}
    scenarios = pairs[SCENARIO].cast(pl.String)
    unknown = ~scenarios.is_in(model.scenarios).fill_null(value=False)
    if unknown.any():
        row = int(unknown.arg_max() or 0)
        raise DataError(
            f"the model has not learned scenario '{scenarios[row]}'",
            file=source if isinstance(source, str | Path) else None,
            column=SCENARIO,
            row=row + 1,
            expected=", ".join(model.scenarios),
            mend="fit again with data of that scenario",
        )
    moment = dataset.time_span[1] + 1 if until is None else until
    offers = Offers.of(
        dataset.users.rows(pairs["user_id"]),
        dataset.items.rows(pairs["item_id"]),
        scenarios.replace_strict(places, return_dtype=pl.Int64).to_numpy(),
        np.full(len(pairs), moment),
        np.zeros(len(pairs), np.bool_),
    )
    logits, shares = model.score(dataset, offers)
    table = pairs.select(PAIR).with_columns(score=pl.Series(expit(logits)))
    return Scored(table, {}, mean_shares(model.scenarios, offers.scenarios, shares))


def _read_pairs(source: Source) -> pl.DataFrame:
    """``user_id, item_id, scenario`` of all tables of a source."""
    frames, tables = [], open_tables(source)
    for table in tables:
        for name in PAIR:
            if name not in table.schema:
                raise DataError(
                    f"the pairs have no column '{name}'",
                    file=table.name,
                    column=name,
                    expected=nearest_name(name, list(table.schema)),
                )
    ids = {name: common_id_type(name, [(table, name) for table in tables])[0] for name in PAIR[:2]}
    for table in tables:
        for chunk in table.chunks(list(PAIR)):
            for row, text in chunk.malformed:
                raise DataError(f"this row is not whole: {text}", file=table.name, row=row)
            known = [to_ids(chunk.frame[name], kind) for name, kind in ids.items()]
            frames.append(pl.DataFrame([*known, chunk.frame[SCENARIO].cast(pl.String)]))
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(PAIR, pl.String))


def mean_shares(
    names: list[str], scenarios_P: Ints, shares_PS: npt.NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Mean of α over the samples of each scenario, by the names of both."""
    if not shares_PS.size or len(names) < 2:
        return {}
    return {
        name: dict(zip(names, shares_PS[scenarios_P == place].mean(axis=0).tolist(), strict=True))
        for place, name in enumerate(names)
        if (scenarios_P == place).any()
    }
