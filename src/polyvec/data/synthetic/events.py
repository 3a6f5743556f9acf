"""Events of a synthetic shop: purchases drawn from the closed form, and what people do around them.

Every purchase is one draw (or a repeat of an earlier one); some are preceded by a clicked impression and
by a cart. Further impressions lead to no purchase: shown to the user's taste or at random, and clicked
seven times as often in the first case, so that the label of an impression is caused by interests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from polyvec.data.synthetic.world import (
    BROWSE_RATE,
    BROWSE_WHIM,
    CART_FIRST,
    CLICK_INTEREST,
    CLICK_WHIM,
    COLD,
    PERIOD_DAYS,
    SEEN_FIRST,
    WHIM,
    slot_weights,
    taste_rows,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.synthetic.world import Floats, Ints, PlantedUsers, World

    Flags = npt.NDArray[np.bool_]

ACTIONS = ("impression", "click", "cart", "purchase")
IMPRESSION, CLICK, CART, PURCHASE = range(4)
DAY = 86_400  # seconds
BEFORE = {IMPRESSION: 300, CLICK: 290, CART: 60, PURCHASE: 0}  # seconds before the purchase
CLICK_DELAY = 10


@dataclass(frozen=True)
class Draws:
    """Moments at which users met items, sorted by (user, time); int64 ``[E]`` each."""

    users_E: Ints
    seconds_E: Ints
    items_E: Ints
    interested_E: Flags


@dataclass(frozen=True)
class Log:
    """Events of a block of users in the order of (user, time); ``label_E`` is −1 where there is none."""

    users_E: Ints
    seconds_E: Ints
    items_E: Ints
    actions_E: Ints
    labels_E: Ints
    quantities_E: Ints

    def __len__(self) -> int:
        return len(self.users_E)


class Sampler:
    """Draws categories and items by inverting cumulative tables, S·P·N numbers of 8 bytes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tastes = _stacked(world.taste_RG)
        self._order_N = np.argsort(world.item_category_N, kind="stable")
        cells = [
            world.shelf(country, period)[self._order_N]
            for country in range(len(world.countries))
            for period in range(world.num_periods)
        ]
        self._shelves = np.concatenate([np.cumsum(cell) for cell in cells])
        self._shelves += np.repeat(np.arange(len(cells)) * len(world.categories), world.num_items)

    def categories(self, rows_E: Ints, rng: np.random.Generator) -> Ints:
        """Category of every draw, from its taste row."""
        width = len(self._world.categories)
        found = np.searchsorted(self._tastes, rows_E + rng.random(len(rows_E)), side="right")
        return np.asarray(np.minimum(found - rows_E * width, width - 1))

    def items(self, country_E: Ints, day_E: Ints, category_E: Ints, rng: np.random.Generator) -> Ints:
        """Item of every draw, from its category's shelf."""
        world = self._world
        cell_E = country_E * world.num_periods + day_E // PERIOD_DAYS
        asked = cell_E * len(world.categories) + category_E + rng.random(len(cell_E))
        place_E = np.searchsorted(self._shelves, asked, side="right") - cell_E * world.num_items
        return self._order_N[np.minimum(place_E, world.num_items - 1)]


def draw_log(world: World, sampler: Sampler, planted: PlantedUsers, rng: np.random.Generator) -> Log:
    """All events of a block of users."""
    active_U = world.days - planted.join_day_U
    counts_U = rng.poisson(planted.rate_U * active_U)
    cold_U = planted.kind_U == COLD
    counts_U[cold_U] = rng.integers(2, size=cold_U.sum())
    purchases = _repeat(draw(world, sampler, planted, counts_U, rng), world.repeat_share, rng)
    browsing_U = rng.poisson(np.where(cold_U, 0, planted.rate_U * active_U * BROWSE_RATE))
    browsing = draw(world, sampler, planted, browsing_U, rng, whims=BROWSE_WHIM)
    parts = [*_around_purchases(purchases, rng), *_around_browsing(browsing, rng)]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0] * (world.days * DAY) + columns[1], kind="stable")
    return Log(*(column[order] for column in columns))


def draw(
    world: World,
    sampler: Sampler,
    planted: PlantedUsers,
    counts_U: Ints,
    rng: np.random.Generator,
    whims: float = 0.0,
) -> Draws:
    """Draw so many meetings of every user with an item, none of them a repeat.

    ``whims`` of them are made whims whatever the user's own share.
    """
    users_E = np.repeat(np.arange(len(planted)), counts_U)
    seconds_E = _moments(world, planted, users_E, rng)
    users_E, seconds_E = np.divmod(np.sort(users_E * (world.days * DAY) + seconds_E), world.days * DAY)
    day_E = seconds_E // DAY
    slots_E = _choose(slot_weights(world, planted, users_E, day_E), rng)
    if whims:
        slots_E[rng.random(len(users_E)) < whims] = WHIM
    rows_E = taste_rows(world, planted, users_E, day_E, slots_E)
    category_E = sampler.categories(rows_E, rng)
    items_E = sampler.items(planted.country_U[users_E], day_E, category_E, rng)
    return Draws(users_E, seconds_E, items_E, slots_E != WHIM)


