"""Page: two versions side by side, on the same history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from infra.pages import escaped
from serving.demo import Context, Explained, cards, charts, choose_filters, choose_history, choose_version, model_for

__all__ = ["show"]

DEEP = 100  # number of items of each list that the charts compare


def show(context: Context) -> None:
    """Draw the page."""
    with st.sidebar:
        left = choose_version(context, "Left", 0, "left")
        right = choose_version(context, "Right", 1, "right")
        k, only = choose_filters(left)
    asked = choose_history(context, left)
    left, right = (model_for(context, loaded, asked) for loaded in (left, right))
    rules = context.rules()
    # What one of the two does not have cannot be asked of both.
    kept = {
        name: [value for value in values if not (own := right.catalogue.attributes.get(name)) or not own.unknown([value])]
        for name, values in only.attributes
    }
    only = replace(
        only,
        genres=[genre for genre in only.genres if genre in right.catalogue.genres],
        attributes=[(name, values) for name, values in kept.items() if values and name in right.catalogue.attributes],
    )
    sides = [
        loaded.recommend(asked.events.item_ids, asked.events.times, asked.now, rules, k=max(k, DEEP), only=only, user=asked.user)
        for loaded in (left, right)
    ]
    ids, nouns = [[item.item_id for item in items] for items in sides], left.nouns
    both = len(set(ids[0][:k]) & set(ids[1][:k]))
    st.caption(
        escaped(
            f"{both} of the first {k} {nouns.items} are in both lists. An arrow shows how a rank differs from the other list."
        )
    )
    for column, loaded, items, other in zip(st.columns(2, gap="large"), (left, right), sides, ids[::-1], strict=True):
        with column:
            st.subheader(f"{context.short(loaded.ref.version)} · {escaped(loaded.ref.kind)}")
            # Compare numbers, because two versions may use different indices for one item.
            places = [_index(items, number) for number in other[:k]]
            cards(
                items[:k],
                places,
                noun=nouns.item,
                detail=False,
                marked=asked.hidden.item_id if asked.hidden is not None else None,
            )
    one, two = st.columns(2, gap="large")
    with one:
        st.subheader("Agreement")
        st.altair_chart(charts.agreement(_agreement(*ids)), width="stretch")
    rows = _places(*sides)
    if rows:
        with two:
            st.subheader(escaped(f"The same {nouns.items} in both lists"))
            st.altair_chart(charts.differences(rows), width="stretch")


def _index(items: Sequence[Explained], item_id: int) -> int:
    """Return the index of an item in this list's version by its number, or -1 if the list does not contain it."""
    return next((item.index for item in items if item.item_id == item_id), -1)


def _agreement(left: Sequence[int], right: Sequence[int]) -> list[dict[str, float]]:
    return [{"k": k, "share": len(set(left[:k]) & set(right[:k])) / k} for k in range(1, max(len(left), len(right), 1) + 1)]


def _places(left: Sequence[Explained], right: Sequence[Explained]) -> list[dict[str, object]]:
    places = {item.item_id: place for place, item in enumerate(right, 1)}
    return [
        {"title": item.title, "left": place, "right": places[item.item_id]}
        for place, item in enumerate(left, 1)
        if item.item_id in places
    ]
