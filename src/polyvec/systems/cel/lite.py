"""CEL-Lite: clusters learned in one pass over a stream, at a constant cost per interaction.

The paper says that an accelerated version exists, has optimal time complexity and takes online updates; how
it works is not public. This is our own design to that claim.

Means that learn alike (mean + user + item) foretell first, and the clusters learn what they leave over: a row
that is shared, and a product, need not stand for what one number per entity knows at once.

Every interaction is looked at once. Buffers are one ring of the latest interactions, threaded by user and by
item: an entity's own are found by following its thread. Nothing holds a vector per entity.

**n** entities of a side, **K** clusters, **D** width, **P** interactions of a batch, **E** entities that are
checked or parted, **R** of their buffered interactions, **Q** candidates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import csr_matrix

from polyvec.layers.tables.clustered import FLAT
from polyvec.systems.cel.means import Means
from polyvec.systems.cel.ring import NOTHING, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from polyvec.systems.cel.config import LiteConfig

    Floats = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]
    Arrays = dict[str, npt.NDArray[Any]]

FIRST_CHECK = 2
SPREAD = 0.05
"""Standard deviation of the numbers of the first rows, where they learn what means leave over."""
AT_ONCE = 4096  # entities that are parted, or interactions that are scored, together
PER_CLUSTER = ("rows", "squares", "volume", "nearest")
PER_ENTITY = ("assign", "events", "next_check", "latest")


@dataclass
class Costs:
    """What was done: the claim is that each grows with the interactions alone.

    Attributes
    ----------
    interactions
        Learned from.
    evaluations
        Scores worked out to check entities.
    read
        Buffered interactions read for splits.
    compared
        Rows compared with others to find the nearest.
    """

    interactions: int = 0
    evaluations: int = 0
    read: int = 0
    compared: int = 0


class Side:
    """Clusters of one side: rows, who is where, and when to look again.

    Parameters
    ----------
    max_clusters
        Most rows.
    config
        Sizes.
    level
        What every number of the first row starts near; without meaning for rows that learn a residual.
    random
        Source of everything drawn.
    """

    def __init__(
        self, max_clusters: int, config: LiteConfig, level: float, random: np.random.Generator
    ) -> None:
        self.config, self.random = config, random
        shape = max_clusters, config.width
        noise = random.standard_normal(shape)
        first = SPREAD * noise if config.residual else level * (1 + 0.05 * noise)
        self.rows = first.astype(np.float32)
        self.squares = np.full(shape, 1e-8, np.float32)
        self.volume = np.zeros(max_clusters, np.int64)
        self.sizes = np.zeros(max_clusters, np.int64)
        self.clusters = 1
        self.nearest = np.zeros((max_clusters, 0), np.int64)
        self._joined = [np.zeros(0, np.int32) for _ in range(max_clusters)]
        self._num_joined = np.zeros(max_clusters, np.int64)
        self.assign = np.zeros(0, np.int32)
        self.events = np.zeros(0, np.int32)
        self.next_check = np.zeros(0, np.int32)
        self.latest = np.zeros(0, np.int64)

    def admit(self, entities: Ints) -> None:
        """Make room for entities; who is new starts in the largest cluster, and is served from it at once."""
        most = int(entities.max(initial=-1)) + 1
        if most > len(self.assign):
            room = max(most, 2 * len(self.assign)) - len(self.assign)
            self.assign = np.append(self.assign, np.full(room, NOTHING, np.int32))
            self.events = np.append(self.events, np.zeros(room, np.int32))
            self.next_check = np.append(self.next_check, np.full(room, FIRST_CHECK, np.int32))
            self.latest = np.append(self.latest, np.full(room, NOTHING, np.int64))
        new = np.unique(entities[self.assign[entities] == NOTHING])
        if len(new):
            self._join(new, np.full(len(new), self.largest))

    @property
    def largest(self) -> int:
        """Cluster of most entities."""
        return int(self.sizes[: self.clusters].argmax())

    def clusters_of(self, entities: Ints) -> Ints:
        """Cluster of each entity; the largest one for those never seen."""
        found = np.full(entities.shape, NOTHING, np.int64)
        is_inside = (entities >= 0) & (entities < len(self.assign))
        found[is_inside] = self.assign[entities[is_inside]]
        return np.where(found == NOTHING, self.largest, found)

    def events_of(self, entities: Ints) -> Ints:
        """Interactions of each entity so far."""
        counts = np.zeros(entities.shape, np.int64)
        is_inside = (entities >= 0) & (entities < len(self.events))
        counts[is_inside] = self.events[entities[is_inside]]
        return counts

    def members(self, cluster: int) -> Ints:
        """Entities of a cluster that have interactions, while it may still split.

        Costs as much as have joined since the last call.
        """
        joined = np.unique(self._joined[cluster][: self._num_joined[cluster]])
        still = joined[self.assign[joined] == cluster]
        self._joined[cluster][: len(still)] = still
        self._num_joined[cluster] = len(still)
        return still.astype(np.int64)

    def _join(self, entities: Ints, clusters: Ints) -> None:
        before = self.assign[entities]
        self.sizes -= np.bincount(before[before >= 0], minlength=len(self.sizes))
        self.sizes += np.bincount(clusters, minlength=len(self.sizes))
        self.assign[entities] = clusters
        if self.clusters == len(self.rows):
            self._joined = []  # no cluster splits again: nobody will ask who is in it
            return
        order = np.argsort(clusters, kind="stable")
        chosen, starts = np.unique(clusters[order], return_index=True)
        for cluster, some in zip(chosen, np.split(entities[order], starts[1:]), strict=True):
            self._remember(cluster, some)

    def _remember(self, cluster: int, joining: Ints) -> None:
        """Add to those who have joined a cluster; who has left again is forgotten where room runs out."""
        if self._num_joined[cluster] + len(joining) > len(self._joined[cluster]):
            still = self.members(cluster)
            self._joined[cluster] = np.zeros(2 * (len(still) + len(joining)), np.int32)
            self._joined[cluster][: len(still)] = still
        start = self._num_joined[cluster]
        self._joined[cluster][start : start + len(joining)] = joining
        self._num_joined[cluster] += len(joining)

    def update(self, clusters_P: Ints, gradients_PD: Floats) -> None:
        """Step of Adagrad by the mean gradient of each cluster's records."""
        touched, place_P, counts = np.unique(clusters_P, return_inverse=True, return_counts=True)
        ones_P, records_P = np.ones(len(place_P), np.float32), np.arange(len(place_P))
        sums = csr_matrix((ones_P, (place_P, records_P)), (len(touched), len(place_P))) @ gradients_PD
        means: Floats = (sums / counts[:, None]).astype(np.float32)
        self.squares[touched] += np.square(means)
        self.rows[touched] -= self.config.rate * means / np.sqrt(self.squares[touched])
        if not self.config.residual:
            self.rows[touched] = np.maximum(self.rows[touched], 0)

    def count(self, entities_P: Ints, clusters_P: Ints) -> None:
        """Count interactions of entities and clusters."""
        np.add.at(self.events, entities_P, 1)
        self.volume += np.bincount(clusters_P, minlength=len(self.volume))

    def due(self, entities_P: Ints) -> Ints:
        """Entities of a batch whose time to be checked has come; sets the next."""
        some = np.unique(entities_P)
        due = some[self.events[some] >= self.next_check[some]]
        self.next_check[due] = np.ceil(self.config.growth * self.events[due]).astype(np.int32)
        return due

    def candidates(self, entities_E: Ints) -> Ints:
        """Own cluster, those nearest to it, and some drawn: ``[E, Q]``."""
        own = self.assign[entities_E].astype(np.int64)
        drawn = self.random.integers(0, self.clusters, (len(own), self.config.random))
        return np.concatenate([own[:, None], self.nearest[own], drawn], axis=1)

    def move(self, entities_E: Ints, candidates_EQ: Ints, losses_EQ: Doubles) -> None:
        """Move entities to their best candidate if it is strictly better than their own, the first."""
        best = losses_EQ.argmin(axis=1)
        rows = np.arange(len(best))
        better = losses_EQ[rows, best] < losses_EQ[:, 0]
        if better.any():
            self._join(entities_E[better], candidates_EQ[rows, best][better])

    def find_nearest(self, clusters: Ints) -> int:
        """Look up the clusters nearest to some; pairs of rows that were compared."""
        near = min(self.config.near, self.clusters - 1)
        if self.nearest.shape[1] != near:
            self.nearest = np.zeros((len(self.rows), near), np.int64)
            clusters = np.arange(self.clusters)
        rows = self.rows[: self.clusters]
        distances = (rows**2).sum(axis=1) - 2 * self.rows[clusters] @ rows.T
        distances[np.arange(len(clusters)), clusters] = np.inf
        if near:
            self.nearest[clusters] = np.argpartition(distances, near - 1, axis=1)[:, :near]
        return distances.size

    def state(self) -> Arrays:
        """What it goes on from, not copied; of entities without the room for new ones."""
        known = int(np.flatnonzero(self.assign != NOTHING).max(initial=-1)) + 1
        per_cluster = {name: getattr(self, name) for name in PER_CLUSTER}
        return per_cluster | {name: getattr(self, name)[:known] for name in PER_ENTITY}

    def restore(self, state: Arrays, clusters: int) -> None:
        """Go on from what :meth:`state` told of so many clusters in use; takes the arrays over."""
        for name in (*PER_CLUSTER, *PER_ENTITY):
            setattr(self, name, state[name])
        self.clusters = clusters
        known = np.flatnonzero(self.assign != NOTHING)
        joined = self.assign[known].astype(np.int64)
        self.assign[known] = NOTHING  # until they join again
        self._join(known, joined)

    def split(self, cluster: int, leaving: Ints) -> int:
        """Move some members to a new cluster with a copy of the row and of what Adagrad knows of it."""
        new = self.clusters
        self.clusters += 1
        self.rows[new], self.squares[new] = self.rows[cluster], self.squares[cluster]
        self._join(leaving, np.full(len(leaving), new))
        return new


