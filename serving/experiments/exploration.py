"""Shows some lists in an order that was drawn, and knows with which probability it shows each item.

A version can only be judged by the exposures of another one if these show some of its items. Exploration sees to that: a share of the
lists is drawn from the best items. Pinned items keep their places.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from random import Random
from typing import TypeVar

from configs.serving import Exploration

__all__ = ["chances", "explored", "mixed"]

Item = TypeVar("Item")
Id = TypeVar("Id", bound=Hashable)


def explored(ranking: Sequence[Item], k: int, pinned: Collection[int], exploration: Exploration, rng: Random) -> list[Item]:
    """Return the list of `k` items to show.

    Args:
        ranking: Items, best first; at least as many as are shown and drawn from, if there are so many.
        k: Length of the list.
        pinned: Places of the ranking that are not drawn for.
        exploration: The share of lists that are drawn, and what from.
        rng: Decides both.
    """
    shown = list(ranking[:k])
    if rng.random() >= exploration.share:
        return shown
    free, pool = _drawn_for(len(ranking), k, pinned, exploration)
    for place, chosen in zip(free, rng.sample(pool, len(free)), strict=True):
        shown[place] = ranking[chosen]
    return shown


def chances(ranking: Sequence[Id], k: int, pinned: Collection[int], exploration: Exploration | None) -> dict[Id, float]:
    """Return the probability with which `explored` shows each item that it may show. Without exploration, all are 1."""
    if exploration is None:
        return dict.fromkeys(ranking[:k], 1.0)
    free, pool = _drawn_for(len(ranking), k, pinned, exploration)
    found = dict.fromkeys(ranking[:k], 1.0)
    drawn = exploration.share * len(free) / len(pool) if pool else 0.0
    for place in pool:
        found[ranking[place]] = drawn
    for place in free:
        found[ranking[place]] = 1.0 - exploration.share + drawn
    return found


def mixed(parts: Iterable[tuple[float, Mapping[Id, float]]]) -> dict[Id, float]:
    """Return the probability of each item over several policies, each with its share."""
    found: dict[Id, float] = {}
    for share, part in parts:
        for item, chance in part.items():
            found[item] = found.get(item, 0.0) + share * chance
    return found


def _drawn_for(count: int, k: int, pinned: Collection[int], exploration: Exploration) -> tuple[list[int], list[int]]:
    """Return the places of the list that are drawn for, and the places of the ranking that are drawn from."""
    free = [place for place in range(min(k, count)) if place not in pinned]
    pool = [place for place in range(count) if place not in pinned][: max(exploration.pool, len(free))]
    return free, pool
