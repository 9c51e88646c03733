"""All commands of `recsys model`. A module that adds commands to the group is imported here."""

from __future__ import annotations

from flows.cli.model import check, export, versions  # importing a module adds its commands to the group

__all__ = ["app"]

app = versions.app
MODULES = (check, export, versions)
