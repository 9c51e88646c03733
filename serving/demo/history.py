"""Choosing a history to recommend for: a real user's, or one built by searching titles."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import streamlit as st

from configs.errors import NotFoundError
from configs.settings import NounSettings
from infra.pages import escaped
from models.identity import number_of
from serving.catalogue import Attribute
from serving.demo.context import Context
from serving.demo.explained import Filters, LoadedVersion
from serving.demo.held_out import HeldOut
from serving.demo.histories import NO_EVENTS, Events, Histories

__all__ = ["GAPS", "Asked", "choose_filters", "choose_history", "choose_version", "model_for"]

REAL, OWN = "A real user", "Build a history"
AS_IT_WAS = "as it was"
MOST_VALUES = 1000  # of an attribute, to choose from
STEP_S = 3600  # time between the events of a built history
GAPS = {
    "at once": 0,
    "1 minute": 60,
    "1 hour": 3600,
    "1 day": 86_400,
    "1 week": 7 * 86_400,
    "1 month": 30 * 86_400,
    "1 year": 365 * 86_400,
    "5 years": 1826 * 86_400,
}


@dataclass(frozen=True, eq=False)
class Asked:
    """A history, oldest first, and the time of the request. Items and users are numbers."""

    user: int  # -1 for a built history and for a user who is not in the data
    events: Events
    now: int
    hidden: HeldOut | None = None  # what came next in truth, if it is known and not part of the history

    @property
    def last(self) -> int:
        """The time of the last event, or of the request if the history is empty."""
        return int(self.events.times[-1]) if len(self.events.times) else self.now


def choose_version(context: Context, label: str = "Model version", place: int = 0, key: str = "version") -> LoadedVersion:
    """Show a selection of registry versions, the champion first, and load the chosen one. Stop the page if there is none."""
    refs = context.versions()
    if not refs:
        st.info(
            f"There is no version of {context.settings.model_name} in {context.view.place} yet. `recsys retrain` creates one."
        )
        st.stop()
    champion = context.champion()
    refs = sorted(refs, key=lambda ref: ref.version != champion)  # stable sort: the rest stays newest first
    labels = {context.label(ref): ref for ref in refs}
    chosen = labels[st.selectbox(label, list(labels), index=min(place, len(labels) - 1), key=key, help="★ marks the champion.")]
    if (ndcg := chosen.metrics.get("ndcg@10")) is not None:
        st.caption(f"NDCG@10 of its evaluation: {ndcg:.4f}")
    return context.load(chosen)


def choose_history(context: Context, loaded: LoadedVersion) -> Asked:
    """Show the selection of a history and of the request's time."""
    how = st.segmented_control("History", [REAL, OWN], default=REAL, key="how", label_visibility="collapsed") or REAL
    user, events, hidden = _real(context, loaded) if how == REAL else (-1, _own(loaded), None)
    last = int(events.times[-1]) if len(events.times) else int(time.time())
    gaps = GAPS if hidden is None else {AS_IT_WAS: max(hidden.asked_at - last, 0) if len(events.times) else 0} | GAPS
    gap = st.select_slider(
        "Time until the request", list(gaps), key=f"gap {next(iter(gaps))}", help="Time since the last event of the history."
    )
    now = hidden.asked_at if hidden is not None and not len(events.times) else last
    return Asked(user, events, now + gaps[gap], hidden)


def model_for(context: Context, loaded: LoadedVersion, asked: Asked) -> LoadedVersion:
    """Return the model that answers. With a hidden event it is the judged one, because what is served may have learnt that event."""
    if asked.hidden is None or not loaded.refit:
        return loaded
    st.caption(
        escaped(
            f"The list is that of the model that was evaluated. The served one was trained on all {loaded.nouns.events} afterwards, so it "
            f"knows the hidden {loaded.nouns.event}."
        )
    )
    return context.load(loaded.ref, judged=True)


def choose_filters(loaded: LoadedVersion) -> tuple[int, Filters]:
    """Show the selection of how many items to recommend, of which genres, years and attributes. Only what the data has is shown."""
    k, catalogue = st.slider("How many", 5, 30, 10, key="k"), loaded.catalogue
    label = loaded.nouns.genres.capitalize()
    genres = st.multiselect(label, catalogue.genres, key="genres", placeholder="all") if catalogue.genres else []
    known = catalogue.years[catalogue.years > 0]
    years = None
    if len(known) and known.min() < known.max():
        first, last = int(known.min()), int(known.max())
        low, high = st.slider("Years", first, last, (first, last), key=f"years {first} {last}")
        years = None if (low, high) == (first, last) else (low, high)
    chosen = [(name, _values(name, attribute)) for name, attribute in catalogue.attributes.items()]
    return k, Filters(genres, years, [(name, values) for name, values in chosen if values])


