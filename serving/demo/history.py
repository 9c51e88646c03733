"""Choosing a history to recommend for: a real user's, or one built by searching titles."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import streamlit as st

from configs.errors import NotFoundError
from infra.pages import escaped
from models.identity import number_of
from serving.catalogue import Attribute
from serving.demo.context import Context
from serving.demo.explained import Filters, LoadedVersion
from serving.demo.look import when

__all__ = ["GAPS", "Asked", "choose_filters", "choose_history", "choose_version"]

REAL, OWN = "A real user", "Build a history"
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

    user: int  # -1 for a built history
    item_ids: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    now: int

    @property
    def last(self) -> int:
        """The time of the last event, or of the request if the history is empty."""
        return int(self.times[-1]) if len(self.times) else self.now


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
    chosen = st.selectbox(label, list(labels), index=min(place, len(labels) - 1), key=key)
    return context.load(labels[chosen])


def choose_history(context: Context, loaded: LoadedVersion) -> Asked:
    """Show the selection of a history and of the request's time."""
    how = st.segmented_control("History", [REAL, OWN], default=REAL, key="how", label_visibility="collapsed") or REAL
    user, item_ids, times = _real(context, loaded) if how == REAL else (-1, *_own(loaded))
    gap = st.select_slider("Time until the request", list(GAPS), key="gap", help="Time since the last event of the history.")
    last = int(times[-1]) if len(times) else int(time.time())
    return Asked(user, item_ids, times, last + GAPS[gap])


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


def _real(context: Context, loaded: LoadedVersion) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    try:
        histories = context.histories(loaded.ref.dataset)
    except NotFoundError as error:
        st.info(escaped(str(error)))
        return (-1, *_own(loaded))
    # Sampled with a fixed seed, so that the list of users stays the same while the page is used.
    count = min(context.settings.users, len(histories.user_ids))
    drawn = np.sort(np.random.default_rng(0).choice(len(histories.user_ids), count, replace=False))
    nouns, lengths = loaded.nouns, histories.lengths
    labels = {
        f"{nouns.user} {histories.id_of(int(place))} · {int(lengths[place]):,} {nouns.events}": int(place) for place in drawn
    }
    chosen = st.selectbox(nouns.user.capitalize(), list(labels), key="user")
    user = int(histories.user_ids[labels[chosen]]) if chosen in labels else -1
    named = st.text_input(f"Or the id of any {nouns.user}", key="any user").strip()
    if named:
        found = _number(named, loaded)
        if found is None or not len(histories.of(found)[0]):
            st.caption(escaped(f"The dataset has no {nouns.user} {named}; the chosen one is shown."))
        else:
            user = found
    item_ids, times = histories.of(user)
    if not len(item_ids):
        return user, item_ids, times
    events = nouns.event if len(item_ids) == 1 else nouns.events
    st.caption(escaped(f"{len(item_ids):,} {events} from {when(int(times[0]))} to {when(int(times[-1]))} UTC"))
    return user, item_ids, times


def _number(named: str, loaded: LoadedVersion) -> int | None:
    """Return the number of a user by the team's id, or None if the id cannot be one."""
    if loaded.catalogue.schema.ids.user_id == "text":
        return number_of(named)
    return int(named) if named.isascii() and named.isdigit() and len(named) < 19 else None


def _own(loaded: LoadedVersion) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
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
    return np.array(built, np.int64), times
