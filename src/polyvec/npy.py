"""``.npy`` files of anybody's as arrays: mapped, not loaded, and never unpickled."""

from __future__ import annotations

import tokenize
from typing import TYPE_CHECKING, Any

import numpy as np

from polyvec.errors import DataError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

UNREADABLE = (ValueError, TypeError, SyntaxError, EOFError, OverflowError, tokenize.TokenError)
"""What NumPy raises on files that hold Python objects, are damaged, or are no ``.npy`` files at all."""


def read_npy(path: Path) -> npt.NDArray[Any]:
    """Map the array in a file into memory, read-only.

    Raises
    ------
    UsageError
        If there is no such file.
    DataError
        If it is damaged, holds Python objects (they would have to be unpickled, which runs code), or is no
        ``.npy`` file.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist", file=path, expected="a .npy file")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except UNREADABLE as error:
        raise DataError(
            f"this is not an array of numbers or text: {error}",
            file=path,
            expected="a whole file written by numpy.save, without Python objects in it",
            mend="save vectors as array.astype('float32'), ids as array.astype('int64') or array.astype(str)",
        ) from error