@dataclass(frozen=True)
class Naming:
    """What the codes of a :class:`Log` mean: ids, countries, prices and the first second of the log."""

    user_ids: pa.Array
    item_ids: pa.Array
    countries: list[str]
    country_U: Ints
    price_N: Floats
    start: int


def log_table(log: Log, naming: Naming) -> pa.Table:
    """Arrow table of a log; texts are dictionaries, so that none is copied per event."""
    seen_E, bought_E = log.actions_E == IMPRESSION, log.actions_E == PURCHASE
    microseconds_E = (naming.start + log.seconds_E) * 1_000_000
    return pa.table(
        {
            "user_id": _texts(log.users_E, naming.user_ids),
            "item_id": _texts(log.items_E, naming.item_ids),
            "timestamp": pa.array(microseconds_E, pa.timestamp("us", tz="UTC")),
            "action": _texts(log.actions_E, pa.array(ACTIONS)),
            "scenario": _texts(naming.country_U[log.users_E], pa.array(naming.countries)),
            "label": pa.array(log.labels_E.astype(np.int8), mask=~seen_E),
            "price": pa.array(naming.price_N[log.items_E]),
            "quantity": pa.array(log.quantities_E.astype(np.int32), mask=~bought_E),
        }
    )


def _moments(world: World, planted: PlantedUsers, users_E: Ints, rng: np.random.Generator) -> Ints:
    """Uniform between joining and the end, with room for the events around it."""
    first_E = planted.join_day_U[users_E] * DAY + BEFORE[IMPRESSION]
    length_E = world.days * DAY - CLICK_DELAY - 1 - first_E
    return first_E + (rng.random(len(users_E)) * length_E).astype(np.int64)


def _choose(weights_EV: Floats, rng: np.random.Generator) -> Ints:
    below_EV = np.cumsum(weights_EV, axis=1)[:, :-1] <= rng.random((len(weights_EV), 1))
    return np.asarray(np.count_nonzero(below_EV, axis=1))


def _repeat(draws: Draws, share: float, rng: np.random.Generator) -> Draws:
    """Replace a share of draws by a random earlier one of the same user (which may be a repeat itself)."""
    number = len(draws.users_E)
    self_E = np.arange(number)
    first_E = np.searchsorted(draws.users_E, draws.users_E)
    earlier_E = self_E - first_E
    source_E = first_E + (rng.random(number) * earlier_E).astype(np.int64)
    repeats_E = (rng.random(number) < share) & (earlier_E > 0)
    pointer_E = np.where(repeats_E, source_E, self_E)
    while not np.array_equal(pointer_E[pointer_E], pointer_E):
        pointer_E = pointer_E[pointer_E]
    return replace(draws, items_E=draws.items_E[pointer_E])


def _around_purchases(purchases: Draws, rng: np.random.Generator) -> list[tuple[Ints, ...]]:
    number = len(purchases.users_E)
    seen_E = rng.random(number) < SEEN_FIRST
    carted_E = rng.random(number) < CART_FIRST
    everything_E = np.ones(number, dtype=np.bool_)
    quantity_E = 1 + rng.poisson(0.2, size=number)
    chosen = {IMPRESSION: seen_E, CLICK: seen_E, CART: carted_E, PURCHASE: everything_E}
    return [
        _part(purchases, kept_E, -BEFORE[action], action, np.ones(number, np.int64), quantity_E)
        for action, kept_E in chosen.items()
    ]


def _around_browsing(browsing: Draws, rng: np.random.Generator) -> list[tuple[Ints, ...]]:
    number = len(browsing.users_E)
    clicked_E = rng.random(number) < np.where(browsing.interested_E, CLICK_INTEREST, CLICK_WHIM)
    label_E = clicked_E.astype(np.int64)
    everything_E = np.ones(number, dtype=np.bool_)
    return [
        _part(browsing, everything_E, 0, IMPRESSION, label_E, label_E),
        _part(browsing, clicked_E, CLICK_DELAY, CLICK, label_E, label_E),
    ]


def _part(
    draws: Draws, kept_E: Flags, delay: int, action: int, label_E: Ints, quantity_E: Ints
) -> tuple[Ints, ...]:
    """Columns of a :class:`Log` for one action; label and quantity count where the action has them."""
    return (
        draws.users_E[kept_E],
        draws.seconds_E[kept_E] + delay,
        draws.items_E[kept_E],
        np.full(int(kept_E.sum()), action),
        label_E[kept_E],
        quantity_E[kept_E],
    )


def _stacked(probability_RG: Floats) -> Floats:
    """Cumulative rows laid end to end: row r rises from r to r + 1."""
    cumulative = np.cumsum(probability_RG, axis=1)
    cumulative /= cumulative[:, -1:]
    return (cumulative + np.arange(len(cumulative))[:, None]).ravel()


def _texts(codes: Ints, texts: pa.Array) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), texts)
