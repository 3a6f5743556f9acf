"""Vectors of items by word2vec, made before the tasks are learned: the paper's DUPN-w2v.

What a user did is a sentence, of which items are the words (section 6.1 of the paper). Ours is that every
field of the item is learned in this way, so that nothing of e is learned with the tasks; that words of titles
have the titles for sentences; and the settings, which are skip-gram's usual ones.

Source: T. Mikolov, K. Chen, G. Corrado, J. Dean, "Efficient Estimation of Word Representations in Vector
Space", 2013; the library ``gensim``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from polyvec.errors import UsageError
from polyvec.systems.dupn.features import some_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from polyvec.systems.dupn.features import Encoder
    from polyvec.systems.dupn.network import ItemTables

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float32]

MISSING = "the library gensim is not installed: pip install 'polyvec[word2vec]'"
WINDOW, NEGATIVES, EPOCHS = 5, 5, 5
LONGEST = 10_000  # of longer sentences gensim reads the beginning alone


def check_installed() -> None:
    """Refuse to go on without ``gensim``.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    if find_spec("gensim") is None:
        raise UsageError(MISSING)


@dataclass(frozen=True)
class Sentences:
    """Sentences of known words, which may be read many times.

    Attributes
    ----------
    words
        Row of every word, one sentence after the other; int64.
    offsets
        Where each sentence begins, and where the last one ends; int64.
    """

    words: Ints
    offsets: Ints

    def __iter__(self) -> Iterator[list[str]]:
        names = self.words.astype(str)
        for start, stop in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            for begin in range(start, stop, LONGEST):
                yield names[begin : min(begin + LONGEST, stop)].tolist()

    def only(self, known: npt.NDArray[np.bool_]) -> Sentences:
        """The same without the words that are not known."""
        before = np.concatenate([[0], np.cumsum(known)])
        return Sentences(self.words[known], before[self.offsets])


def pretrain(tables: ItemTables, encoder: Encoder, is_read: npt.NDArray[np.bool_], seed: int) -> None:
    """Write word2vec's vectors into the tables of an item's fields, title words and lists.

    Parameters
    ----------
    tables
        What is written to. Rows of what no event tells, row 0 among them, become zeros.
    encoder
        Of the log that is learned from.
    is_read
        Which of its events are, bool ``[E]``.
    seed
        Of the vectors; one thread makes them, so that they are the same again.
    """
    dataset = encoder.dataset
    before = np.concatenate([[0], np.cumsum(is_read)])
    rows, offsets = np.asarray(dataset.item_rows)[is_read], before[dataset.user_offsets]
    for table, codes_N in zip(tables.all_tables, encoder.catalogue.codes.T, strict=True):
        sentences = Sentences(codes_N[rows], offsets)
        _pretrain(next(table.parameters()), sentences.only(sentences.words > 0), seed)
    lists = [] if tables.words is None else [encoder.catalogue.words]
    for of_list, one in zip(tables.list_tables, (*lists, *encoder.catalogue.tags), strict=True):
        values, starts = some_of(*one, np.unique(rows))
        _pretrain(of_list.weight, Sentences(values, np.append(starts, len(values))), seed)


def vectors_of(sentences: Sentences, count: int, width: int, seed: int) -> Floats:
    """Skip-gram vectors of words 0 … count − 1, zeros of those in no sentence; float32 ``[count, width]``.

    Frequent words are not thinned out: of brands and categories all are frequent.
    """
    from gensim.models import Word2Vec

    vectors = np.zeros((count, width), np.float32)
    if len(sentences.words):
        model = Word2Vec(
            sentences, vector_size=width, window=WINDOW, negative=NEGATIVES, epochs=EPOCHS, sg=1, min_count=1,
            sample=0, workers=1, seed=seed,
        )  # fmt: skip
        vectors[[int(word) for word in model.wv.index_to_key]] = model.wv.vectors
    return vectors


@torch.no_grad()
def _pretrain(weight: torch.Tensor, sentences: Sentences, seed: int) -> None:
    count, width = weight.shape
    weight.copy_(torch.from_numpy(vectors_of(sentences, count, width, seed)))
