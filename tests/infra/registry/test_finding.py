"""Which version a person means: by the beginning of its name, or by its place."""

from __future__ import annotations

import pytest

from configs.errors import ChampionMissingError, NotFoundError
from infra.registry import find_version
from infra.registry.promotion_log import Promotion
from infra.version_names import short_version

A = "20261129T121055Z-0123456789abcdef0123456789abcdef"
B = "20261129T121055Z-ffff456789abcdef0123456789abcdef"
C = "20261130T080000Z-0123456789abcdef0123456789abcdef"


class Registry:
    """The names and the log that `find_version` asks for."""

    def __init__(self, names: list[str], champions: list[str]) -> None:
        self._names, self._champions = names, champions

    def version_names(self, name: str) -> list[str]:
        return self._names

    def history(self, name: str) -> list[Promotion]:
        return [
            Promotion(number, name, version, None, "promote", "", "", "", "", None)
            for number, version in enumerate(self._champions, 1)
        ]

    def newest(self, name: str) -> Promotion | None:
        return (self.history(name) or [None])[-1]


def find(asked: str, names: list[str] = [A, B, C], champions: list[str] = [A, C]) -> str:  # noqa: B006 - not changed
    return find_version(Registry(names, champions), "movie-ranker", asked)  # type: ignore[arg-type]


def test_a_name_its_beginning_and_its_place_are_found() -> None:
    assert find(A) == A
    assert find("20261130") == find("20261130T080000Z") == find("latest") == find("champion") == C
    assert find("20261129T121055Z-0") == find("previous") == A


def test_the_short_form_that_is_shown_is_found() -> None:
    for name in (A, B, C):
        assert find(short_version(name, [A, B, C])) == name


def test_a_beginning_that_fits_several_is_refused_with_the_candidates() -> None:
    with pytest.raises(NotFoundError) as refused:
        find("20261129T121055Z")
    candidates = ", ".join(short_version(name, [A, B, C]) for name in (A, B))
    assert str(refused.value) == (
        f"20261129T121055Z may be any of 2 versions: {candidates}. Write more of the one that you mean."
    )


def test_what_fits_nothing_is_refused_with_what_exists_and_the_next_command() -> None:
    with pytest.raises(
        NotFoundError, match=r"There is no version 2025 .* The newest are 20261130T080000Z, .*`recsys model list`"
    ):
        find("2025")
    with pytest.raises(NotFoundError, match=r"There is no version  of the model"):
        find("")
    with pytest.raises(NotFoundError, match=r"It has none yet: `recsys retrain` makes the first\."):
        find("latest", [], [])


def test_a_place_that_nobody_has_is_refused() -> None:
    with pytest.raises(ChampionMissingError, match="movie-ranker has no champion yet"):
        find("champion", [A], [])
    with pytest.raises(ChampionMissingError, match="has had only one champion"):
        find("previous", [A], [A])
