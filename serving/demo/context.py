"""Shared state of the demo's pages: settings, the store, and loaded versions, cached between reruns of a page."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import streamlit as st

from configs.serving import DemoSettings
from configs.settings import NounSettings
from infra.registry import ModelRef, Promotion
from infra.storage import open_store
from infra.version_names import short_version
from serving.demo.explained import LoadedVersion
from serving.demo.held_out import EvaluatedRequests
from serving.demo.histories import Histories, read_histories
from serving.demo.store_view import DriftRecord, StoreView
from serving.reranking import Rules

__all__ = ["SETTINGS", "Context", "context_of"]

LOADED = 4  # versions kept in memory
SETTINGS = "RECSYS_DEMO_SETTINGS"  # environment variable with the settings as JSON, set by `recsys demo`


@dataclass(frozen=True)
class Context:
    """The store and settings of one demo."""

    settings: DemoSettings
    view: StoreView

    @property
    def _key(self) -> tuple[str, str]:
        return self.view.place, self.settings.model_name

    def versions(self) -> list[ModelRef]:
        """Return the versions, newest first. They are refreshed after `refresh_s`."""
        return _listed(self._key, self, _tick(self.settings.refresh_s))[0]

    def damaged(self) -> dict[str, str]:
        return _listed(self._key, self, _tick(self.settings.refresh_s))[1]

    def promotions(self) -> list[Promotion]:
        return _listed(self._key, self, _tick(self.settings.refresh_s))[2]

    def champion(self) -> str | None:
        entries = self.promotions()
        return entries[-1].version if entries else None

    def short(self, version: str) -> str:
        """Return the short form of a version's name, with as many digits as tell it from the others."""
        return short_version(version, [ref.version for ref in self.versions()])

    def nouns(self, ref: ModelRef | None = None) -> NounSettings:
        """Return the team's words, as they are in the data of a version; by default, the newest one."""
        ref = ref or next(iter(self.versions()), None)
        schema = (None if ref is None else self.view.json_of(ref, "schema.json")) or {}
        return NounSettings.model_validate(schema.get("nouns", {}))

    def load(self, ref: ModelRef, *, judged: bool = False) -> LoadedVersion:
        """Load what is served of a version, or with `judged` what was evaluated."""
        with st.spinner(f"Loading {self.short(ref.version)} ..."):
            return _loaded(self._key, ref.version, judged, self, ref)

    def histories(self, dataset: str) -> Histories:
        with st.spinner("Reading users ..."):
            return _histories(self._key, dataset, self)

    def evaluated(self, ref: ModelRef) -> EvaluatedRequests | None:
        """Return the test requests of a version, or None if it stores none."""
        return _evaluated(self._key, ref.version, self, ref)

    def drift(self) -> list[DriftRecord]:
        """Return the drift measurements, oldest first. They are refreshed after `refresh_s`."""
        return _drift(self._key, self, _tick(self.settings.refresh_s))

    def rules(self) -> Rules:
        """Return the rules that are currently in the file."""
        path = self.settings.rules
        return Rules() if path is None else Rules.load(path)

    def label(self, ref: ModelRef) -> str:
        """Return the label of a version in a list of choices."""
        return f"{'★ ' if ref.version == self.champion() else ''}{self.short(ref.version)} · {ref.kind}"


def context_of(settings: DemoSettings | None = None) -> Context:
    """Return the context for these settings, or for those that `recsys demo` set in the environment."""
    if settings is None:
        settings = DemoSettings.model_validate_json(os.environ.get(SETTINGS, "{}"))
    return Context(settings, StoreView(open_store(settings.store), settings.model_name))


def _tick(refresh_s: float) -> int:
    """Return a number that changes every `refresh_s` seconds. Entries cached under it are then refreshed."""
    return int(time.time() / refresh_s) if refresh_s > 0 else time.time_ns()


@st.cache_resource(max_entries=4, show_spinner=False)
def _listed(key: tuple[str, str], _context: Context, tick: int) -> tuple[list[ModelRef], dict[str, str], list[Promotion]]:
    versions, damaged = _context.view.versions()
    return versions, damaged, _context.view.promotions()


@st.cache_resource(max_entries=4, show_spinner=False)
def _histories(key: tuple[str, str], dataset: str, _context: Context) -> Histories:
    return read_histories(_context.view.store, dataset, _context.settings.work_dir)


@st.cache_resource(max_entries=LOADED, show_spinner=False)
def _evaluated(key: tuple[str, str], version: str, _context: Context, _ref: ModelRef) -> EvaluatedRequests | None:
    return _context.view.evaluated(_ref)


@st.cache_resource(max_entries=4, show_spinner=False)
def _drift(key: tuple[str, str], _context: Context, tick: int) -> list[DriftRecord]:
    return _context.view.drift()


@st.cache_resource(max_entries=LOADED, show_spinner=False)
def _loaded(key: tuple[str, str], version: str, judged: bool, _context: Context, _ref: ModelRef) -> LoadedVersion:
    return LoadedVersion.load(_context.view.store, _ref, _context.settings.work_dir, judged=judged)
