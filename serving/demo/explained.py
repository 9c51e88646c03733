"""Recommendations of one loaded version, with the reasons for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import CannotExportError
from configs.serving import AttributeValue
from infra.registry import ModelRef, ModelRegistry
from infra.storage import Store
from models.inference import REFIT_FILE
from models.loading import load_recommender
from models.recommender import Recommender, Requests
from serving.catalogue import Catalogue
from serving.engine import ColdStart
from serving.reranking import RankRequest, Rules, cosine_similarity, jaccard_similarity

__all__ = ["Explained", "Filters", "LoadedVersion", "Reason", "as_said"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
LEFT_OUT = 20  # latest events that are left out, one at a time, to measure what each contributes
ARTICLES = frozenset({"The", "A", "An", "Le", "La", "Les", "Il", "El", "Das", "Der", "Die"})


def as_said(title: str) -> str:
    """Return a title in natural word order: `The Godfather` for MovieLens's `Godfather, The`."""
    body, comma, article = title.rpartition(", ")
    return f"{article} {body}" if comma and article in ARTICLES else title


@dataclass(frozen=True)
class Filters:
    """Selects items by genre, year and attributes."""

    genres: Sequence[str] = ()  # items with any of these; empty for all
    years: tuple[int | None, int | None] | None = None  # first and last year, both inclusive
    attributes: Sequence[tuple[str, Sequence[AttributeValue]]] = ()  # items must have all of them


ALL = Filters()


@dataclass(frozen=True)
class Reason:
    """An event of the history and how it relates to an item."""

    title: str
    worth: float  # similarity from -1 to 1, or how much lower the score would be without the event


@dataclass(frozen=True)
class Explained:
    """One recommended item."""

    index: int
    item_id: int  # its number
    title: str
    year: int  # 0 = unknown
    tags: list[str]  # genres and attributes
    score: float
    popularity_rank: int  # 1: the item with the most events in the train part
    nearest: list[Reason]  # most similar items of the history, closest first
    because: list[Reason]  # latest events that raise its score most
    fired: list[str]


