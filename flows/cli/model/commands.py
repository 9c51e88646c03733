"""All commands of `recsys model`. A module that adds commands to the group is imported here."""

from __future__ import annotations

from flows.cli.model.versions import app

__all__ = ["app"]
