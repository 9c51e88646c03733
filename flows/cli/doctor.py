"""Check that everything a run needs is available: the store, the Prefect server, Redis, a GPU and the packages.

Each check is a plain function. All checks run at the same time. A check that has no answer after `DEADLINE_S` is slow: what it
looks at may be broken, or the machine may be busy.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from configs.child_processes import child_environment
from configs.errors import RecsysError
from configs.extras import install_command
from configs.redaction import shown_address
from configs.serving import RedisSettings
from configs.settings import StoreSettings

__all__ = ["Finding", "end_at_once", "examine", "examine_redis"]

THREAD = "doctor "  # how the name of a check's thread begins
DEADLINE_S = 4.0
GPU_S = 3.0  # before the deadline, so that no program is left behind
PATIENCE_S = 60.0  # of each request: the deadline comes first, and decides for all checks alike
NAMED_BY = {"store": "store.url", "Prefect": "PREFECT_API_URL", "Redis": "redis.url"}
NEEDED = (
    "infra.prefect_server.connection",
    "infra.prefect_server.setup",
    "infra.registry",
    "infra.storage",
    "prefect.settings",
    "redis",
)
PROJECT = "movielens-recsys"
PACKAGES = ("prefect", "torch", "mamba-ssm", "recbole", "evidently")


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    status: Literal["ok", "absent", "slow", "broken"]
    """`absent` means that it is not set up, and that a run can do without it. `slow` means that there is no answer yet."""
    said: str


def examine(store: StoreSettings, model_name: str, redis: RedisSettings) -> list[Finding]:
    """Run all checks and return their findings in a fixed order.

    After what they need is loaded, they have `DEADLINE_S` seconds.
    """
    _load()
    checks: dict[str, Callable[[], Finding]] = {
        "versions": _versions,
        "store": lambda: _store(store, model_name),
        "Prefect": _prefect,
        "Redis": lambda: examine_redis(redis),
        "GPU": _gpu,
    }
    found: dict[str, Finding] = {}

    def look(name: str, check: Callable[[], Finding]) -> None:
        try:
            found[name] = check()
        except Exception as error:  # a bug in one check must not hide the other findings
            found[name] = Finding(name, "broken", f"{type(error).__name__}: {error}")

    # Prefect keeps its settings in the context, so each thread gets a copy of it.
    threads = [
        threading.Thread(target=copy_context().run, args=(look, *item), name=f"{THREAD}{item[0]}", daemon=True)
        for item in checks.items()
    ]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and time.monotonic() - begun < DEADLINE_S:
            thread.join(0.05)
    waited = time.monotonic() - begun
    return [found.get(name) or _slow(name, waited) for name in checks]


def end_at_once() -> None:
    """End this process without a clean-up if a check is still under way. Python would stop its thread by force, and C++ code aborts
    then."""
    if any(thread.name.startswith(THREAD) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _load() -> None:
    """Import what the checks need. A busy machine takes seconds for it, which say nothing about what the checks look at."""
    for name in NEEDED:
        with suppress(Exception):  # the check that needs it says why
            import_module(name)


def _slow(name: str, waited: float) -> Finding:
    """Return the finding of a check that has no answer yet.

    Args:
        name: Name of the check.
        waited: Seconds for which it was waited for.
    """
    remedy = f" If that does not help, check {NAMED_BY[name]}." if name in NAMED_BY else ""
    return Finding(
        name, "slow", f"there was no answer in {waited:.1f} s. Run `recsys doctor` again when the machine is less busy.{remedy}"
    )


def _versions() -> Finding:
    named = [f"Python {platform.python_version()}", f"recsys {_version(PROJECT)}"]
    named += [f"{package} {_version(package)}" for package in PACKAGES]
    return Finding("versions", "ok", ", ".join(named))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _store(settings: StoreSettings, model_name: str) -> Finding:
    from infra.registry import ModelRegistry
    from infra.storage import open_store

    quick = settings.model_copy(update={"timeout_s": PATIENCE_S, "attempts": 1})
    try:
        registry = ModelRegistry(open_store(quick))
        current = registry.champion(model_name)
    except RecsysError as error:
        return Finding("store", "broken", f"{settings.url}: {error}")
    said = (
        f"{settings.url}: {f'{current.version} is champion of {model_name}' if current else f'{model_name} has no champion yet'}"
    )
    folder = Path(urlsplit(settings.url).path if settings.url.startswith("file:///") else settings.url.removeprefix("file:"))
    if settings.url.startswith("file:"):
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        if not os.access(there, os.W_OK):
            return Finding(
                "store", "broken", f"{said}, but {there} is not writable: change its permissions, or set another store.url"
            )
    made_by = None if current is None else registry.manifest(model_name, current.version)["lineage"]["packages"].get(PROJECT)
    if made_by is not None and _release(made_by) > _release(_version(PROJECT)):
        newer = f"{said}, made by recsys {made_by}, which is newer than this machine's {_version(PROJECT)}. Update this machine"
        return Finding("store", "broken", newer)
    return Finding("store", "ok", said)


def _prefect() -> Finding:
    from prefect.settings import get_current_settings

    from infra.prefect_server import left_over, server_version, set_up_by

    url = get_current_settings().api.url
    if url is None:
        return Finding("Prefect", "absent", "no server is set (PREFECT_API_URL): each command starts its own")
    try:
        found = server_version(PATIENCE_S)
    except RecsysError as error:
        return Finding("Prefect", "broken", str(error))
    own, said = _version("prefect"), f"{shown_address(url)}: version {found}"
    if _release(found) < _release(own):
        return Finding(
            "Prefect",
            "broken",
            f"{said}, older than this machine's {own}. Update the server first, then workers and other machines",
        )
    if found != own:
        said += f", newer than this machine's {own}. Update this machine too"
    try:
        old, theirs = left_over(), set_up_by()
    except Exception:  # the server answers, and that is what is asked here
        old, theirs = [], None
    ours = _version(PROJECT)
    if theirs is not None and theirs != ours:
        behind = _release(ours) < _release(theirs)
        remedy = "Update this machine" if behind else "Run `recsys setup` when all workers have this release"
        return Finding("Prefect", "broken", f"{said}; it was set up by recsys {theirs}, and this machine has {ours}. {remedy}")
    remedy = f"; no longer defined, and removed by `recsys setup --prune`: {', '.join(old)}" if old else ""
    return Finding("Prefect", "ok", f"{said}{remedy}")


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers with which a version begins."""
    return tuple(int(part) for part in re.match(r"[\d.]*", text)[0].split(".") if part)  # type: ignore[index]


