"""The project's services in their images, each as one container with the rights, limits, volumes and secrets that compose gives it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.images.running import Container, Unpacked, bytes_of, run_command, unpacked
from infra.local_stack.services import ROOT, Layout, Service

__all__ = ["Containers"]

CODE = Path("/app")
KEPT = ("RUNPOD_API_BASE_URL",)


@dataclass(frozen=True)
class Containers:
    """The containers of one stack.

    Attributes:
        names: Service -> name of its container, as for `runc exec`.
    """

    names: dict[str, str] = field(default_factory=dict)
    _images: dict[str, Unpacked] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Containers]:
        """Yield a place for containers, and remove them all at the end."""
        with ExitStack() as stack:
            yield cls(_open=stack)

    def image(self, service: Service) -> Unpacked:
        """Return the image of a service, unpacked. Raises SettingsError if it is not built."""
        name = f"localhost/{service.entry['image']}"
        if name not in self._images:
            self._images[name] = self._open.enter_context(unpacked(name))
        return self._images[name]

    def command(self, service: Service, layout: Layout) -> list[str]:
        """Return the command that runs the service in a container."""
        name = self.names[service.name] = f"{service.name}-{secrets.token_hex(4)}"
        limits = service.entry["deploy"]["resources"]["limits"]
        readable = {f"/run/secrets/{secret}": layout.folder / "secrets" / secret for secret in service.entry.get("secrets", ())}
        for source in service.files.values():
            readable[str(CODE / source.relative_to(ROOT))] = layout.folder / "files" / service.name / source.name
        writable: dict[str, Path] = {}
        for volume in service.entry.get("volumes", ()):
            source, inside, *rights = volume.split(":")
            place = layout.folder / "var" / source
            if not place.exists():  # as Docker does, although the first container may only read it
                place.mkdir(parents=True)
                os.chown(place, *self.image(service).user)
            (readable if rights == ["ro"] else writable)[inside] = place
        container = Container(
            command=service.command,
            environment=service.environment | {key: os.environ[key] for key in KEPT if key in os.environ},
            writable=writable,
            readable=readable,
            in_memory=service.entry["tmpfs"],
            memory=bytes_of(limits["memory"]),
            processes=service.entry["pids_limit"],
            cpus=float(limits["cpus"]),
        )
        bundle = layout.folder / "containers" / name
        return self._open.enter_context(run_command(self.image(service), container, bundle, name))
