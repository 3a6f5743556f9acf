"""Arrays of anybody's: mapped, never unpickled, and refused with a reason."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from polyvec.errors import DataError, UsageError
from polyvec.npy import read_npy


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.zeros((0, 4), np.float16), np.array(["a", "b"])]
)
def test_what_numpy_saved_is_read_as_it_was(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    read = read_npy(tmp_path / "a.npy")
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def test_python_objects_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    np.save(tmp_path / "array.npy", np.array([trap], dtype=object))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(trap))
    for name in ("array.npy", "plain.npy"):
        with pytest.raises(DataError, match="this is not an array of numbers or text") as caught:
            read_npy(tmp_path / name)
        assert caught.value.file == str(tmp_path / name)
        assert "without Python objects" in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", a=np.ones(3))
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "short.npy", np.ones(100))
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:-8])
    for name in ("many.npz", "empty.npy", "short.npy"):
        with pytest.raises(DataError, match="this is not an array"):
            read_npy(tmp_path / name)
    with pytest.raises(UsageError, match=r"none\.npy does not exist"):
        read_npy(tmp_path / "none.npy")


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_a_damaged_header_never_ends_in_anything_but_an_error_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.ones((2, 3), np.float32))
    whole = file.read_bytes()
    refused = 0
    for position in range(128):
        for value in (0, 39, 123, 255):
            file.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                read_npy(file)
            except DataError:
                refused += 1
    assert refused > 100