def examine_redis(settings: RedisSettings, patience_s: float = PATIENCE_S) -> Finding:
    """Ask whether the Redis server answers, for at most `patience_s` seconds."""
    if settings.url is None:
        return Finding("Redis", "absent", "no server is set (redis.url): each serving process keeps states in its own memory")
    address = shown_address(settings.url)
    try:
        import redis
    except ImportError:
        return Finding("Redis", "broken", f"the package redis is not installed. Install it with `{install_command('serving')}`")
    try:
        with redis.Redis.from_url(
            settings.url, socket_timeout=patience_s, socket_connect_timeout=patience_s, retry=None
        ) as client:
            said = client.info("server")
    except (redis.RedisError, OSError, ValueError) as error:
        return Finding("Redis", "broken", f"{address} does not answer ({type(error).__name__})")
    return Finding("Redis", "ok", f"{address}: version {said['redis_version']}")


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("GPU", "absent", "none: training runs on the CPU")
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=GPU_S, check=False)
    except subprocess.TimeoutExpired as error:
        return _slow("GPU", error.timeout)
    except OSError as error:
        return Finding("GPU", "broken", f"nvidia-smi cannot be started ({error.strerror or error})")
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no message"]
        return Finding("GPU", "broken", f"nvidia-smi fails: {last[0]}")
    return Finding("GPU", "ok", "; ".join(line.strip() for line in done.stdout.splitlines()))
