"""What a step of training takes, found by doing half of one: loss and gradients of one batch."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polyvec.training.optimizers import make_optimizers, state_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import UntypedStorage

    from polyvec.training.loop import Trainer


@dataclass(frozen=True)
class Rehearsal:
    """Bytes that training takes besides what the process had before there was a model.

    Attributes
    ----------
    network
        Parameters and buffers while they are trained.
    optimizer
        What the optimizers will remember.
    clusters
        What cluster steps remember of entities and clusters; 0 without any.
    gradients
        Of all parameters after a batch; of a sparse one, of the rows that the batch looked up.
    batch
        The most that one batch needs at once for its activations and for all on the way to the gradients.
    """

    network: int
    optimizer: int
    clusters: int
    gradients: int
    batch: int

    @property
    def total(self) -> int:
        """All of it together, as in the middle of a step."""
        return self.network + self.optimizer + self.clusters + self.gradients + self.batch


def rehearse(trainer: Trainer) -> Rehearsal:
    """Do the first half of a step on the widest batch, and look what it takes.

    Parameters
    ----------
    trainer
        A run that has not begun; its network is left with gradients. What the optimizers will remember is
        told, but not made.
    """
    batch = trainer.plan.widest()
    with LiveBytes() as live:
        trainer.make_gradients(batch, 0)
    parameters = list(trainer.network.parameters())
    gradients = num_bytes(parameter.grad for parameter in parameters if parameter.grad is not None)
    optimizers = trainer.optimizers or make_optimizers(trainer.network, trainer.options)
    return Rehearsal(
        network=num_bytes(trainer.network.state_dict().values()),
        optimizer=state_bytes(optimizers),
        clusters=num_bytes(trainer.hooks.state_dict().values()) if trainer.hooks else 0,
        gradients=gradients,
        batch=max(live.peak - gradients, 0),
    )


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside, and the most there were at once.

    What an operation takes and gives back before it ends is not seen.

    Attributes
    ----------
    peak
        The most.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Do an operation and count what it made: storages that are none of its inputs'."""
        result = func(*args, **(kwargs or {}))
        given = {id(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if id(storage) not in given | self._known:
                self._count(storage)
        return result

    def _count(self, storage: UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(id(storage))
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, id(storage), size)

    def _forget(self, name: int, size: int) -> None:
        self._known.discard(name)
        self._now -= size


def num_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors; of sparse ones, of their values and indices."""
    return sum(part.numel() * part.element_size() for tensor in tensors for part in _dense(tensor))


def _storages(tree: Any) -> Iterator[UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield from (part.untyped_storage() for part in _dense(leaf))


def _dense(tensor: Tensor) -> tuple[Tensor, ...]:
    return (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,)
