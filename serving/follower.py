"""Follows the promotion log: a new champion is fetched, loaded, checked and warmed beside the old one, and then replaces it.

A version that does not load, or whose answers differ from the trained model's, is refused and reported. The old one stays. A refused
version is tried again when its stored files change, and from time to time, because the cause may have been this machine.

If the log rolls a new champion out in stages, it is served as the canary beside the old version, until it serves everybody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np

from configs.errors import (
    ChampionMissingError,
    NotFoundError,
    RecsysError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    VersionCorruptError,
)
from configs.serving import ServingSettings
from infra.registry import ModelRegistry, Promotion, Rollout, find_version
from infra.storage import Store
from models.schema import IdTypes
from serving.background import BackgroundLoop, ignored
from serving.engine import Models, Plan, ServedModel
from serving.rollout import Underway

__all__ = ["ChampionFollower", "Refused"]

logger = logging.getLogger(__name__)
BATCHES = (1, 8, 32)  # batch sizes that are computed once before requests arrive
RETRY_S, MOST_RETRY_S = 30.0, 600.0  # wait before a refused version is tried again: the first, and the longest
Files = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Refused:
    """A version that is not served, and the reason."""

    version: str
    promotion: int  # 0 if it was requested but not promoted
    reason: str
    when: str  # UTC, ISO 8601


@dataclass(frozen=True)
class _Retry:
    """When a refused version is tried again: after a while, or as soon as its stored files change."""

    at: float  # of the clock
    wait_s: float
    files: Files


class ChampionFollower:
    """Keeps the served versions up to date with the promotion log.

    `wanted` returns the versions to load besides the champion. `swap` puts the loaded versions into service. The log, each version of
    it and each wanted version are looked at separately: what fails keeps nothing else from service.
    """

    def __init__(
        self,
        store: Store,
        settings: ServingSettings,
        swap: Callable[[Models], None],
        wanted: Callable[[], frozenset[str]] = frozenset,
        *,
        on_failure: Callable[[str], None] = ignored,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._registry = store, ModelRegistry(store)
        self._settings, self._swap, self._wanted, self._clock = settings, swap, wanted, clock
        self.models = Models(None, {})
        self.promotion: Promotion | None = None  # the newest entry of the log that was acted on
        self.underway: Underway | None = None  # the rollout that requests are answered by
        self.refused: dict[str, Refused] = {}  # only relevant ones: promoted since the served champion, or wanted
        self.log_read: float | None = None  # when the log was last read, in UTC seconds
        self.fault: str | None = None  # why the last look failed
        self.denied = False  # the store refuses the credentials
        self.looks_failed = 0
        self._retries: dict[str, _Retry] = {}
        self._retired: list[ServedModel] = []  # former champions, the latest first
        self._extra: dict[str, ServedModel] = {}
        self._looking = threading.Lock()
        self._looked = threading.Event()
        # A version that cannot be read must not keep a rollback waiting.
        self._loop = BackgroundLoop("following", self.look, settings.poll_s, on_failure=on_failure, most_s=2 * settings.poll_s)

    def start(self, wait_s: float = 0.0) -> None:
        """Follow the log in a thread. Wait up to `wait_s` for the first look."""
        self._loop.start()
        self._looked.wait(wait_s)

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._loop.stop()

    def close(self, timeout_s: float = 2.0) -> None:
        """Stop following. A version that is still being loaded after `timeout_s` is given up."""
        self._loop.close(timeout_s)

    def look(self) -> bool:
        """Read the log once and act on it. Return False if something failed; `fault` says what."""
        with self._looking:
            faults = [fault for fault in map(_fault_of, (self._follow, self._load_wanted, self._forget_superseded)) if fault]
            self.denied = any(isinstance(fault, StoreDeniedError) for fault in faults)
            self.fault = None
            if faults:
                self.looks_failed += 1
                self.fault = str(faults[0]) if isinstance(faults[0], RecsysError) else f"{type(faults[0]).__name__}: {faults[0]}"
                logger.warning("the promotion log cannot be followed", extra={"reason": self.fault})
            self._looked.set()
            return not faults

    def _follow(self) -> None:
        entry = self._registry.newest(self._settings.model_name)
        if entry is None and self.promotion is not None:
            raise StoreError(
                f"The promotion log of {self._settings.model_name} is gone: promotion {self.promotion.number} was read from it before. "
                f"Restore {self._store.uri('promotions')}. The version {self.promotion.version} is served meanwhile."
            )
        self.log_read = time.time()
        if entry is None:
            return
        rollout = entry.rollout if entry.rollout is not None and not entry.rollout.is_over(self.log_read) else None
        is_new = (
            self.promotion is None or entry.number != self.promotion.number or (rollout is None and self.underway is not None)
        )
        if not is_new and (entry.version not in self.refused or not self._is_due(entry.version)):
            return
        take = partial(self._promote, entry) if rollout is None else partial(self._roll_out, entry, rollout)
        fault = _fault_of(take)
        if self.models.champion is None:  # nothing is served yet
            for earlier in self._earlier(entry):
                fault = _fault_of(partial(self._promote, earlier)) or fault
                if self.models.champion is not None or self._loop.closing:
                    break
        if fault is not None:
            raise fault  # the store or the disk is at fault, so this entry is read again with the next look
        self.promotion = entry

    def _promote(self, entry: Promotion) -> None:
        kept = self.models.named(entry.version)

        def load() -> ServedModel:
            self._registry.promoted(entry)
            return self._load(entry.version, entry.number) if kept is None else kept.promoted(entry.number)

        loaded = self._refusing(entry.version, entry.number, load)
        if loaded is not None:
            self._put_into_service(loaded)
            logger.info("a version took over", extra={"version": loaded.version, "promotion": loaded.number})
        self.underway = None

    def _roll_out(self, entry: Promotion, rollout: Rollout) -> None:
        """Serve the old version as the champion, and the new one as the canary. What cannot be loaded is left out."""
        old, new = self.models.named(rollout.old), self.models.named(entry.version)

        def load_old() -> ServedModel:
            if old is not None:
                return old.promoted(entry.number)
            replace(entry, version=rollout.old, manifest=rollout.manifest).refuse_edited(
                self._registry.version(entry.name, rollout.old)
            )
            return self._load(rollout.old, entry.number)

        champion = self._refusing(rollout.old, entry.number, load_old)
        if champion is None:  # better the new version for everybody here than none
            self._promote(entry)
            return
        if self.models.champion is None:
            self._put_into_service(champion)

        def load_new() -> ServedModel:
            self._registry.promoted(entry)
            return self._load_beside(entry.version, champion, entry.number) if new is None else new.promoted(entry.number)

        canary = self._refusing(entry.version, entry.number, load_new)
        self._put_into_service(champion, canary=canary)
        self.underway = Underway(entry.version, rollout)

    def _earlier(self, newest: Promotion) -> list[Promotion]:
        """Return the entries before `newest` that may work, the latest first, one for each version."""
        found = {newest.version: newest}
        for entry in reversed(self._registry.history(self._settings.model_name)[:-1]):
            found.setdefault(entry.version, entry)
        return [entry for entry in list(found.values())[1:] if self._is_due(entry.version)]

    def _load_wanted(self) -> None:
        wanted = {self._full_name(version) for version in (*self._wanted(), *self._settings.versions)}
        extra = {version: model for version, model in self._extra.items() if version in wanted}
        if extra.keys() != self._extra.keys():
            self._put_into_service(self.models.champion, canary=self.models.canary, extra=extra)
        faults = [_fault_of(partial(self._load_one, version)) for version in sorted(wanted - extra.keys())]
        for fault in filter(None, faults):
            raise fault

    def _full_name(self, version: str) -> str:
        """Return the complete name of a version. One that does not exist keeps its name, under which it is refused."""
        try:
            return find_version(self._registry, self._settings.model_name, version)
        except (NotFoundError, ChampionMissingError):
            return version

    def _load_one(self, version: str) -> None:
        champion, canary = self.models.champion, self.models.canary
        served = {model.version for model in (champion, canary) if model is not None}
        if version in served or not self._is_due(version) or self._loop.closing:
            return
        kept = next((model for model in self._retired if model.version == version), None)
        loaded = kept or self._refusing(version, 0, partial(self._load_beside, version, champion))
        if loaded is not None:
            self._put_into_service(champion, canary=canary, extra=self._extra | {version: loaded})

    def _load_beside(self, version: str, champion: ServedModel | None, number: int = 0) -> ServedModel:
        loaded = self._load(version, number)
        if champion is not None and _ids_of(loaded) != _ids_of(champion):
            raise VersionCorruptError(
                f"The version {version} has {_in_words(loaded)}, but the champion {champion.version} has {_in_words(champion)}, so they "
                "cannot answer the same requests. Take the version out of `versions` and of the experiments."
            )
        return loaded

    def _forget_superseded(self) -> None:
        """Forget a refused version once a later promotion is served."""
        wanted = {self._full_name(version) for version in (*self._wanted(), *self._settings.versions)}
        serving = 0 if self.models.champion is None else self.models.champion.number
        for version, refused in list(self.refused.items()):
            if version not in wanted and refused.promotion < max(serving, 1):
                self._forget(version)

    def _put_into_service(
        self, champion: ServedModel | None, *, canary: ServedModel | None = None, extra: dict[str, ServedModel] | None = None
    ) -> None:
        """Swap the served versions. Nothing is recorded as served before it is.

        A version whose ids have other types than the champion's cannot answer the same requests, so it is not kept.
        """
        extra = self._extra if extra is None else extra
        before, retired = self.models.champion, self._retired
        if champion is not None:
            extra = {version: model for version, model in extra.items() if _ids_of(model) == _ids_of(champion)}
            retired = [model for model in retired if _ids_of(model) == _ids_of(champion)]
            before = before if before is not None and _ids_of(before) == _ids_of(champion) else None
        if before is not None and champion is not None and before.version != champion.version:
            others = [model for model in retired if model.version not in (before.version, champion.version)]
            retired = [before, *others][: self._settings.retired]
        beside = {model.version: model for model in (*retired, *extra.values())}
        for model in (champion, canary):
            if model is not None:
                beside.pop(model.version, None)
        models = Models(champion, beside, canary)
        self._swap(models)
        self.models, self._retired, self._extra = models, retired, extra

    def _refusing(self, version: str, number: int, load: Callable[[], ServedModel]) -> ServedModel | None:
        """Return the loaded version, or None if the version is at fault. Raises an error if the store or the disk is at fault."""
        files = self._files_of(version)
        try:
            loaded = load()
        except (StoreUnavailableError, StoreDeniedError, StoreFullError):
            raise
        except (RecsysError, _UnusableError) as error:
            self._refuse(version, number, str(error), files)
            return None
        self._forget(version)
        return loaded

    def _refuse(self, version: str, number: int, reason: str, files: Files) -> None:
        before = self.refused.get(version)
        if before is None or (before.promotion, before.reason) != (number, reason):
            self.refused[version] = Refused(version, number, reason, datetime.now(UTC).isoformat(timespec="seconds"))
            logger.error("a version was refused", extra={"version": version, "promotion": number, "reason": reason})
        last = self._retries.get(version)
        wait_s = min(2 * last.wait_s, MOST_RETRY_S) if last is not None and last.files == files else RETRY_S
        self._retries[version] = _Retry(self._clock() + wait_s, wait_s, files)

    def _is_due(self, version: str) -> bool:
        """Whether a version that was not refused, or may work by now, should be loaded."""
        retry = self._retries.get(version)
        return version not in self.refused or retry is None or self._clock() >= retry.at or self._files_of(version) != retry.files

    def _forget(self, version: str) -> None:
        self.refused.pop(version, None)
        self._retries.pop(version, None)

    def _files_of(self, version: str) -> Files:
        """Return the names of a version's stored files, with size and time where the store is a folder."""
        found = []
        for key in self._store.list(f"models/{self._settings.model_name}/{version}/"):
            path = self._store.local_file(key)
            seen = path.stat() if path is not None else None
            found.append((key, seen.st_size if seen else 0, seen.st_mtime_ns if seen else 0))
        return tuple(found)

    def _load(self, version: str, number: int) -> ServedModel:
        name = self._settings.model_name
        try:
            ref = self._registry.version(name, version)
        except NotFoundError as error:
            raise VersionCorruptError(f"The registry has no version {version} of {name}.") from error
        self._settings.work_dir.mkdir(parents=True, exist_ok=True)
        with self._registry.fetched(ref, within=self._settings.work_dir, serving=True) as folder:
            try:
                dataset = ref.dataset.partition("/")[0]
                model = ServedModel.load(folder, version, number, self._settings.state.events, dataset)
                model.check_samples(folder)
                warm(model)
            except (RecsysError, OSError):
                raise
            except (Exception, SystemExit) as error:  # whatever a library or a plugin raises, it harms this version only
                logger.exception("a version cannot be loaded", extra={"version": version})
                raise _UnusableError(f"{type(error).__name__}: {error}") from error
        return model


