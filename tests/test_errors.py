from __future__ import annotations

import pytest

from polyvec.errors import (
    ArtifactError,
    DataError,
    PolyvecError,
    TrainingError,
    UsageError,
    nearest_name,
)


def test_text_names_what_where_expected_and_mend_in_this_order() -> None:
    error = DataError(
        "timestamp '31-31-2011' is not a date",
        file="events.csv",
        column="timestamp",
        row=12,
        expected="a date such as 2011-10-01",
        mend="correct the row or pass --quarantine",
    )
    assert str(error) == (
        "timestamp '31-31-2011' is not a date\n"
        "  where: events.csv, column timestamp, row 12\n"
        "  expected: a date such as 2011-10-01\n"
        "  mend: correct the row or pass --quarantine"
    )


def test_text_leaves_out_what_is_not_known() -> None:
    assert str(PolyvecError("no items")) == "no items"
    assert str(PolyvecError("no items", row=0)) == "no items\n  where: row 0"
    assert str(PolyvecError("no items", mend="add some")) == "no items\n  mend: add some"


def test_fields_can_be_read_by_programs() -> None:
    error = UsageError("x", file="a.csv", column="c", row=3, expected="y", mend="z")
    assert (error.what, error.file, error.column, error.row) == ("x", "a.csv", "c", 3)
    assert (error.expected, error.mend) == ("y", "z")


def test_every_kind_of_error_has_its_own_exit_code() -> None:
    kinds = [PolyvecError, UsageError, DataError, ArtifactError, TrainingError]
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5]
    assert all(issubclass(kind, PolyvecError) for kind in kinds)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("pirce", "did you mean 'price'?"),
        ("Title", "did you mean 'title'?"),
        ("zzz", "known: price, title"),
        ("", "known: price, title"),
    ],
)
def test_nearest_name_gives_the_probable_name_or_all_of_them(name: str, answer: str) -> None:
    assert nearest_name(name, iter(["price", "title"])) == answer
