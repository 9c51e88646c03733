"""Turns a model's scores into the list that is shown: filters, business rules, diversity, and which rule affected which item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from configs.errors import RequestInvalidError, RequestRefusedError
from configs.loading import read_settings_file, settings_in
from configs.serving import AttributeValue, RuleFile
from models.pruning import UserScores
from models.top_k import spread
from serving.catalogue import Catalogue
from serving.reranking.diversity import maximal_marginal_relevance
from serving.reranking.masks import CatalogueRules, Shape
from serving.reranking.scored import Scan, Search
from serving.watched_file import WatchedFile

__all__ = ["DIVERSITY", "RankRequest", "Ranking", "Rules", "asked_attribute"]

DIVERSITY = "diversity"  # reported for items that diversity brought in
ROUNDING = 1e-9  # a tenth of 10 items is one
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
NONE: IntArray = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class RankRequest:
    """The request for one list. Items are indices into the catalogue."""

    k: int = 10
    history: IntArray = field(default_factory=lambda: NONE)  # items of the user's events, in any order
    genres: Sequence[str] = ()  # items with any of them; empty for all
    years: tuple[int | None, int | None] | None = None  # first and last, both inclusive
    exclude: IntArray = field(default_factory=lambda: NONE)
    now: int = 0  # UTC seconds; decides which rules are active
    events: int | None = None  # number of all the user's events, if more than `history` holds
    attributes: Sequence[tuple[str, Sequence[AttributeValue]]] = ()  # as in a rule; items must have all of them


@dataclass(frozen=True, eq=False)
class Ranking:
    """The list, best first. It is shorter than requested if the filters leave too few items."""

    items: IntArray  # (m,) indices, m <= k
    scores: FloatArray  # (m,) the model's scores with boosts; not in order if pins or diversity moved items
    applied_rules: list[list[str]]  # m lists with the names of the rules that brought the item in or moved it
    left_out: dict[str, int]  # number of catalogue items that each active exclusion removes, whatever their score


class Rules:
    """The rules of one file. Immutable and thread-safe; use `watch` to follow a file."""

    def __init__(self, file: RuleFile | None = None) -> None:
        self.file = file or RuleFile()
        self._compiled: WeakKeyDictionary[Catalogue, CatalogueRules] = WeakKeyDictionary()

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Load the rules of a YAML file.

        Raises:
            SettingsError: If the file is invalid; names the file, the key and the value.
        """
        return cls(settings_in(RuleFile, read_settings_file(path), path))

    @classmethod
    def watch(
        cls, path: Path, *, settled_s: float = 1.0, prepare: Callable[[Rules], None] = lambda rules: None
    ) -> WatchedFile[RuleFile, Rules]:
        """Return a watched file. If it becomes invalid, the previous rules stay active.

        Args:
            path: The YAML file.
            settled_s: A file that is younger than this is read a second time before it is taken at the start.
            prepare: Called with changed rules before they become current.

        Raises:
            SettingsError: If the file is invalid; names the file, the key and the value.
        """
        return WatchedFile(path, RuleFile, cls, settled_s=settled_s, prepare=prepare)

    def unknown(self, catalogue: Catalogue) -> list[str]:
        """Return a sentence for each rule that names items, genres or attributes missing from this catalogue. They have no effect."""
        return self._for(catalogue).unknown()

    def warm(self, catalogue: Catalogue) -> None:
        """Do in advance what the first ranking of a catalogue would otherwise wait for."""
        self.rank(np.zeros(len(catalogue), np.float32), catalogue, RankRequest(k=1))

    def rank(
        self,
        scores: FloatArray | UserScores,
        catalogue: Catalogue,
        request: RankRequest,
        embeddings: npt.NDArray[np.float32] | None = None,
        *,
        scratch: bool = False,
    ) -> Ranking:
        """Rank the catalogue's items for one request.

        Items are ordered by score with boosts, then by diversity, and then pins are placed. Ties go to the lower index.

        Args:
            scores: (n,) the model's scores, or a user's in an indexed catalogue. Items whose score is not finite are never shown.
            catalogue: The items that the scores belong to.
            request: The number of items, the history and the filters.
            embeddings: (n, d) the model's item vectors, for `diversity.by: embeddings`. None or without columns if it has none.
            scratch: The scores are float32 and may be overwritten.

        Raises:
            RequestRefusedError: If a genre or an attribute is not in the catalogue.
            ValueError: If an array does not fit the catalogue.
        """
        n = len(catalogue)
        if not isinstance(scores, UserScores) and scores.shape != (n,):
            raise ValueError(f"scores have the shape {scores.shape} for {n} items")
        if request.k < 0:
            raise ValueError(f"k is {request.k}")
        compiled = self._for(catalogue)
        events = len(request.history) if request.events is None else request.events
        shape = compiled.shape(request.history, events, request.now)
        hides_seen = catalogue.schema.hides_seen if self.file.seen is None else self.file.seen == "hide"
        hidden = _hidden(request, n, hide_seen=hides_seen)
        allowed = _filter(compiled, catalogue, request)
        if isinstance(scores, UserScores) and not self._reads_all(shape):
            found: Scan | Search = Search(scores)
        else:
            dense = scores.all() if isinstance(scores, UserScores) else scores if scratch else scores.astype(np.float32)
            if shape.offset is not None:
                dense += np.float32(spread(dense)) * shape.offset
            bounded = None if self.file.max_new_share is None else int(self.file.max_new_share * request.k + ROUNDING)
            found = Scan(dense, compiled.new, bounded)
        pinned = _pins(shape, found, hidden, allowed, request.k)
        places = {item: (place, name, score) for place, item, name, score in pinned}
        found.close(shape, allowed, np.concatenate([hidden, np.array(list(places), np.int64)]))
        wanted = request.k - len(places)
        chosen, chosen_scores, brought = self._choose(found, wanted, compiled, np.array(list(places), np.int64), embeddings)
        items = list(map(int, chosen))
        shown = dict(zip(items, chosen_scores.tolist(), strict=True))
        for item, (place, _, score) in sorted(places.items(), key=lambda entry: entry[1][0]):
            items.insert(place, item)  # a place beyond the end appends the item
            shown[item] = score
        applied_rules = [
            [
                *([places[item][1]] if item in places else []),
                *shape.boosts_of(item),
                *([DIVERSITY] if item in brought else []),
            ]
            for item in items
        ]
        return Ranking(
            np.array(items, np.int64), np.array([shown[item] for item in items], np.float32), applied_rules, shape.left_out
        )

    def _reads_all(self, shape: Shape) -> bool:
        """Return whether all scores are needed: boosts depend on their spread, and a bound of new items on which of these are best."""
        return shape.offset is not None or self.file.max_new_share is not None

    def _choose(
        self,
        found: Scan | Search,
        wanted: int,
        compiled: CatalogueRules,
        pinned: IntArray,
        embeddings: npt.NDArray[np.float32] | None,
    ) -> tuple[IntArray, FloatArray, set[int]]:
        """Return the `wanted` items, their scores, and the items that are only among them because of diversity."""
        diversity = self.file.diversity
        if diversity.weight == 0 or wanted <= 0:
            return *found.best(wanted), set()
        pool, scores = found.best(max(wanted, diversity.pool))
        features, cosine = self._features(compiled, np.concatenate([pool, pinned]), embeddings)
        places = maximal_marginal_relevance(
            scores, features[: len(pool)], features[len(pool) :], wanted, weight=diversity.weight, cosine=cosine
        )
        chosen = pool[places]
        return chosen, scores[places], set(map(int, chosen)) - set(map(int, pool[:wanted]))

    def _features(
        self, compiled: CatalogueRules, items: IntArray, embeddings: npt.NDArray[np.float32] | None
    ) -> tuple[FloatArray, bool]:
        """Return what the items (m,) are compared by, (m, d), and whether it is compared by cosine."""
        by = self.file.diversity.by
        flags = compiled.similarity_flags(by)
        has_embeddings = embeddings is not None and embeddings.shape[1] > 0
        if by == "embeddings" and not has_embeddings:
            flags = compiled.similarity_flags("genres")
        if flags is not None:
            return flags(items), False
        if embeddings is not None and has_embeddings and by in ("embeddings", "genres"):
            return embeddings[items], True
        return np.zeros((len(items), 0), np.float32), False

    def _for(self, catalogue: Catalogue) -> CatalogueRules:
        found = self._compiled.get(catalogue)
        if found is None:  # two threads may both build it, with the same result
            found = self._compiled[catalogue] = CatalogueRules(self.file, catalogue)
        return found


