"""ALS: users and items as vectors whose dot product says what was had, by the library ``implicit``.

Source: Y. Hu, Y. Koren, C. Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
Shapes: **U** users, **N** items of the Dataset, **D** factors.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from polyvec.embeddings import Embeddings
from polyvec.errors import UsageError
from polyvec.evaluation.baselines.counting import common_cutoff
from polyvec.evaluation.baselines.item_to_item import history_matrix, known_items

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows

MISSING = "the library implicit is not installed: pip install 'polyvec[als]'"


def als_installed() -> bool:
    """Whether the library ``implicit`` is there."""
    return find_spec("implicit") is not None


def als(
    dataset: Dataset,
    windows: Windows,
    *,
    factors: int,
    l2: float,
    alpha: float,
    iterations: int = 15,
    seed: int = 0,
) -> Embeddings:
    """Factorise who had what in the history windows.

    Parameters
    ----------
    dataset, windows
        Whose history is learned. Users without history and items that nobody had get no vectors.
    factors, l2, alpha
        D, weight of the vectors' squared length, and confidence that something which a user had was wanted
        (everything else has confidence 1). To be chosen on validation.
    iterations
        Rounds over users and items.
    seed
        Of the vectors that it starts from.

    Returns
    -------
    Embeddings
        One vector per user, score ``max_dot``. Threads do not change them.

    Raises
    ------
    UsageError
        If ``implicit`` is not installed.
    """
    if not als_installed():
        raise UsageError(MISSING)
    histories_UN = history_matrix(dataset, windows)
    users = np.flatnonzero(np.diff(histories_UN.indptr))
    items = known_items(histories_UN)
    matrix = csr_matrix(histories_UN[users][:, items])  # implicit takes no sparse arrays yet
    settings = {"factors": factors, "regularization": l2, "alpha": alpha, "iterations": iterations}
    users_UD, items_ND = _factorise(matrix, settings, seed)
    return Embeddings.from_arrays(
        dataset.users.take(users),
        users_UD,
        dataset.items.take(items),
        items_ND,
        score="max_dot",
        provenance={"system": "als", "seed": seed, **settings, **_until(dataset, windows)},
    )


def _factorise(
    matrix: csr_matrix, settings: dict[str, Any], seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    from implicit.cpu.als import AlternatingLeastSquares

    with threadpool_limits(
        1, "blas"
    ):  # implicit brings threads of its own; with BLAS's beside them it crawls
        model = AlternatingLeastSquares(**settings, random_state=seed)
        model.fit(matrix, show_progress=False)
    return model.user_factors, model.item_factors


def _until(dataset: Dataset, windows: Windows) -> dict[str, int]:
    """Tell the moment before which everything lies that was learned; nothing if it differs between users."""
    cutoff = common_cutoff(dataset, windows)
    return {} if cutoff is None else {"events_until": cutoff, "trained_until": cutoff}
