"""What DUPN is compared with (section 6.1 of the paper), on the same tasks, samples, fields and widths.

The paper names each of them in a sentence. Certain are logistic regression on profile, items and pairs for
Wide; the widths 1024, 512, 128 of Wide & Deep and of both towers of DSSM, and their cosine; windows of 1 to
10 events with 64 kernels each and the maximum of CNN-max. The rest is ours, and said where it stands.

Wide is trained by FTRL in the paper. Torch has none; here one optimizer trains all, and ``optimizer=adagrad``
is FTRL without its penalties: gradient descent whose rates shrink by coordinate (McMahan et al. 2013, 3.1).

Letters: B samples, T events of all their histories, M distinct items, E numbers of an item's vector, R width
of the representation, F fields, G fields of what is asked about, O outputs of a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from polyvec.layers.dropout import Dropout
from polyvec.layers.property_gated_lstm import blocks_of_like_length, rows_of
from polyvec.layers.tables import PopularTable, Table
from polyvec.layers.tables.hashed import FACTOR, PRIME, SHIFT
from polyvec.systems.dupn.network import (
    GAPS,
    PARTS,
    Answers,
    DUPNNetwork,
    Head,
    Perceptron,
    Reader,
    answer,
    asked_items,
    log_variances,
    num_outputs,
)

if TYPE_CHECKING:
    from polyvec.systems.dupn.batch import Batch, Shape
    from polyvec.systems.dupn.config import DUPNConfig, Task
    from polyvec.systems.dupn.samples import Known

    Tasks = dict[str, tuple[Task, Known]]

SIZES = range(1, 11)  # events that a kernel of CNN-max sees
KERNELS = 64  # of each size


class Mean(Reader):
    """The mean event, the profile and the query side by side, and a perceptron on them: no order is seen.

    Neither Wide & Deep nor DSSM knows of sequences; that what DUPN reads one by one is a mean here, events'
    properties among it, is ours.

    Parameters
    ----------
    config, shape
        As of every :class:`~polyvec.systems.dupn.network.Reader`.
    widths
        Of the perceptron's layers; nothing stands for no perceptron.
    """

    def __init__(self, config: DUPNConfig, shape: Shape, widths: tuple[int, ...] = ()) -> None:
        super().__init__(config, shape)
        inputs = event_width(self) + self.profile.width + self.query.width
        self.layers = Perceptron((inputs, *widths), config.dropout) if widths else None
        self.width = (inputs, *widths)[-1]

    def forward(self, batch: Batch, items_ME: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Reader.forward`; an empty history is a mean of zeros."""
        mean_BX = mean_of(events_of(self, batch, items_ME), batch.owners, len(batch))
        query_BQ = self.query(batch.words, batch.word_offsets)
        rep_BR = torch.cat([mean_BX, self.profile(batch.users), query_BQ], dim=1)
        weights_T = 1 / torch.bincount(batch.owners, minlength=len(batch))[batch.owners].float()
        return rep_BR if self.layers is None else self.layers(rep_BR), weights_T


