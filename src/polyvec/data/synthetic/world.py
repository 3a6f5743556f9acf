"""The world of a synthetic shop: topics, tastes, seasons, items and users, and what follows from them.

One closed form is used by the generator to draw events and by the oracle to foretell them. A purchase of
user u on day t that is not a repeat is drawn in three steps::

    slot      one of the user's long-term interests (weights drift linearly, times the topic's season),
              the short-term interest of that day, or a whim       -> slot_weights
    category  from the taste row of the slot: the country's taste mixed with the interest's favourite
              category; for children from the child's sex and age on that day -> taste_rows, taste_RG
    item      from the category's shelf in that country and period -> World.shelf

Letters: U users, N items, S countries, T topics, G categories, R taste rows, P periods, I long-term slots,
V slots, Z spells of short-term interest, E draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polyvec.data.synthetic.words import AGES, COUNTRIES, TOPICS, topic_words
from polyvec.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

MAX_INTERESTS = 5
SHORT = MAX_INTERESTS  # slot of the short-term interest
WHIM = MAX_INTERESTS + 1  # slot of purchases that have nothing to do with the user's interests
CATEGORIES_PER_TOPIC = 4
MAX_TOPICS = 10 * len(TOPICS)
PERIOD_DAYS = 28  # items are launched at the beginning of a period
SPELL_DAYS = 42  # how long a short-term interest lasts
YEAR = 365
REGULAR, COLD, BOT = range(3)
WORLD, CATALOGUE, USERS, EVENTS = range(4)  # streams of random numbers

INTEREST_COUNTS = (0.15, 0.25, 0.3, 0.2, 0.1)  # share of users with 1, 2 … 5 long-term interests
FAVOURITE_SHARE = 0.5  # of an interest's purchases, those that go to its favourite category
SHORT_SHARE = 0.2  # of purchases, where a user has short-term interests at all
SHORT_USERS = 0.6
WHIM_SHARE = 0.08
REPEAT_SHARE = 0.05  # of purchases, those that repeat an earlier purchase of the user
COLD_USERS = 0.05
BOT_USERS = 0.002
BOT_RATE = 15.0  # purchases of a bot, as a multiple of the mean
LATE_USERS = 0.2  # join at some day, not on the first
PARENTS = 0.3
POPULARITY_SHIFT = 15.0  # popularity falls as 1 / (rank + shift): Zipf with a rounded head
TASTE_SKEW = (0.4, 0.3, 0.2, 0.1)
LOCAL_ITEMS = 0.4  # not sold in every country
LATE_ITEMS = 0.12
UNSOLD_ITEMS = 0.03


@dataclass(frozen=True)
class ShopPlan:
    """What to generate. The same plan gives the same tables, byte for byte.

    Attributes
    ----------
    users, items
        Numbers of users and items.
    events
        Expected number of events of all actions; the drawn number differs by a few percent.
    days
        Length of the log, from 2024-01-01 on.
    seed
        Seed of everything.
    interests
        Number of topics in the world, children included.
    countries
        Number of countries, which have different tastes over a partly shared catalogue.

    Raises
    ------
    UsageError
        If a number is out of its range, or items do not suffice for the topics.
    """

    users: int = 4_000
    items: int = 8_000
    events: int = 600_000
    days: int = 400
    seed: int = 7
    interests: int = 24
    countries: int = 3

    def __post_init__(self) -> None:
        _in_range("users", self.users, 1, 10**9)
        _in_range("items", self.items, 1, 10**8)
        _in_range("events", self.events, 1, 10**11)
        _in_range("days", self.days, 1, 36_500)
        _in_range("seed", self.seed, 0, 2**63 - 1)
        _in_range("interests", self.interests, MAX_INTERESTS + 1, MAX_TOPICS)
        _in_range("countries", self.countries, 1, len(COUNTRIES))
        least = 2 * (3 * AGES + CATEGORIES_PER_TOPIC * (self.interests - 1))
        if self.items < least:
            raise UsageError(
                f"--items {self.items} is too few for --interests {self.interests}",
                expected=f"at least {least} items, two in every category",
                mend="ask for more items or fewer interests",
            )


@dataclass(frozen=True)
class World:
    """Topics, tastes and items. Arrays are read-only by custom.

    Attributes
    ----------
    days
        Length of the log.
    countries, topics, categories
        Names, in code order.
    category_topic_G
        Topic of every category.
    season_TY
        Demand of every topic on every day of the year, mean 1.
    opposed_T
        Whether countries with odd codes have the opposite taste in the topic.
    taste_RG
        Probability of every category, by taste row; see :func:`taste_rows`.
    item_category_N, rank_N, launch_day_N
        Category, popularity rank in it (0 first) and first day of sale (``days`` or later: never sold).
    appeal_SN
        Relative demand of an item within its category, by country; 0 where it is not sold.
    repeat_share
        Share of purchases that repeat one of the user's earlier purchases, chosen at random.
    """

    days: int
    countries: list[str]
    topics: list[str]
    categories: list[str]
    category_topic_G: Ints
    season_TY: Floats
    opposed_T: npt.NDArray[np.bool_]
    taste_RG: Floats
    item_category_N: Ints
    rank_N: Ints
    launch_day_N: Ints
    appeal_SN: Floats
    repeat_share: float = REPEAT_SHARE

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item_category_N)

    @property
    def num_periods(self) -> int:
        """P, periods of 28 days that the log has."""
        return -(-self.days // PERIOD_DAYS)

    def shelf(self, country: int, period: int) -> Floats:
        """Probability ``[N]`` of every item given its category, in a country and a period; sums to G."""
        on_sale = self.launch_day_N <= period * PERIOD_DAYS
        appeal = self.appeal_SN[country] * on_sale
        total = np.bincount(self.item_category_N, weights=appeal, minlength=len(self.categories))
        shares: Floats = appeal / total[self.item_category_N]
        return shares


@dataclass(frozen=True)
class PlantedUsers:
    """The truth about users. Slots 0–4 are long-term interests, the columns after them spells.

    Attributes
    ----------
    country_U, kind_U
        Codes; the kind is ``REGULAR``, ``COLD`` (one purchase or none) or ``BOT``.
    join_day_U
        First day on which the user buys.
    rate_U
        Expected purchases per day from then on.
    whim_share_U, short_share_U
        Shares of whims and of the short-term interest in purchases.
    topic_UX, favourite_UX
        Topic (−1 = none) and favourite category within it, of five slots and Z spells.
    weight_start_UI, weight_end_UI
        Weights of the long-term interests on the first and last day; 0 where there is none.
    spell_phase_U
        Days by which the first spell is shortened.
    child_sex_U
        −1 without child, 0 girl, 1 boy.
    child_age_U
        Age of the child in years on the last day; nan without child.
    """

    country_U: Ints
    kind_U: Ints
    join_day_U: Ints
    rate_U: Floats
    whim_share_U: Floats
    short_share_U: Floats
    topic_UX: Ints
    favourite_UX: Ints
    weight_start_UI: Floats
    weight_end_UI: Floats
    spell_phase_U: Ints
    child_sex_U: Ints
    child_age_U: Floats

    def __len__(self) -> int:
        return len(self.country_U)

    @property
    def num_interests(self) -> Ints:
        """Number of long-term interests of every user; 0 for bots."""
        return np.asarray(np.count_nonzero(self.topic_UX[:, :MAX_INTERESTS] >= 0, axis=1))


def stream(seed: int, *keys: int) -> np.random.Generator:
    """Random numbers that depend on the seed and the keys alone, not on what was drawn before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=keys))


