"""Consumer profile prediction: what is known of a user's person from the vectors? GUIM, section 4.2.2.

The C·D numbers of a user are the only features of a three-layer feed-forward network; its accuracy on users
held out is the answer. A linear probe, the majority class and a user's hand-made aggregates stand beside it.

Shapes: **B** users with a label, **F** features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl
from scipy.stats import t
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from polyvec.errors import DataError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

TEST_SHARE = 0.3
MOST_USERS = 200_000  # more are drawn from at random
LEAST_USERS = 20  # a class with fewer users is left out
MOST_CLASSES = 50
SEEDS = (0, 1, 2, 3, 4)
SCHEMA = {
    "label": pl.String,
    "features": pl.String,
    "probe": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "users": pl.Int64,
    "classes": pl.Int64,
}


class Classifier(Protocol):
    """What is needed of a scikit-learn classifier."""

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> object:
        """Learn."""
        ...

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probability of every class."""
        ...


def feed_forward(seed: int) -> Classifier:
    """Return the paper's probe: three connected layers, stopped early on a tenth of the training users."""
    network = MLPClassifier((128, 64), early_stopping=True, max_iter=200, random_state=seed)
    made: Classifier = make_pipeline(StandardScaler(), network)
    return made


def linear(seed: int) -> Classifier:
    """Return a logistic regression: what lies in the vectors without a network's help."""
    made: Classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, random_state=seed))
    return made


def boosting(seed: int) -> Classifier:
    """Return gradient boosted trees, the usual choice for hand-made features."""
    made: Classifier = HistGradientBoostingClassifier(
        max_iter=40, learning_rate=0.2, max_leaf_nodes=8, max_bins=32, random_state=seed
    )
    return made


def majority(seed: int) -> Classifier:
    """Return the probe that always names the most frequent class."""
    made: Classifier = DummyClassifier(strategy="prior", random_state=seed)
    return made


@dataclass(frozen=True, eq=False)
class Features:
    """Numbers that a probe may see, float32 ``[rows, F]``, and the probe's maker by its name."""

    numbers: npt.NDArray[np.float32]
    probes: Mapping[str, Callable[[int], Classifier]]


def profile(
    features: Mapping[str, Features], labels: pl.Series, seeds: Sequence[int] = SEEDS
) -> pl.DataFrame:
    """Predict one label of users from each kind of features.

    Parameters
    ----------
    features
        By name; row i of each belongs to the user of ``labels[i]``. :func:`of_vectors` makes them of vectors.
    labels
        One class per user, its name is the label's; null where it is not known.
    seeds
        One split into training (70 %) and test users (30 %, same classes' shares) and one start of the probe
        for each.

    Returns
    -------
    polars.DataFrame
        One row per ``label``, ``features``, ``probe`` and ``metric`` (``accuracy``, and ``auc``: for several
        classes the mean of one against the rest): ``value`` is the mean over seeds, ``low`` to ``high`` the
        95 % interval of that mean by Student's t; ``users`` and ``classes`` were counted.

    Raises
    ------
    DataError
        If the label has one class only, or more than 50.
    """
    rows, classes = _known_classes(labels)
    scores = [
        (name, probe, metric, seed_score)
        for name, one in features.items()
        for probe, make in one.probes.items()
        for metric, seed_score in _over_seeds(make, one.numbers[rows], classes, seeds)
    ]
    about = {"label": labels.name, "users": len(rows), "classes": int(classes.max()) + 1}
    table = [
        about | {"features": name, "probe": probe, "metric": metric} | _summary(values)
        for name, probe, metric, values in scores
    ]
    return pl.DataFrame(table, schema=SCHEMA)


def of_vectors(vectors_BCD: npt.NDArray[np.floating]) -> Features:
    """Use all C·D numbers of a user as features, for the paper's network, a linear probe and the majority."""
    flat = np.asarray(vectors_BCD, np.float32).reshape(len(vectors_BCD), -1)
    return Features(flat, {"majority class": majority, "linear": linear, "3-layer network": feed_forward})


def label_column(profiles: pl.DataFrame, name: str, user_ids: pl.Series) -> pl.Series:
    """Find the label of each user, null where the profiles do not tell.

    Raises
    ------
    DataError
        If there is no such column, or a user has two profiles.
    """
    for column in ("user_id", name):
        if column not in profiles.columns:
            raise DataError(
                f"the profiles have no column {column}", expected=nearest_name(column, profiles.columns)
            )
    if profiles["user_id"].is_duplicated().any():
        raise DataError("a user has two profiles", column="user_id", expected="one row per user")
    asked = pl.DataFrame({"user_id": user_ids.cast(pl.String)})
    told = profiles.select(pl.col("user_id").cast(pl.String), pl.col(name))
    return asked.join(told, on="user_id", how="left", maintain_order="left")[name]


def _known_classes(labels: pl.Series) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of users with a label of a class that is large enough, and their class from 0."""
    names = labels.cast(pl.String)
    sizes = names.drop_nulls().value_counts(name="users").filter(pl.col("users") >= LEAST_USERS)
    kept = sizes[names.name].sort().to_list()
    if not 2 <= len(kept) <= MOST_CLASSES:
        raise DataError(
            f"{len(kept)} classes have at least {LEAST_USERS} users with vectors",
            column=labels.name,
            expected=f"2 to {MOST_CLASSES} classes",
            mend="group the label's values, or bring profiles of more of the users",
        )
    numbers = names.replace_strict(kept, list(range(len(kept))), default=-1, return_dtype=pl.Int64)
    codes = numbers.fill_null(-1).to_numpy()
    rows = np.flatnonzero(codes >= 0)
    if len(rows) > MOST_USERS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_USERS, replace=False))
    return rows, codes[rows]


def _over_seeds(
    make: Callable[[int], Classifier],
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    seeds: Sequence[int],
) -> Iterator[tuple[str, list[float]]]:
    """Each metric's value on the test users of every seed."""
    scores = [_train_and_test(make(seed), x, y, seed) for seed in seeds]
    for metric in ("accuracy", "auc"):
        yield metric, [score[metric] for score in scores]


def _train_and_test(
    probe: Classifier, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], seed: int
) -> dict[str, float]:
    train, test = train_test_split(np.arange(len(y)), test_size=TEST_SHARE, stratify=y, random_state=seed)
    # on a busy machine these small fits are up to ten times slower with several threads than with one
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe stopped at its last round will do
        probe.fit(x[train], y[train])
        chances = probe.predict_proba(x[test])
    positive = chances[:, 1] if chances.shape[1] == 2 else chances
    return {
        "accuracy": float(accuracy_score(y[test], chances.argmax(axis=1))),
        "auc": float(roc_auc_score(y[test], positive, multi_class="ovr", average="macro")),
    }


def _summary(values: list[float]) -> dict[str, float]:
    """Mean over seeds and its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"value": mean}
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"value": mean, "low": mean - half, "high": mean + half}
