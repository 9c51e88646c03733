"""Build the images with `python -m infra.images build`, and measure them with `python -m infra.images sizes`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import RecsysError
from infra.images.builder import IMAGES, Builder, chosen_tool
from infra.images.contents import differing, read_contents
from infra.registry import git_commit

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help=f"Images: {', '.join(IMAGES)}. All but recsys-train by default.")]
Tool = Annotated[str | None, typer.Option(help="docker or buildah. By default Docker if its daemon answers, else buildah.")]
Base = Annotated[
    str | None, typer.Option(help="Base image; `debian` makes one of Debian's packages. By default the one that the files pin.")
]
Argument = Annotated[list[str] | None, typer.Option("--build-arg", help="NAME=VALUE of a build argument; repeatable.")]
Mount = Annotated[
    list[str] | None,
    typer.Option(help="HOST:IMAGE of a file or folder that buildah's builds see, such as /etc/pip.conf; repeatable."),
]
MIB = 2**20
LISTED = 5  # largest packages that `sizes` names


@app.command()
def build(
    images: Names = None,
    tool: Tool = None,
    base: Base = None,
    argument: Argument = None,
    mount: Mount = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Build recsys-train for the CPU: without kernels and CUDA.")] = False,
    cached: Annotated[
        bool, typer.Option("--cached/--no-cache", help="Keep each step for later builds. A single build is faster without.")
    ] = True,
) -> None:
    """Build images of this checkout."""
    chosen = _chosen(images)
    builder = replace(_builder(chosen, tool, base, argument, mount), cached=cached)
    if cpu:
        with tempfile.TemporaryDirectory() as work:
            builder = replace(builder, arguments=builder.for_the_cpu(Path(work)) | builder.arguments)
    for name in chosen:
        typer.echo(f"{builder.build(IMAGES[name])}: {IMAGES[name].purpose}")


@app.command()
def sizes(images: Names = None, tool: Tool = None) -> None:
    """Print the size of each built image, as a table, with its largest packages."""
    found = chosen_tool(tool)
    typer.echo("| image | for | files | as sent, compressed | largest packages |\n|---|---|---|---|---|")
    for name in _chosen(images):
        contents = read_contents(found, f"{'localhost/' if found == 'buildah' else ''}{name}:latest")
        largest = sorted(contents.packages.items(), key=lambda each: -each[1])[:LISTED]
        told = ", ".join(f"{package} {size / MIB:.0f}" for package, size in largest)
        purpose = IMAGES[name].purpose
        typer.echo(f"| `{name}` | {purpose} | {contents.size / MIB:.0f} MiB | {contents.compressed / MIB:.0f} MiB | {told} |")


@app.command()
def compare(image: str, tool: Tool = None, base: Base = None, argument: Argument = None, mount: Mount = None) -> None:
    """Build an image twice, and print every file that differs. Ends with status 1 if there are any.

    The second build uses no step of an earlier one.
    """
    _chosen([image])
    builder = _builder([image], tool, base, argument, mount)
    builders = {"once": builder, "again": replace(builder, cached=False)}
    tags = [each.build(IMAGES[image], f"localhost/{image}:{name}") for name, each in builders.items()]
    one, other = (read_contents(builder.tool, tag) for tag in tags)
    paths = differing(one, other)
    typer.echo("\n".join([*paths, f"{len(paths)} of {len(one.files)} files differ"]))
    raise typer.Exit(1 if paths else 0)


def _builder(
    images: Sequence[str], tool: str | None, base: str | None, arguments: list[str] | None, mounts: list[str] | None
) -> Builder:
    given = dict(each.split("=", 1) for each in arguments or ())
    builder = Builder(chosen_tool(tool), given, mounts or (), git_commit() or "")
    if base is not None:
        with tempfile.TemporaryDirectory() as work:
            given["BASE"] = builder.debian_base(Path(work)) if base == "debian" else base
            if base == "debian" and "recsys-worker" in images:
                given.setdefault("POSTGRES", builder.debian_postgres(Path(work)))
    return builder


def _chosen(images: list[str] | None) -> list[str]:
    if unknown := set(images or ()) - set(IMAGES):
        raise typer.BadParameter(f"There is no image {', '.join(sorted(unknown))}. The images are {', '.join(IMAGES)}.")
    return images or [name for name in IMAGES if name != "recsys-train"]  # the pods' image needs hours, and CUDA


if __name__ == "__main__":
    os.environ.setdefault("BUILDAH_ISOLATION", "chroot")
    try:
        app()
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
