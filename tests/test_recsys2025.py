"""The rules of the RecSys Challenge 2025, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyvec.errors import DataError, UsageError
from polyvec.ids import Vocabulary
from polyvec.recsys2025 import MOST_NUMBERS, check_submission, client_ids_of, read_submission

IDS = np.array([5, -3, 2**62])
VECTORS = np.ones((3, 4), np.float16)


def with_nan(value: float) -> np.ndarray:
    vectors = VECTORS.copy()
    vectors[1, 2] = value
    return vectors


@pytest.mark.parametrize("width", [1, MOST_NUMBERS])
def test_a_submission_that_keeps_the_rules_passes(width: int) -> None:
    check_submission(IDS, np.ones((3, width), np.float16))
    check_submission(IDS[:0], np.ones((0, width), np.float16))


@pytest.mark.parametrize(
    ("client_ids", "embeddings", "what", "row"),
    [
        (IDS[:, None], VECTORS, r"client_ids.npy has 2 dimensions: \[3, 1\]", None),
        (np.array(3), VECTORS, "client_ids.npy has 0 dimensions", None),
        (IDS.astype(np.int32), VECTORS, "client_ids.npy is of type int32", None),
        (IDS.astype(np.float64), VECTORS, "client_ids.npy is of type float64", None),
        (np.array([7, 4, 7]), VECTORS, "client 7 appears twice", 3),
        (IDS, VECTORS[0], "embeddings.npy has 1 dimensions", None),
        (IDS, VECTORS[None], "embeddings.npy has 3 dimensions", None),
        (IDS, VECTORS.astype(np.float32), "embeddings.npy is of type float32", None),
        (IDS, np.ones((3, 2050), np.float16), "each user has 2,050 numbers, 2 too many", None),
        (IDS, VECTORS[:, :0], "each user has 0 numbers", None),
        (IDS[:2], VECTORS, "3 rows of embeddings for 2 client ids", None),
        (IDS, with_nan(np.nan), "the embedding of client -3 is not finite", 2),
        (IDS, with_nan(np.inf), "the embedding of client -3 is not finite", 2),
    ],
)
def test_each_rule_is_checked(
    client_ids: np.ndarray, embeddings: np.ndarray, what: str, row: int | None
) -> None:
    with pytest.raises(DataError, match=what) as caught:
        check_submission(client_ids, embeddings)
    assert caught.value.row == row
    assert caught.value.expected


def test_a_folder_is_read_as_the_validator_reads_it(tmp_path: Path) -> None:
    np.save(tmp_path / "client_ids.npy", IDS)
    with pytest.raises(UsageError, match=r"embeddings\.npy does not exist"):
        read_submission(tmp_path)
    np.save(tmp_path / "embeddings.npy", VECTORS)
    client_ids, embeddings = read_submission(tmp_path)
    assert np.array_equal(client_ids, IDS)
    assert np.array_equal(embeddings, VECTORS)
    np.save(tmp_path / "embeddings.npy", with_nan(np.nan))
    with pytest.raises(DataError, match="client -3") as caught:
        read_submission(tmp_path)
    assert caught.value.file == str(tmp_path)


def test_ids_become_integers_only_where_nothing_is_lost() -> None:
    assert client_ids_of(Vocabulary([5, -3, 2**62])).tolist() == IDS.tolist()
    assert client_ids_of(Vocabulary(["5", "-3"])).tolist() == [5, -3]
    for ids, wrong in [
        (["5", "007"], "'007'"),
        (["5", "ann"], "'ann'"),
        (["5", "+3"], r"'\+3'"),
        (["5", ""], "''"),
        ([5, 2**63], str(2**63)),
    ]:
        with pytest.raises(DataError, match=f"user_id {wrong} is not an integer of 64 bits") as caught:
            client_ids_of(Vocabulary(ids, "user_id"))
        assert caught.value.row == 2
