"""A shop whose truth is planted: what a behaviour says depends on what it was and how long ago."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

DAYS, DAY, HOUR, MINUTE = 70, 86_400, 3_600, 60
USERS, VISITS, ITEMS = 2_500, 8, 300
BRANDS, CATEGORIES, SHOPS, ICONS, STYLES = 20, 8, 12, 8, 4
CANDIDATES = 30  # of what is bought or followed
AGES = (HOUR, DAY, 7 * DAY)
STRENGTHS = {
    "view": (0.2, 0.1, 0.0, 0.0),
    "impression": (0.0, 0.0, 0.0, 0.0),
    "click": (0.6, 0.3, 0.1, 0.0),
    "favourite": (0.2, 0.7, 1.0, 0.5),
    "cart": (1.5, 1.0, 0.3, 0.0),
    "purchase": (-1.5, -0.7, 0.5, 0.8),
    "follow": (0.0, 0.0, 0.3, 0.3),
}
"""How much an event says of what its user needs, by its age: below an hour, a day, a week, above."""
FORGETS = {"cart": 0.3, "purchase": 0.5}
"""Share of what came before that an event makes forgotten."""
BROWSED = {"view": 0.5, "favourite": 0.2, "cart": 0.3}
SLOTS = ("browse", "browse", "follow", "offer", "purchase")
CHANCES = {"purchase": 0.7, "follow": 0.15}
ACTIONS = tuple(STRENGTHS)
NUMBERS = ("quality", "discount", "novelty")
TASTE, LIKING = 0.3, 2.0
WANTED = (0.0, 1.0, 1.0, 1.0)  # mean taste: that something is dearer is liked by some alone


@dataclass
class Log:
    """Events of all users side by side, slot by slot: ``[users, slots so far]`` each."""

    times: list[Ints] = field(default_factory=list)
    actions: list[Ints] = field(default_factory=list)
    items: list[Ints] = field(default_factory=list)

    def add(self, times: Ints, actions: Ints, items: Ints) -> None:
        """One more event of every user; item −1 where nothing happens."""
        self.times.append(times)
        self.actions.append(actions)
        self.items.append(items)

    def strengths(self, now: Ints) -> Floats:
        """What each event says now: its strength, less what was forgotten since, ``[users, slots]``."""
        times, actions, items = (np.stack(one, axis=1) for one in (self.times, self.actions, self.items))
        table = np.array([STRENGTHS[name] for name in ACTIONS])
        forgets = np.array([FORGETS.get(name, 0.0) for name in ACTIONS])
        kept = np.where(items >= 0, 1 - forgets[actions], 1.0)
        later = np.flip(np.cumprod(np.flip(kept, 1), axis=1), 1) / kept
        ages = np.searchsorted(AGES, now[:, None] - times, side="right")
        return table[actions, ages] * later * (items >= 0)

    def needs(self, now: Ints, of_items: Floats) -> Floats:
        """Sum of what items are, weighted by what their events say now, ``[users, numbers]``."""
        if not self.times:
            return np.zeros((len(now), of_items.shape[1]))
        return np.einsum("us,usd->ud", self.strengths(now), of_items[np.stack(self.items, axis=1)])

    def frame(self) -> pl.DataFrame:
        """The events that happened."""
        users = np.broadcast_to(np.arange(len(self.times[0]))[:, None], (len(self.times[0]), len(self.times)))
        columns = {"time": self.times, "action": self.actions, "item": self.items}
        told = {name: np.stack(some, axis=1).ravel() for name, some in columns.items()}
        return pl.DataFrame({"user": users.ravel()} | told).filter(pl.col("item") >= 0)


@dataclass(frozen=True)
class Catalogue:
    """What items are.

    Attributes
    ----------
    styles
        What tastes are about; the first number is the price; ``[items, styles]``.
    brands, categories, shops, icons
        Numbers, ``[items]`` each.
    """

    styles: Floats
    brands: Ints
    categories: Ints
    shops: Ints
    icons: Ints

    @classmethod
    def draw(cls, random: np.random.Generator) -> Catalogue:
        """Items of brands and categories; shops and icons sell and show what is of their style."""
        brands, categories = random.integers(BRANDS, size=ITEMS), random.integers(CATEGORIES, size=ITEMS)
        styles = random.normal(size=(BRANDS, STYLES))[brands] + 0.5 * random.normal(size=(ITEMS, STYLES))
        styles += 0.7 * random.normal(size=(CATEGORIES, STYLES))[categories]
        styles /= styles.std(axis=0)
        owners = [
            (3 * styles @ random.normal(size=(STYLES, many)) + random.gumbel(size=(ITEMS, many))).argmax(
                axis=1
            )
            for many in (SHOPS, ICONS)
        ]
        return cls(styles, brands, categories, *owners)

    def frame(self) -> pl.DataFrame:
        """The catalogue as a shop has it; a price and three numbers tell the styles."""
        numbers = {name: np.exp(self.styles[:, place]) for place, name in enumerate(("price", *NUMBERS))}
        texts = {"brand": self.brands, "category": self.categories, "shop": self.shops, "icon": self.icons}
        named = {name: [f"{name}{one}" for one in of_items] for name, of_items in texts.items()}
        return pl.DataFrame({"item_id": [f"i{one:04}" for one in range(ITEMS)]} | named | numbers)


def plant(seed: int = 0, users: int = USERS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """An event log and its catalogue.

    Users come in visits. In each they browse at random, are shown two items, click or not, may buy, and
    rarely follow an icon. What is clicked, bought and followed is up to what they need: their taste, and what
    they did before, weighted by what it was and how long ago (STRENGTHS); a cart or a purchase makes them
    forget part of what was before.
    """
    random = np.random.default_rng(seed)
    catalogue, log = Catalogue.draw(random), Log()
    taste = random.normal(WANTED, size=(users, STYLES))
    gaps = np.exp(random.uniform(np.log(20 * MINUTE), np.log(8 * DAY), size=(users, VISITS)))
    visits = random.uniform(0, DAYS * DAY, size=(users, 1)) + np.cumsum(gaps, axis=1)
    nowhere = np.full(users, -1)
    for visit in visits.T.astype(np.int64):
        for place, slot in enumerate(SLOTS):
            now = visit + 4 * MINUTE * place
            item = random.integers(ITEMS, size=users)
            if slot == "browse":
                chances = list(BROWSED.values())
                action = random.choice([ACTIONS.index(name) for name in BROWSED], p=chances, size=users)
                log.add(now, action, item)
                continue
            likes = LIKING * (TASTE * taste + log.needs(now, catalogue.styles))
            if slot == "offer":
                shown = np.full(users, ACTIONS.index("impression"))
                log.add(now, shown, item)
                logits = (likes * catalogue.styles[item]).sum(axis=1) - 1
                clicks = random.random(users) < 1 / (1 + np.exp(-logits))
                log.add(now + MINUTE, np.full(users, ACTIONS.index("click")), np.where(clicks, item, nowhere))
                continue
            among = random.integers(ITEMS, size=(users, CANDIDATES))
            logits = np.einsum("ud,ucd->uc", likes, catalogue.styles[among])
            best = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)
            happens = random.random(users) < CHANCES[slot]
            item = np.where(happens, among[np.arange(users), best], nowhere)
            log.add(now, np.full(users, ACTIONS.index(slot)), item)
    return _named(log.frame()), catalogue.frame()


def _named(events: pl.DataFrame) -> pl.DataFrame:
    begin = pl.datetime(2024, 1, 1, time_zone="UTC")
    return events.filter(pl.col("time") < DAYS * DAY).select(
        user_id=pl.format("u{}", "user"),
        item_id=pl.format("i{}", pl.col("item").cast(pl.String).str.zfill(4)),
        timestamp=begin + pl.duration(seconds=pl.col("time")),
        action=pl.col("action").replace_strict(dict(enumerate(ACTIONS))),
    )