def _hidden(request: RankRequest, n: int, *, hide_seen: bool) -> IntArray:
    parts = [np.asarray(part, np.int64) for part in ((request.history if hide_seen else NONE), request.exclude)]
    hidden = np.concatenate(parts)
    if len(hidden) and (hidden.min() < 0 or hidden.max() >= n):
        raise ValueError(f"history and exclude must be indices below {n}")
    return hidden


def _filter(compiled: CatalogueRules, catalogue: Catalogue, request: RankRequest) -> npt.NDArray[np.bool_] | None:
    """Return the items (n,) that pass the request's own filters, or None if it has no filters."""
    allowed: npt.NDArray[np.bool_] | None = None
    for genre in request.genres:
        column = compiled.genre_columns.get(genre)
        if column is None:
            raise RequestRefusedError(
                f"There is no genre {genre!r}. Known genres: {', '.join(compiled.genre_columns) or 'none'}."
            )
        allowed = column if allowed is None else allowed | column
    if request.years is not None:
        inside = compiled.within(*request.years)
        allowed = inside if allowed is None else allowed & inside
    for name, values in request.attributes:
        having = asked_attribute(catalogue, name, values)
        allowed = having if allowed is None else allowed & having
    return allowed


def asked_attribute(catalogue: Catalogue, name: str, values: Sequence[AttributeValue]) -> npt.NDArray[np.bool_]:
    """Return the items (n,) that have any of the values of an attribute, as a client asks for them.

    Raises:
        RequestRefusedError: If the catalogue does not have the attribute or a value of it.
        RequestInvalidError: If an attribute of numbers is not given two bounds.
    """
    attribute = catalogue.attributes.get(name)
    if attribute is None:
        known = ", ".join(catalogue.attributes) or "none"
        raise RequestRefusedError(f"There is no attribute {name!r}. Known attributes: {known}.")
    unknown = attribute.unknown(values)
    if unknown:
        raise RequestRefusedError(f"No {catalogue.schema.nouns.item} has the {name} {unknown[0]!r}.")
    try:
        return attribute.having(values)
    except ValueError as error:
        raise RequestInvalidError(f"The attribute {name} {error}.") from error


def _pins(
    shape: Shape, found: Scan | Search, hidden: IntArray, allowed: npt.NDArray[np.bool_] | None, k: int
) -> list[tuple[int, int, str, float]]:
    """Return place (from 0), item, rule and score of each pin that may be shown. Places and items are unique."""
    pinned: list[tuple[int, int, str, float]] = []
    if not shape.pins:
        return pinned
    closed, taken = set(map(int, hidden)), set()
    for wanted, item, name in shape.pins:
        out = item in closed or (shape.excluded is not None and bool(shape.excluded[item]))
        if out or (allowed is not None and not allowed[item]):
            continue
        score = found.of(item)
        if not np.isfinite(score):
            continue
        place = wanted
        while place in taken:
            place += 1
        if place < k:
            taken.add(place)
            closed.add(item)
            pinned.append((place, item, name, score))
    return pinned
