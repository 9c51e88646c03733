"""Runs an image with runc, for a machine that has buildah but no container engine.

A container has what compose gives to each service: a read-only root, a /tmp in memory, no capabilities, and limits. It shares the
network of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import SettingsError

__all__ = ["Container", "Unpacked", "bytes_of", "run_command", "unpacked", "why_not"]

PROGRAMS = ("buildah", "runc")
CPU_PERIOD = 100_000  # microseconds
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True)
class Unpacked:
    """An image whose files are in a folder of this machine.

    Attributes:
        name: The image's name with its tag.
        root: The folder.
        says: What the image says about its container: Entrypoint, Cmd, Env, User, WorkingDir, Healthcheck.
    """

    name: str
    root: Path
    says: Mapping[str, Any]

    @property
    def user(self) -> tuple[int, int]:
        """The numbers of the user and of the group that its processes run as."""
        user, _, group = (self.says.get("User") or "0").partition(":")
        return int(user), int(group or user)

    @property
    def health(self) -> list[str]:
        """The command of the health check, which ends with status 0 if the container is well."""
        kind, *command = self.says["Healthcheck"]["Test"]
        return command if kind == "CMD" else ["/bin/sh", "-c", *command]


@dataclass(frozen=True)
class Container:
    """How one container of an image runs.

    Attributes:
        command: Command and arguments, instead of the image's.
        environment: Variables beside the image's.
        writable: Path in the container -> folder of this machine, which the container writes.
        readable: Path in the container -> file or folder of this machine, which it only reads.
        in_memory: Folders in memory, as compose's `tmpfs`: the path, and options after a colon.
        memory: Bytes that it may use.
        processes: Processes and threads that it may have.
        cpus: Cores that it may use.
    """

    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    writable: Mapping[str, Path] = field(default_factory=dict)
    readable: Mapping[str, Path] = field(default_factory=dict)
    in_memory: Sequence[str] = ("/tmp:size=1g,mode=1777",)
    memory: int | None = None
    processes: int | None = None
    cpus: float | None = None


def why_not() -> str | None:
    """Return why this machine cannot run images by itself, or None if it can."""
    if os.geteuid() != 0:
        return "running images needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{' and '.join(missing)} not installed: apt-get install -y --no-install-recommends buildah runc" if missing else None


@contextmanager
def unpacked(image: str) -> Iterator[Unpacked]:
    """Unpack an image from buildah's storage. Several containers may use it at once, because none can write to it.

    Raises SettingsError if there is no such image.
    """
    if reason := why_not():
        raise SettingsError(f"{reason[0].upper()}{reason[1:]}.")
    container = _buildah("from", "--pull-never", image)
    try:
        says = json.loads(_buildah("inspect", "--type=image", image))["Docker"]["config"]
        yield Unpacked(image, Path(_buildah("mount", container)), says)
    finally:
        _buildah("rm", container)


@contextmanager
def run_command(image: Unpacked, container: Container, folder: Path, name: str) -> Iterator[list[str]]:
    """Yield the command that runs a container in the foreground, and remove the container at the end of the block.

    The command passes signals on to the container and ends with its status.

    Args:
        image: The image.
        container: How it runs.
        folder: Folder for runc's description of the container.
        name: Name of the container, unique on this machine, as for `runc exec NAME`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for place in container.writable.values():
        if not place.exists():  # as Docker does with a new volume
            place.mkdir(parents=True)
        os.chown(place, *image.user)
    description = json.dumps(_description(image, container, name), indent=1)
    (folder / "config.json").write_text(description, encoding="utf-8")
    try:
        yield ["runc", "run", "--bundle", str(folder), name]
    finally:
        with suppress(OSError):
            subprocess.run(["runc", "delete", "--force", name], capture_output=True, check=False)


def bytes_of(text: str) -> int:
    """Return the bytes of a size in compose, such as 512m."""
    number, unit = re.fullmatch(r"([\d.]+)([kmg]?)b?", text.lower()).groups()  # type: ignore[union-attr]
    return int(float(number) * UNITS[unit])


def _description(image: Unpacked, container: Container, name: str) -> dict[str, Any]:
    """Return the container as runc reads it (the runtime specification of the Open Container Initiative, 1.0)."""
    user, group = image.user
    environment = dict(variable.split("=", 1) for variable in image.says.get("Env") or ()) | dict(container.environment)
    command = [*(image.says.get("Entrypoint") or ()), *(container.command or image.says.get("Cmd") or ())]
    process = {
        "terminal": False,
        "user": {"uid": user, "gid": group},
        "args": command,
        "env": [f"{key}={value}" for key, value in environment.items()],
        "cwd": image.says.get("WorkingDir") or "/",
        "capabilities": {},
        "noNewPrivileges": True,
    }
    resources = {
        "memory": {"limit": container.memory},
        "pids": {"limit": container.processes},
        "cpu": {"period": CPU_PERIOD, "quota": int(container.cpus * CPU_PERIOD)} if container.cpus else None,
    }
    return {
        "ociVersion": "1.0.0",
        "hostname": name[:60],
        "process": process,
        "root": {"path": str(image.root), "readonly": True},
        "mounts": [*_own_mounts(container), *_lent(container)],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            "resources": {kind: limit for kind, limit in resources.items() if limit and None not in limit.values()},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _own_mounts(container: Container) -> list[dict[str, Any]]:
    memory = {"type": "tmpfs", "source": "tmpfs"}
    devices = ["nosuid", "strictatime", "mode=755", "size=64m"]
    folders = [each.partition(":") for each in container.in_memory]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev", **memory, "options": devices},
        {"destination": "/dev/shm", **memory, "options": ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]},
        *({"destination": path, **memory, "options": ["nosuid", "nodev", *options.split(",")]} for path, _, options in folders),
    ]


def _lent(container: Container) -> list[dict[str, Any]]:
    """Return the mounts of this machine's files. Each folder comes before what is mounted within it."""
    names = {path: Path(path) for path in ("/etc/hosts", "/etc/resolv.conf") if Path(path).exists()}
    found: list[dict[str, Any]] = []
    for rights, places in (("rw", container.writable), ("ro", {**names, **container.readable})):
        for inside, here in places.items():
            found.append({"destination": inside, "type": "bind", "source": str(here), "options": ["rbind", "nosuid", rights]})
    return sorted(found, key=lambda mount: len(Path(mount["destination"]).parts))


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"buildah {arguments[0]} failed: {done.stderr.strip()[-600:]}")
    return done.stdout.strip()
