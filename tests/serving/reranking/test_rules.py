"""Rules rank as a plain oracle does that sorts everything, and each rule does what its file says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import RequestRefusedError, SettingsError
from configs.serving import Boost, Exclude, Pin, RuleFile
from models import top_k as top
from models.top_k import BLOCK, FEW, best, spread
from serving.catalogue import Catalogue
from serving.reranking import Ranking, RankRequest, Rules
from serving.reranking.rules import DIVERSITY

GENRES = ("Action", "Comedy", "Drama", "Western")
NOW = 1_750_000_000


def catalogue(n: int = 12, seed: int = 0) -> Catalogue:
    rng = np.random.default_rng(seed)
    return Catalogue(
        item_ids=np.arange(n, dtype=np.int64) * 3 + 10,
        titles=[f"Film {i}" for i in range(n)],
        years=rng.choice([0, 1980, 1990, 2000], n).astype(np.int64),
        genre_bits=rng.random((n, len(GENRES))) < 0.35,
        genres=GENRES,
        popularity=rng.integers(0, 6, n).astype(np.float64),
    )


def rules(**content: Any) -> Rules:
    return Rules(RuleFile.model_validate(content))


def listed(ranking: Ranking) -> list[int]:
    return [int(item) for item in ranking.items]


def oracle(file: RuleFile, scores: Any, films: Catalogue, request: RankRequest) -> tuple[list[int], list[list[str]]]:
    """The definition, item by item: everything is scored, sorted, and looked through."""

    def selected(where: Any, item: int) -> bool:
        own = set(films.genres_of(item))
        return (
            (where.items is None or int(films.item_ids[item]) in where.items)
            and (where.genres is None or bool(own & set(where.genres)))
            and (where.years is None or (films.years[item] > 0 and where.years[0] <= films.years[item] <= where.years[1]))
            and (where.min_popularity is None or films.popularity[item] >= where.min_popularity)
            and (where.max_popularity is None or films.popularity[item] <= where.max_popularity)
        )

    def meant(rule: Any) -> bool:
        who, events = rule.audience, len(request.history)
        if not rule.during.holds(request.now) or events < who.min_history:
            return False
        if who.max_history is not None and events > who.max_history:
            return False
        liked = [bool(set(films.genres_of(int(item))) & set(who.genres)) for item in request.history]
        return not who.genres or (events > 0 and sum(liked) / events >= who.genre_share)

    active = [rule for rule in file.rules if meant(rule)]
    scores = [value if math.isfinite(value) else -math.inf for value in scores]
    deviation = np.float32(spread(np.array(scores, np.float32)))
    hidden = {int(item) for item in request.exclude} | ({int(i) for i in request.history} if file.seen != "show" else set())
    final: dict[int, float] = {}
    open_to_pins: set[int] = set()
    boosts: dict[int, list[str]] = {}
    for item in range(len(films)):
        offset, boosts[item] = np.float32(0), []
        excluded = False
        for rule in active:
            if isinstance(rule, Boost) and selected(rule.where, item):
                offset += np.float32(rule.by)
                boosts[item].append(rule.name)
            excluded |= isinstance(rule, Exclude) and selected(rule.where, item)
        first, last = request.years or (None, None)
        year = int(films.years[item])
        fits = not request.genres or bool(set(films.genres_of(item)) & set(request.genres))
        if request.years is not None:
            fits = fits and year > 0 and (first is None or year >= first) and (last is None or year <= last)
        if not math.isfinite(scores[item]) or item in hidden or excluded or not fits:
            continue
        final[item] = float(np.float32(scores[item]) + deviation * offset)
        open_to_pins.add(item)
        if films.popularity[item] < file.min_popularity:
            del final[item]
    pins: dict[int, tuple[int, str]] = {}  # place -> item, rule
    for rule in active:
        if isinstance(rule, Pin):
            for step, movie in enumerate(rule.items):
                found = films.index_of(movie)
                if found in open_to_pins and found not in [item for item, _ in pins.values()]:
                    assert found is not None
                    place = rule.position - 1 + step
                    while place in pins:
                        place += 1
                    if place < request.k:
                        pins[place] = (found, rule.name)
    ordered = sorted((item for item in final if item not in [i for i, _ in pins.values()]), key=lambda item: (-final[item], item))
    if file.max_new_share is not None:
        new = [item for item in ordered if films.popularity[item] == 0][int(round(100 * file.max_new_share) * request.k // 100) :]
        ordered = [item for item in ordered if item not in new]
    wanted = request.k - len(pins)
    plain = ordered[:wanted]
    if file.diversity.weight > 0 and wanted > 0:
        plain = diverse(file, ordered[: max(wanted, file.diversity.pool)], final, films, [i for i, _ in pins.values()], wanted)
    brought = set(plain) - set(ordered[:wanted])
    shown, named = list(plain), dict(pins.values())
    for place in sorted(pins):
        shown.insert(place, pins[place][0])
    return shown, [
        [*([named[item]] if item in named else []), *boosts[item], *([DIVERSITY] if item in brought else [])] for item in shown
    ]


def diverse(
    file: RuleFile, pool: list[int], final: dict[int, float], films: Catalogue, above: list[int], wanted: int
) -> list[int]:
    weight, taken, left = file.diversity.weight, list(above), list(pool)
    if not pool:
        return []
    spread = final[pool[0]] - final[pool[-1]]
    chosen: list[int] = []

    def value(item: int) -> float:
        relevance = (final[item] - final[pool[-1]]) / spread if spread > 0 else 1.0
        own = set(films.genres_of(item))
        alike = [len(own & set(films.genres_of(i))) / (len(own | set(films.genres_of(i))) or 1) for i in taken]
        return (1 - weight) * relevance - weight * max(alike, default=0.0)

    while left and len(chosen) < wanted:
        values = [value(item) for item in left]
        item = left[values.index(max(values))]
        chosen.append(item)
        taken.append(item)
        left.remove(item)
    return chosen


movie = st.integers(0, 13).map(lambda i: i * 3 + 10)
genre = st.sampled_from([*GENRES, "Musical"])
selection = st.one_of(
    st.fixed_dictionaries({"items": st.lists(movie, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"genres": st.lists(genre, min_size=1, max_size=2)}, optional={"min_popularity": st.integers(0, 5)}),
    st.just({"years": [1985, 2000]}),
    st.fixed_dictionaries({"max_popularity": st.integers(0, 5)}),
)
condition = st.fixed_dictionaries(
    {},
    optional={
        "during": st.sampled_from([{"start": "2025-01-01T00:00:00Z"}, {"end": "2025-01-01T00:00:00Z"}]),
        "audience": st.sampled_from([{"min_history": 2}, {"max_history": 1}, {"genres": ["Drama"], "genre_share": 0.5}]),
    },
)
rule = st.one_of(
    st.fixed_dictionaries({"action": st.just("exclude"), "where": selection}),
    st.fixed_dictionaries({"action": st.just("boost"), "where": selection, "by": st.sampled_from([-3.0, -0.5, 0.5, 2.0])}),
    st.fixed_dictionaries(
        {"action": st.just("pin"), "items": st.lists(movie, min_size=1, max_size=3), "position": st.integers(1, 6)}
    ),
)


@st.composite
def rule_files(draw: st.DrawFn) -> RuleFile:
    made = [draw(rule) | draw(condition) | {"name": f"rule {i}"} for i in range(draw(st.integers(0, 4)))]
    return RuleFile.model_validate(
        {
            "seen": draw(st.sampled_from(["hide", "show"])),
            "min_popularity": draw(st.sampled_from([0, 2])),
            "max_new_share": draw(st.sampled_from([None, 0, 0.1, 0.3, 1])),
            "diversity": {"weight": draw(st.sampled_from([0, 0, 0.25, 0.75, 1])), "pool": draw(st.integers(1, 12))},
            "rules": made,
        }
    )


@st.composite
def rank_requests(draw: st.DrawFn) -> RankRequest:
    history = draw(st.lists(st.integers(0, 11), max_size=4))
    exclude = draw(st.lists(st.integers(0, 11), max_size=2))
    genres = draw(st.lists(st.sampled_from(GENRES), max_size=2))
    years = draw(st.sampled_from([None, (1985, None), (None, 1990), (1990, 1990)]))
    k = draw(st.integers(0, 14))
    return RankRequest(k, np.array(history, np.int64), genres, years, np.array(exclude, np.int64), NOW)


@pytest.mark.full
@given(
    file=rule_files(),
    # Few distinct scores, so that there are ties.
    scores=st.lists(st.sampled_from([0.0, 1.0, 2.0, 4.0, -8.0, float("nan"), float("inf")]), min_size=12, max_size=12),
    seed=st.integers(0, 5),
    request=rank_requests(),
)
@settings(max_examples=300)
def test_the_list_equals_the_oracles(file: RuleFile, scores: list[float], seed: int, request: RankRequest) -> None:
    films = catalogue(seed=seed)
    found = Rules(file).rank(np.array(scores, np.float32), films, request)
    wanted, applied = oracle(file, scores, films, request)
    assert listed(found) == wanted
    assert found.applied_rules == applied
    assert np.isfinite(found.scores).all() and len(found.scores) == len(wanted)


@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 1.5, np.inf, -np.inf, np.nan]), min_size=1, max_size=40),
    repeat=st.integers(1, 400),
    count=st.one_of(st.integers(0, 60), st.integers(FEW - 2, FEW + 60)),
    shuffled=st.booleans(),
)
@settings(max_examples=200)
def test_the_best_items_equal_those_of_a_sort_in_small_and_large_catalogues(
    scores: list[float], repeat: int, count: int, shuffled: bool
) -> None:
    values = np.repeat(np.array(scores, np.float32), repeat)
    if shuffled:
        np.random.default_rng(0).shuffle(values)
    order = sorted(np.flatnonzero(np.isfinite(values)).tolist(), key=lambda i: (-values[i], i))
    assert best(values, count).tolist() == order[:count]


@given(
    scores=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=30),
    spoilt=st.lists(st.sampled_from([np.nan, np.inf, -np.inf])),
)
def test_the_spread_is_the_standard_deviation_of_the_finite_scores(scores: list[float], spoilt: list[float]) -> None:
    wanted = float(np.std(np.array(scores)))
    found = spread(np.array([*scores, *spoilt], np.float32))
    least = float(np.finfo(np.float32).tiny)  # compiled code may take smaller numbers for 0
    assert found == pytest.approx(wanted, rel=1e-3, abs=max(least, 1e-6 * max(map(abs, scores))))
    assert spread(np.array(spoilt, np.float32)) == 0


def test_the_best_items_are_found_wherever_they_lie_in_a_large_catalogue() -> None:
    values = np.random.default_rng(0).permutation(20 * BLOCK + 7).astype(np.float32)
    for count in (1, 10, FEW, FEW + 1):
        assert best(values, count).tolist() == np.argsort(-values)[:count].tolist()


def test_the_kernel_finds_the_same_as_python_and_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).choice([0, 1, 2, 3, np.inf, -np.inf, np.nan], 3 * BLOCK).astype(np.float32)
    found = best(values, 40).tolist()
    monkeypatch.setattr(top, "_best", top._best.py_func)
    assert best(values, 40).tolist() == found


def test_a_boost_means_the_same_whatever_unit_the_model_scores_in() -> None:
    films = catalogue(200)
    scores = np.random.default_rng(1).normal(size=200).astype(np.float32)
    made = rules(rules=[{"name": "new", "action": "boost", "where": {"years": [1990, 2000]}, "by": 1.0}])
    plain = listed(made.rank(scores, films, RankRequest(20)))
    assert plain == listed(made.rank(scores * np.float32(1024), films, RankRequest(20)))
    assert plain != listed(Rules().rank(scores, films, RankRequest(20)))


def test_a_pin_overrides_popularity_but_no_seen_item_exclusion_or_filter() -> None:
    films = catalogue()
    target = int(films.item_ids[4])
    scores = np.arange(12, dtype=np.float32)
    pin = {"name": "editor", "action": "pin", "items": [target], "position": 2}
    shown = rules(min_popularity=99, rules=[pin]).rank(scores, films, RankRequest(5))
    assert listed(shown) == [4] and shown.applied_rules == [["editor"]]
    assert 4 not in listed(rules(rules=[pin]).rank(scores, films, RankRequest(5, history=np.array([4]))))
    ban = {"name": "ban", "action": "exclude", "where": {"items": [target]}}
    banned = rules(rules=[pin, ban]).rank(scores, films, RankRequest(5))
    assert 4 not in listed(banned) and banned.left_out == {"ban": 1}
    other = next(genre for genre in GENRES if genre not in films.genres_of(4))
    assert 4 not in listed(rules(rules=[pin]).rank(scores, films, RankRequest(5, genres=[other])))


def test_embeddings_decide_which_items_are_similar_if_the_model_has_them() -> None:
    films = catalogue()
    scores = np.array([9, 8, 7, *[0] * 9], np.float32)
    embeddings = np.zeros((12, 2), np.float32)
    embeddings[[0, 1]] = [1, 0]
    embeddings[2] = [0, 1]
    made = rules(diversity={"weight": 0.6, "pool": 3, "by": "embeddings"})
    assert listed(made.rank(scores, films, RankRequest(2), embeddings)) == [0, 2]
    assert made.rank(scores, films, RankRequest(2), embeddings).applied_rules == [[], [DIVERSITY]]


def test_a_model_without_embeddings_is_diversified_by_genres() -> None:
    films, scores = catalogue(), np.arange(12, 0, -1).astype(np.float32)
    by_genres = rules(diversity={"weight": 0.6})
    by_embeddings = rules(diversity={"weight": 0.6, "by": "embeddings"})
    plain = listed(rules().rank(scores, films, RankRequest(5)))
    expected = listed(by_genres.rank(scores, films, RankRequest(5)))
    popularity = np.empty((12, 0), np.float32)  # as the popularity model has them
    for embeddings in (popularity, None):
        assert listed(by_embeddings.rank(scores, films, RankRequest(5), embeddings)) == expected != plain


def test_a_history_counts_the_events_that_are_no_longer_kept() -> None:
    films, scores = catalogue(), np.zeros(12, np.float32)
    kept = np.arange(3)
    for audience, events, pinned in (
        ({"min_history": 500}, None, False),
        ({"min_history": 500}, 500, True),
        ({"min_history": 500}, 499, False),
        ({"max_history": 3}, None, True),
        ({"max_history": 3}, 500, False),
    ):
        made = rules(rules=[{"name": "pinned", "action": "pin", "items": [43], "audience": audience}])
        found = made.rank(scores, films, RankRequest(1, kept, events=events))
        assert (found.applied_rules == [["pinned"]]) is pinned


def test_a_pool_too_large_to_compare_at_once_gives_the_same_list(monkeypatch: pytest.MonkeyPatch) -> None:
    films, scores = catalogue(300), np.random.default_rng(3).normal(size=300).astype(np.float32)
    made = rules(diversity={"weight": 0.5, "pool": 200})
    whole = listed(made.rank(scores, films, RankRequest(30)))
    monkeypatch.setattr("serving.reranking.diversity.WHOLE", 10)
    assert listed(made.rank(scores, films, RankRequest(30))) == whole


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (RankRequest(genres=["Horor"]), RequestRefusedError, r"no genre 'Horor'\. Known genres: Action, Comedy"),
        (RankRequest(history=np.array([12])), ValueError, "indices below 12"),
        (RankRequest(exclude=np.array([-1])), ValueError, "indices below 12"),
        (RankRequest(k=-1), ValueError, "k is -1"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(request_: RankRequest, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Rules().rank(np.zeros(12, np.float32), catalogue(), request_)
    with pytest.raises(ValueError, match="for 12 items"):
        Rules().rank(np.zeros(11, np.float32), catalogue(), RankRequest())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rules": [{"name": "a", "action": "boost", "where": {"genres": ["Drama"]}, "by": "much"}]}, "by: .*number"),
        ({"rules": [{"name": "a", "action": "exclude", "where": {}}]}, "at least one condition of items, genres"),
        ({"rules": [{"name": "a", "action": "exclude", "where": {"years": [2000, 1990]}}]}, "years run from 2000 to 1990"),
        ({"rules": [{"name": "a", "action": "pin", "items": [item]} for item in (1, 2)]}, "two rules have the name 'a'"),
        ({"rules": [{"name": "a", "action": "drop"}]}, "drop"),
        ({"min_popularty": 3}, "did you mean min_popularity"),
        ({"rules": [{"name": "a", "action": "pin", "items": [1], "during": {"start": "2026-01-01"}}]}, "during.start"),
    ],
)
def test_the_refusal_of_an_unusable_file_names_the_file_the_key_and_the_value(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=said) as caught:
        Rules.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(SettingsError, match="does not exist"):
        Rules.load(tmp_path / "other.yaml")


def test_the_rules_do_not_keep_a_catalogue_in_memory_that_nobody_uses() -> None:
    made = rules(rules=[{"name": "odd", "action": "boost", "where": {"genres": ["Drama"]}, "by": 1}])
    films = catalogue()
    made.warm(films)
    reference = ref(films)
    del films
    assert reference() is None, "every version that was ever served would stay in memory"


def test_the_rules_name_what_a_catalogue_does_not_have() -> None:
    made = rules(
        rules=[
            {"name": "odd", "action": "boost", "where": {"genres": ["Musical"]}, "by": 1},
            {"name": "lost", "action": "pin", "items": [10, *range(1000, 1007)]},
            {"name": "fine", "action": "exclude", "where": {"genres": ["Drama"]}},
        ]
    )
    odd, lost = made.unknown(catalogue())
    assert "'odd'" in odd and "genre Musical" in odd
    assert "item 1004 and 2 more" in lost
    made.warm(catalogue())
