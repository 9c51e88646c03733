"""Page: a running server, whose recommendations follow each event of the user."""

from __future__ import annotations

import time
from html import escape
from typing import Any

import streamlit as st

from infra.pages import escaped
from infra.version_names import short_version
from serving.demo import GAPS, Context, ServerLink, as_said, charts, plain_table, when

__all__ = ["show"]

SOURCES = {
    "state": "the stored state",
    "rebuilt": "a state rebuilt from the events",
    "history": "the given history",
    "cold": "nothing known yet",
}
NOBODY = "9000000"  # no user of MovieLens has this id, nor one like it


def show(context: Context) -> None:
    """Draw the page."""
    link = ServerLink(context.settings)
    models = link.models().content
    served = [model["version"] for model in models["served"]]
    if not served:
        st.info("The server has no champion yet: `recsys retrain` creates the first one, and the server loads it.")
        return
    nouns, is_text = models["data"]["nouns"], models["data"]["user_id"] == "text"
    with st.sidebar:
        own = "the user's own"
        version = st.selectbox(
            "Version", [own, *served], format_func=lambda v: v if v == own else short_version(v, served), key="live version"
        )
        gap = st.select_slider("Time until the request", list(GAPS), key="live gap", help="Time from now.")
        k = st.slider("How many", 5, 30, 10, key="live k")
    one, two = st.columns(2)
    given = one.text_input(f"Id of the {nouns['user']}", value=NOBODY, key="live user").strip()
    text = two.text_input(f"Search {nouns['items']}", key="live search", placeholder=f"find any {nouns['item']}")
    if not is_text and not (given.isascii() and given.isdigit()):
        st.info(f"The ids of {escaped(nouns['users'])} are whole numbers in this data.")
        return
    user = given if is_text else int(given)
    at = int(time.time()) + GAPS[gap] if GAPS[gap] else None
    st.caption(
        f"Choose a {escaped(nouns['item'])}: the server takes it as your latest {escaped(nouns['event'])}, advances your state by one "
        "step, and the list below changes."
    )
    answer = link.recommend(user, k, at, None if version == own else version)
    found = answer.content
    timings: list[dict[str, Any]] = st.session_state.setdefault("timings", [])
    timings.append({"number": len(timings) + 1, "what": "list", "ms": answer.ms})
    one, two, three, four = st.columns(4)
    one.metric("Computed from", SOURCES[found["source"]])
    two.metric("Events used", found["events"])
    three.metric("Version", short_version(found["version"]))
    four.metric("Round trip", f"{answer.ms:.1f} ms")
    if found["experiment"]:
        st.caption(
            f"In the arm {escaped(found['arm'])} of the experiment {escaped(found['experiment'])}. Looking at this page is not counted."
        )
    left, right = st.columns([1.25, 1], gap="large")
    with left:
        if text:
            st.subheader("Search results")
            _items(link, user, link.search(text, 6).content["items"], "found")
        elif not found["events"]:
            st.subheader("Which of these do you know?")
            _items(link, user, link.onboarding(6).content["items"], "known")
        st.subheader("Recommended")
        _items(link, user, found["items"], "list")
    with right:
        _told(link, user, nouns["item"])
        st.subheader("Round trips of this session")
        st.altair_chart(charts.round_trips(timings), width="stretch")
        st.subheader("On the server")
        plain_table([{"version": short_version(m["version"]), "role": m["role"], "model": m["kind"], "bytes of a state": m["state_bytes"]} for m in models["served"]])  # fmt: skip
        for refused in models["refused"]:
            st.warning(f"{short_version(refused['version'])} was refused: {escaped(refused['reason'])}")


def _items(link: ServerLink, user: int | str, items: list[dict[str, Any]], where: str) -> None:
    for place, item in enumerate(items, 1):
        row = st.container(key=f"pick {where} {place}")
        button, card = row.columns([1, 4.2], vertical_alignment="center")
        button.button("Choose", key=f"{where} {item['item_id']}", on_click=_choose, args=(link, user, item), width="stretch")
        year = f' <span class="year">{item["year"]}</span>' if item["year"] else ""
        attributes = [f"{name}: {value}" for name, value in (item["attributes"] or {}).items() if value is not None]
        tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in [*item["genres"], *attributes])
        fired = "".join(f'<span class="tag rule">{escape(rule)}</span>' for rule in item.get("rules", ()))
        because = item.get("because")
        why = f'<div class="why">close to {escape(_name(because))}</div>' if because else ""
        card.html(
            f'<div class="item slim"><div class="rank">{place}</div><div><span class="title">{escape(_name(item))}</span>{year}'
            f"<div>{tags}{fired}</div>{why}</div></div>"
        )


def _name(item: dict[str, Any]) -> str:
    """Return an item's title in natural word order, or the team's id if it has none."""
    return as_said(item["title"]) or str(item["item_id"])


def _choose(link: ServerLink, user: int | str, item: dict[str, Any]) -> None:
    answer = link.report(user, item["item_id"])
    st.session_state["timings"].append({"number": len(st.session_state["timings"]) + 1, "what": "event", "ms": answer.ms})
    st.session_state["told"] = (_name(item), answer.content["results"][0]["outcome"], answer.ms)


def _told(link: ServerLink, user: int | str, noun: str) -> None:
    if "told" in st.session_state:
        title, outcome, ms = st.session_state.pop("told")
        st.success(f"{escaped(title)}: {outcome}, in {ms:.1f} ms.")
    events = link.events(user).content["events"]
    if events:
        st.subheader("Your events, latest first")
        plain_table([{"when (UTC)": when(event["time"]), noun: _name(event)} for event in events[:-9:-1]])
