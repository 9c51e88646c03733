"""What an image contains: its size, its packages by size, a digest of every file, by which two builds are compared, and how its code
differs from a checkout."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Contents", "differing", "other_code", "read_contents"]


@dataclass(frozen=True)
class Contents:
    """The files of an image.

    Attributes:
        size: Bytes of all files.
        compressed: Bytes that a registry sends: the layers, compressed.
        files: Digest of each file's type, rights, owner and content, by its path.
        packages: Bytes of each folder of site-packages.
    """

    size: int
    compressed: int
    files: dict[str, str]
    packages: dict[str, int]


def read_contents(tool: str, image: str) -> Contents:
    """Read an image from the storage of Docker or buildah."""
    size, files, packages = 0, dict[str, str](), defaultdict[str, int](int)
    with _saved(tool, image) as folder:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        layers = [folder / name for name in manifest[0]["Layers"]]
        compressed = sum(_compressed(layer) for layer in layers)
        for layer in layers:
            with tarfile.open(layer) as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isfile() else None
                    digest = hashlib.sha256(f"{member.type!r} {member.mode:o} {member.uid} {member.linkname}".encode())
                    if content is not None:
                        digest.update(content.read())
                    files[member.name] = digest.hexdigest()
                    size += member.size
                    _, found, rest = member.name.partition("/site-packages/")
                    if found:
                        packages[rest.partition("/")[0]] += member.size
    return Contents(size, compressed, files, dict(packages))


def differing(one: Contents, other: Contents) -> list[str]:
    """Return the paths that only one of two images has, or whose content or rights differ."""
    return sorted(path for path in one.files | other.files if one.files.get(path) != other.files.get(path))


def other_code(app: Path, checkout: Path) -> list[str]:
    """Return the modules of an image's folder /app that a checkout lacks or has with other contents, as paths in that folder."""
    modules = sorted(path.relative_to(app) for path in app.rglob("*.py"))
    return [
        str(module)
        for module in modules
        if not (checkout / module).is_file() or (checkout / module).read_bytes() != (app / module).read_bytes()
    ]


@contextmanager
def _saved(tool: str, image: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = folder / "image.tar"
        command = ["docker", "save", "-o", str(archive), image]
        if tool == "buildah":
            command = ["buildah", "push", "--quiet", image, f"docker-archive:{archive}"]
        subprocess.run(command, capture_output=True, check=True)
        with tarfile.open(archive) as saved:
            saved.extractall(folder, filter="data")
        archive.unlink()
        yield folder


def _compressed(layer: Path) -> int:
    done = subprocess.run(["sh", "-c", 'gzip -1 -c "$0" | wc -c', str(layer)], capture_output=True, text=True, check=True)
    return int(done.stdout)
