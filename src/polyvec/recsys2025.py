"""Submissions of the RecSys Challenge 2025: user vectors in two arrays.

On disk, **U** users and **W** numbers per user (for polyvec's users C·D, one vector after another)::

    client_ids.npy    int64 [U], distinct
    embeddings.npy    float16 [U, W], W at most 2048, in the order of the ids

The rules are those of the validator that the organisers (Synerise) published with the challenge:
https://github.com/Synerise/recsys2025. It also wants the ids to be those of the challenge's
``relevant_clients.npy``, which only its own data can tell: that rule is not checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polyvec.errors import DataError
from polyvec.npy import read_npy

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from polyvec.ids import Vocabulary

CLIENT_IDS, EMBEDDINGS = "client_ids.npy", "embeddings.npy"
MOST_NUMBERS = 2048
ROWS_AT_ONCE = 65_536


def read_submission(folder: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]:
    """Map the two arrays of a submission into memory: client ids ``[U]`` and embeddings ``[U, W]``.

    Raises
    ------
    UsageError
        If a file is missing.
    DataError
        If a file cannot be read, or the validator would refuse the submission.
    """
    client_ids, embeddings = read_npy(folder / CLIENT_IDS), read_npy(folder / EMBEDDINGS)
    try:
        check_submission(client_ids, embeddings)
    except DataError as error:
        error.file = str(folder)
        raise
    return client_ids, embeddings


def check_submission(client_ids: npt.NDArray[Any], embeddings: npt.NDArray[Any]) -> None:
    """Refuse whatever the challenge's validator refuses.

    Parameters
    ----------
    client_ids
        To be int64 ``[U]``, distinct.
    embeddings
        To be float16 ``[U, W]``, W from 1 to 2048, finite.

    Raises
    ------
    DataError
        Naming the first rule that is broken, and the client where there is one.
    """
    _check_ids(client_ids)
    _check_array(EMBEDDINGS, embeddings, 2, np.dtype(np.float16))
    check_width(embeddings.shape[1])
    if len(client_ids) != len(embeddings):
        raise DataError(
            f"{len(embeddings):,} rows of embeddings for {len(client_ids):,} client ids", expected="one each"
        )
    for start in range(0, len(embeddings), ROWS_AT_ONCE):
        finite = np.isfinite(embeddings[start : start + ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise DataError(
                f"the embedding of client {client_ids[row]} is not finite",
                column=EMBEDDINGS,
                row=row + 1,
                expected="finite numbers",
            )


def check_width(numbers: int) -> None:
    """Refuse more numbers per user than a submission may have, or none.

    Raises
    ------
    DataError
        Saying by how much they are too many.
    """
    if not 1 <= numbers <= MOST_NUMBERS:
        excess = f", {numbers - MOST_NUMBERS:,} too many" if numbers else ""
        raise DataError(
            f"each user has {numbers:,} numbers{excess}",
            column=EMBEDDINGS,
            expected=f"1 to {MOST_NUMBERS:,} numbers (vectors per user times their width)",
            mend="train fewer or narrower vectors per user, or project them",
        )


def client_ids_of(users: Vocabulary) -> npt.NDArray[np.int64]:
    """Raw ids as the int64 of a submission; text that is exactly an integer is one.

    Raises
    ------
    DataError
        If an id is no integer of 64 bits, or is written otherwise than integers are (``007``).
    """
    numbers = users.series.cast(pl.Int64, strict=False)
    exact = numbers.cast(pl.String).eq_missing(users.series.cast(pl.String))
    if not exact.all():
        row = int((~exact).arg_true()[0])
        raise DataError(
            f"{users.name} {users.ids([row])[0]!r} is not an integer of 64 bits",
            column=users.name,
            row=row + 1,
            expected="integers without leading zeros: a submission has no other ids",
            mend="export as npy or parquet, which keep ids of every kind",
        )
    return numbers.to_numpy()


def _check_ids(client_ids: npt.NDArray[Any]) -> None:
    _check_array(CLIENT_IDS, client_ids, 1, np.dtype(np.int64))
    first_places = np.unique(client_ids, return_index=True)[1]
    if len(first_places) != len(client_ids):
        again = np.ones(len(client_ids), dtype=np.bool_)
        again[first_places] = False
        row = int(np.argmax(again))
        raise DataError(
            f"client {client_ids[row]} appears twice", column=CLIENT_IDS, row=row + 1, expected="distinct ids"
        )


def _check_array(name: str, array: npt.NDArray[Any], dimensions: int, dtype: np.dtype[Any]) -> None:
    if array.ndim != dimensions:
        raise DataError(
            f"{name} has {array.ndim} dimensions: {list(array.shape)}", column=name, expected=f"{dimensions}"
        )
    if array.dtype != dtype:
        raise DataError(f"{name} is of type {array.dtype}", column=name, expected=dtype.name)
