"""What a CEL model is: presets with the constants of the authors' code."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from polyvec.layers.tables.clustered import Averaging, Cut
from polyvec.training.options import TrainingOptions

Count = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
TableKind = Literal["clustered", "full", "hash"]
Criterion = Literal["interactions", "entities", "loss", "mean_loss", "gradient"]
DAMPING = 0.3085375  # Φ(−1/2)
LEAST_WIDTH = 2  # of networks that halve it


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CELConfig:
    """CEL (Chen et al., WWW 2023); symbols in brackets are those of the paper or of its authors' code.

    Attributes
    ----------
    width
        R, numbers per row.
    user_table, item_table
        ``clustered``: CEL. ``full``: a row for each. ``hash``: entity i has row i mod the number of rows.
    user_clusters, item_clusters
        K_max: rows of tables that are not full, at most.
    budget
        Bytes that the model is kept in, at most: see :func:`polyvec.systems.cel.budget.within_budget`. 0
        sets no limit.
    start
        K_0: rows that clusters start from.
    interaction
        ``dot``, ``mlp``, ``neunmf`` or ``din``: see :mod:`polyvec.systems.cel.interactions`.
    max_length
        L, latest events before a record that ``din`` looks at.
    interaction_rate
        Peak learning rate of the interaction's own weights.
    optimizer
        Of the rows, at the run's ``learning_rate``: ``sgd``, plain gradient steps; ``adagrad`` or ``adam``.
    full_batch, steps_per_epoch
        Whether every step looks at all interactions, as in the authors' code, with ``steps_per_epoch`` such
        steps between two validations; else steps look at ``batch_size`` of them, and ``decay`` and
        ``shrinkage`` are of the rows that a batch looks at.
    nonnegative
        Rows are kept at 0 or above; with ``dot`` this is NMF.
    target
        ``rating``: squared error of the column ``rating``. ``click``: log loss of events (1) against drawn
        items (0).
    num_negatives
        Items drawn evenly for each event of ``click``; what the user's own events have is left out, but by
        ``din``, which asks what comes now.
    target_days
        Data with timestamps: days at the end that are validated on.
    decay
        c_1, weight of the rows' squared norms.
    shrinkage
        c_21, weight of the squared distance of every cluster's row to the mean of all (the second layer); 0
        leaves it out.
    averaging
        Whether a row's gradient is the mean over each ``entity`` that shares it (of all, or of the batch),
        over each ``record`` of the batch, or, with ``none``, their sum.
    split_every
        t_2, steps between two splits; 0 spreads them over the first 40 % of training.
    criterion
        Which cluster splits: that of most training ``interactions`` or ``entities``, of the largest ``loss``,
        loss per entity or ``gradient``.
    cut
        See :func:`polyvec.layers.tables.clustered.gradient_cut`; or ``random``.
    reassign_every
        t_1, steps between two reassignments; 0 never reassigns.
    reassign_at
        ``primes``: at the prime multiples of t_1. ``all``: at all of them. ``growing``: at t_1, then after
        1.5 times as many steps each time.
    damping
        Chance that an entity which should move stays.
    cluster_steps
        S_c, steps in which clusters may split and reassign; 0 stands for all.
    personal_from
        Step from which items have vectors of their own around their cluster's; 0 never.
    pull
        λ_reg, weight of a personal vector's squared distance to its cluster's row.
    personal_events
        Least training interactions of an item for a vector of its own; others follow their cluster.
    prior_events
        κ: what is served of a user or an item of n training events is n / (n + κ) of its own vector, and the
        rest of the mean of all. 0 in the paper.
    """

    width: Count = 64
    user_table: TableKind = "full"
    item_table: TableKind = "clustered"
    user_clusters: Count = 50
    item_clusters: Count = 50
    budget: Annotated[int, Field(ge=0)] = 0
    start: Count = 1
    interaction: Literal["dot", "mlp", "neunmf", "din"] = "dot"
    max_length: Count = 20
    interaction_rate: Annotated[float, Field(gt=0)] = 1e-3
    optimizer: Literal["sgd", "adagrad", "adam"] = "sgd"
    full_batch: bool = True
    steps_per_epoch: Count = 100
    nonnegative: bool = True
    target: Literal["rating", "click"] = "rating"
    num_negatives: Count = 4
    target_days: Annotated[float, Field(gt=0)] = 30
    decay: Weight = 1.0
    shrinkage: Weight = 500.0
    averaging: Literal[Averaging, "none"] = "entity"
    split_every: Annotated[int, Field(ge=0)] = 10
    criterion: Criterion = "interactions"
    cut: Literal[Cut, "random"] = "zero"
    reassign_every: Annotated[int, Field(ge=0)] = 40
    reassign_at: Literal["primes", "all", "growing"] = "primes"
    damping: Annotated[float, Field(ge=0, lt=1)] = DAMPING
    cluster_steps: Annotated[int, Field(ge=0)] = 800
    personal_from: Annotated[int, Field(ge=0)] = 0
    pull: Weight = 50.0
    personal_events: Annotated[int, Field(ge=0)] = 0
    prior_events: Weight = 0.0

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.personal_from and self.item_table != "clustered":
            raise ValueError("personal_from needs items that are clustered")
        if self.personal_from and not 0 < self.cluster_steps <= self.personal_from:
            raise ValueError("personal_from must not come before cluster_steps end")
        if self.target == "click" and self.interaction == "dot" and self.nonnegative:
            raise ValueError("target=click needs scores below zero, too: nonnegative=false")
        if self.interaction in ("mlp", "neunmf") and self.width < LEAST_WIDTH:
            raise ValueError(f"interaction={self.interaction} halves the width: width={LEAST_WIDTH} at least")
        if self.interaction == "din" and self.full_batch:
            raise ValueError("interaction=din learns from batches: full_batch=false")
        if self.interaction == "din" and self.personal_from:
            raise ValueError("interaction=din has no vectors of items' own: personal_from=0")
        return self


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LiteConfig:
    """CEL-Lite.

    Attributes
    ----------
    width
        D.
    user_clusters, item_clusters
        Most clusters of each side.
    rate
        Step size of Adagrad.
    growth
        γ: an entity of n interactions is checked again at γ·n, so that checks cost a constant share.
    buffer
        Latest interactions that an entity is judged by.
    ring
        Latest interactions that are kept for all entities together.
    volume
        d: interactions of a cluster between two splits, or two searches for the clusters nearest to it.
    near, random
        Candidates of a check, besides the entity's own cluster: those nearest to it, and some drawn.
    residual
        Clusters learn what the means leave over, of either sign: rows start near 0. Without it a prediction
        is the product of rows alone, which are kept at 0 or above: labels have a mean above 0 then.
    seed
        Of everything drawn.
    column
        Number that is foretold: ``rating``, or any other column of numbers that the data has.
    batch
        Interactions that are learned together.
    """

    width: Count = 16
    user_clusters: Count = 50
    item_clusters: Count = 50
    rate: Annotated[float, Field(gt=0)] = 0.02
    growth: Annotated[float, Field(gt=1)] = 1.5
    buffer: Count = 50
    ring: Count = 1_000_000
    volume: Count = 1000
    near: Annotated[int, Field(ge=0)] = 8
    random: Annotated[int, Field(ge=0)] = 8
    residual: bool = True
    seed: Annotated[int, Field(ge=0)] = 0
    column: str = "rating"
    batch: Count = 16


def default() -> tuple[CELConfig, TrainingOptions]:
    """The paper's constants; who has few events is served nearer to the mean, as was better on validation."""
    config, options = paper()
    return replace(config, prior_events=2.0), options


def paper() -> tuple[CELConfig, TrainingOptions]:
    """The constants of the authors' code, without its last stage: items clustered, users in full, NMF."""
    options = TrainingOptions(
        epochs=20, learning_rate=1.25e-4, warmup=0, final_rate=1, clip=0, patience=0, precision="float32"
    )
    return CELConfig(), options


def deep() -> tuple[CELConfig, TrainingOptions]:
    """A deep interest network for clicks, in batches; users and items clustered."""
    config = CELConfig(
        width=16,
        user_table="clustered",
        interaction="din",
        optimizer="adam",
        full_batch=False,
        nonnegative=False,
        target="click",
        decay=0,
        shrinkage=0,
        averaging="record",
        split_every=0,
        reassign_every=100,
        reassign_at="growing",
        damping=0,
        cluster_steps=0,
    )
    options = TrainingOptions(
        epochs=5, batch_size=1024, learning_rate=0.01, warmup=0, final_rate=0.1, clip=0, precision="float32"
    )
    return config, options


PRESETS = {"default": default, "paper": paper, "deep": deep}
