"""Features of users from what they bought, as one makes them of documents: TF-IDF, then SVD.

A user is a document. Its words are the items of the history, and the words of those items' titles.
Shapes: **W** windows, **N** items, **V** different words, **F** features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from polyvec.data.item_sets import expand_ranges

if TYPE_CHECKING:
    import numpy.typing as npt

    from polyvec.data.dataset import Dataset
    from polyvec.data.split import Windows

WIDTH = 64


def bought_words(
    dataset: Dataset, windows: Windows, width: int = WIDTH, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Describe each user by the items bought and by the words of their titles.

    Both are weighted as scikit-learn's ``TfidfVectorizer(sublinear_tf=True)`` does, over all windows given,
    and cut to their main directions by truncated SVD.

    Parameters
    ----------
    dataset
        Events, and titles where the catalogue has any.
    windows
        W windows; only their history is looked at.
    width
        Directions kept of the items, and as many of the words.
    seed
        Of the SVD's random projection.

    Returns
    -------
    numpy.ndarray
        float32 ``[W, F]``: up to ``width`` numbers of items, then up to ``width`` of words. Fewer where
        there are fewer items or words; zeros for users without history.
    """
    counts_WN = _item_counts(dataset, windows)
    kinds = [counts_WN, *_word_counts(dataset, counts_WN)]
    parts = [_directions(counts, width, seed) for counts in kinds]
    return np.concatenate(parts, axis=1)


def _item_counts(dataset: Dataset, windows: Windows) -> csr_array:
    """How often each item is in each history, ``[W, N]``."""
    owners, events = expand_ranges(windows.history_start, windows.history_end)
    place = (owners, np.asarray(dataset.item_rows[events]))
    return csr_array((np.ones(len(owners)), place), shape=(len(windows), dataset.num_items))


def _word_counts(dataset: Dataset, counts_WN: csr_array) -> list[csr_array]:
    """How often each word is in the titles of each history, ``[W, V]``; nothing if no title has a word."""
    if "title" not in dataset.item_table.columns:
        return []
    titles = dataset.item_table["title"].cast(pl.String).fill_null("").to_list()
    vectorizer = CountVectorizer()
    split = vectorizer.build_analyzer()
    if not any(split(title) for title in titles):
        return []
    return [counts_WN @ csr_array(vectorizer.fit_transform(titles))]


def _directions(counts: csr_array, width: int, seed: int) -> npt.NDArray[np.float32]:
    """TF-IDF of counts, projected on its main directions."""
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    most = min(width, *counts.shape)
    directions: npt.NDArray[np.float32] = TruncatedSVD(most, random_state=seed).fit_transform(weighted)
    return directions.astype(np.float32)
