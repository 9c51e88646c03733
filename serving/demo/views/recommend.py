"""Page: what one version recommends to a user and why, what came next in truth, and how the time of the request changes the list."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd
import streamlit as st

from configs.kinds import label_of
from infra.pages import escaped
from serving.demo import (
    GAPS,
    Asked,
    Context,
    HeldOut,
    LoadedVersion,
    cards,
    charts,
    choose_filters,
    choose_history,
    choose_version,
    legend,
    model_for,
    plain_table,
    when,
)
from serving.reranking import RankRequest, Rules

__all__ = ["show"]

LAST = 10  # events of the history in the table


def show(context: Context) -> None:
    """Draw the page."""
    with st.sidebar:
        loaded = choose_version(context)
        k, only = choose_filters(loaded)
    asked = choose_history(context, loaded)
    loaded = model_for(context, loaded, asked)
    nouns, events, hidden = loaded.nouns, asked.events, asked.hidden
    rules = context.rules()
    with st.spinner("Ranking ..."):
        items = loaded.recommend(events.item_ids, events.times, asked.now, rules, k=k, only=only, user=asked.user)
    left, right = st.columns([1.15, 1], gap="large")
    with left:
        _show_history(loaded, asked)
    with right:
        if hidden is not None:
            _say_truth(loaded, asked, hidden)
        legend(loaded)
    left, right = st.columns([1.15, 1], gap="large")
    with left:
        st.subheader("Recommended")
        cards(items, noun=nouns.item, marked=hidden.item_id if hidden is not None else None)
        _say_rules(rules, loaded)
    with right:
        if len(events.times):
            st.subheader(escaped(f"All {nouns.events} by time"))
            st.altair_chart(charts.history_line(_events(loaded, asked)), width="stretch")
        if len(events.times) and loaded.model.sequential:
            st.subheader("As time passes")
            st.caption("The same history, with more and more time before the request. The top ten are above the dashed line.")
            st.altair_chart(charts.ranks_over_gaps(_over_gaps(loaded, asked, rules), list(GAPS)), width="stretch")


def _show_history(loaded: LoadedVersion, asked: Asked) -> None:
    """Show the latest events that the model sees."""
    nouns, total = loaded.nouns, len(asked.events.times)
    if not total:
        st.subheader("No history yet")
        st.caption(escaped(f"The list has the most popular {nouns.items}. It changes once there are {nouns.events} to go by."))
        return
    st.subheader(escaped(f"The last {LAST} of {total:,} {nouns.events}" if total > LAST else nouns.events.capitalize()))
    plain_table(_last_events(loaded, asked))


def _say_truth(loaded: LoadedVersion, asked: Asked, hidden: HeldOut) -> None:
    """Say which event came next in truth, and at which rank each model had its item."""
    nouns, total = loaded.nouns, len(loaded.catalogue)
    later = f", {_waited(hidden.time - asked.last)}" if len(asked.events.times) else ""
    rated = "" if hidden.rating is None else f", with the rating {hidden.rating:g}"
    own, *others = sorted(hidden.ranks.items(), key=lambda each: each[0] != loaded.ref.kind)
    compared = ", ".join(f"{label_of(kind)} {_ranked(rank)}" for kind, rank in others)
    hit = "" if own[1] is None else " It is in the top ten." if own[1] <= 10 else " It is not in the top ten."
    st.html(
        '<div class="truth"><div class="soft">What came next in truth</div>'
        f'<div><span class="title">{escape(_name(loaded, hidden.item_id))}</span> '
        f'<span class="soft">on {when(hidden.time)} UTC{escape(later)}{escape(rated)}</span></div>'
        f'<div>{escape(label_of(own[0]))} had it at <span class="rank">{escape(_ranked(own[1]))}</span> '
        f"of {total:,} {escape(nouns.items)}.{hit}</div>"
        + (f'<div class="soft">For comparison: {escape(compared)}.</div>' if compared else "")
        + f'<div class="soft">These are the ranks of the evaluation, without filters and rules. The model had not learnt this '
        f"{escape(nouns.event)}.</div></div>"
    )


def _ranked(rank: int | None) -> str:
    return "no rank, because it does not know it" if rank is None else f"rank {rank:,}"


def _waited(seconds: int) -> str:
    """Return how long a user was away, in one unit."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds // size:,} {unit}{'' if seconds // size == 1 else 's'} later"
    return "within the same minute"


def _name(loaded: LoadedVersion, number: int) -> str:
    index = loaded.catalogue.index_of(number)
    return loaded.unnamed(number) if index is None else loaded.label(index)


def _last_events(loaded: LoadedVersion, asked: Asked) -> list[dict[str, object]]:
    """Return a row of the table for each of the latest events, the latest first."""
    events, noun = asked.events, loaded.nouns.item
    rows: list[dict[str, object]] = []
    for place in range(len(events.times) - 1, max(len(events.times) - LAST, 0) - 1, -1):
        row: dict[str, object] = {noun: _name(loaded, int(events.item_ids[place]))}
        if events.ratings is not None:
            rating = float(events.ratings[place])
            row["rating"] = None if np.isnan(rating) else rating
        rows.append(row | {"when (UTC)": when(int(events.times[place]))})
    return rows


def _say_rules(rules: Rules, loaded: LoadedVersion) -> None:
    names = [rule.name for rule in rules.file.rules]
    if names:
        st.caption(f"Rules in the file: {escaped(', '.join(names))}. A tag names the rule that brought it in or moved it.")
    for sentence in rules.unknown(loaded.catalogue):
        st.warning(escaped(sentence))


def _events(loaded: LoadedVersion, asked: Asked) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, at in zip(asked.events.item_ids, asked.events.times, strict=True):
        index = loaded.catalogue.index_of(int(number))
        tags = [] if index is None else loaded.tags(index)
        title = _name(loaded, int(number))
        rows.append({"time": pd.Timestamp(int(at), unit="s", tz="UTC"), "title": title, "group": tags[0] if tags else "none"})
    return rows


def _over_gaps(loaded: LoadedVersion, asked: Asked, rules: Rules) -> list[dict[str, object]]:
    """Return the rank after every gap of each item that is in the top ten after any gap."""
    times = [asked.last + gap for gap in GAPS.values()]
    item_ids = asked.events.item_ids
    scores = loaded.scores(item_ids, asked.events.times, times, asked.user)
    history = np.array([i for m in item_ids if (i := loaded.catalogue.index_of(int(m))) is not None], np.int64)
    lists = [
        rules.rank(row, loaded.catalogue, RankRequest(50, history, now=at, events=len(item_ids)), loaded.embeddings).items
        for row, at in zip(scores, times, strict=True)
    ]
    shown = {int(item) for ranked in lists for item in ranked[:10]}
    return [
        {"gap": gap, "title": loaded.label(int(item)), "rank": place}
        for gap, ranked in zip(GAPS, lists, strict=True)
        for place, item in enumerate(ranked, 1)
        if int(item) in shown
    ]