def _values(name: str, attribute: Attribute) -> tuple[str | float, ...]:
    """Show the selection of an attribute's values. Return the chosen ones, or none for all items."""
    if attribute.numbers is None:
        listed = attribute.values[:MOST_VALUES]
        return tuple(st.multiselect(escaped(name), listed, key=f"attribute {name}", placeholder="all"))
    known = attribute.numbers[np.isfinite(attribute.numbers)]
    if not len(known) or known.min() == known.max():
        return ()
    ends = (float(known.min()), float(known.max()))
    chosen = st.slider(escaped(name), *ends, ends, key=f"attribute {name}")
    return () if chosen == ends else (float(chosen[0]), float(chosen[1]))


def _real(context: Context, loaded: LoadedVersion) -> tuple[int, Events, HeldOut | None]:
    """Show the selection of a user. Return the user, what the model is told, and what came next in truth."""
    nouns = loaded.nouns
    try:
        histories = context.histories(loaded.ref.dataset)
    except NotFoundError as error:
        st.info(escaped(str(error)))
        return -1, _own(loaded), None
    if not len(histories.user_ids):
        st.info(escaped(f"The dataset has no {nouns.users}."))
        return -1, NO_EVENTS, None
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    if "user" not in st.session_state:
        st.session_state["user"] = _drawn(histories, context.settings.users, 0)
    right.button(f"Another {nouns.user}", on_click=_draw_next, args=(histories, context.settings.users), width="stretch")
    named = left.text_input(f"Id of the {nouns.user}", key="user").strip()
    user = _number(named, loaded)
    events = NO_EVENTS if user is None else histories.of(user)
    if user is None or not len(events.times):
        st.info(_unknown(named, user is None, nouns))
        return -1, NO_EVENTS, None
    requests = context.evaluated(loaded.ref)
    found = None if requests is None else requests.hide(user, histories)
    if found is None:
        return user, events, None
    told = st.toggle(
        escaped(f"Hide the {nouns.event} that the model was tested on"),
        value=True,
        key="hide",
        help=escaped(
            f"The model never learnt this {nouns.event}. Hidden, it shows whether the model foresees it; otherwise the list is what "
            f"would be recommended after all {nouns.events}."
        ),
    )
    return (user, *found) if told else (user, events, None)


def _unknown(named: str, malformed: bool, nouns: NounSettings) -> str:
    """Say why there is no history, and what is shown instead."""
    if not named:
        why = f"Type the id of a {nouns.user}."
    elif malformed:
        why = f"{named} cannot be an id: the ids of {nouns.users} are whole numbers in this data."
    else:
        why = f"The data of this version has no {nouns.user} {named}."
    return escaped(f"{why} The list below is the one for a new {nouns.user}, of whom nothing is known yet.")


def _drawn(histories: Histories, users: int, number: int) -> str:
    """Return the id of one of some users. They are drawn with a fixed seed, so that the order is always the same."""
    count = min(users, len(histories.user_ids))
    places = np.random.default_rng(0).choice(len(histories.user_ids), count, replace=False)
    return str(histories.id_of(int(places[number % count])))


def _draw_next(histories: Histories, users: int) -> None:
    st.session_state["drawn"] = st.session_state.get("drawn", 0) + 1
    st.session_state["user"] = _drawn(histories, users, st.session_state["drawn"])


def _number(named: str, loaded: LoadedVersion) -> int | None:
    """Return the number of a user by the team's id, or None if the id cannot be one."""
    if loaded.catalogue.schema.ids.user_id == "text":
        return number_of(named)
    digits = named.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        return None
    number = int(named)
    return number if -(2**63) <= number < 2**63 else None


def _own(loaded: LoadedVersion) -> Events:
    built: list[int] = st.session_state.setdefault("built", [])
    nouns = loaded.nouns
    text = st.text_input(f"Search {nouns.items}", key="search", placeholder=f"for example: {loaded.example()}")
    found = [item for item in loaded.search(text, 8) if int(loaded.catalogue.item_ids[item]) not in built]
    if text and not found:
        st.caption(escaped(f"No other {nouns.item} has these words in its title."))
    if not text and not built:
        st.caption(escaped(f"Or start with well-known {nouns.items}:"))
        found = loaded.onboarding(8, int(time.time()))
    for item in found:
        number = int(loaded.catalogue.item_ids[item])
        st.button(
            f"\\+ {escaped(loaded.label(item))}", key=f"add {number}", on_click=built.append, args=(number,), width="stretch"
        )
    if built:
        st.caption("Your history, oldest first:")
        for number in built:
            index = loaded.catalogue.index_of(number)
            name = f"{loaded.unnamed(number)} (unknown to this version)" if index is None else loaded.label(index)
            st.button(f"✕ {escaped(name)}", key=f"drop {number}", on_click=built.remove, args=(number,), width="stretch")
    now = int(time.time()) // STEP_S * STEP_S
    times = now - STEP_S * np.arange(len(built) - 1, -1, -1, dtype=np.int64)
    return Events(np.array(built, np.int64), times)
