"""A new scenario for a fitted SAML: a branch begun as the most similar one, trained alone, then together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from polyvec.data.fields import check_catalogue
from polyvec.data.market import SCENARIO
from polyvec.data.split import check_moment
from polyvec.errors import UsageError
from polyvec.ids import Vocabulary
from polyvec.layers.branches import BranchLinear
from polyvec.systems.folder import REFIT, claim_workspace, told_by, told_reach, version_of, write_model
from polyvec.systems.saml.features import Encoder, Fields
from polyvec.systems.saml.fit import (
    Lessons,
    calibrated,
    card,
    check_outcomes,
    end_of,
    refuse_over_budget,
    train,
)
from polyvec.systems.saml.model import SAML, SYSTEM
from polyvec.systems.saml.network import ID_OF, ITEM_ID, key_of
from polyvec.systems.saml.objective import predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyvec.data.dataset import Dataset
    from polyvec.systems.saml.config import SAMLConfig
    from polyvec.systems.saml.fit import Validation
    from polyvec.systems.saml.network import SAMLNetwork
    from polyvec.systems.saml.samples import Samples

OF_ALL, OF_EACH = "view.everyone.tables", "view.own.tables"


def extend(
    model: SAML,
    dataset: Dataset,
    scenario: str,
    out: Path | str,
    *,
    until: int | None = None,
    held_back: int = 0,
    validation: Validation = "window",
    branch_only: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> SAML:
    """Add a branch for a scenario that a model has not learned, and write a new Model folder.

    The branch (and tables and gate) of the new scenario begin as those of the scenario whose branch foretells
    its samples best; they are trained while all else stays as it is, but for rows of items and values that
    the model had not seen; then all branches are trained together on the samples of all scenarios. Both runs
    are trained as the model was.

    Parameters
    ----------
    model
        A fitted SAML of ``method=saml``.
    dataset
        Data with samples of the new scenario, and, for the second run, of the others.
    scenario
        The new one.
    out
        The new Model folder, whole or absent.
    until, held_back, validation, resume, overwrite
        As of :func:`polyvec.systems.saml.fit.fit`.
    branch_only
        Whether to leave out the second run. Weights of the other scenarios then stay as they are; what they
        say changes a little all the same, for their branches consult the new one, too.

    Raises
    ------
    UsageError
        If the model knows the scenario, is a rival's, or has a table of items or users that cannot grow.
    DataError
        If the data has no such scenario, or nothing to learn from in it.
    ArtifactError
        If ``out`` exists, or the run to resume was another one.
    """
    out = Path(out)
    _check(model, scenario)
    check_moment(dataset, until, held_back)
    stop = end_of(dataset, until, held_back)
    config, options = replace(model.config, scenarios=(*model.scenarios, scenario)), model.options
    lessons = _lessons(model, dataset, config, stop, validation, branch_only=branch_only)
    refuse_over_budget(lessons, config, options)
    settings = {
        SYSTEM: asdict(config),
        "extends": version_of(model),
        "moment": [stop, validation, branch_only],
    }
    place, held_out = len(model.scenarios), lessons.held_out
    alone = replace(
        lessons,
        training=lessons.training.of_scenario(place),
        held_out=None if held_out is None else held_out.of_scenario(place),
    )
    if alone.held_out is not None:
        check_outcomes(alone.held_out.offers, config)
    source = most_similar(model, dataset, scenario, alone.training)
    begun = transplanted(model, lessons.untrained(config, options), source)
    with claim_workspace(out, dataset, settings, resume=resume, overwrite=overwrite) as workspace:
        steady = replace(begun, options=replace(options, weight_decay=0.0))  # what decays does not stay
        found, first = train(dataset, alone, steady, workspace, hooks=OnlyTheNew.of(steady.network, model))
        # two numbers for all scenarios: those that suit the new one alone would spoil the others' chances
        found = calibrated(dataset, lessons, replace(found, options=options, calibration=model.calibration))
        last = first
        if not branch_only:
            found, last = train(dataset, lessons, found, workspace / REFIT)
        base = model.manifest.meta if model.manifest else None
        meta = found.meta | told_by([last], "AUC") | lessons.told
        meta |= told_reach(dataset, stop, held_back, base)
        meta |= {key: max(meta[key], base[key]) for key in ("trained_until", "read_until") if base}
        meta |= {
            "training_seconds": round(first.seconds + (0 if branch_only else last.seconds), 3),
            "extended_by": scenario,
            "extended_from": model.scenarios[source],
        }
        write_model(out, found, dataset, workspace, meta, card=card(meta), overwrite=overwrite)
        return SAML.open(out)


def _lessons(
    model: SAML,
    dataset: Dataset,
    config: SAMLConfig,
    stop: int,
    validation: Validation,
    *,
    branch_only: bool,
) -> Lessons:
    """Samples of all scenarios; of the new one alone if the data has no others and that is enough."""
    *others, scenario = config.scenarios
    there = [name for name in others if name in dataset.codes.get(SCENARIO, [])]
    drawn = config
    if branch_only and len(there) < len(others):
        drawn = replace(config, scenarios=(*there, scenario))
    columns = [name for name in model.fields.items if name != ITEM_ID]
    check_catalogue(dataset.item_table, {name: model.fields.items[name] for name in columns})
    lessons = Lessons.of(dataset, drawn, model.options, stop, validates=validation != "none")
    places = np.array([config.scenarios.index(name) for name in drawn.scenarios])

    def placed(samples: Samples) -> Samples:
        return samples.said_to_be_of(places[samples.offers.scenarios])

    held_out = lessons.held_out
    return replace(
        lessons,
        scenarios=list(config.scenarios),
        fields=grown(model.fields, lessons.fields, config.scenarios),
        training=placed(lessons.training),
        held_out=None if held_out is None else placed(held_out),
    )


def most_similar(model: SAML, dataset: Dataset, scenario: str, samples: Samples) -> int:
    """The scenario whose branch foretells the samples of a new one best: least log-loss."""
    counted, labels = model.fields.counted, samples.offers.labels
    if counted is not None:  # whichever branch is asked, what is counted is of the new scenario
        counted = replace(counted, scenarios=(scenario,) * len(model.scenarios))
    encoder = Encoder.of(dataset, replace(model.fields, counted=counted))
    losses = []
    for place in range(len(model.scenarios)):
        logits = model.calibrated(predict(model.network, samples.said_to_be_of(place), encoder)[0])
        losses.append(np.logaddexp(0, np.where(labels, -logits, logits)).mean())
    return int(np.argmin(losses))


def grown(known: Fields, seen: Fields, scenarios: Sequence[str]) -> Fields:
    """Fields of a model with values that it had not seen after its own; its numbers stay as they are.

    What is counted is of all ``scenarios``, in their order, whichever of them the data at hand have.
    """

    def joined(one: Vocabulary, other: Vocabulary) -> Vocabulary:
        new = other.series.filter(pl.Series(one.rows(other.series) < 0))
        return Vocabulary(pl.concat([one.series, new]), one.name)

    return Fields(
        {name: joined(values, seen.items[name]) for name, values in known.items.items()},
        {name: joined(values, seen.context[name]) for name, values in known.context.items()},
        known.numbers,
        None if known.counted is None else replace(known.counted, scenarios=tuple(scenarios)),
    )


@torch.no_grad()
def transplanted(model: SAML, larger: SAML, source: int) -> SAML:
    """Give an untrained model of one scenario more the weights of a smaller one.

    What is of the new scenario begins as what is of ``source``; rows of values that are new stay as they are.

    Raises
    ------
    UsageError
        If a table of another number of values is another table altogether, as hashed ones are.
    """
    old, count = dict(model.network.state_dict()), len(model.scenarios)
    id_tables = {f"{OF_ALL}.{key_of(name)}.": of for name, of in ID_OF.items()}
    for name, weight in larger.network.state_dict().items():
        if name not in old:  # the gate of a model that had a single scenario
            continue
        before = old[name]
        if name.startswith(OF_EACH):
            new, was = (each.view(scenarios, -1, each.shape[1]) for each, scenarios in
                        ((weight, count + 1), (before, count)))  # fmt: skip
            new[:count, : was.shape[1]] = was
            new[count] = new[source]
        elif weight.shape == before.shape:
            weight.copy_(before)
        elif name.startswith(OF_ALL):
            of = next((of for prefix, of in id_tables.items() if name.startswith(prefix)), None)
            kind = model.config.id_tables[of][0] if of else "popular"
            if kind != "popular":
                raise UsageError(
                    f"a table of {of}s of kind '{kind}' cannot grow",
                    expected=f"{of}_table=popular, or no {of}s that the model has not seen, or hash or "
                    f"double_hash of no more rows than there were {of}s",
                    mend="fit again with the new scenario",
                )
            weight[: len(before)] = before
        else:
            weight[:count] = before
            weight[count] = before[source]
    return larger


@dataclass(frozen=True)
class OnlyTheNew:
    """Hooks of the training loop that leave gradients to what is new alone.

    Attributes
    ----------
    network
        What is trained.
    learns
        By the name of a parameter which of its first places learn, float; nothing else does.
    """

    network: nn.Module
    learns: dict[str, Tensor]

    @classmethod
    def of(cls, network: SAMLNetwork | nn.Module, model: SAML) -> OnlyTheNew:
        """What a network has that ``model``, which it was grown from, has not."""
        old, learns = dict(model.network.named_parameters()), {}
        stacked = {
            f"{name}.{part}"
            for name, module in network.named_modules()
            if isinstance(module, BranchLinear)
            for part in ("weight", "bias")
        }
        for name, parameter in network.named_parameters():
            known = 0 if name not in old else len(old[name])
            if name.startswith(OF_EACH):  # the last of as many parts as there are scenarios
                known = len(parameter) - len(parameter) // (len(model.scenarios) + 1)
            elif not (name in stacked or name.startswith(OF_ALL)):
                continue
            learns[name] = (torch.arange(len(parameter)) >= known).float()
        return cls(network, learns)

    def begin(self, step: int) -> None:
        """Nothing."""

    def before_update(self, _batch: Any) -> None:
        """Take away the gradients of what stays."""
        for name, parameter in self.network.named_parameters():
            gradient = parameter.grad
            if gradient is None:
                continue
            if name not in self.learns:
                parameter.grad = None
                continue
            learns = self.learns[name].to(gradient.device)
            if gradient.is_sparse:
                parameter.grad = gradient = gradient.coalesce()
                gradient.values().mul_(learns[gradient.indices()[0], None])
            else:
                gradient *= learns.view(-1, *[1] * (gradient.ndim - 1))

    def after_update(self, step: int) -> None:
        """Nothing."""

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing is remembered."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing was remembered."""


def _check(model: SAML, scenario: str) -> None:
    """Refuse what cannot be extended."""
    if model.config.method != "saml":
        raise UsageError(
            f"a ranker of method={model.config.method} has no branches to add one to",
            expected="method=saml",
            mend="fit again with the new scenario",
        )
    if scenario in model.scenarios:
        raise UsageError(
            f"the model has learned scenario '{scenario}' already",
            expected=f"another than {', '.join(model.scenarios)}",
        )
