"""An index of item vectors, and the scores of a user, which are computed only for the items that need them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from models.pruning.blocks import Blocks, Floats, blocks_of
from models.pruning.search import Found, IntArray, Question, search
from models.top_k import FEW, best

__all__ = ["ItemIndex", "ItemMask", "UserScores"]

TRIED = 32  # of so many items, one is scored at most before a scan of all items is likely to be faster
FEW_ALLOWED = 64  # if at most one of so many items is allowed, all of these are scored
SHORTEST, LONGEST = 1e-15, 1e15  # lengths of vectors whose products are far from the limits of float32
NONE: IntArray = np.empty(0, np.int64)
ALL = np.empty(0, np.bool_)


class ItemMask(NamedTuple):
    """The items that may be shown."""

    allowed: npt.NDArray[np.bool_] | None = None  # (n,) None for all
    closed: IntArray = NONE  # (m,) items that may not be shown, in any order


class ItemIndex:
    """Finds the items whose inner product with a user's vector can be among the greatest. Immutable and thread-safe."""

    def __init__(self, vectors: Floats, blocks: Blocks) -> None:
        self._vectors, self._blocks = vectors, blocks
        self._longest = float(blocks.norms.max())

    @classmethod
    def of(cls, vectors: Floats) -> Self | None:
        """Return the index of finite vectors (n, H). None if there are none, or if float32 hardly holds their products."""
        if not vectors.size:
            return None
        made = cls(vectors, blocks_of(vectors))
        return made if SHORTEST <= made._longest <= LONGEST else None

    @property
    def nbytes(self) -> int:
        """The bytes of memory that the index takes besides the vectors."""
        return sum(part.nbytes for part in self._blocks)

    def candidates(self, user: Floats, count: int, mask: ItemMask = ItemMask()) -> IntArray | None:  # noqa: B008 (immutable)
        """Return all items that can be among the `count` best of the mask for a user's vector (H,), in ascending order.

        None if a scan of all items is likely to be faster, or if the user's vector is not finite or of an unusual length.
        """
        length = float(np.linalg.norm(user.astype(np.float64)))
        if not SHORTEST <= length <= LONGEST or not 0 < count <= FEW:  # false if it is not a number
            return None
        n = len(self._vectors)
        room = n // TRIED + count
        closed = np.unique(mask.closed)
        if mask.allowed is not None and np.count_nonzero(mask.allowed) <= n // FEW_ALLOWED:
            found = np.flatnonzero(mask.allowed)
            return found[~np.isin(found, closed, assume_unique=True)]
        question = Question(user, ALL if mask.allowed is None else mask.allowed, closed)
        answer = Found(np.empty(count), np.empty(room, np.int32), np.empty(room))
        kept = search(self._vectors, self._blocks, question, answer, room)
        return None if kept < 0 else np.sort(answer.items[:kept]).astype(np.int64)


class UserScores:
    """A user's scores of all items. Only those that are asked for are computed."""

    def __init__(self, index: ItemIndex, user: Floats, scores_of: Callable[[Floats, IntArray | None], Floats]) -> None:
        """Ask a model.

        Args:
            index: The model's items.
            user: The user's vector (H,).
            scores_of: Returns the scores of some items (m,), or with None of all (n,), for a user's vector.
        """
        self._index, self._user, self._scores_of = index, user, scores_of

    def of(self, items: IntArray) -> Floats:
        """Return the scores (m,) of some items."""
        return self._scores_of(self._user, items)

    def all(self) -> Floats:
        """Return the scores (n,) of all items. The caller may overwrite them."""
        return self._scores_of(self._user, None)

    def best(self, count: int, mask: ItemMask) -> tuple[IntArray, Floats]:
        """Return the items (<= count,) of the mask with the greatest scores, best first, and their scores.

        The result is that of a scan of all items. Ties go to the lower index.
        """
        if count <= 0:
            return NONE, np.empty(0, np.float32)
        items = self._index.candidates(self._user, count, mask)
        if items is None:
            scores = self.all()
            if mask.allowed is not None:
                np.putmask(scores, ~mask.allowed, -np.inf)
            scores[mask.closed] = -np.inf
            items = best(scores, count)
            return items, scores[items]
        scores = self.of(items)
        places = best(scores, count)
        return items[places], scores[places]
