"""How a version comes into being: its files are uploaded, then it is sealed. `ModelRegistry` describes the arguments.

A version may hold a second set of files below `serving/`, which servers load instead of the judged files of the same name. The
version's name carries the digest of the judged files only, because the others are made after the gate has judged it. The manifest
holds the digests of all.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from configs.errors import AlreadyExistsError
from infra.digests import sha256_of
from infra.registry.files import fetch_files, verify_files
from infra.registry.versions import DECISION, PAGE, SERVING, Lineage, StagedVersion, manifest_of
from infra.storage import Store

__all__ = ["fetch_version", "seal", "stage_serving"]


def stage_serving(store: Store, staged: StagedVersion, folder: Path, files: dict[str, str]) -> StagedVersion:
    """Upload the files that are served instead of the judged ones, and return the staged version with them."""
    for file, digest in files.items():
        key = f"{staged.prefix}/{SERVING}{file}"
        try:
            store.put_new(key, folder / file)
        except AlreadyExistsError:
            if sha256_of(store.get(key)) != digest:
                raise
    return replace(staged, files=staged.files | {f"{SERVING}{file}": digest for file, digest in files.items()})


def seal(
    store: Store, staged: StagedVersion, decision: dict[str, Any], lineage: Lineage, now: datetime, page: bytes | None
) -> None:
    """Add the gate's decision, its page and the manifest."""
    verify_files(store, staged.prefix, staged.files)
    added = {DECISION: json.dumps(decision, indent=2).encode(), **({PAGE: page} if page is not None else {})}
    for file, content in added.items():
        try:
            store.claim(f"{staged.prefix}/{file}", content)
        except AlreadyExistsError:
            if store.get(f"{staged.prefix}/{file}") != content:
                raise
    digests = {file: sha256_of(content) for file, content in added.items()}
    manifest = manifest_of(staged, decision["outcome"], lineage, now, digests)
    with suppress(AlreadyExistsError):  # this run wrote the decision, so it also wrote the manifest
        store.put_new(f"{staged.prefix}/manifest.json", manifest)


def fetch_version(store: Store, prefix: str, files: dict[str, str], folder: Path, pattern: str, *, serving: bool) -> Path:
    """Copy a version's files that match a pattern: the judged ones, or what is served."""
    chosen = {name: digest for name, digest in files.items() if not name.startswith(SERVING) and fnmatchcase(name, pattern)}
    if serving:
        below = {name.removeprefix(SERVING): digest for name, digest in files.items() if name.startswith(SERVING)}
        instead = {name: digest for name, digest in below.items() if fnmatchcase(name, pattern)}
        chosen = {name: digest for name, digest in chosen.items() if name not in instead}
        fetch_files(store, f"{prefix}/{SERVING.rstrip('/')}", instead, folder)
    return fetch_files(store, prefix, chosen, folder)
