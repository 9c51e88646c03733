"""Choosing a history to recommend for: a real user's, or one built by searching titles."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import streamlit as st

from configs.errors import NotFoundError
from infra.pages import escaped
from serving.demo.context import Context
from serving.demo.explained import Filters, LoadedVersion
from serving.demo.look import when

__all__ = ["GAPS", "Asked", "choose_filters", "choose_history", "choose_version"]

REAL, OWN = "A real user", "Build a history"
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
    """A history of raw movie ids, oldest first, and the time of the request."""

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
    """Show the selection of how many films to recommend, of which genres and years."""
    k = st.slider("How many", 5, 30, 10, key="k")
    genres = st.multiselect("Genres", loaded.catalogue.genres, key="genres", placeholder="all")
    known = loaded.catalogue.years[loaded.catalogue.years > 0]
    if not len(known) or known.min() == known.max():
        return k, Filters(genres)
    first, last = int(known.min()), int(known.max())
    low, high = st.slider("Years", first, last, (first, last), key=f"years {first} {last}")
    return k, Filters(genres, None if (low, high) == (first, last) else (low, high))


def _real(context: Context, loaded: LoadedVersion) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    try:
        histories = context.histories(loaded.ref.dataset)
    except NotFoundError as error:
        st.info(escaped(str(error)))
        return (-1, *_own(loaded))
    # Sampled with a fixed seed, so that the list of users stays the same while the page is used.
    count = min(context.settings.users, len(histories.user_ids))
    drawn = np.sort(np.random.default_rng(0).choice(len(histories.user_ids), count, replace=False))
    lengths = {int(histories.user_ids[place]): int(histories.lengths[place]) for place in drawn}
    user = st.selectbox("User", list(lengths), format_func=lambda user: f"user {user} · {lengths[user]:,} films", key="user")
    item_ids, times = histories.of(user)
    st.caption(f"{len(item_ids):,} films from {when(int(times[0]))} to {when(int(times[-1]))} UTC")
    return user, item_ids, times


def _own(loaded: LoadedVersion) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    built: list[int] = st.session_state.setdefault("built", [])
    text = st.text_input("Search titles", key="search", placeholder="for example: star wars")
    found = [item for item in loaded.search(text, 8) if int(loaded.catalogue.item_ids[item]) not in built]
    if text and not found:
        st.caption("No other title contains these words.")
    if not text and not built:
        st.caption("Or start with well-known films:")
        found = loaded.onboarding(8, int(time.time()))
    for item in found:
        movie = int(loaded.catalogue.item_ids[item])
        st.button(f"\\+ {escaped(loaded.label(item))}", key=f"add {movie}", on_click=built.append, args=(movie,), width="stretch")
    if built:
        st.caption("Your history, oldest first:")
        for movie in built:
            index = loaded.catalogue.index_of(movie)
            name = f"movie {movie} (unknown to this version)" if index is None else loaded.label(index)
            st.button(f"✕ {escaped(name)}", key=f"drop {movie}", on_click=built.remove, args=(movie,), width="stretch")
    now = int(time.time()) // STEP_S * STEP_S
    times = now - STEP_S * np.arange(len(built) - 1, -1, -1, dtype=np.int64)
    return np.array(built, np.int64), times
