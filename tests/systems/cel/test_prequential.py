"""What a stream's figures count."""

from __future__ import annotations

import numpy as np
import pytest

from polyvec.systems.cel.prequential import squared_errors


def test_errors_are_told_by_half_and_by_how_well_entities_were_known():
    labels = np.array([1, 2, 3, 4, 5], np.float32)
    earlier = np.array([[0, 10, 9, 12, 30], [0, 10, 10, 3, 11]])
    figures = squared_errors({"exact": labels, "zero": np.zeros(5)}, labels, earlier)
    assert figures["all"] == {"interactions": 5, "exact": 0, "zero": 11}
    assert figures["last half"] == {"interactions": 3, "exact": 0, "zero": pytest.approx(50 / 3)}
    assert figures["warm"] == {"interactions": 2, "exact": 0, "zero": 14.5}
    assert figures["cold user"] == {"interactions": 2, "exact": 0, "zero": 5}
    assert figures["cold item"] == {"interactions": 2, "exact": 0, "zero": 8.5}


def test_where_nothing_is_counted_no_error_is_told():
    figures = squared_errors({"zero": np.zeros(0)}, np.zeros(0, np.float32), np.zeros((2, 0), np.int64))
    assert figures["warm"] == {"interactions": 0, "zero": None}
