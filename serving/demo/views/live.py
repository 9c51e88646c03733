"""Page: a running server, whose recommendations follow each film that the user watches."""

from __future__ import annotations

import time
from html import escape
from typing import Any

import streamlit as st

from infra.pages import escaped
from serving.demo import GAPS, Context, ServerLink, as_said, charts, plain_table, short, when

__all__ = ["show"]

SOURCES = {
    "state": "the stored state",
    "rebuilt": "a state rebuilt from the events",
    "history": "the given history",
    "cold": "nothing known yet",
}
NOBODY = 9_000_000  # ids from here on are not MovieLens users


def show(context: Context) -> None:
    """Draw the page."""
    st.title("Live")
    link = ServerLink(context.settings)
    models = link.models().content
    served = [model["version"] for model in models["served"]]
    if not served:
        st.info("The server has no champion yet: `recsys retrain` creates the first one, and the server loads it.")
        return
    with st.sidebar:
        user = int(st.number_input("User id", min_value=0, value=NOBODY, step=1, key="live user"))
        own = "the user's own"
        version = st.selectbox("Version", [own, *served], format_func=lambda v: v if v == own else short(v), key="live version")
        gap = st.select_slider("Time until the request", list(GAPS), key="live gap", help="Time from now.")
        k = st.slider("How many", 5, 30, 10, key="live k")
        text = st.text_input("Search titles", key="live search", placeholder="find any film")
    at = int(time.time()) + GAPS[gap] if GAPS[gap] else None
    st.caption("Click a film that you watched: the server advances your state by one step, and the list below changes.")
    answer = link.recommend(user, k, at, None if version == own else version)
    found = answer.content
    timings: list[dict[str, Any]] = st.session_state.setdefault("timings", [])
    timings.append({"number": len(timings) + 1, "what": "list", "ms": answer.ms})
    one, two, three, four = st.columns(4)
    one.metric("Computed from", SOURCES[found["source"]])
    two.metric("Events used", found["events"])
    three.metric("Version", short(found["version"]))
    four.metric("Round trip", f"{answer.ms:.1f} ms")
    if found["experiment"]:
        st.caption(
            f"In the arm {escaped(found['arm'])} of the experiment {escaped(found['experiment'])}. Looking at this page is not counted."
        )
    left, right = st.columns([1.25, 1], gap="large")
    with left:
        if text:
            st.subheader("Search results")
            _films(link, user, link.search(text, 6).content["items"], "found")
        elif not found["events"]:
            st.subheader("Which of these do you know?")
            _films(link, user, link.onboarding(6).content["items"], "known")
        st.subheader("Recommended")
        _films(link, user, found["items"], "list")
    with right:
        _told(link, user)
        st.subheader("Round trips of this session")
        st.altair_chart(charts.round_trips(timings), width="stretch")
        st.subheader("On the server")
        plain_table([{"version": short(m["version"]), "role": m["role"], "model": m["kind"], "bytes of a state": m["state_bytes"]} for m in models["served"]])  # fmt: skip
        for refused in models["refused"]:
            st.warning(f"{short(refused['version'])} was refused: {escaped(refused['reason'])}")


def _films(link: ServerLink, user: int, items: list[dict[str, Any]], where: str) -> None:
    for place, item in enumerate(items, 1):
        button, film = st.columns([1, 4.2], vertical_alignment="center")
        button.button("Watched", key=f"{where} {item['item_id']}", on_click=_watch, args=(link, user, item), width="stretch")
        year = f' <span class="year">{item["year"]}</span>' if item["year"] else ""
        tags = "".join(f'<span class="tag">{escape(genre)}</span>' for genre in item["genres"])
        fired = "".join(f'<span class="tag rule">{escape(rule)}</span>' for rule in item.get("rules", ()))
        because = item.get("because")
        why = f'<div class="why">close to {escape(as_said(because["title"]))}</div>' if because else ""
        film.html(
            f'<div class="film slim"><div class="rank">{place}</div><div><span class="title">{escape(as_said(item["title"]))}</span>{year}'
            f"<div>{tags}{fired}</div>{why}</div></div>"
        )


def _watch(link: ServerLink, user: int, item: dict[str, Any]) -> None:
    answer = link.watched(user, item["item_id"])
    st.session_state["timings"].append({"number": len(st.session_state["timings"]) + 1, "what": "event", "ms": answer.ms})
    st.session_state["told"] = (as_said(item["title"]), answer.content["results"][0]["outcome"], answer.ms)


def _told(link: ServerLink, user: int) -> None:
    if "told" in st.session_state:
        title, outcome, ms = st.session_state.pop("told")
        st.success(f"{escaped(title)}: {outcome}, in {ms:.1f} ms.")
    events = link.events(user).content["events"]
    if events:
        st.subheader("Your events, latest first")
        plain_table([{"when (UTC)": when(event["time"]), "film": as_said(event["title"])} for event in events[:-9:-1]])
