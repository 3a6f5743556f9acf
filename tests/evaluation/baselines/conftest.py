"""Random histories with ties, and the answers of a shop of two tastes."""

import numpy as np
import pytest

from polyvec.data.dataset import MICROSECONDS_PER_DAY as DAY
from polyvec.data.dataset import Dataset
from polyvec.data.split import cut
from polyvec.evaluation.metrics import recall
from polyvec.evaluation.tasks.matching import questions

CUTOFF = 100 * DAY


@pytest.fixture(scope="session")
def random_dataset():
    """Thirty users, 25 items; user 7 bought after the cut-off alone, repeats and items nobody had abound."""
    generator = np.random.default_rng(5)
    rows = [
        (f"u{user:02d}", f"i{int(generator.integers(0, 25) ** 2 / 25):02d}", int(day) * DAY)
        for user in range(30)
        for day in generator.integers(100 if user == 7 else 1, 130, generator.integers(1, 12))
    ]
    return Dataset.from_rows([*rows, ("u00", "i24", 120 * DAY)])


@pytest.fixture(scope="session")
def random_windows(random_dataset):
    return cut(random_dataset, CUTOFF, 365, 30)


@pytest.fixture(scope="session")
def altered_future(random_dataset):
    """The same data with other events from the cut-off on: (Dataset, windows)."""
    rows = []
    for user in range(random_dataset.num_users):
        for event in range(*random_dataset.user_offsets[user : user + 2]):
            now = int(random_dataset.times[event])
            item = random_dataset.item_rows[event] if now < CUTOFF else 3
            name = random_dataset.items.ids([item])[0]
            rows.append((f"u{user:02d}", name, now))
    altered = Dataset.from_rows([*rows, *[("u05", "i24", CUTOFF)] * 40], random_dataset.item_table)
    return altered, cut(altered, CUTOFF, 365, 30)


@pytest.fixture(scope="session")
def bought(random_dataset, random_windows):
    """Sets of item rows that each user had before the cut-off, counted one by one."""
    return [
        {int(item) for item in random_dataset.item_rows[start:stop]}
        for start, stop in zip(random_windows.history_start, random_windows.history_end, strict=True)
    ]


@pytest.fixture(scope="session")
def taste_recall(taste_shop):
    """Recall@20 of a ranker made by a function of (Dataset, windows), where tastes are all there is."""
    dataset, _, _ = taste_shop

    def measure(make):
        question = questions(dataset, CUTOFF, 365, 30)[0]
        ranker = make(dataset, cut(dataset, CUTOFF, 365, 30))
        return float(np.mean(recall(ranker.rank(question.windows.user_rows, 20), question.targets, 20)))

    return measure
