"""Follows the promotion log: a new champion is fetched, loaded, checked and warmed beside the old one, and then replaces it.

A version that does not load, or whose answers differ from the trained model's, is refused and reported. The old one stays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np

from configs.errors import (
    NotFoundError,
    RecsysError,
    StoreDeniedError,
    StoreFullError,
    StoreUnavailableError,
    VersionCorruptError,
)
from configs.serving import ServingSettings
from infra.registry import ModelRegistry, Promotion
from infra.storage import Store
from serving.engine import Models, Plan, ServedModel

__all__ = ["ChampionFollower", "Refused"]

logger = logging.getLogger(__name__)
BATCHES = (1, 8, 32)  # batch sizes that are computed once before requests arrive


@dataclass(frozen=True)
class Refused:
    """A version that is not served, and the reason."""

    version: str
    promotion: int  # 0 if it was requested but not promoted
    reason: str
    when: str  # UTC, ISO 8601


class ChampionFollower:
    """Keeps the served versions up to date with the promotion log.

    `wanted` returns the versions to load besides the champion. `swap` puts the loaded versions into service.
    """

    def __init__(
        self,
        store: Store,
        settings: ServingSettings,
        swap: Callable[[Models], None],
        wanted: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._registry, self._settings, self._swap, self._wanted = ModelRegistry(store), settings, swap, wanted
        self.models = Models(None, {})
        self.promotion: Promotion | None = None  # the newest entry of the log
        self.refused: dict[str, Refused] = {}  # only relevant ones: promoted since the served champion, or wanted
        self._absent: set[str] = set()  # refused because the registry did not have them; it may have them by now
        self.polls_failed = 0
        self._retired: list[ServedModel] = []  # former champions, the latest first
        self._extra: dict[str, ServedModel] = {}
        self._stop = threading.Event()
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self) -> None:
        """Follow the log in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop following, and wait for a version that is being loaded."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Read the log once and act on it. Store errors are logged and counted."""
        with self._looking:
            try:
                self._follow(self._registry.newest(self._settings.model_name))
                self._load_wanted()
                self._forget_superseded()
            except (RecsysError, OSError) as error:
                self.polls_failed += 1
                logger.warning("the promotion log cannot be followed", extra={"reason": str(error)})

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception:  # a defect here must not stop the thread
                self.polls_failed += 1
                logger.exception("following the promotion log failed")
            self._stop.wait(self._settings.poll_s)

    def _follow(self, entry: Promotion | None) -> None:
        if entry is None or (self.promotion is not None and entry.number == self.promotion.number):
            return
        champion = self.models.champion
        loaded = self._try(entry)
        if loaded is None and champion is None:  # nothing is served yet: try the latest champion that works
            for earlier in reversed(self._registry.history(self._settings.model_name)[:-1]):
                loaded = self._try(earlier)
                if loaded is not None:
                    break
        self.promotion = entry
        if loaded is None:
            return
        if champion is not None and champion.version != loaded.version:
            others = [model for model in self._retired if model.version not in (champion.version, loaded.version)]
            self._retired = [champion, *others][: self._settings.retired]
        self._put_into_service(loaded)
        logger.info("a version took over", extra={"version": loaded.version, "promotion": loaded.number})

    def _load_wanted(self) -> None:
        wanted = self._wanted() | set(self._settings.versions)
        champion = self.models.champion
        changed = False
        for version in sorted(wanted):
            if version in self._extra or (champion is not None and version == champion.version):
                continue
            if version in self.refused and version not in self._absent:
                continue
            kept = next((model for model in self._retired if model.version == version), None)
            loaded = kept or self._refusing(version, 0, partial(self._load, version, 0))
            if loaded is not None:
                self._extra[version] = loaded
                changed = True
        for version in [name for name in self._extra if name not in wanted]:
            del self._extra[version]
            changed = True
        if changed:
            self._put_into_service(champion)

    def _forget_superseded(self) -> None:
        """Forget a refused version once a later promotion is served."""
        wanted = self._wanted() | set(self._settings.versions)
        serving = 0 if self.models.champion is None else self.models.champion.number
        for version, refused in list(self.refused.items()):
            if version not in wanted and refused.promotion < max(serving, 1):
                del self.refused[version]
                self._absent.discard(version)

    def _put_into_service(self, champion: ServedModel | None) -> None:
        others = {model.version: model for model in (*self._retired, *self._extra.values())}
        if champion is not None:
            others.pop(champion.version, None)
        self.models = Models(champion, others)
        self._swap(self.models)

    def _try(self, entry: Promotion) -> ServedModel | None:
        kept = self.models.named(entry.version)

        def load() -> ServedModel:
            self._registry.promoted(entry)
            return self._load(entry.version, entry.number) if kept is None else kept.promoted(entry.number)

        return self._refusing(entry.version, entry.number, load)

    def _refusing(self, version: str, number: int, load: Callable[[], ServedModel]) -> ServedModel | None:
        """Return the loaded version, or None if the version is at fault. Raises StoreError if the store is at fault."""
        try:
            loaded = load()
        except (StoreUnavailableError, StoreDeniedError, StoreFullError):
            raise
        except (RecsysError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            reason = str(error) if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}"
            before = self.refused.get(version)
            if before is None or (before.promotion, before.reason) != (number, reason):
                self.refused[version] = Refused(version, number, reason, datetime.now(UTC).isoformat(timespec="seconds"))
                logger.error("a version was refused", extra={"version": version, "promotion": number, "reason": reason})
            return None
        self.refused.pop(version, None)
        self._absent.discard(version)
        return loaded

    def _load(self, version: str, number: int) -> ServedModel:
        name = self._settings.model_name
        try:
            ref = self._registry.version(name, version)
        except NotFoundError as error:
            self._absent.add(version)
            raise VersionCorruptError(f"The registry has no version {version} of {name}.") from error
        self._absent.discard(version)
        self._settings.work_dir.mkdir(parents=True, exist_ok=True)
        with self._registry.fetched(ref, within=self._settings.work_dir) as folder:
            model = ServedModel.load(folder, version, number, self._settings.state.events)
            model.check_samples(folder)
            warm(model)
        return model


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
