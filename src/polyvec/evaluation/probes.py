"""Probes: small classifiers that tell what can be read off the features of users.

The same probes are asked of every kind of features, so that features are compared, not classifiers.

Shapes: **B** users, **F** features, **K** classes or labels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    Weights = tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]

HIDDEN = (128, 64)
MOST_EPOCHS = 200
PATIENCE = 10  # epochs without a lower loss of the users set aside
LEAST_CHANCE = 1e-7  # keeps logarithms finite
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
MOST_TREES = 200


class Probe(Protocol):
    """What is needed of a classifier; scikit-learn's have it.

    ``y`` holds a class from 0 per user, int64 ``[B]``, or which of several labels hold, bool ``[B, K]``.
    """

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[Any]) -> object:
        """Learn."""
        ...

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """Score of every class or label, ``[B, K]``; higher where it is likelier."""
        ...


class FeedForward:
    """The paper's probe (GUIM, section 4.2.2): three connected layers. For classes and for labels.

    A tenth of the training users is set aside, and the weights with the lowest log loss on them are kept:
    accuracy would stop before anything is learned where one class is frequent.

    Parameters
    ----------
    seed
        Of the weights, the users set aside and the order of batches.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._is_one_label = False
        self._scaler = StandardScaler()
        self._network = MLPClassifier(HIDDEN, batch_size=128, random_state=np.random.RandomState(seed))

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[Any]) -> FeedForward:
        """Learn until the loss has not fallen for ten epochs."""
        x = self._scaler.fit_transform(x)
        self._is_one_label = y.ndim == 2 and y.shape[1] == 1
        y = (
            y[:, 0].astype(np.int64) if self._is_one_label else y
        )  # scikit-learn takes one label for two classes
        order = np.random.default_rng(self._seed).permutation(len(x))
        aside, rest = np.split(order, [max(1, len(x) // 10)])
        self._network.batch_size = min(self._network.batch_size, len(rest))
        classes = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        best, waited = np.inf, 0
        weights: Weights = [], []
        for _ in range(MOST_EPOCHS):
            self._network.partial_fit(x[rest], y[rest], classes=classes)
            loss = _log_loss(y[aside], self._network.predict_proba(x[aside]))
            waited = 0 if loss < best else waited + 1
            if loss < best:
                best, weights = loss, _weights(self._network)
            if waited == PATIENCE:
                break
        self._network.coefs_, self._network.intercepts_ = weights
        return self

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """Probability of every class or label, ``[B, K]``."""
        chances_BK = self._network.predict_proba(self._scaler.transform(x))
        return chances_BK[:, 1:] if self._is_one_label else chances_BK


def _weights(network: MLPClassifier) -> Weights:
    return [one.copy() for one in network.coefs_], [one.copy() for one in network.intercepts_]


def _log_loss(y: npt.NDArray[Any], chances_BK: npt.NDArray[np.floating]) -> float:
    chances_BK = np.clip(chances_BK, LEAST_CHANCE, 1 - LEAST_CHANCE)
    if y.ndim == 1:
        return -float(np.log(chances_BK[np.arange(len(y)), y]).mean())
    return -float(np.where(y, np.log(chances_BK), np.log1p(-chances_BK)).mean())


class Ridge:
    """Linear probe for many labels at once: least squares with a penalty per label, chosen inside.

    One decomposition serves all labels, where a logistic regression needs one fit for each.
    """

    def __init__(self, _: int = 0) -> None:
        self._model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES, alpha_per_target=True))

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[Any]) -> Ridge:
        """Learn labels, ``[B, K]``."""
        self._model.fit(x, y.astype(np.float32))
        return self

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """Score of every label, ``[B, K]``; not held to lie between 0 and 1."""
        return self._model.predict(x).reshape(len(x), -1)


def linear(seed: int) -> Probe:
    """Return a logistic regression: what lies in the features without a network's help. For classes."""
    made: Probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, random_state=seed))
    return made


class Boosting:
    """Gradient boosted trees, the usual choice for hand-made features. For classes.

    At most 40 small trees per class, and fewer where there are many classes: each round grows one per class.

    Parameters
    ----------
    seed
        Of the trees.
    """

    def __init__(self, seed: int) -> None:
        self._trees = HistGradientBoostingClassifier(
            learning_rate=0.2, max_leaf_nodes=8, max_bins=32, early_stopping=False, random_state=seed
        )

    def fit(self, x: npt.NDArray[np.float32], y: npt.NDArray[Any]) -> Boosting:
        """Learn."""
        self._trees.set_params(max_iter=max(8, min(40, MOST_TREES // len(np.unique(y)))))
        self._trees.fit(x, y)
        return self

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """Probability of every class, ``[B, K]``."""
        return self._trees.predict_proba(x)


def majority(seed: int) -> Probe:
    """Return the probe that always names the most frequent class."""
    made: Probe = DummyClassifier(strategy="prior", random_state=seed)
    return made


NETWORK = "3-layer network"
CLASS_PROBES: Mapping[str, Callable[[int], Probe]] = {
    "linear": linear,
    NETWORK: FeedForward,
    "gradient boosting": Boosting,
}
"""For classes that exclude each other, two or more."""
LABEL_PROBES: Mapping[str, Callable[[int], Probe]] = {"linear": Ridge, NETWORK: FeedForward}
"""For many labels at once: trees would need a model per label."""


@dataclass(frozen=True, eq=False)
class Features:
    """Numbers that a probe may see.

    Attributes
    ----------
    numbers
        float32 ``[rows, F]``.
    probes
        Makers of probes for classes, by name. Several labels at once are always asked of
        :data:`LABEL_PROBES`.
    """

    numbers: npt.NDArray[np.float32]
    probes: Mapping[str, Callable[[int], Probe]] = field(default_factory=lambda: CLASS_PROBES)


def of_vectors(vectors_BCD: npt.NDArray[np.floating]) -> Features:
    """Use all C·D numbers of a user as features, and put the majority class beside the probes."""
    flat = np.asarray(vectors_BCD, np.float32).reshape(len(vectors_BCD), -1)
    return Features(flat, {"majority class": majority, **CLASS_PROBES})


def learn_and_score(
    probe: Probe,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[Any],
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> npt.NDArray[np.floating]:
    """Fit a probe on the training users and score the test users, ``[test, K]``."""
    # on a busy machine these small fits are up to ten times slower with several threads than with one
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe stopped at its last round will do
        probe.fit(x[train], y[train])
        return probe.predict_proba(x[test])