class CNNMax(Reader):
    """rep = [rep_s; u] by convolutions over the history instead of the LSTM and its attention.

    A kernel of size n sees an event and the n − 1 before it, zeros before the first (ours: so that there are
    as many windows of every size, however short the history); of each kernel the strongest answer of the
    history counts, 0 if none is above. The query, which drives DUPN's attention, joins these answers before
    the layer that makes rep_s of them (ours).
    """

    def __init__(self, config: DUPNConfig, shape: Shape) -> None:
        super().__init__(config, shape)
        inputs = event_width(self)
        self.kernels = nn.ModuleList(nn.Conv1d(inputs, KERNELS, size) for size in SIZES)
        self.layer = nn.Linear(KERNELS * len(SIZES) + self.query.width, config.width)
        self.dropout = Dropout(config.dropout)
        self.width = config.width + self.profile.width

    def forward(self, batch: Batch, items_ME: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Reader.forward`; events have no weights here, ``[0]``."""
        strongest_BK = self.strongest(events_of(self, batch, items_ME), batch)
        query_BQ = self.query(batch.words, batch.word_offsets)
        history_BH = self.dropout(self.layer(torch.cat([strongest_BK, query_BQ], dim=1)))
        return torch.cat([history_BH, self.profile(batch.users)], dim=1), items_ME.new_zeros(0)

    def strongest(self, events_TX: Tensor, batch: Batch) -> Tensor:
        """Strongest answer of every kernel to a history, ``[B, K]``; zeros of an empty one."""
        owners, found = [], []
        for rows_LB, there_LB in blocks_of_like_length(batch.lengths.numpy()):
            rows_LB, there_LB = rows_LB.to(events_TX.device), there_LB.to(events_TX.device)
            block_BXL = (rows_of(events_TX, rows_LB) * there_LB[..., None]).permute(1, 2, 0)
            owners.append(batch.owners[rows_LB[0]])
            found.append(self._strongest(block_BXL, there_LB.T[:, None]))
        nothing = events_TX.new_zeros(len(batch), KERNELS * len(SIZES))
        return nothing.index_copy(0, torch.cat(owners), torch.cat(found)) if found else nothing

    def _strongest(self, block_BXL: Tensor, there_B1L: Tensor) -> Tensor:
        """The same of histories that are padded at their ends to L events."""
        parts = []
        for size, kernel in zip(SIZES, self.kernels, strict=True):
            answers_BKL = torch.relu(kernel(nn.functional.pad(block_BXL, (size - 1, 0))))
            parts.append((answers_BKL * there_B1L).amax(dim=2))
        return torch.cat(parts, dim=1).float()


class CosineHead(nn.Module):
    """DSSM's second tower: the logit is α · cosine of rep and what it makes of item or entity.

    Parameters
    ----------
    config, task, known
        As of :class:`~polyvec.systems.dupn.network.Head`.
    width
        R, that of both towers.
    """

    def __init__(self, config: DUPNConfig, task: Task, known: Known, width: int) -> None:
        super().__init__()
        self.kind, self.alpha = task.kind, config.alpha
        lower = config.deep[:-1]
        if task.kind == "entity":
            self.entities = PopularTable(known.num_classes, task.entity_width)
            self.encoding = Perceptron((task.entity_width, *lower, width), config.dropout)
        else:
            self.items = Perceptron((config.item_width, *lower, width), config.dropout)

    def forward(self, rep_BR: Tensor, items_BI: Tensor, entities_B: Tensor, numbers_BN: Tensor) -> Tensor:  # noqa: ARG002
        """Logits, ``[B]``."""
        is_entity = self.kind == "entity"
        asked_BR = self.encoding(self.entities(entities_B + 1)) if is_entity else self.items(items_BI)
        return self.alpha * nn.functional.cosine_similarity(rep_BR, asked_BR, dim=1)


class Wide(nn.Module):
    """Logistic regression of one task on fields and pairs of fields; of classes, its multinomial form.

    Ours is which: fields of the user, words of the query, fields of what is asked about (an item, or an
    entity), and of every event those of its item and its properties, each by its share of the history. Pairs:
    field of an event's item × its property; and field of the user, word of the query, field of an event's
    item × field of what is asked about. Fields have a weight for every value, pairs share ``cross_rows`` by a
    hash. Titles are left to the deep side. The weights of ``rank`` are the user's alone, as DUPN's are; they
    begin at 1, for below 0 nothing would be learned; beside a deep side, which begins above 0, at 0.

    Parameters
    ----------
    config
        How many rows pairs share.
    shape
        What the data has.
    task, known
        What is asked, and how many outputs that needs.
    """

    def __init__(self, config: DUPNConfig, shape: Shape, task: Task, known: Known) -> None:
        super().__init__()
        self.kind, outputs = task.kind, num_outputs(task, known)
        properties = [*shape.events.values(), *([GAPS, PARTS] if shape.has_times else [])]
        self.num_properties = len(properties) * (config.properties == "both")
        asked = {"item": [*shape.items.values()], "entity": [known.num_classes + 1]}.get(task.kind, [])
        groups = {
            "items": [*shape.items.values()],
            "properties": properties[: self.num_properties],
            "users": [*shape.users.values()],
            "words": [shape.query],
            "asked": asked,
        }
        self.starts: dict[str, list[int]] = {}
        self.num_values = 0  # of all fields together
        for name, rows in groups.items():
            ends = [self.num_values + sum(rows[:place]) for place in range(len(rows) + 1)]
            self.starts[name], self.num_values = ends[:-1], ends[-1]
        self.cross_rows = config.cross_rows
        self.table = PopularTable(self.num_values + self.cross_rows - 1, outputs)
        nn.init.zeros_(self.table.weight)
        is_alone = config.model == "wide"  # both above 0 were too much: they fell, and went on below 0
        self.bias = nn.Parameter(torch.full((outputs,), float(task.kind == "rank" and is_alone)))

    def forward(self, batch: Batch, samples: slice) -> Tensor:
        """Outputs of some samples, ``[B, O]``."""
        count, device = samples.stop - samples.start, self.bias.device
        mine_T, owners_T = _of(batch.owners, samples)
        mine_W, owners_W = _of(_owners_of_words(batch), samples)
        events_TF = self._values("items", batch.items.codes[batch.history[mine_T]])
        properties_TF = self._values("properties", batch.properties[mine_T][:, : self.num_properties])
        words_W1 = self._values("words", batch.words[mine_W][:, None])
        users_BF = self._values("users", batch.users[samples])
        asked_BG = self._values("asked", self._asked(batch, samples))
        parts = [
            ([events_TF, properties_TF, self._pairs(events_TF, properties_TF)], events_TF, owners_T),
            ([words_W1], words_W1, owners_W),
            ([users_BF, asked_BG], users_BF, torch.arange(count, device=device)),
        ]
        told_BO = self.bias.expand(count, -1)
        for values, crossed, owners in parts:
            rows = torch.cat([*values, self._pairs(crossed, asked_BG[owners])], dim=1)
            told_BO = told_BO + mean_of(self.table(rows).sum(dim=1), owners, count)
        return told_BO

    def _asked(self, batch: Batch, samples: slice) -> Tensor:
        """Fields of what is asked about, ``[B, G]``; G = 0 where it is the user alone."""
        if self.kind == "item":
            return batch.items.codes[batch.candidates[samples]]
        entities_B1 = batch.entities[samples, None] + 1
        return entities_B1 if self.kind == "entity" else entities_B1[:, :0]

    def _values(self, group: str, codes_XF: Tensor) -> Tensor:
        """Row of every field's value, ``[X, F]``."""
        return codes_XF + codes_XF.new_tensor(self.starts[group])

    def _pairs(self, one_XF: Tensor, other_XG: Tensor) -> Tensor:
        """Row of every pair, ``[X, F · G]``, after those of the values."""
        keys = (one_XF[:, :, None] * self.num_values + other_XG[:, None]).flatten(1)
        return self.num_values + (keys % PRIME * FACTOR + SHIFT) % PRIME % self.cross_rows


class WideNetwork(nn.Module):
    """Wide, or Wide & Deep: logistic regression, to which a deep network's outputs are added.

    The deep side reads [mean event; u; q] and what is asked about; each task has layers of its own (the
    paper trained one model per task), on tables that all share. Both sides are trained together (Cheng et al.
    2016).

    Parameters
    ----------
    config, shape, tasks
        As of :class:`~polyvec.systems.dupn.network.DUPNNetwork`.
    """

    def __init__(self, config: DUPNConfig, shape: Shape, tasks: Tasks) -> None:
        super().__init__()
        self.config = config
        self.wide = nn.ModuleDict(
            {f"of {name}": Wide(config, shape, task, known) for name, (task, known) in tasks.items()}
        )
        self.encoder = Mean(config, shape) if config.model == "wide_deep" else None
        self.heads = nn.ModuleDict()
        if self.encoder is not None:
            for name, (task, known) in tasks.items():
                self.heads[f"of {name}"] = Head(config, task, known, self.encoder.width, config.deep)
        self.log_variances = log_variances(config, tasks)

    @property
    def item_table(self) -> Table | None:
        """The table of item ids of the deep side; a logistic regression has no vectors of items."""
        return None if self.encoder is None else self.encoder.items.ids

    def forward(self, batch: Batch) -> Answers:
        """What every task is answered."""
        deep = {} if self.encoder is None else self._deep(self.encoder, batch)
        logits = {}
        for name, samples in batch.slices.items():
            wide = cast("Wide", self.wide[f"of {name}"])
            outputs_BO = wide(batch, samples)
            if name in deep:
                outputs_BO = outputs_BO + deep[name]
            logits[name] = answer(wide.kind, outputs_BO, batch.numbers[name])
        nothing = batch.weights.new_zeros(0)
        return Answers(batch.weights[:, None][:, :0], nothing, logits)

    def _deep(self, encoder: Mean, batch: Batch) -> dict[str, Tensor]:
        """Outputs of the deep side, ``[B, O]`` of every task."""
        items_ME = encoder.items(batch.items)
        rep_BR, _ = encoder(batch, items_ME)
        encoded_MI, found = encoder.items.encoding(items_ME), {}
        for name, samples in batch.slices.items():
            head = cast("Head", self.heads[f"of {name}"])
            items = asked_items(head.kind, batch.candidates[samples], encoded_MI)
            found[name] = head.outputs(rep_BR[samples], items, batch.entities[samples])
        return found


Network = DUPNNetwork | WideNetwork


def make_network(config: DUPNConfig, shape: Shape, tasks: Tasks) -> Network:
    """The network of a model; parameters are those of :class:`~polyvec.systems.dupn.network.DUPNNetwork`."""
    if config.model in ("wide", "wide_deep"):
        return WideNetwork(config, shape, tasks)
    if config.model == "dssm":
        return DUPNNetwork(config, shape, tasks, Mean(config, shape, config.deep), CosineHead)
    if config.model == "cnn_max":
        return DUPNNetwork(config, shape, tasks, CNNMax(config, shape))
    return DUPNNetwork(config, shape, tasks)


def event_width(reader: Reader) -> int:
    """Numbers of an event as :func:`events_of` tells it."""
    return reader.items.width + reader.properties.width * (reader.config.properties == "both")


def events_of(reader: Reader, batch: Batch, items_ME: Tensor) -> Tensor:
    """What every event is, [e; p], or e alone without properties, ``[T, X]``."""
    items_TE = items_ME.index_select(0, batch.history)
    if reader.config.properties == "none":
        return items_TE
    return torch.cat([items_TE, reader.properties(batch.properties)], dim=1)


def mean_of(values_XD: Tensor, owners_X: Tensor, count: int) -> Tensor:
    """Mean over what is of one owner, ``[count, D]``; zeros where nothing is."""
    sizes = torch.bincount(owners_X, minlength=count).clamp(min=1)
    sums = values_XD.new_zeros(count, values_XD.shape[1]).index_add(0, owners_X, values_XD)
    return sums / sizes[:, None]


def _of(owners_X: Tensor, samples: slice) -> tuple[Tensor, Tensor]:
    """Which belong to some samples, bool ``[X]``, and to which one of them."""
    mine = (owners_X >= samples.start) & (owners_X < samples.stop)
    return mine, owners_X[mine] - samples.start


def _owners_of_words(batch: Batch) -> Tensor:
    """Sample of every word of the queries, int64 ``[W]``."""
    ends = torch.cat([batch.word_offsets[1:], batch.word_offsets.new_tensor([len(batch.words)])])
    each = torch.arange(len(batch), device=ends.device)
    return each.repeat_interleave(ends - batch.word_offsets)
