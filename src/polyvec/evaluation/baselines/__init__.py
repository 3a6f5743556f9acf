"""Simple methods that stand beside every number: counters, item-to-item weights, matrix factorisation.

All of them learn from the history of the windows they are given and from nothing else.
:func:`polyvec.evaluation.baselines.standard.standard_rankers` makes all that a Dataset allows.
"""

from polyvec.evaluation.baselines.counting import (
    PERSONAL_FREQUENCY,
    FilledUp,
    PersonalFrequency,
    Popularity,
    counting_baselines,
    counting_rankers,
    fill_up,
    repeats_first,
)

__all__ = [
    "PERSONAL_FREQUENCY",
    "FilledUp",
    "PersonalFrequency",
    "Popularity",
    "counting_baselines",
    "counting_rankers",
    "fill_up",
    "repeats_first",
]
