"""Page: two versions side by side, on the same history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from infra.pages import escaped
from serving.demo import Context, Explained, cards, charts, choose_filters, choose_history, choose_version, short

__all__ = ["show"]

DEEP = 100  # number of films of each list that the charts compare


def show(context: Context) -> None:
    """Draw the page."""
    st.title("Two versions side by side")
    with st.sidebar:
        left = choose_version(context, "Left", 0, "left")
        right = choose_version(context, "Right", 1, "right")
        asked = choose_history(context, left)
        st.divider()
        k, only = choose_filters(left)
    rules = context.rules()
    only = replace(only, genres=[genre for genre in only.genres if genre in right.catalogue.genres])
    sides = [
        loaded.recommend(asked.item_ids, asked.times, asked.now, rules, k=max(k, DEEP), only=only, user=asked.user)
        for loaded in (left, right)
    ]
    ids = [[film.item_id for film in films] for films in sides]
    both = len(set(ids[0][:k]) & set(ids[1][:k]))
    st.caption(f"{both} of the first {k} films are in both lists. An arrow shows how a film's rank differs from the other list.")
    for column, loaded, films, other in zip(st.columns(2, gap="large"), (left, right), sides, ids[::-1], strict=True):
        with column:
            st.subheader(f"{short(loaded.ref.version)} · {escaped(loaded.ref.kind)}")
            # Compare raw ids, because two versions may use different indices for one film.
            places = [films_index(films, movie) for movie in other[:k]]
            cards(films[:k], places, detail=False)
    one, two = st.columns(2, gap="large")
    with one:
        st.subheader("Agreement")
        st.altair_chart(charts.agreement(_agreement(*ids)), width="stretch")
    rows = _places(*sides)
    if rows:
        with two:
            st.subheader("The same films in both lists")
            st.altair_chart(charts.differences(rows), width="stretch")


def films_index(films: Sequence[Explained], item_id: int) -> int:
    """Return the index of a film in this list's version by its raw id, or -1 if the list does not contain it."""
    return next((film.index for film in films if film.item_id == item_id), -1)


def _agreement(left: Sequence[int], right: Sequence[int]) -> list[dict[str, float]]:
    return [{"k": k, "share": len(set(left[:k]) & set(right[:k])) / k} for k in range(1, max(len(left), len(right), 1) + 1)]


def _places(left: Sequence[Explained], right: Sequence[Explained]) -> list[dict[str, object]]:
    places = {film.item_id: place for place, film in enumerate(right, 1)}
    return [
        {"title": film.title, "left": place, "right": places[film.item_id]}
        for place, film in enumerate(left, 1)
        if film.item_id in places
    ]