def slot_weights(world: World, planted: PlantedUsers, users_E: Ints, days_E: Ints) -> Floats:
    """Probability ``[E, V]`` that a purchase of a user on a day comes from each of the seven slots."""
    start_EI, end_EI = planted.weight_start_UI[users_E], planted.weight_end_UI[users_E]
    long_EI = start_EI + (end_EI - start_EI) * (days_E / world.days)[:, None]
    long_EI *= world.season_TY[planted.topic_UX[users_E, :MAX_INTERESTS], (days_E % YEAR)[:, None]]
    long_EI /= np.maximum(long_EI.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    whim_E, short_E = planted.whim_share_U[users_E], planted.short_share_U[users_E]
    weights_EV = np.empty((len(users_E), WHIM + 1))
    weights_EV[:, :MAX_INTERESTS] = long_EI * ((1 - short_E) * (1 - whim_E))[:, None]
    weights_EV[:, SHORT] = short_E * (1 - whim_E)
    weights_EV[:, WHIM] = whim_E
    return weights_EV


def taste_rows(world: World, planted: PlantedUsers, users_E: Ints, days_E: Ints, slots_E: Ints) -> Ints:
    """Row of ``taste_RG`` by which a purchase from a slot chooses its category.

    Rows are laid out as (country, topic, favourite), then (sex, age) of children, then one per country
    for whims.
    """
    spell_E = (days_E + planted.spell_phase_U[users_E]) // SPELL_DAYS
    column_E = np.where(slots_E == SHORT, MAX_INTERESTS + spell_E, np.minimum(slots_E, MAX_INTERESTS - 1))
    topic_E, favourite_E = planted.topic_UX[users_E, column_E], planted.favourite_UX[users_E, column_E]
    topic_E = np.maximum(topic_E, 0)  # a slot without interest has weight 0; any row will do
    country_E = planted.country_U[users_E]
    ordinary = (country_E * len(world.topics) + topic_E) * CATEGORIES_PER_TOPIC + favourite_E
    first_child = len(world.countries) * len(world.topics) * CATEGORIES_PER_TOPIC
    age_E = child_age_group(planted.child_age_U[users_E], world.days, days_E)
    rows_E = np.where(topic_E == 0, first_child + planted.child_sex_U[users_E] * AGES + age_E, ordinary)
    return np.where(slots_E == WHIM, first_child + 2 * AGES + country_E, rows_E)


def child_age_group(age: Floats, days: int, day: Ints | int) -> Ints:
    """Age group 0–6 on a day, from the age in years on the last day; 0 before birth and without child."""
    years = np.nan_to_num(age) - (days - 1 - np.asarray(day)) / YEAR
    return np.clip(np.floor(years), 0, AGES - 1).astype(np.int64)


def build_world(plan: ShopPlan) -> World:
    """Draw topics, tastes, seasons and the catalogue of a plan."""
    rng = stream(plan.seed, WORLD)
    names = [topic_words(topic) for topic in range(plan.interests)]
    categories = [f"{topic}/{category}" for topic, _, words in names for category in words]
    topic_G = np.repeat(np.arange(plan.interests), [len(words) for _, _, words in names])
    opposed_T = rng.permutation(plan.interests) < plan.interests // 2
    item_category_N, rank_N = _stock(plan, topic_G, rng)
    launch_day_N = _launches(plan, rank_N, rng)
    return World(
        days=plan.days,
        countries=list(COUNTRIES[: plan.countries]),
        topics=[topic for topic, _, _ in names],
        categories=categories,
        category_topic_G=topic_G,
        season_TY=_seasons(plan.interests, rng),
        opposed_T=opposed_T,
        taste_RG=_tastes(plan.countries, topic_G, opposed_T),
        item_category_N=item_category_N,
        rank_N=rank_N,
        launch_day_N=launch_day_N,
        appeal_SN=_appeal(plan, rank_N, rng),
    )


def plant_users(plan: ShopPlan, world: World, number: int, rng: np.random.Generator) -> PlantedUsers:
    """Draw the truth about a block of users."""
    kind_U = rng.choice(3, size=number, p=[1 - COLD_USERS - BOT_USERS, COLD_USERS, BOT_USERS])
    parent_U = (rng.random(number) < PARENTS) & (kind_U != BOT)
    topic_UX = np.hstack([_long_term(plan, kind_U, parent_U, rng), _short_term(plan, number, rng)])
    country_U = rng.integers(plan.countries, size=number)
    late_U = (rng.random(number) < LATE_USERS) & (kind_U != BOT)
    return PlantedUsers(
        country_U=country_U,
        kind_U=kind_U,
        join_day_U=np.where(late_U, rng.integers(plan.days, size=number), 0),
        rate_U=_rates(plan, kind_U, rng),
        whim_share_U=np.where(kind_U == BOT, 1.0, WHIM_SHARE),
        short_share_U=np.where(rng.random(number) < SHORT_USERS, SHORT_SHARE, 0.0),
        topic_UX=topic_UX,
        favourite_UX=_favourites(world, country_U, topic_UX, rng),
        weight_start_UI=_weights(topic_UX[:, :MAX_INTERESTS], rng),
        weight_end_UI=_weights(topic_UX[:, :MAX_INTERESTS], rng),
        spell_phase_U=rng.integers(SPELL_DAYS, size=number),
        child_sex_U=np.where(parent_U, rng.integers(2, size=number), -1),
        child_age_U=np.where(parent_U, rng.uniform(0, AGES, size=number), np.nan),
    )


def _in_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"--{name} {value} is out of range", expected=f"{low:,} to {high:,}")