class _UnusableError(Exception):
    """The files of a version were fetched, but the version cannot be used."""


def _fault_of(part: Callable[[], None]) -> Exception | None:
    """Run one part of a look, and return what it raises, so that the other parts run, too."""
    try:
        part()
    except (RecsysError, OSError) as error:
        return error
    except Exception as error:  # the last resort: a library's own error, or a defect
        logger.exception("following the promotion log failed")
        return error
    return None


def _ids_of(model: ServedModel) -> IdTypes:
    return model.catalogue.schema.ids


def _in_words(model: ServedModel) -> str:
    ids = _ids_of(model)
    if ids.user_id == ids.item_id:
        return f"{ids.user_id} ids"
    return f"{ids.user_id} ids of users and {ids.item_id} ids of items"


def warm(model: ServedModel) -> None:
    """Do once what the first requests would otherwise wait for: compile, and touch every weight.

    Raises:
        VersionCorruptError: If scores are not finite.
    """
    for size in BATCHES:
        count = min(2 * model.block, 8)
        items = np.arange(count) % len(model.catalogue)
        plans = [Plan(None, items, np.arange(count, dtype=np.int64) * 3600, current=False, rebuilt=True)] * size
        users: list[int | None] = [None] * size
        scores = model.scores(model.states(plans, users), plans, [count * 3600] * size, users)
        if not np.isfinite(scores).all():
            raise VersionCorruptError(f"The version {model.version} computes scores that are not finite.")
    if model.index is not None:
        model.index.candidates(np.ones(model.model.item_vectors.shape[1], np.float32), 1)
