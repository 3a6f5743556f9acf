"""EASE: the best linear model that foretells each item of a history from the others, in closed form.

Source: H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8.
Shapes: **U** users, **N** items of the Dataset, **n** items that somebody had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from polyvec.errors import DataError, UsageError
from polyvec.evaluation.baselines.item_to_item import ItemToItem, known_items

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from scipy.sparse import csr_array

MOST_ITEMS = 20_000  # n² numbers of 8 bytes and of 4: 4.5 GiB; about n³ multiplications
NUMBERS_AT_ONCE = 2**23


def ease(histories_UN: csr_array, l2: float) -> ItemToItem:
    """Rank by the sum of EASE's weights from the user's items to the candidate.

    Parameters
    ----------
    histories_UN
        :func:`polyvec.evaluation.baselines.item_to_item.history_matrix`.
    l2
        λ, above 0: to be chosen on validation. It grows with the number of users; the paper's are 200 to
        1000.

    Raises
    ------
    UsageError
        If λ is not above 0, or so small that nothing can be inverted.
    DataError
        If more than :data:`MOST_ITEMS` items were had by somebody.
    """
    items_n = known_items(histories_UN)
    if len(items_n) > MOST_ITEMS:
        raise DataError(
            f"EASE of {len(items_n)} items needs {len(items_n) ** 2 * 12 / 2**30:.0f} GiB",
            expected=f"at most {MOST_ITEMS} items with events",
            mend="leave EASE out, or look at fewer items",
        )
    return ItemToItem(histories_UN, items_n, weights(histories_UN[:, items_n], l2))


def weights(histories_Un: csr_array, l2: float) -> npt.NDArray[np.float32]:
    """Item-to-item weights B of least ``‖X − XB‖² + λ‖B‖²`` with ``diag(B) = 0``, float32 ``[n, n]``.

    With ``P = (XᵀX + λI)⁻¹`` they are ``B[i, j] = −P[i, j] / P[j, j]``. The inverse is taken in float64: its
    condition number is about the most frequent item's users over λ times the number of items, up to 10⁶ in
    practice, which would leave one digit of float32's seven. The weights themselves need no more than
    float32.

    Raises
    ------
    UsageError
        If λ is not above 0, or so small that nothing can be inverted.
    """
    # the largest eigenvalue of XᵀX is at most its trace, which is the number of ones in X
    least = np.finfo(np.float64).eps * histories_Un.nnz
    if not l2 > least:
        raise UsageError(f"λ is {l2}", expected=f"a number above {least:.0e}, for this data")
    matrix_nn = _gram(histories_Un)
    np.fill_diagonal(matrix_nn, matrix_nn.diagonal() + l2)
    inverse_nn = _invert(matrix_nn)
    diagonal_n = inverse_nn.diagonal()
    weights_nn = np.empty(inverse_nn.shape, np.float32)
    for rows in _blocks(len(weights_nn)):
        # one triangle is filled, the other is zero: their sum is right but on the diagonal
        weights_nn[rows] = (inverse_nn[rows] + inverse_nn[:, rows].T) / -diagonal_n
    np.fill_diagonal(weights_nn, 0)
    return weights_nn


def _gram(histories_Un: csr_array) -> npt.NDArray[np.float64]:
    """``XᵀX``: users who had both items, float64 ``[n, n]``."""
    items_nU = histories_Un.T.tocsr()
    gram_nn = np.empty((items_nU.shape[0], items_nU.shape[0]))
    for rows in _blocks(len(gram_nn)):
        gram_nn[rows] = (items_nU[rows] @ histories_Un).toarray()
    return gram_nn


def _invert(matrix_nn: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Invert a symmetric positive definite matrix in its own memory; one triangle is filled, one zero."""
    # LAPACK counts columns first: the transpose of a symmetric matrix is the matrix, and lies as it wants it
    factor_nn, _ = dpotrf(matrix_nn.T, lower=1, clean=1, overwrite_a=1)
    inverse_nn: npt.NDArray[np.float64] = dpotri(factor_nn, lower=1, overwrite_c=1)[0]
    return inverse_nn


def _blocks(num_rows: int) -> Iterator[slice]:
    """Rows that hold so many numbers together as are wanted at once."""
    step = max(1, NUMBERS_AT_ONCE // max(num_rows, 1))
    return (slice(start, start + step) for start in range(0, num_rows, step))