def _stock(plan: ShopPlan, topic_G: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Category of every item, at least two in each, and its popularity rank there."""
    share_G = np.where(topic_G == 0, 0.5, 1.0)
    more = plan.items - 2 * len(topic_G)
    drawn = rng.choice(len(topic_G), size=more, p=share_G / share_G.sum())
    category_N = rng.permutation(np.concatenate([np.tile(np.arange(len(topic_G)), 2), drawn]))
    order = np.argsort(category_N, kind="stable")
    first_G = np.searchsorted(category_N[order], np.arange(len(topic_G)))
    rank_N = np.empty(plan.items, dtype=np.int64)
    rank_N[order] = np.arange(plan.items) - first_G[category_N[order]]
    return category_N, rank_N


def _launches(plan: ShopPlan, rank_N: Ints, rng: np.random.Generator) -> Ints:
    """First day of sale; the first item of a category is there from the beginning, so none is ever empty."""
    fate_N = rng.random(plan.items)
    period_N = rng.integers(-(-plan.days // PERIOD_DAYS), size=plan.items)
    day_N = np.where(fate_N < LATE_ITEMS, period_N * PERIOD_DAYS, 0)
    day_N[fate_N > 1 - UNSOLD_ITEMS] = max(plan.days, PERIOD_DAYS)
    return np.where(rank_N == 0, 0, day_N)


def _appeal(plan: ShopPlan, rank_N: Ints, rng: np.random.Generator) -> Floats:
    sold_SN = rng.random((plan.countries, plan.items)) < 0.5
    sold_SN |= (rng.random(plan.items) >= LOCAL_ITEMS) | (rank_N == 0)
    sold_SN[rng.integers(plan.countries, size=plan.items), np.arange(plan.items)] = True
    liking_SN = np.exp(0.5 * rng.standard_normal((plan.countries, plan.items)))
    appeal_SN: Floats = sold_SN * liking_SN / (rank_N + POPULARITY_SHIFT)
    return appeal_SN


def _seasons(topics: int, rng: np.random.Generator) -> Floats:
    """Half of the topics are seasonal: five to nine times the demand in the best week than in the worst."""
    amplitude_T = np.where(rng.permutation(topics) < topics // 2, rng.uniform(0.65, 0.8, topics), 0.05)
    peak_T = rng.integers(YEAR, size=topics)
    angle_TY = 2 * np.pi * (np.arange(YEAR) - peak_T[:, None]) / YEAR
    season_TY: Floats = 1 + amplitude_T[:, None] * np.cos(angle_TY)
    return season_TY


def _tastes(countries: int, topic_G: Ints, opposed_T: npt.NDArray[np.bool_]) -> Floats:
    """Taste rows in the order that :func:`taste_rows` counts them."""
    topics, categories = len(opposed_T), len(topic_G)
    plain_STG = np.zeros((countries, topics, categories))
    favourite_TFG = np.zeros((topics, CATEGORIES_PER_TOPIC, categories))
    plain_STG[:, 0, topic_G == 0] = favourite_TFG[0, :, topic_G == 0] = 1 / np.sum(topic_G == 0)
    for topic in range(1, topics):
        mine = np.flatnonzero(topic_G == topic)
        plain_STG[:, topic, mine] = TASTE_SKEW
        plain_STG[1::2, topic, mine] = TASTE_SKEW[::-1] if opposed_T[topic] else TASTE_SKEW
        favourite_TFG[topic, range(CATEGORIES_PER_TOPIC), mine] = 1
    rows_STFG = (1 - FAVOURITE_SHARE) * plain_STG[:, :, None] + FAVOURITE_SHARE * favourite_TFG
    return np.vstack([rows_STFG.reshape(-1, categories), _child_tastes(categories), plain_STG.mean(axis=1)])


def _child_tastes(categories: int) -> Floats:
    """Rows by (sex, age): mostly the child's own age and sex or for both; a little of everything."""
    age_AA = np.full((AGES, AGES), 0.1 / AGES) + 0.65 * np.eye(AGES)
    age_AA += 0.25 * np.eye(AGES, k=1)  # bought ahead for next year
    age_AA /= age_AA.sum(axis=1, keepdims=True)
    kind_XK = np.array([[0.52, 0.08, 0.4], [0.08, 0.52, 0.4]])  # girl, boy × girls', boys', toys
    rows = np.einsum("xk,ab->xakb", kind_XK, age_AA).reshape(2 * AGES, -1)
    return np.pad(rows, ((0, 0), (0, categories - rows.shape[1])))


def _long_term(
    plan: ShopPlan, kind_U: Ints, parent_U: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Ints:
    """One to five distinct topics for every user, none for bots; parents, and they alone, have children."""
    keys_UT = rng.gumbel(size=(len(kind_U), plan.interests)) + _topic_log_popularity(plan.interests)
    keys_UT[:, 0] = np.where(parent_U, np.inf, -np.inf)
    topic_UI = np.argsort(-keys_UT, axis=1)[:, :MAX_INTERESTS]
    count_U = rng.choice(MAX_INTERESTS, size=len(kind_U), p=INTEREST_COUNTS) + 1
    count_U[kind_U == BOT] = 0
    return np.where(np.arange(MAX_INTERESTS) < count_U[:, None], topic_UI, -1)


def _short_term(plan: ShopPlan, number: int, rng: np.random.Generator) -> Ints:
    spells = -(-plan.days // SPELL_DAYS) + 1
    keys = np.exp(_topic_log_popularity(plan.interests)[1:])
    return 1 + rng.choice(plan.interests - 1, size=(number, spells), p=keys / keys.sum())


def _topic_log_popularity(topics: int) -> Floats:
    return np.asarray(-np.log(np.arange(topics) + 10.0))


def _weights(topic_UI: Ints, rng: np.random.Generator) -> Floats:
    weight_UI = np.where(topic_UI >= 0, rng.gamma(2.0, size=topic_UI.shape) + 0.4, 0.0)
    weights: Floats = weight_UI / np.maximum(weight_UI.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return weights


def _favourites(world: World, country_U: Ints, topic_UX: Ints, rng: np.random.Generator) -> Ints:
    """Favourite category of every interest, drawn from the country's taste."""
    place_UX = np.searchsorted(np.cumsum(TASTE_SKEW)[:-1], rng.random(topic_UX.shape), side="right")
    backwards_UX = world.opposed_T[topic_UX] & (country_U % 2 == 1)[:, None]
    return np.where(backwards_UX, CATEGORIES_PER_TOPIC - 1 - place_UX, place_UX)


def _rates(plan: ShopPlan, kind_U: Ints, rng: np.random.Generator) -> Floats:
    """Purchases per day; lognormal between users, so that the mean over the plan is as asked."""
    regular = (1 - COLD_USERS - BOT_USERS) * (1 - LATE_USERS / 2) + BOT_USERS * BOT_RATE
    mean = plan.events / EVENTS_PER_PURCHASE / (plan.users * regular * plan.days)
    spread = rng.lognormal(-(0.7**2) / 2, 0.7, size=len(kind_U))
    return mean * np.where(kind_U == BOT, BOT_RATE, spread)


# What surrounds purchases. Shares are of purchases, or of impressions that lead to none.
SEEN_FIRST = 0.35  # an impression that was clicked comes before
CART_FIRST = 0.3
BROWSE_RATE = 0.4  # impressions without purchase, per purchase
BROWSE_WHIM = 0.4  # of those, shown at random rather than to the user's taste
CLICK_INTEREST, CLICK_WHIM = 0.35, 0.05
_CLICK = (1 - BROWSE_WHIM) * CLICK_INTEREST + BROWSE_WHIM * CLICK_WHIM
EVENTS_PER_PURCHASE = 1 + 2 * SEEN_FIRST + CART_FIRST + BROWSE_RATE * (1 + _CLICK)
