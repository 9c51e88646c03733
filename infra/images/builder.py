"""Builds images with the program that is there: Docker, or buildah, which needs no daemon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SettingsError

__all__ = ["IMAGES", "Builder", "Image", "chosen_tool"]

ROOT = Path(__file__).parents[2]
DEBIAN_BASE = "localhost/recsys-base:bookworm"
DEBIAN_POSTGRES = "localhost/recsys-postgres:bookworm"
NO_KERNELS = "localhost/recsys-no-kernels:latest"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EPOCH = "1577836800"  # 2020-01-01: time stamp of every file, so that equal contents have equal digests
DEBIAN_PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
SOURCES = (
    "deb http://deb.debian.org/debian bookworm main",
    "deb http://deb.debian.org/debian bookworm-updates main",
    "deb http://deb.debian.org/debian-security bookworm-security main",
)


@dataclass(frozen=True)
class Image:
    """An image of the product: a target of a Dockerfile."""

    name: str
    dockerfile: str
    target: str
    purpose: str


IMAGES = {
    image.name: image
    for image in (
        Image("recsys-serve", "serve.Dockerfile", "api", "the API without torch"),
        Image("recsys-serve-torch", "serve.Dockerfile", "api-torch", "the API for every kind of model"),
        Image("recsys-demo", "serve.Dockerfile", "demo", "the demo"),
        Image("recsys-worker", "worker.Dockerfile", "worker", "the Prefect server, workers and commands"),
        Image("recsys-train", "train.Dockerfile", "train", "a training on a pod"),
    )
}


def chosen_tool(wanted: str | None = None) -> str:
    """Return `docker` if its daemon answers, else `buildah`. `wanted` names one of them.

    Raises SettingsError if there is neither.
    """
    if wanted is not None and shutil.which(wanted) is None:
        raise SettingsError(f"{wanted} is not installed.")
    if wanted is not None:
        return wanted
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return "docker"
    if shutil.which("buildah"):
        return "buildah"
    raise SettingsError(
        "No Docker daemon answers and buildah is not installed. On Debian: apt-get install -y --no-install-recommends buildah mmdebstrap"
    )


@dataclass(frozen=True)
class Builder:
    """Builds images.

    Attributes:
        tool: `docker` or `buildah`.
        arguments: Build arguments, such as BASE or TORCH_INDEX.
        mounts: Files and folders of this machine that the build sees, as HOST:IMAGE, such as pip's configuration for a mirror. Only
            buildah has them.
        commit: Commit of the product's code, which the images carry.
        cached: Whether steps of an earlier build are used again, and those of this one are kept.
    """

    tool: str
    arguments: dict[str, str]
    mounts: Sequence[str] = ()
    commit: str = ""
    cached: bool = True

    def build(self, image: Image, tag: str | None = None) -> str:
        """Build an image, and return its name with its tag. Raises SettingsError with the end of the build's output if it fails."""
        tag = tag or f"{'localhost/' if self.tool == 'buildah' else ''}{image.name}:latest"
        given = [f"--build-arg={name}={value}" for name, value in {"COMMIT": self.commit, **self.arguments}.items()]
        given += [] if self.cached else ["--no-cache"]
        file = f"--file={ROOT / 'infra' / 'docker' / image.dockerfile}"
        if self.tool == "docker":
            given.append(f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}")
            output = f"--output=type=docker,name={tag},rewrite-timestamp=true"
            self._run("buildx", "build", file, f"--target={image.target}", *given, output, str(ROOT))
        else:
            mounts = [f"--volume={mount}:ro" for mount in self.mounts]
            # OCI's format has no health checks. Without layers, only the last stage is written to buildah's storage.
            options = ["--isolation=chroot", "--format=docker", f"--layers={str(self.cached).lower()}", f"--timestamp={EPOCH}"]
            self._run("build", file, f"--target={image.target}", *options, *mounts, *given, f"--tag={tag}", str(ROOT))
        return tag

    def debian_base(self, work: Path) -> str:
        """Make a base image from Debian's packages, for a machine that no registry of images reaches. Return its name.

        Raises SettingsError if mmdebstrap is missing or fails.
        """
        return self.import_root(_debian(work / "root.tar", "minbase", DEBIAN_PACKAGES), DEBIAN_BASE)

    def debian_postgres(self, work: Path) -> str:
        """Make an image with the PostgreSQL client of Debian's packages, from which the worker's image takes pg_dump. Return its name.

        Its pg_dump reads servers of Debian's version and older ones. Raises SettingsError if mmdebstrap is missing or fails.
        """
        return self.import_root(_debian(work / "postgres.tar", "extract", "postgresql-client-15"), DEBIAN_POSTGRES)

    def for_the_cpu(self, work: Path) -> dict[str, str]:
        """Return the build arguments of `recsys-train` for a CPU: the locked torch without CUDA, and an image without kernels."""
        locked = (ROOT / "requirements" / "core.txt").read_text(encoding="utf-8")
        (torch,) = re.findall(r"(?m)^torch==(\S+)", locked)
        return {"TORCH": torch, "TORCH_INDEX": CPU_INDEX, "KERNELS": self._no_kernels(work)}

    def _no_kernels(self, work: Path) -> str:
        folder = work / "no-kernels" / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        root = work / "no-kernels.tar"
        _run(["tar", "-C", str(folder.parent), "-cf", str(root), "wheels"])
        return self.import_root(root, NO_KERNELS)

    def import_root(self, root: Path, name: str) -> str:
        """Make an image of a tar file with the root of a file system."""
        if self.tool == "docker":
            self._run("import", str(root), name)
            return name
        container = self._run("from", "scratch").strip()
        self._run("add", container, str(root), "/")
        self._run("config", "--cmd", "python", container)
        self._run("commit", f"--timestamp={EPOCH}", "--rm", container, name)
        return name

    def has(self, name: str) -> bool:
        """Return whether the image exists on this machine."""
        inspect = ["image", "inspect"] if self.tool == "docker" else ["inspect", "--type=image"]
        return subprocess.run([self.tool, *inspect, name], capture_output=True, check=False).returncode == 0

    def _run(self, *arguments: str) -> str:
        return _run([self.tool, *arguments])


def _debian(root: Path, variant: str, packages: str) -> Path:
    """Write a tar file with the root of Debian 12 and some of its packages."""
    if shutil.which("mmdebstrap") is None:
        raise SettingsError("mmdebstrap is not installed: apt-get install -y --no-install-recommends mmdebstrap")
    command = ["mmdebstrap", "--mode=root", f"--variant={variant}", f"--include={packages}", "bookworm", str(root), *SOURCES]
    _run(command, os.environ | {"SOURCE_DATE_EPOCH": EPOCH})
    return root


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
        raise SettingsError(f"{' '.join(command[:2])} failed:\n{said}")
    return done.stdout
