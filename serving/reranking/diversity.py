"""Maximal marginal relevance: a list of relevant items that differ from each other (Carbonell and Goldstein, SIGIR 1998)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["cosine_similarity", "jaccard_similarity", "maximal_marginal_relevance"]

WHOLE = 512  # pools up to this size are compared all with all at once; larger ones row by row, to save memory
FloatArray = npt.NDArray[np.float32]


def maximal_marginal_relevance(
    scores: FloatArray, features: FloatArray, above: FloatArray, count: int, *, weight: float, cosine: bool = False
) -> npt.NDArray[np.int64]:
    """Return places (<= count,) in the pool, in the order chosen.

    Each step chooses the item with the greatest (1 - weight) x relevance - weight x its greatest similarity to the items chosen
    before. Ties go to the earlier place. Relevance is the score, scaled over the pool to [0, 1].

    Args:
        scores: (m,) in descending order.
        features: (m, d) flags, or embeddings if `cosine` is set.
        above: (p, d) features of the items that are shown anyway; they count as chosen.
        count: Number of places to choose.
        weight: Weight of diversity against relevance, from 0 to 1.
        cosine: Compare by cosine instead of by Jaccard index.
    """
    m = len(scores)
    if m == 0:
        return np.empty(0, np.int64)
    similarity = cosine_similarity if cosine else jaccard_similarity
    spread = float(scores[0]) - float(scores[-1])
    relevance = (scores.astype(np.float64) - float(scores[-1])) / spread if spread > 0 else np.ones(m)
    gain = (1 - weight) * relevance
    closest = similarity(features, above).max(axis=1) if len(above) else np.zeros(m)
    if len(above) == 0 and cosine:
        closest = np.full(m, -1.0)  # cosines can be negative; the first choice is by relevance alone
    table = similarity(features, features) if m <= WHOLE else None
    chosen: list[int] = []
    for _ in range(min(count, m)):
        place = int((gain - weight * closest).argmax())
        chosen.append(place)
        gain[place] = -np.inf
        nearness = table[place] if table is not None else similarity(features, features[place : place + 1])[:, 0]
        np.maximum(closest, nearness, out=closest)
    return np.array(chosen, np.int64)


def jaccard_similarity(one: FloatArray, other: FloatArray) -> npt.NDArray[np.float64]:
    """Return (m, p) shared flags over all flags of two items, from flags (m, d) and (p, d); 0 if neither item has any."""
    both = (one @ other.T).astype(np.float64)
    either = one.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - both
    similarity: npt.NDArray[np.float64] = np.divide(both, either, out=np.zeros(both.shape, np.float64), where=either > 0)
    return similarity


def cosine_similarity(one: FloatArray, other: FloatArray) -> npt.NDArray[np.float64]:
    """Return (m, p) cosines of rows (m, d) and (p, d); 0 if a row is all zeros."""
    lengths = (np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)[None, :]).astype(np.float64)
    similarity: npt.NDArray[np.float64] = np.divide(
        one @ other.T, lengths, out=np.zeros(lengths.shape, np.float64), where=lengths > 0
    )
    return similarity
