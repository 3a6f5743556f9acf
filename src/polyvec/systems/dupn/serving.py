"""A DUPN in two parts: what is worked out once for a request, and what for every candidate (section 7).

The user tower is the Model: it reads behaviour, query and profile, and goes as far as no item is needed. The
item head is made of it once for a catalogue: the items' share of the first layer of every head, and the small
layers that follow. Both carry the Model's fingerprint as their version, and parts of two Models are refused.

Letters: B requests, K candidates, N items, R width of rep, H of a head's first layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyvec.artifact import read_manifest, writing
from polyvec.data.split import cut
from polyvec.errors import ArtifactError, UsageError, nearest_name
from polyvec.ids import Vocabulary
from polyvec.layers.property_gated_lstm import State
from polyvec.systems.dupn.batch import Batch, Items
from polyvec.systems.dupn.features import ItemRows, gap_of
from polyvec.systems.dupn.network import UserEncoder, cosines
from polyvec.systems.dupn.samples import samples_at
from polyvec.systems.folder import version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import polars as pl

    from polyvec.artifact import Manifest
    from polyvec.data.dataset import Dataset
    from polyvec.systems.dupn.model import DUPN
    from polyvec.systems.dupn.network import Perceptron

    Ints = npt.NDArray[np.int64]

KIND = "item-head"
OF_PAIRS = ("item", "entity")


@dataclass(frozen=True)
class UserPart:
    """What is known of B requests before any candidate is looked at.

    Attributes
    ----------
    version
        Of the Model.
    rep
        ``[B, R]``.
    first
        By task of kind ``item`` or ``entity``: the users' share of the head's first layer, ``[B, H]``.
    weights
        By task of kind ``rank``: weights of the item's numbers, ``[B, n]``.
    logits
        By task of kind ``class`` or ``window``: its answer, ``[B, K]``.
    """

    version: str
    rep: Tensor
    first: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[str, Tensor] = field(default_factory=dict)


class UserTower:
    """The part of a Model that is run once for a request.

    Parameters
    ----------
    model
        A saved Model.

    Raises
    ------
    UsageError
        If the model was never saved: it has no version; or its tasks have no heads on one representation.
    """

    def __init__(self, model: DUPN) -> None:
        if model.manifest is None:
            raise UsageError("a model that was never saved has no version", mend="save it: polyvec fit")
        model.check_heads("split")
        self.model, self.version = model, model.manifest.fingerprint
        self.network = model.representing.eval()

    @torch.no_grad()
    def read(
        self,
        dataset: Dataset,
        user_rows: Ints,
        moment: int,
        queries: Sequence[str | None] | None = None,
    ) -> UserPart:
        """Read what users (rows of the Dataset, int64 ``[B]``) did before a moment.

        ``queries`` are what each searches for, None for nothing. Tasks whose answer is the query, or the
        action, have learned without it.
        """
        windows = cut(dataset, moment, None, 0)[user_rows]
        samples = samples_at(windows, self.model.config.max_length)
        encoder, network = self.model.encoder_of(dataset), self.network
        batch = encoder.batch({"": samples}, next(network.parameters()).device, asks=False)
        if queries is not None:
            batch = _asking(batch, self.model, queries)
        rep, _ = network.encoder(batch, network.encoder.items(batch.items))
        return self.part(rep)

    @torch.no_grad()
    def part(self, rep_BR: Tensor) -> UserPart:
        """Go on from rep as far as no item is needed."""
        found = UserPart(self.version, rep_BR)
        for name, (task, _) in self.model.tasks.items():
            if task.kind == "next":
                continue
            layers = self.network.head(name).layers
            if task.kind in OF_PAIRS:
                first = layers.linears[0]
                found.first[name] = nn.functional.linear(
                    rep_BR, first.weight[:, : rep_BR.shape[1]], first.bias
                )
            elif task.kind == "rank":
                found.weights[name] = torch.relu(layers(rep_BR))
            else:
                found.logits[name] = layers(rep_BR)
        return found


@dataclass(frozen=True)
class ItemHead:
    """The part of a Model that is run for every candidate.

    Attributes
    ----------
    version
        Of the Model that it was made of.
    kinds
        Of every task with candidates.
    items
        Ids of the N items.
    entities
        Names of a task's entities, by task.
    parts
        By task: the items' (or entities') share of the first layer ``[N, H]``; of ``next`` their vectors
        ``[N, R]``.
    layers
        By task: weights and biases of the layers that follow.
    alpha
        α of ``next``.
    """

    version: str
    kinds: dict[str, str]
    items: Vocabulary
    entities: dict[str, Vocabulary]
    parts: dict[str, Tensor]
    layers: dict[str, list[tuple[Tensor, Tensor]]]
    alpha: float

    @classmethod
    @torch.no_grad()
    def of(cls, model: DUPN, item_table: pl.DataFrame) -> ItemHead:
        """Work out the items' part for a catalogue with a column ``item_id``.

        Raises
        ------
        UsageError
            If the model was never saved, its tasks have no heads on one representation, or none of them is
            about items.
        """
        tower = UserTower(model)
        version, network = tower.version, tower.network
        device = next(network.parameters()).device
        items = network.encoder.items(ItemRows.of(item_table, model.fields).all(device))
        encoded = network.encoder.items.encoding(items)
        found = cls(version, {}, Vocabulary(item_table["item_id"], "item_id"), {}, {}, {}, model.config.alpha)
        for name, (task, known) in model.tasks.items():
            head = network.head(name)
            if task.kind == "next":
                found.parts[name] = head.items(encoded)
            elif task.kind in OF_PAIRS:
                each = encoded
                if task.kind == "entity" and known.names is not None:
                    rows = torch.arange(1, len(known.names) + 1, device=device)
                    each = head.encoding(head.entities(rows))
                    found.entities[name] = known.names
                first = head.layers.linears[0]
                found.parts[name] = each @ first.weight[:, network.encoder.width :].T
                found.layers[name] = _following(head.layers)
            elif task.kind != "rank":
                continue
            found.kinds[name] = task.kind
        if not found.kinds:
            raise UsageError(
                "none of the model's tasks is about items",
                expected="a task of kind next, item, rank or entity",
                mend="the user tower alone answers it",
            )
        return found

    @torch.no_grad()
    def score(
        self, part: UserPart, task: str, candidates: Ints | None = None, numbers: Tensor | None = None
    ) -> Tensor:
        """Logits of candidates, ``[B, K]``.

        Parameters
        ----------
        part
            What the user tower says.
        task
            One with candidates.
        candidates
            Rows of :attr:`items`, or of the task's :attr:`entities`; int64 ``[K]``. None takes all of them.
        numbers
            Of ``rank``: the candidates' numbers, normalised as in training, ``[K, n]``.

        Raises
        ------
        ArtifactError
            If the two parts are of different Models.
        UsageError
            If the task has no candidates, or its numbers are missing.
        """
        if part.version != self.version:
            raise ArtifactError(
                "user tower and item head are of different models",
                expected=f"version {self.version[:12]}, and the user tower has {part.version[:12]}",
                mend="make the head anew: polyvec split MODEL DATASET --out HEAD",
            )
        if task not in self.kinds:
            raise UsageError(f"task '{task}' has no candidates", expected=nearest_name(task, self.kinds))
        if self.kinds[task] == "rank":
            if numbers is None:
                raise UsageError(f"task '{task}' ranks by numbers", mend="pass those of the candidates")
            return part.weights[task] @ numbers.T
        parts_KH = self.parts[task] if candidates is None else self.parts[task][torch.from_numpy(candidates)]
        if self.kinds[task] == "next":
            return self.alpha * cosines(part.rep, parts_KH)
        hidden = torch.relu(part.first[task][:, None] + parts_KH)
        *inner, (weight, bias) = self.layers[task]
        for one, other in inner:
            hidden = torch.relu(nn.functional.linear(hidden, one, other))
        return nn.functional.linear(hidden, weight, bias)[..., 0]

    def save(self, path: Path | str, model: Manifest | None = None, *, overwrite: bool = False) -> None:
        """Write a folder, whole or not at all.

        Raises
        ------
        ArtifactError
            If ``path`` exists.
        """
        tensors = {f"{name}.parts": tensor for name, tensor in self.parts.items()}
        for name, layers in self.layers.items():
            for place, (weight, bias) in enumerate(layers):
                tensors |= {f"{name}.{place}.weight": weight, f"{name}.{place}.bias": bias}
        meta: dict[str, Any] = {"version": self.version, "kinds": self.kinds, "alpha": self.alpha}
        meta |= {"layers": {name: len(layers) for name, layers in self.layers.items()}}
        meta |= {"entities": list(self.entities), "items": len(self.items)}
        parents = {"model": model} if model else {}
        with writing(Path(path), KIND, meta=meta, parents=parents, overwrite=overwrite) as stage:
            save_file(
                {key: tensor.contiguous() for key, tensor in tensors.items()}, stage / "head.safetensors"
            )
            self.items.save(stage / "items.parquet")
            for name, names in self.entities.items():
                names.save(stage / f"entities-{name}.parquet")

    @classmethod
    def open(cls, path: Path | str) -> ItemHead:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ArtifactError
            If the folder is missing, damaged or of another kind.
        """
        path = Path(path)
        meta = read_manifest(path, KIND).meta
        tensors = load_file(path / "head.safetensors")
        return cls(
            meta["version"],
            meta["kinds"],
            Vocabulary.load(path / "items.parquet", "item_id"),
            {name: Vocabulary.load(path / f"entities-{name}.parquet", "entity") for name in meta["entities"]},
            {name: tensors[f"{name}.parts"] for name in meta["kinds"] if f"{name}.parts" in tensors},
            {
                name: [
                    (tensors[f"{name}.{place}.weight"], tensors[f"{name}.{place}.bias"])
                    for place in range(count)
                ]
                for name, count in meta["layers"].items()
            },
            meta["alpha"],
        )