class LoadedVersion:
    """A version's model and catalogue, in this process. Scores use the full history, so any time and history can be tried."""

    def __init__(
        self, ref: ModelRef, model: Recommender, catalogue: Catalogue, embeddings: FloatArray | None, *, refit: bool = False
    ) -> None:
        self.ref, self.model, self.catalogue, self.embeddings = ref, model, catalogue, embeddings
        self.refit = refit  # whether the model has learnt the events that the evaluation held out
        self.nouns = catalogue.schema.nouns
        self._cold = ColdStart(catalogue)
        order = np.argsort(-catalogue.popularity, kind="stable")
        self.popularity_rank = np.empty(len(catalogue), np.int64)
        self.popularity_rank[order] = np.arange(1, len(catalogue) + 1)
        self._folded = [self.title(index).casefold() for index in range(len(catalogue))]

    @classmethod
    def load(cls, store: Store, ref: ModelRef, work_dir: Path, *, judged: bool = False) -> LoadedVersion:
        """Fetch the files that are served, or with `judged` those that were evaluated, check them against the manifest, and load them."""
        place = work_dir / ref.name / ref.version
        folder = ModelRegistry(store).fetch(ref, place / "judged" if judged else place, serving=not judged)
        model, catalogue = load_recommender(folder), Catalogue.load(folder)
        try:
            embeddings = model.item_vectors().cpu().numpy()
        except CannotExportError:
            embeddings = None
        return cls(ref, model, catalogue, embeddings, refit=(folder / REFIT_FILE).exists())

    def search(self, text: str, count: int = 12) -> list[int]:
        """Return the indices of items whose title, or else id, contains every word of the text, most popular first."""
        words = text.casefold().split()
        if not words:
            return []
        found = [i for i, title in enumerate(self._folded) if all(word in title for word in words)]
        return sorted(found, key=lambda i: self.popularity_rank[i])[:count]

    def onboarding(self, count: int, now: int) -> list[int]:
        """Return the indices of well-known items that differ."""
        return [int(item) for item in self._cold.onboarding(count, now)]

    def label(self, index: int) -> str:
        """Return the title and, if known, the year."""
        title = self.title(index)
        year = int(self.catalogue.years[index])
        return f"{title} ({year})" if year else title

    def title(self, index: int) -> str:
        """Return the title in natural word order, or the team's id if no title is known."""
        return as_said(self.catalogue.titles[index]) or self.unnamed(int(self.catalogue.item_ids[index]))

    def unnamed(self, item: int) -> str:
        """Return what an item without a title is called, by its number. The version need not know it."""
        if self.catalogue.external_ids is None:
            return f"{self.nouns.item} {item}"
        index = self.catalogue.index_of(item)
        return f"a {self.nouns.item} of unknown id" if index is None else self.catalogue.external_ids[index]

    def example(self) -> str:
        """Return some words to search for: those of the most popular item."""
        return " ".join(self.title(int(self.popularity_rank.argmin())).casefold().split()[:2])

    def tags(self, index: int) -> list[str]:
        """Return the genres of an item, and its attributes that are known."""
        known = {name: value for name, value in (self.catalogue.attributes_of(index) or {}).items() if value is not None}
        return [
            *self.catalogue.genres_of(index),
            *(f"{name}: {value:g}" if isinstance(value, float) else f"{name}: {value}" for name, value in known.items()),
        ]

    def scores(self, item_ids: IntArray, times: IntArray, asked_at: Sequence[int], user: int = -1) -> FloatArray:
        """Return the scores (len(asked_at), n) of one history at several request times."""
        return self._score([(item_ids, times, at) for at in asked_at], user)

    def recommend(
        self,
        item_ids: IntArray,
        times: IntArray,
        now: int,
        rules: Rules,
        *,
        k: int = 10,
        only: Filters = ALL,
        user: int = -1,
    ) -> list[Explained]:
        """Recommend items for a history, with reasons. An empty history gets the most popular items.

        Args:
            item_ids: (E,) numbers of the items of the history, oldest first.
            times: (E,) UTC seconds of its events.
            now: UTC seconds of the request.
            rules: Business rules for the ranking.
            k: Length of the list.
            only: The items to choose from.
            user: Id of the user, or -1 if there is none.
        """
        known = np.array([i for m in item_ids if (i := self.catalogue.index_of(int(m))) is not None], np.int64)
        scores = (
            self._score([(item_ids, times, now)], user)[0]
            if len(known)
            else self._cold.scores(now, only.genres, only.attributes).scores
        )
        request = RankRequest(k, known, only.genres, only.years, now=now, events=len(item_ids), attributes=only.attributes)
        ranking = rules.rank(scores, self.catalogue, request, self.embeddings)
        likeness = self._likeness(ranking.items, known)
        worth, left_out = self._worth(item_ids, times, now, scores, ranking.items, user)
        return [
            Explained(
                index=int(item),
                item_id=int(self.catalogue.item_ids[item]),
                title=self.title(int(item)),
                year=int(self.catalogue.years[item]),
                tags=self.tags(int(item)),
                score=float(ranking.scores[place]),
                popularity_rank=int(self.popularity_rank[item]),
                nearest=self._reasons(likeness[place], known),
                because=self._reasons(worth[place], left_out),
                fired=ranking.applied_rules[place],
            )
            for place, item in enumerate(ranking.items)
        ]

    def _score(self, rows: list[tuple[IntArray, IntArray, int]], user: int) -> FloatArray:
        lengths = [len(item_ids) for item_ids, _, _ in rows]
        requests = Requests(
            user_ids=np.full(len(rows), user, np.int64),
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            item_ids=np.concatenate([item_ids for item_ids, _, _ in rows]).astype(np.int64),
            timestamps=np.concatenate([times for _, times, _ in rows]).astype(np.int64),
            request_times=np.array([at for _, _, at in rows], np.int64),
            targets=np.zeros(len(rows), np.int64),
        )
        scores: FloatArray = self.model.scores(requests).float().cpu().numpy()
        return scores

    def _likeness(self, items: IntArray, history: IntArray) -> npt.NDArray[np.float64]:
        """Return (items, history) cosines in the model, or Jaccard indices of genres or attributes if the model has no item vectors."""
        if self.embeddings is not None:
            return cosine_similarity(self.embeddings[items], self.embeddings[history])
        flags = self.catalogue.features()
        return jaccard_similarity(flags[items], flags[history])

    def _worth(
        self, item_ids: IntArray, times: IntArray, now: int, scores: FloatArray, items: IntArray, user: int
    ) -> tuple[npt.NDArray[np.float64], IntArray]:
        """Return (items, events) how much each score would drop without each of the latest events, and those events' items."""
        latest = [p for p in range(len(item_ids)) if self.catalogue.index_of(int(item_ids[p])) is not None][-LEFT_OUT:]
        events = np.array([self.catalogue.index_of(int(item_ids[p])) for p in latest], np.int64)
        if len(item_ids) < 2 or not len(items) or not latest:
            return np.zeros((len(items), len(events))), events
        without = self._score([(np.delete(item_ids, p), np.delete(times, p), now) for p in latest], user)
        return (scores[None, items] - without[:, items]).T.astype(np.float64), events

    def _reasons(self, worth: npt.NDArray[np.float64], items: IntArray, count: int = 3) -> list[Reason]:
        found: dict[int, float] = {}
        for place in np.argsort(-worth, kind="stable"):
            if len(found) == count or worth[place] <= 0:
                break
            found.setdefault(int(items[place]), float(worth[place]))
        return [Reason(self.label(item), value) for item, value in found.items()]
