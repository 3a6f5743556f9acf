"""Users and items of one scenario as vectors, out of the last hidden layer of its branch.

A ranker looks at a user and an item together; retrieval and the benchmark want a vector of each. So T, the
last hidden layer of the scenario's branch, is averaged: of a user over reference items, of an item over
reference users. A bilinear form of the two, fitted by ridge regression to what the ranker says of a grid of
users and items, makes their dot product follow its logits; how well is told as ``agreement``. The paper has
no such vectors.

Letters: U users and N items of the grid, K of them references, H width of the last hidden layer, D = H + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from polyvec.data.market import is_of_market
from polyvec.data.offers import EVER, Offers, is_within, labels_of
from polyvec.embeddings import COLD, WARM
from polyvec.errors import DataError, UsageError
from polyvec.systems.saml.features import Encoder
from polyvec.systems.saml.network import ITEM_ID
from polyvec.systems.saml.samples import Samples, taken_before

if TYPE_CHECKING:
    import numpy.typing as npt
    import polars as pl

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset, TimeKind
    from polyvec.data.split import Windows
    from polyvec.embeddings import Score
    from polyvec.systems.saml.model import SAML

    Floats = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

GRID = 512  # users, and items, that the bilinear form is fitted to; the last fifth of each judges it
REFERENCES = 8  # K
RIDGE = 1e-3  # of the mean square of the features
AT_ONCE = 8192  # pairs that are scored together
SEED = 0


@dataclass(frozen=True)
class ScenarioVectors:
    """Encodes users and items of one scenario: see :class:`polyvec.systems.embed.Encoder`.

    Attributes
    ----------
    model
        A fitted SAML.
    dataset, past, encoder
        The log, what was taken in it, and its features as rows.
    place
        The scenario.
    until
        After everything that is read.
    reference_users, reference_items
        Rows of the Dataset, int64 ``[K]`` each.
    bilinear
        M, float32 ``[D, D]``: the logit of user u and item i is close to [h_u; 1] M [h_i; 1].
    agreement
        R² of that over users and items that M was not fitted to, each user's mean taken out.
    """

    model: SAML
    dataset: Dataset
    past: Dataset
    encoder: Encoder
    place: int
    until: int
    reference_users: Ints
    reference_items: Ints
    bilinear: Floats
    agreement: float = float("nan")
    system: str = "saml"
    score: Score = "max_dot"
    num_vectors: int = 1
    history_days: float | None = None

    @classmethod
    def of(cls, model: SAML, dataset: Dataset, scenario: str | None, stop: int) -> ScenarioVectors:
        """Draw references, and fit the bilinear form.

        Parameters
        ----------
        model
            With ``method=saml``: rivals have no branches.
        dataset
            The log.
        scenario
            One that the model has learned.
        stop
            Nothing at or after this time is read; of ordered data a place from the end of every history.

        Raises
        ------
        UsageError
            If the model has no branches, or not learned the scenario.
        DataError
            If too little happened in the scenario before that time.
        """
        place = _place_of(model, scenario)
        dataset = dataset.keep(is_within(dataset, EVER, stop))
        rows = np.flatnonzero(is_of_market(dataset, model.scenarios[place]))
        owners = np.searchsorted(dataset.user_offsets, rows, side="right") - 1
        random = np.random.default_rng(SEED)
        users, items = (
            random.permutation(np.unique(known))[:GRID].astype(np.int64)
            for known in (owners, np.asarray(dataset.item_rows)[rows])
        )
        if min(len(users), len(items)) < 2 * REFERENCES:
            raise DataError(
                f"scenario '{model.scenarios[place]}' has {len(users)} users and {len(items)} items",
                expected=f"at least {2 * REFERENCES} of each, for vectors that follow what the ranker says",
                mend="score pairs instead: polyvec score MODEL DATASET --pairs FILE --out scores.parquet",
            )
        chosen = users[:REFERENCES], items[:REFERENCES]
        encoder, past = Encoder.of(dataset, model.fields), taken_before(dataset, model.config)
        empty = np.empty((0, 0), np.float32)
        after = stop if dataset.time_kind == "timestamp" else dataset.time_span[1] + 1
        found = cls(model, dataset, past, encoder, place, after, *chosen, empty)
        return found._fitted(users, items)

    @property
    def read_action(self) -> str | None:
        """Action of the events that histories are of; None for all, where labels or ratings tell."""
        how = labels_of(self.dataset, self.model.config)
        return self.model.config.action if how in ("exposed", "drawn") else None

    @property
    def width(self) -> int:
        """D."""
        return self.model.config.hidden[-1] + 1

    @property
    def trained_until(self) -> int:
        """No event at or after this time was trained on."""
        return self.model.trained_until

    @property
    def time_kind(self) -> TimeKind:
        """As the Dataset."""
        return self.dataset.time_kind

    @property
    def manifest(self) -> Manifest | None:
        """Of the model."""
        return self.model.manifest

    def encode_users(self, dataset: Dataset, windows: Windows) -> Floats:
        """[h_u; 1], ``[W, 1, D]``; who is not known has an empty history."""
        rows = self.dataset.users.rows(dataset.users.take(windows.user_rows))
        return self._users(rows)[:, None]

    def encode_items(self, item_table: pl.DataFrame) -> Floats:
        """M [h_i; 1], ``[N, D]``."""
        rows = self.dataset.items.rows(item_table[ITEM_ID])
        return self._items(rows) @ self.bilinear.T

    def item_states(self, item_table: pl.DataFrame) -> tuple[npt.NDArray[np.uint8], Ints]:
        """Whether an item has a row of its own in the model, and its events of the log, ``[N]`` each."""
        rows = self.dataset.items.rows(item_table[ITEM_ID])
        events = np.append(np.bincount(self.past.item_rows, minlength=self.dataset.num_items), 0)
        is_known = self.model.fields.items[ITEM_ID].rows(item_table[ITEM_ID]) >= 0
        return np.where(is_known, WARM, COLD).astype(np.uint8), events[rows].astype(np.int64)

    def _fitted(self, users_U: Ints, items_N: Ints) -> ScenarioVectors:
        """Fit M to the logits of the grid but for its last fifth, which tells how well it does."""
        left, right = self._users(users_U).astype(np.float64), self._items(items_N).astype(np.float64)
        pairs = self._pairs(users_U, items_N)
        logits_UN = np.concatenate([logits for logits, _ in pairs]).reshape(len(users_U), -1)
        u, n = (4 * len(side) // 5 for side in (users_U, items_N))
        bilinear = _solved(left[:u]) @ logits_UN[:u, :n] @ _solved(right[:n]).T
        held_out = logits_UN[u:, n:]
        said = left[u:] @ bilinear @ right[n:].T
        truth, said = (values - values.mean(axis=1, keepdims=True) for values in (held_out, said))
        agreement = 1 - ((truth - said) ** 2).sum() / max((truth**2).sum(), 1e-12)
        return replace(self, bilinear=bilinear.astype(np.float32), agreement=round(float(agreement), 4))

    def _users(self, users_U: Ints) -> Floats:
        """[h_u; 1], ``[U, D]``: T over the reference items, its mean."""
        return self._means(self._pairs(users_U, self.reference_items), len(users_U))

    def _items(self, items_N: Ints) -> Floats:
        """[h_i; 1], ``[N, D]``: T over the reference users, its mean."""
        pairs = self._pairs(self.reference_users, items_N, by_item=True)
        return self._means(pairs, len(items_N))

    def _means(self, pairs: list[tuple[Floats, Floats]], rows: int) -> Floats:
        hidden = np.concatenate([hidden for _, hidden in pairs]).reshape(rows, REFERENCES, -1).mean(axis=1)
        return np.pad(hidden, ((0, 0), (0, 1)), constant_values=1)

    @torch.no_grad()
    def _pairs(self, users_U: Ints, items_N: Ints, *, by_item: bool = False) -> list[tuple[Floats, Floats]]:
        """Logits and T of all users with all items, in parts; the items change first, or the users."""
        network, device = self.model.network, next(self.model.network.parameters()).device
        network.eval()
        first, second = (items_N, users_U) if by_item else (users_U, items_N)
        found, rows = [], max(AT_ONCE // len(second), 1)
        for start in range(0, len(first), rows):
            part = first[start : start + rows]
            one, other = np.repeat(part, len(second)), np.tile(second, len(part))
            users, items = (other, one) if by_item else (one, other)
            count = len(users)
            offers = Offers.of(
                users,
                items,
                np.full(count, self.place),
                np.full(count, self.until),
                np.zeros(count, np.bool_),
            )
            samples = Samples.of(offers, self.dataset, self.past, self.model.config.max_length)
            scores = network(self.encoder.batch(samples, device))
            logits = self.model.calibrated(scores.logits.double().cpu().numpy()).astype(np.float32)
            found.append((logits, scores.hidden.float().cpu().numpy()))
        return found or [(np.empty(0, np.float32), np.empty((0, self.width - 1), np.float32))]


def _place_of(model: SAML, scenario: str | None) -> int:
    """Place of a scenario among those of a model."""
    if model.config.method != "saml":
        raise UsageError(
            f"a ranker of method={model.config.method} has no branches that write vectors",
            expected="method=saml",
            mend="polyvec score MODEL DATASET --out scores.parquet",
        )
    if scenario not in model.scenarios:
        raise UsageError(
            "vectors are of one scenario"
            if scenario is None
            else f"the model has not learned scenario '{scenario}'",
            expected=", ".join(model.scenarios),
            mend="pass --scenario",
        )
    return model.scenarios.index(scenario)


def _solved(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(XᵀX + λ)⁻¹ Xᵀ, ``[D, rows]``."""
    square = features.T @ features
    ridge = RIDGE * np.trace(square) / len(square)
    return np.asarray(np.linalg.solve(square + ridge * np.eye(len(square)), features.T))