def _asking(batch: Batch, model: DUPN, queries: Sequence[str | None]) -> Batch:
    """A batch whose users search."""
    device = batch.words.device
    words, offsets = (torch.from_numpy(one).to(device) for one in model.fields.words_of_queries(queries))
    return replace(batch, words=words, word_offsets=offsets[:-1])


def _following(layers: Perceptron) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of all layers but the first."""
    return [(layer.weight.detach(), layer.bias.detach()) for layer in layers.linears[1:]]


@dataclass(frozen=True)
class UserState:
    """What a user did, one event at a time, with the LSTM's states after each.

    Ages of events change the gates, so states hold while ages stay in their buckets: what is read again at
    another moment is worked out anew from the oldest event on whose bucket has changed, and wholly once the
    window of ``max_length`` events slides.

    Attributes
    ----------
    version
        Of the Model that it was read with; of an updated one it is another.
    items
        e of every event, oldest first, ``[L, E]``.
    codes
        Rows of its properties but its age, int64 ``[L, F]``.
    times
        int64 ``[L]``.
    ages
        Buckets that the states were worked out with, int64, for the first of the events.
    hidden, cell
        States after each of those, ``[≤ L, H]``.
    users
        Rows of the user's fields, as the latest event told them, int64 ``[1, F]``.
    """

    version: str
    items: Tensor
    codes: Ints
    times: Ints
    ages: Ints
    hidden: Tensor
    cell: Tensor
    users: Tensor

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    @torch.no_grad()
    def of(cls, model: DUPN, dataset: Dataset, user_row: int, moment: int) -> UserState:
        """A user's events before a moment; nothing is worked out yet.

        Raises
        ------
        UsageError
            If the model has no LSTM.
        """
        state, network = cls.empty(model), _recurrent(model)
        encoder = model.encoder_of(dataset)
        windows = cut(dataset, moment, None, 0)[np.array([user_row])]
        batch = encoder.batch({"": samples_at(windows, model.config.max_length)}, state.items.device)
        times = dataset.times[windows.history_end[0] - len(batch.history) : windows.history_end[0]]
        return replace(
            state,
            items=network.items(batch.items)[batch.history],
            codes=_without_age(batch.properties, has_times=bool(network.properties.times)).numpy(),
            times=np.asarray(times, np.int64),
            users=batch.users,
        )

    @classmethod
    def empty(cls, model: DUPN) -> UserState:
        """Of a user who has done nothing."""
        encoder = _recurrent(model)
        some = encoder.lstm.bias
        kinds = len(encoder.properties.events) + bool(encoder.properties.times)
        return cls(
            version_of(model),
            some.new_zeros(0, encoder.items.width),
            np.empty((0, kinds), np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            some.new_zeros(0, encoder.lstm.width),
            some.new_zeros(0, encoder.lstm.width),
            torch.zeros(1, len(encoder.profile.tables), dtype=torch.int64),
        )

    def after(self, later: UserState, max_length: int) -> UserState:
        """With events that came later, told as a state of their own; the latest ``max_length`` are kept.

        Raises
        ------
        ArtifactError
            If the two are of different versions of the model.
        """
        _check_version(self.version, later.version)
        items, codes = torch.cat([self.items, later.items]), np.concatenate([self.codes, later.codes])
        times = np.concatenate([self.times, later.times])
        slides = len(times) > max_length  # then the first state would be another
        done = 0 if slides else len(self.ages)
        return UserState(
            self.version, items[-max_length:], codes[-max_length:], times[-max_length:], self.ages[:done],
            self.hidden[:done], self.cell[:done], later.users if len(later) else self.users,
        )  # fmt: skip

    @torch.no_grad()
    def read(self, model: DUPN, moment: int, query: str | None = None) -> tuple[Tensor, UserState]:
        """Vector rep at a moment, ``[1, R]``; and the state, worked out until then.

        Raises
        ------
        ArtifactError
            If the state is of another version of the model: read the user's events again.
        """
        _check_version(self.version, version_of(model))
        encoder = _recurrent(model).eval()
        ages = gap_of(moment - self.times)
        done = len(self.ages)
        same = ages[:done] == self.ages
        kept = done if same.all() else int(same.argmin())
        codes = self.codes
        if encoder.properties.times:  # the part of the week comes after the age
            codes = np.concatenate([codes[:, :-1], ages[:, None], codes[:, -1:]], axis=1)
        properties = encoder.properties(torch.from_numpy(codes))
        in_gates = encoder.in_gates(properties)
        hidden, cell = list(self.hidden[:kept].split(1)), list(self.cell[:kept].split(1))
        state = State(hidden[-1], cell[-1]) if kept else encoder.lstm.start(1)
        for place in range(kept, len(self)):
            state = encoder.lstm.step(self.items[place : place + 1], in_gates[place : place + 1], state)
            hidden.append(state.hidden)
            cell.append(state.cell)
        hidden_LH = torch.cat([self.hidden[:0], *hidden])
        request = self._as_batch() if query is None else _asking(self._as_batch(), model, [query])
        rep, _ = encoder.pool(hidden_LH, properties, request)
        return rep, replace(self, ages=ages, hidden=hidden_LH, cell=torch.cat([self.cell[:0], *cell]))

    def _as_batch(self) -> Batch:
        """One request without query or candidates, for pooling."""
        nothing, one = torch.empty(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        return Batch(
            items=Items(nothing[:, None], nothing, nothing, nothing.float()),  # tables are not asked
            lengths=torch.tensor([len(self)]), history=nothing,
            owners=torch.zeros(len(self), dtype=torch.int64), properties=nothing[:, None], users=self.users,
            words=nothing, word_offsets=one, candidates=one, entities=one, answers=one, weights=one.float(),
        )  # fmt: skip


def _check_version(one: str, other: str) -> None:
    if one != other:
        raise ArtifactError(
            f"the user's state is of another version of the model: {one[:8]} and {other[:8]}",
            expected="states and a model of one version",
            mend="read the user's events again with this model: UserState.of",
        )


def _recurrent(model: DUPN) -> UserEncoder:
    """The encoder, one with states."""
    encoder = model.representing.encoder
    if not isinstance(encoder, UserEncoder):
        raise UsageError(
            f"model={model.config.model} has no states that take event by event",
            expected="dupn, by its LSTM",
            mend="read the whole history: UserTower.read",
        )
    return encoder


def _without_age(properties_TF: Tensor, *, has_times: bool) -> Tensor:
    """Rows of the properties but the age, which is the last but one where events have times."""
    if not has_times:
        return properties_TF
    return torch.cat([properties_TF[:, :-2], properties_TF[:, -1:]], dim=1)
