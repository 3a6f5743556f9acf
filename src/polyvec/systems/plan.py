"""What a run will take, told before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from polyvec.training.loop import peak_rss
from polyvec.training.rehearsal import Rehearsal, rehearse

if TYPE_CHECKING:
    from polyvec.systems.sizes import Sizes
    from polyvec.training.loop import Trainer


@dataclass(frozen=True)
class Plan:
    """Sizes of a model and of its training, in bytes.

    Attributes
    ----------
    parameters
        Weights that are trained.
    model
        The model as it will be kept.
    training
        What training takes.
    process
        Most memory of this process so far without the model: libraries and data, which training needs, too.
    steps_per_epoch, epochs
        Length of the run.
    """

    parameters: int
    model: Sizes
    training: Rehearsal
    process: int
    steps_per_epoch: int
    epochs: int

    @classmethod
    def of(cls, trainer: Trainer, model: Sizes) -> Plan:
        """Rehearse a run that has not begun, of a model that will be kept in ``model`` bytes."""
        so_far = peak_rss()
        training = rehearse(trainer)
        return cls(
            sum(parameter.numel() for parameter in trainer.network.parameters()),
            model,
            training,
            max(so_far - training.network - training.clusters, 0),
            len(trainer.plan),
            trainer.options.epochs,
        )

    @property
    def peak(self) -> int:
        """Memory at the most, in the middle of a step."""
        return self.process + self.training.total
