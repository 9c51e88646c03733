"""The model registry over a store.

A version is staged first: its files are uploaded, create-only. The gate therefore judges the stored files, not the files on the
training machine. The version is then sealed with the gate's decision, by a manifest that is written last. A version without a
manifest does not exist. The promotion log names the champion among the sealed versions.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from configs.errors import (
    ChampionMissingError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
    VersionCorruptError,
)
from configs.settings import model_option
from infra.leases import leased
from infra.registry.decisions import add_decision, list_decisions
from infra.registry.files import file_digests, read_file, verify_files
from infra.registry.promotion_log import Promotion, PromotionKind, PromotionLog, version_to_restore
from infra.registry.staging import fetch_version, seal, stage_serving
from infra.registry.versions import (
    DECISION,
    MOST_JSON,
    Lineage,
    ModelRef,
    StagedVersion,
    list_names,
    new_version,
    read_manifest,
    read_version,
)
from infra.storage import Store

__all__ = ["ModelRegistry"]


class ModelRegistry:
    """The models of one store: their versions, the gate's decisions on them, and their promotions.

    Every method raises StoreError, or one of its subclasses, if the store fails.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.address = store.uri("")  # of the store, for messages

    # Versions

    def versions(self, name: str, damaged: dict[str, str] | None = None) -> list[ModelRef]:
        """Return the sealed versions of a model, oldest first.

        Args:
            name: Name of the model.
            damaged: Receives each version whose manifest is damaged, with the reason. If None, such a version raises.

        Raises:
            VersionCorruptError: A manifest is damaged and `damaged` is None.
        """
        versions = []
        for version in list_names(self._store, name):
            try:
                versions.append(self.version(name, version))
            except NotFoundError:
                continue  # housekeeping has deleted it since it was listed
            except VersionCorruptError as error:
                if damaged is None:
                    raise
                damaged[version] = str(error)
        return versions

    def version_names(self, name: str) -> list[str]:
        """Return the names of the sealed versions of a model, oldest first. Their manifests are not read."""
        return list_names(self._store, name)

    def version(self, name: str, version: str) -> ModelRef:
        """Return a sealed version.

        Args:
            name: Name of the model.
            version: Name of the version.

        Raises:
            NotFoundError: There is no such version.
            VersionCorruptError: The manifest was edited.
        """
        return read_version(self._store, name, version)

    def manifest(self, name: str, version: str) -> dict[str, Any]:
        """Return the manifest of a version: its outcome, its lineage, and the sha256 of each file by name.

        Args:
            name: Name of the model.
            version: Name of the version.

        Raises:
            NotFoundError: The version does not exist, or it was never sealed.
            VersionCorruptError: The manifest is damaged, belongs to another version, or does not name the files that the
                version was staged with.
        """
        return read_manifest(self._store, name, version)[0]

    def read_file(self, ref: ModelRef | StagedVersion, file: str) -> bytes | None:
        """Return the content of one file of a version, or None if the version has no such file.

        Raises:
            VersionCorruptError: The file is missing from the store or differs from the manifest, or the manifest was edited.
        """
        expected = self._files(ref).get(file)
        return None if expected is None else read_file(self._store, ref.prefix, file, expected)

    def fetch(self, version: ModelRef | StagedVersion, folder: Path, files: str = "*", *, serving: bool = False) -> Path:
        """Copy a version's files to a folder, and verify each one.

        Args:
            version: The version, sealed or staged.
            folder: Where the copies go; created if it does not exist.
            files: Pattern of the names of the files to copy, such as `reference_*`.
            serving: Whether to copy what is served. The files below `serving/`, if there are any, then take the place of the judged
                ones, which are those that the metrics and the gate's decision are about.

        Returns:
            The folder.

        Raises:
            VersionCorruptError: A file is missing or differs from its digest, or the manifest was edited.
        """
        return fetch_version(self._store, version.prefix, self._files(version), folder, files, serving=serving)

    @contextmanager
    def fetched(
        self, version: ModelRef | StagedVersion, files: str = "*", within: Path | None = None, *, serving: bool = False
    ) -> Iterator[Path]:
        """Provide a version's files, verified, in a temporary folder that is removed afterwards.

        Args:
            version: The version, sealed or staged.
            files: Pattern of the names of the files to copy, such as `reference_*`.
            within: Where the temporary folder is created. By default, where the system keeps temporary files.
            serving: Whether to provide what is served, as in `fetch`.

        Yields:
            The folder.

        Raises:
            VersionCorruptError: A file is missing or differs from its digest, or the manifest was edited.
        """
        prefix = f"recsys-{version.version[:16]}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=within, ignore_cleanup_errors=True) as folder:
            yield self.fetch(version, Path(folder), files, serving=serving)

    def stage(self, name: str, folder: Path, now: datetime, files: dict[str, str] | None = None) -> StagedVersion:
        """Upload the files of a folder as a new version `YYYYMMDDTHHMMSSZ-<32 hex digits of its content>`.

        Args:
            name: Name of the model.
            folder: The files.
            now: Time of the version.
            files: The sha256 of each file, if already known. A file that has changed by the time it is uploaded fails every
                later check.

        Raises:
            AlreadyExistsError: Another process uploads the same files at the same time.
            VersionCorruptError: The folder contains a link.
        """
        staged = new_version(name, file_digests(folder) if files is None else files, now)
        for file in staged.files:
            self._store.put_new(f"{staged.prefix}/{file}", folder / file)
        return staged

    def stage_serving(self, staged: StagedVersion, folder: Path, files: dict[str, str]) -> StagedVersion:
        """Upload the files that are served instead of the judged ones, and return the staged version with them.

        The call can be repeated if the store did not answer.

        Args:
            staged: The version.
            folder: The files.
            files: The sha256 of each file. A file that has changed by the time it is uploaded fails every later check.

        Raises:
            AlreadyExistsError: The store already holds another file of that name.
        """
        return stage_serving(self._store, staged, folder, files)

    def seal(
        self, staged: StagedVersion, decision: dict[str, Any], lineage: Lineage, now: datetime, page: bytes | None = None
    ) -> ModelRef:
        """Add the gate's decision, its page and the manifest. From then on the version exists.

        The call can be repeated if the store did not answer: files that this run has already written are accepted.

        Args:
            staged: The version.
            decision: The gate's decision.
            lineage: The version's lineage.
            now: Time of the sealing.
            page: The decision as a page for people.

        Raises:
            VersionCorruptError: The stored files differ from those that were staged.
            AlreadyExistsError: The store already holds another decision or page for the version.
        """
        seal(self._store, staged, decision, lineage, now, page)
        return self.version(staged.name, staged.version)

    def verify(self, version: ModelRef | StagedVersion) -> None:
        """Verify a version's stored files, without copying them.

        Raises:
            VersionCorruptError: A file is missing or differs from its digest, or the manifest was edited.
        """
        verify_files(self._store, version.prefix, self._files(version))

    # Decisions

    def decision(self, ref: ModelRef) -> dict[str, Any]:
        """Return the decision that a version was sealed with.

        Raises:
            VersionCorruptError: The decision is missing or was edited.
        """
        content = read_file(self._store, ref.prefix, DECISION, self._files(ref)[DECISION], MOST_JSON)
        decision: dict[str, Any] = json.loads(content)
        return decision

    def later_decisions(self, name: str, version: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the decisions made after a version was sealed, oldest first, each with its time.

        Args:
            name: Name of the model.
            version: Name of the version.

        Returns:
            Pairs of the UTC time, as `YYYYMMDDTHHMMSSffffffZ`, and the decision.

        Raises:
            VersionCorruptError: A decision is damaged.
        """
        return list_decisions(self._store, name, version)

    def add_decision(self, ref: ModelRef, decision: dict[str, Any], now: datetime, page: bytes | None = None) -> str | None:
        """Store a decision made after the version was sealed.

        Args:
            ref: The version.
            decision: The decision.
            now: Time of the decision.
            page: The decision as a page for people.

        Returns:
            The key of the page, or None without a page.
        """
        return add_decision(self._store, ref, decision, now, page)

    # Promotions

    def champion(self, name: str) -> Promotion | None:
        """Return the log entry that made the champion, or None before the first promotion.

        Raises:
            VersionCorruptError: The promoted version is not in the registry, or it was edited after its promotion.
        """
        current = self.champion_ref(name)
        return None if current is None else current[1]

    def champion_ref(self, name: str) -> tuple[ModelRef, Promotion] | None:
        """Return the champion and its entry in the log, or None before the first promotion.

        Raises:
            VersionCorruptError: The promoted version is not in the registry, or it was edited after its promotion.
        """
        promotion = self.newest(name)
        if promotion is None:
            return None
        try:
            return self.promoted(promotion), promotion
        except NotFoundError as error:
            raise VersionCorruptError(
                f"Promotion {promotion.number} names {name} {promotion.version} as champion, but the registry has no such version. "
                f"`recsys model rollback --to VERSION{model_option(name)}` promotes an earlier one."
            ) from error

    def newest(self, name: str) -> Promotion | None:
        """Return the newest entry of the log, or None if the log is empty. The version that it names is not checked.

        Raises:
            VersionCorruptError: The entry is damaged, or an earlier one is missing.
        """
        return PromotionLog(self._store, name).newest()

    def history(self, name: str) -> list[Promotion]:
        """Return all entries of the log, oldest first.

        Raises:
            VersionCorruptError: An entry is missing, or it was edited after the next one was written.
        """
        return PromotionLog(self._store, name).entries()

    def promoted(self, promotion: Promotion) -> ModelRef:
        """Return the version that an entry of the log promoted.

        Raises:
            NotFoundError: There is no such version.
            VersionCorruptError: The version was edited after this promotion.
        """
        ref = self.version(promotion.name, promotion.version)
        promotion.refuse_edited(ref)
        return ref

    def promote(
        self,
        name: str,
        version: str,
        *,
        expected: int,
        kind: PromotionKind = "promote",
        reason: str,
        now: datetime,
        decision: dict[str, Any] | None = None,
    ) -> Promotion:
        """Make a version the champion.

        Args:
            name: Name of the model.
            version: Version to promote.
            expected: Number of the log entry that the decision was made against, 0 if the log was empty.
            kind: How the promotion came about.
            reason: Reason for the log.
            now: Time of the promotion.
            decision: The gate's decision in short.

        Returns:
            The entry of the log.

        Raises:
            AlreadyExistsError: Another promotion was written first.
            NotFoundError: The version was never sealed, or it is being deleted.
            VersionCorruptError: The version differs from what was sealed.
        """
        ref = self.version(name, version)
        with leased(self._store, f"a promotion of {version}", [ref.prefix]):
            self.verify(ref)
            log = PromotionLog(self._store, name)
            return log.append(ref, expected=expected, kind=kind, reason=reason, now=now, decision=decision)

    def rollback(
        self, name: str, *, to: str | None, reason: str, now: datetime, check: Callable[[ModelRef], list[str] | None]
    ) -> Promotion:
        """Append an entry that returns to an earlier champion.

        Args:
            name: Name of the model.
            to: Version to return to, or None for the previous champion.
            reason: Reason for the log.
            now: Time of the rollback.
            check: Loads the old version and raises if its answers have changed; in that case nothing is written. It may return
                warnings, which are stored in the entry.

        Returns:
            The entry of the log.

        Raises:
            ChampionMissingError: There is no version to return to.
            VersionCorruptError: The version or the log was edited.
            StoreError: The store did not answer, so the rollback may or may not have taken effect.
        """
        entries = self.history(name)
        to = version_to_restore(name, entries, to)
        ref = self.version(name, to)
        reigns = [entry for entry in entries if entry.version == to]
        if not reigns:
            raise ChampionMissingError(
                f"{name} {to} was never champion, so there is nothing to return to. Judge it with `recsys model promote {to}{model_option(name)}` instead."
            )
        reigns[-1].refuse_edited(ref)
        warnings = check(ref)
        said = {"warnings": warnings} if warnings else None
        try:
            return self.promote(name, to, expected=entries[-1].number, kind="rollback", reason=reason, now=now, decision=said)
        except StoreUnavailableError as error:
            # Do not retry automatically: if the entry was written, the previous champion is now the one that was just replaced.
            raise StoreError(
                f"The store did not answer while {name} was rolled back to {to}, and the rollback may have taken effect. Check "
                f"`recsys model show champion{model_option(name)}`; if it is not {to}, run `recsys model rollback --to {to}{model_option(name)}`. ({error})"
            ) from error

    def _files(self, version: ModelRef | StagedVersion) -> dict[str, str]:
        """Return the sha256 of each file of a version, by name."""
        return version.files if isinstance(version, StagedVersion) else self.manifest(version.name, version.version)["files"]
