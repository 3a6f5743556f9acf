"""Two folders that change places in one step, where the system can: readers see the one or the other."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HERE = -100  # AT_FDCWD: a relative path begins at the working directory
SWAP = 2  # RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS


def exchange(one: Path, other: Path) -> bool:
    """Give each of two paths what stands at the other, in one step.

    Returns
    -------
    bool
        Whether it was done. Nothing has changed where it was not: the system or the file system cannot, or
        one of the paths does not exist.
    """
    sys.audit("os.rename", one, other, -1, -1)  # what os.rename, too, tells those who watch
    swap = _swap()
    return swap is not None and swap(os.fsencode(one), os.fsencode(other)) == 0


@cache
def _swap() -> Callable[[bytes, bytes], int] | None:
    """The system's own call, where it has one."""
    name = {"linux": "renameat2", "darwin": "renamex_np"}.get(sys.platform)
    call = getattr(ctypes.CDLL(None), name, None) if name else None
    if call is None:
        return None
    if name == "renameat2":
        return lambda one, other: int(call(HERE, one, HERE, other, SWAP))
    return lambda one, other: int(call(one, other, SWAP))
