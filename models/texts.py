"""Texts as bags of words, and the augmented views of them that contrastive hashing learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from . import views
from .errors import ArtefactDamaged, DataError
from .preprocessing import InputSpec, Rows
from .readers import Items

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

MAX_WORDS = 20_000
WordOrder = Sequence[NDArray[np.int32]]
"""For each text the places in the vocabulary of its words, in their order."""


class TextInput(InputSpec):
    """Texts as L2-normalised tf-idf over a vocabulary frozen at fitting."""

    kind = "text"
    likelihood = "multinomial"
    idf: Tensor

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.vocabulary = list(vocabulary)
        self.shape = (len(self.vocabulary),)
        self.register_buffer("idf", torch.ones(len(self.vocabulary)))
        self._tfidf: TfidfVectorizer | None = None
        self.spans = 0.0
        """The share of texts whose views are runs of consecutive words, and not words from anywhere."""

    @staticmethod
    def _vectorizer(**options: Any) -> TfidfVectorizer:
        # Imported here, as it takes longer than all the rest of a start, and only texts need it.
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Underscores part words, so that a query in plain words finds `read_lines`.
        return TfidfVectorizer(sublinear_tf=True, dtype=np.float32, token_pattern=r"[^\W_]{2,}", **options)

    @classmethod
    def fit(cls, items: Items, *, words: int = 10_000) -> Self:
        tfidf = cls._vectorizer(max_features=words, min_df=2 if len(items) > 100 else 1, max_df=0.5)
        try:
            tfidf.fit(items)
        except ValueError as error:
            raise DataError(f"no vocabulary can be made of these texts: {error}") from None
        spec = cls(tfidf.get_feature_names_out().tolist())
        spec.idf.copy_(torch.from_numpy(tfidf.idf_))
        return spec

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        words = config.get("vocabulary")
        if (
            not isinstance(words, list)
            or not all(isinstance(word, str) for word in words)
            or not 1 <= len(words) <= MAX_WORDS
            or len(set(words)) != len(words)
        ):
            raise ArtefactDamaged(f"the config needs a vocabulary of 1 to {MAX_WORDS} distinct words")
        return cls(words)

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "vocabulary": self.vocabulary}

    def example(self) -> str:
        return " ".join(self.vocabulary[:10])

    def rest(self, items: Items) -> csr_matrix:
        tfidf = self._tfidf
        if tfidf is None:  # once the buffer is loaded; seen by other threads only when it is whole
            tfidf = self._vectorizer(vocabulary=self.vocabulary)
            tfidf.idf_ = self.idf.cpu().numpy()
            tfidf.transform(["it builds its tables when it is first used"])
            self._tfidf = tfidf
        return tfidf.transform(items)

    def to_tensor(self, data: csr_matrix) -> Tensor:
        return torch.from_numpy(data.toarray())

    def view(self, x: Tensor) -> Tensor:
        """Without half of the words."""
        return views.drop(x, 0.5)

    def rows(self, items: Items) -> Rows:
        data = self.rest(items)
        return TextRows(data, self, self._order(items)) if self.spans else Rows(data, self)

    def views(self, data: csr_matrix) -> tuple[Tensor, Tensor]:
        """Two halves of each text that share no word."""
        first, second = halves(data)
        return self.to_tensor(first), self.to_tensor(second)

    def _order(self, items: Items) -> WordOrder:
        """The known words of each text in their order."""
        place = {word: at for at, word in enumerate(self.vocabulary)}
        split = self._vectorizer(vocabulary=self.vocabulary).build_analyzer()
        return [np.array([place[word] for word in split(item) if word in place], np.int32) for item in items]

    def weigh(self, counts: csr_matrix) -> csr_matrix:
        """Counts of words `(n, words)`, more than 0 each, as what `rest` would make of them."""
        out = counts.astype(np.float32)
        out.data = (1 + np.log(out.data)) * self.idf.cpu().numpy()[out.indices]
        return unit(out)

    def restore(self, x: Tensor) -> list[str]:
        """The twelve words that weigh most, heaviest first: a bag of words has no sentence to give back."""
        top = x.detach().topk(min(12, len(self.vocabulary)), dim=1).indices
        return [" ".join(self.vocabulary[word] for word in row) for row in top.tolist()]


class TextRows(Rows):
    """Texts at rest that also know the order of their words, for views that are runs of them."""

    def __init__(self, data: csr_matrix, input: TextInput, order: WordOrder) -> None:
        super().__init__(data, input)
        self._text, self._words = input, order

    def subset(self, places: NDArray[np.int64]) -> TextRows:
        return TextRows(self.data[places], self._text, [self._words[place] for place in places])

    def views(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """What comes before and what comes after a random place of a text, for a share of them; halves of the rest."""
        cut = torch.rand(len(places)).numpy() < self._text.spans
        pairs = [_sides(self._words[place]) for place in places[cut]]
        out = []
        for side, half in enumerate(halves(self.data[places])):
            x = self._text.to_tensor(half)
            x[torch.from_numpy(cut)] = self._text.to_tensor(
                self._text.weigh(_counts([pair[side] for pair in pairs], x.shape[1]))
            )
            out.append(x)
        return out[0], out[1]


def halves(rows: csr_matrix) -> tuple[csr_matrix, csr_matrix]:
    """Two versions of each row `(n, words)`, of unit length, each word in one of them; a row of one word stays whole.

    That two parts of a text come from one text tells their topic (Tosh, Krishnamurthy and Hsu, "Contrastive learning,
    topic models, and linear representations", JMLR 2021), and no word that both have can tell it for them.
    """
    first = torch.rand(len(rows.data)).numpy() < 0.5
    return _part(rows, first), _part(rows, ~first)


def _part(rows: csr_matrix, kept: NDArray[np.bool_]) -> csr_matrix:
    where = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    kept = kept | (np.bincount(where[kept], minlength=rows.shape[0]) == 0)[where]
    return unit(csr_matrix((rows.data * kept, rows.indices, rows.indptr), rows.shape))


def unit(rows: csr_matrix) -> csr_matrix:
    """Rows of unit length; empty ones stay so."""
    where = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    norms = np.sqrt(np.bincount(where, rows.data**2, rows.shape[0])).astype(np.float32)
    return csr_matrix((rows.data / np.maximum(norms, 1e-9)[where], rows.indices, rows.indptr), rows.shape)


def _sides(words: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The words before and after a place drawn from the middle half of the text; both are all where there are few."""
    if len(words) < 4:
        return words, words
    at = int(torch.randint(len(words) // 4, 3 * len(words) // 4 + 1, ()))
    return words[:at], words[at:]


def _counts(texts: WordOrder, words: int) -> csr_matrix:
    """How often each word occurs, `(len(texts), words)`."""
    where = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    key, count = np.unique(where * words + np.concatenate([*texts, np.empty(0, np.int32)]), return_counts=True)
    return csr_matrix((count, (key // words, key % words)), (len(texts), words))
