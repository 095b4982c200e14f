"""Latent semantic analysis of texts: the vectors that linear hashes of texts are given in the literature.

Principal components of tf-idf as it is are a weak baseline; those of its 256 leading singular directions, every text
brought to unit length there, are the strong one (Deerwester et al., JASIS 1990). What words count is fixed here, so
that the baseline does not move with the models' own preprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..data import Dataset
from ..errors import DataError
from .protocol import Protocol

DIMENSIONS = 256
_WORDS = 10_000
_FEW = 1000
"""Among fewer texts than this a word may be of use that is in one of them only."""


def as_vectors(protocol: Protocol) -> Protocol:
    """The protocol with its texts as rows of `DIMENSIONS` numbers of unit length, fitted on its database.

    Fewer numbers where the texts have no more to tell. Raises `DataError` where they share no words.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts: Sequence[str] = list(protocol.database.items)
    words = TfidfVectorizer(
        max_features=_WORDS,
        stop_words="english",
        token_pattern=r"[a-zA-Z]{3,}",
        min_df=3 if len(texts) >= _FEW else 1,
        max_df=0.5,
        dtype=np.float32,
    )
    try:
        counts = words.fit_transform(texts)
    except ValueError as error:
        raise DataError(f"no vocabulary can be made of these texts: {error}") from None
    directions = TruncatedSVD(min(DIMENSIONS, min(counts.shape) - 1), random_state=0)
    database = _with_vectors(protocol.database, directions.fit_transform(counts))
    if protocol.queries is protocol.database:
        queries = database
    else:
        queries = _with_vectors(protocol.queries, directions.transform(words.transform(protocol.queries.items)))
    return Protocol(protocol.name, protocol.description, database, queries, protocol.leave_out)


def leading(vectors: Dataset, dimensions: int) -> Dataset:
    """`vectors` with their first `dimensions` numbers only, at unit length again."""
    return _with_vectors(vectors, np.asarray(vectors.items)[:, :dimensions])


def _with_vectors(data: Dataset, rows: NDArray[np.float32]) -> Dataset:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    items = (rows / np.maximum(lengths, 1e-9)).astype(np.float32)
    return Dataset(data.name, "vector", items, data.ids, data.labels)
