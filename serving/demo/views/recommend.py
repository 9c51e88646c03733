"""Page: what one version recommends, why, and how the time of the request changes it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from infra.pages import escaped
from serving.demo import GAPS, Asked, Context, LoadedVersion, cards, charts, choose_filters, choose_history, choose_version
from serving.reranking import RankRequest, Rules

__all__ = ["show"]


def show(context: Context) -> None:
    """Draw the page."""
    st.title("What comes next")
    with st.sidebar:
        loaded = choose_version(context)
        asked = choose_history(context, loaded)
        st.divider()
        k, only = choose_filters(loaded)
    rules = context.rules()
    items = loaded.recommend(asked.item_ids, asked.times, asked.now, rules, k=k, only=only, user=asked.user)
    left, right = st.columns([1.15, 1], gap="large")
    with left:
        st.subheader("Recommended")
        if not len(asked.item_ids):
            words = escaped(loaded.nouns.items)
            st.caption(f"No history yet: these are the most popular {words}. Add {words} on the left, and the list follows.")
        cards(items, noun=loaded.nouns.item)
        _say_rules(rules, loaded)
    with right:
        if len(asked.item_ids):
            st.subheader("The history")
            st.altair_chart(charts.history_line(_events(loaded, asked)), width="stretch")
        if len(asked.item_ids) and loaded.model.sequential:
            st.subheader("As time passes")
            st.caption("The same history, with more and more time before the request. The top ten are above the dashed line.")
            st.altair_chart(charts.ranks_over_gaps(_over_gaps(loaded, asked, rules), list(GAPS)), width="stretch")


def _say_rules(rules: Rules, loaded: LoadedVersion) -> None:
    names = [rule.name for rule in rules.file.rules]
    if names:
        st.caption(f"Rules in the file: {escaped(', '.join(names))}. A tag names the rule that brought it in or moved it.")
    for sentence in rules.unknown(loaded.catalogue):
        st.warning(escaped(sentence))


def _events(loaded: LoadedVersion, asked: Asked) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, at in zip(asked.item_ids, asked.times, strict=True):
        index = loaded.catalogue.index_of(int(number))
        tags = [] if index is None else loaded.tags(index)
        title = loaded.unnamed(int(number)) if index is None else loaded.label(index)
        rows.append({"time": pd.Timestamp(int(at), unit="s", tz="UTC"), "title": title, "group": tags[0] if tags else "none"})
    return rows


def _over_gaps(loaded: LoadedVersion, asked: Asked, rules: Rules) -> list[dict[str, object]]:
    """Return the rank after every gap of each item that is in the top ten after any gap."""
    times = [asked.last + gap for gap in GAPS.values()]
    scores = loaded.scores(asked.item_ids, asked.times, times, asked.user)
    history = np.array([i for m in asked.item_ids if (i := loaded.catalogue.index_of(int(m))) is not None], np.int64)
    lists = [
        rules.rank(row, loaded.catalogue, RankRequest(50, history, now=at, events=len(asked.item_ids)), loaded.embeddings).items
        for row, at in zip(scores, times, strict=True)
    ]
    shown = {int(item) for ranked in lists for item in ranked[:10]}
    return [
        {"gap": gap, "title": loaded.label(int(item)), "rank": place}
        for gap, ranked in zip(GAPS, lists, strict=True)
        for place, item in enumerate(ranked, 1)
        if int(item) in shown
    ]