class CELLite:
    """Matrix factorisation whose rows are clusters, learned online; squared error.

    Means learn the stream, too. With ``config.residual`` a prediction is what they foretell and what the rows
    make of the rest; else they only stand beside it.

    Parameters
    ----------
    config
        Sizes and rates.
    mean_label
        What labels are like: the first predictions. Above 0 if rows are to foretell them alone.
    """

    def __init__(self, config: LiteConfig, mean_label: float) -> None:
        self._random = np.random.default_rng(config.seed)
        level = 0.0 if config.residual else float(np.sqrt(mean_label / config.width))
        self.config, self.costs = config, Costs()
        self.users = Side(config.user_clusters, config, level, self._random)
        self.items = Side(config.item_clusters, config, level, self._random)
        self.ring, self.means = Ring(config.ring), Means(mean_label)

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self.users, self.items

    @property
    def _parts(self) -> dict[str, Side | Ring | Means]:
        return {"users": self.users, "items": self.items, "ring": self.ring, "means": self.means}

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """Everything that it goes on from to the same bits: arrays by name, not copied, and JSON values."""
        arrays = {
            f"{part}.{name}": array
            for part, owner in self._parts.items()
            for name, array in owner.state().items()
        }
        numbers = {
            "users": self.users.clusters,
            "items": self.items.clusters,
            "ring": self.ring.written,
            "means": self.means.counters(),
            "costs": asdict(self.costs),
            "random": self._random.bit_generator.state,
        }
        return arrays, numbers

    @classmethod
    def restored(cls, config: LiteConfig, arrays: Arrays, numbers: dict[str, Any]) -> Self:
        """Learner that goes on from what :meth:`state` told; takes the arrays over."""
        learner = cls(config, 0.0)
        for part, owner in learner._parts.items():
            own = {key.removeprefix(f"{part}."): arrays[key] for key in arrays if key.startswith(f"{part}.")}
            owner.restore(own, numbers[part])
        learner.costs = Costs(**numbers["costs"])
        learner._random.bit_generator.state = numbers["random"]
        return learner

    def predict(self, users_P: Ints, items_P: Ints) -> Floats:
        """Predictions of pairs, entities never seen among them. ``[P], [P] → [P]``."""
        scores_P: Floats = (self.vectors(0, users_P) * self.vectors(1, items_P)).sum(axis=1)
        return scores_P

    def vectors(self, place: int, entities_P: Ints) -> Floats:
        """Vectors of users (0) or items (1) whose dot products are the predictions. ``[P] → [P, width]``.

        A user's is its row, 1 and μ + b_u, an item's is its row, b_i and 1; the rows alone without
        ``residual``. Who was never seen has the row of the largest cluster and a b of 0.
        """
        side = self._sides[place]
        rows_PD: Floats = side.rows[side.clusters_of(entities_P)]
        if not self.config.residual:
            return rows_PD
        biases_P = self.means.biases(place, entities_P, side.events_of(entities_P))
        ones_P = np.ones_like(biases_P)
        by_means = (biases_P, ones_P) if place else (ones_P, self.means.mean + biases_P)
        return np.column_stack([rows_PD, *by_means]).astype(np.float32)

    @property
    def width(self) -> int:
        """Numbers of each of the :meth:`vectors`."""
        return self.config.width + 2 * self.config.residual

    def learn(self, users_P: Ints, items_P: Ints, labels_P: Floats) -> Floats:
        """Take in a batch of interactions in order of time; what was foretold of them beforehand, ``[P]``."""
        entities_2P = np.stack([users_P, items_P])
        for side, some_P in zip(self._sides, entities_2P, strict=True):
            side.admit(some_P)
        earlier = [side.events[some_P] for side, some_P in zip(self._sides, entities_2P, strict=True)]
        means_P: Floats = self.means.learn(entities_2P, np.stack(earlier), labels_P).astype(np.float32)
        if not self.config.residual:
            return self._learn_rows(entities_2P, labels_P)
        return means_P + self._learn_rows(entities_2P, labels_P - means_P)

    def _learn_rows(self, entities_2P: Ints, labels_P: Floats) -> Floats:
        """Take in a batch of what the rows are to foretell; what they foretold beforehand, ``[P]``."""
        sides = self._sides
        clusters = [side.assign[some].astype(np.int64) for side, some in zip(sides, entities_2P, strict=True)]
        rows = [side.rows[chosen] for side, chosen in zip(sides, clusters, strict=True)]
        scores_P: Floats = (rows[0] * rows[1]).sum(axis=1)
        errors_P1 = 2 * (scores_P - labels_P)[:, None]
        for place, side in enumerate(sides):
            side.update(clusters[place], errors_P1 * rows[1 - place])
            side.count(entities_2P[place], clusters[place])
        self.ring.append(sides, entities_2P, labels_P)
        self.costs.interactions += len(labels_P)
        for place in (0, 1):
            self._check(place, sides[place], sides[1 - place], entities_2P[place])
            self._split(place, sides[place], sides[1 - place])
        return scores_P

    def _check(self, place: int, side: Side, other: Side, entities_P: Ints) -> None:
        """Move entities whose time has come to the candidate under which their buffer errs least."""
        due_E = side.due(entities_P)
        if side.clusters == 1 or not len(due_E):
            return
        candidates_EQ = side.candidates(due_E)
        losses_EQ = self._losses(place, side, other, due_E, candidates_EQ)
        side.move(due_E, candidates_EQ, losses_EQ)

    def _losses(self, place: int, side: Side, other: Side, due_E: Ints, candidates_EQ: Ints) -> Doubles:
        """Squared error of every entity's buffer under each of its candidates, ``[E, Q]``."""
        owners_R, clusters_R, labels_R = self._buffers(place, side, other, due_E)
        width = candidates_EQ.shape[1]
        losses = np.zeros(candidates_EQ.size)
        for part in _parts(len(owners_R)):
            candidates_RQ = candidates_EQ[owners_R[part]]
            # not a product of BLAS: twins of equal rows must have equal scores, wherever they stand
            scores_RQ = np.einsum("rd,rqd->rq", other.rows[clusters_R[part]], side.rows[candidates_RQ])
            errors_RQ = (scores_RQ - labels_R[part, None]) ** 2
            cells_RQ = owners_R[part, None] * width + np.arange(width)
            losses += np.bincount(cells_RQ.ravel(), errors_RQ.ravel(), losses.size)
        self.costs.evaluations += len(owners_R) * width
        return losses.reshape(candidates_EQ.shape)

    def _split(self, place: int, side: Side, other: Side) -> None:
        """Split the clusters that have had interactions enough, and look up who is nearest to them now.

        A search compares a row with all K: once in ``volume`` interactions of its cluster, so that one
        interaction's share of it is K over ``volume`` rows.
        """
        for cluster in np.flatnonzero(side.volume[: side.clusters] >= self.config.volume):
            near = [int(cluster)]
            if side.clusters < len(side.rows):
                members_E = side.members(int(cluster))
                leaving_E = self._leaving(place, side, other, int(cluster), members_E)
                if leaving_E is not None:
                    near.append(side.split(int(cluster), members_E[leaving_E]))
            side.volume[near] = 0
            self.costs.compared += side.find_nearest(np.array(near))

    def _leaving(self, place: int, side: Side, other: Side, cluster: int, members_E: Ints) -> Flags | None:
        """Which members of a cluster leave: GPCA of their buffers' gradients."""
        scores_K = other.rows @ side.rows[cluster]
        rows_KD = other.rows.astype(np.float64)

        def gradients(part: slice) -> Doubles:
            some = members_E[part]
            owners_R, clusters_R, labels_R = self._buffers(place, side, other, some)
            self.costs.read += len(owners_R)
            errors_R = 2 * (scores_K[clusters_R] - labels_R).astype(np.float64)
            errors_EK = csr_matrix((errors_R, (owners_R, clusters_R)), (len(some), len(rows_KD)))
            return errors_EK @ rows_KD

        return part_by_gradients(gradients, len(members_E))

    def _buffers(self, place: int, side: Side, other: Side, entities_E: Ints) -> tuple[Ints, Ints, Floats]:
        """Owner (a place in ``[E]``), cluster on the other side and label of interactions, ``[R]`` each."""
        owners_R, places_R = self.ring.follow(place, side, entities_E, self.config.buffer)
        counterparts_R = self.ring.entities[1 - place, places_R]
        return owners_R, other.assign[counterparts_R], self.ring.labels[places_R]


def part_by_gradients(gradients: Callable[[slice], Doubles], count: int) -> Flags | None:
    """GPCA, as :func:`polyvec.layers.tables.clustered.gradient_cut` at zero, some members at a time.

    Gradients are worked out twice, for their moments and for where they lie along the first principal
    component, so that never those of all members are held.

    Parameters
    ----------
    gradients
        Of the members of a range, ``[E, D]``.
    count
        Members.

    Returns
    -------
    ndarray or None
        Which members leave, bool ``[count]``; None if they cannot be parted.
    """
    if count < 2:
        return None
    moments = [(some_ED.sum(axis=0), some_ED.T @ some_ED) for some_ED in map(gradients, _parts(count))]
    sums_D, products_DD = (np.sum(each, axis=0) for each in zip(*moments, strict=True))
    means_D = sums_D / count
    energies, directions = np.linalg.eigh(products_DD - count * np.outer(means_D, means_D))  # ascending
    if energies[-1] <= FLAT * np.trace(products_DD):
        return None
    leaving = [(gradients(part) - means_D) @ directions[:, -1] < 0 for part in _parts(count)]
    leaving_E = np.concatenate(leaving)
    return leaving_E if leaving_E.any() and not leaving_E.all() else None


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE))
