"""The versions that answer requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from configs.errors import ModelMissingError, NotFoundError, RequestRefusedError
from configs.serving import CHAMPION
from infra.version_names import matching_version
from serving.engine.served_model import ServedModel
from serving.experiments import Assignment

__all__ = ["Models", "Role"]

Role = Literal["champion", "canary", "beside"]


@dataclass(frozen=True)
class Models:
    """The versions that answer requests, swapped as one object.

    While a new champion is rolled out in stages, `champion` is the old version, which serves most users, and `canary` the new one.
    """

    champion: ServedModel | None
    others: Mapping[str, ServedModel]
    canary: ServedModel | None = None

    def by_role(self) -> Sequence[tuple[Role, ServedModel]]:
        """Return all versions with their roles, the champion first."""
        beside: list[tuple[Role, ServedModel]] = [("beside", model) for model in self.others.values()]
        first: list[tuple[Role, ServedModel | None]] = [("champion", self.champion), ("canary", self.canary)]
        return [*[(role, model) for role, model in first if model is not None], *beside]

    def named(self, version: str) -> ServedModel | None:
        """Return a version by its name, the beginning of it, or as `champion`. None if no version, or more than one, is meant."""
        if version == CHAMPION or (self.champion is not None and version == self.champion.version):
            return self.champion
        if self.canary is not None and version == self.canary.version:
            return self.canary
        if version in self.others:
            return self.others[version]
        found = [model for _, model in self.by_role() if version and model.version.startswith(version)]
        return found[0] if len(found) == 1 else None

    def required(self, version: str) -> ServedModel:
        """Return a version by its name, the beginning of it, or as `champion`.

        Raises:
            ModelMissingError: If there is no champion.
            RequestRefusedError: If another version is not served.
        """
        found = self.named(version)
        if found is not None:
            return found
        if version == CHAMPION:
            raise ModelMissingError("No model is served yet: nothing has been promoted, or no promoted version works.")
        try:
            matching_version(version, [model.version for _, model in self.by_role()])
        except NotFoundError as error:  # several versions begin with it
            raise RequestRefusedError(str(error)) from error
        raise RequestRefusedError(f"The version {version} is not served. GET /v1/models lists the served versions.")

    def assigned(self, assignment: Assignment) -> ServedModel:
        """Return the assigned version, or the champion if that version is not (yet) loaded.

        Raises:
            ModelMissingError: If there is no champion either.
        """
        if assignment.canary and assignment.version == CHAMPION and self.canary is not None:
            return self.canary
        found = self.named(assignment.version)
        return found if found is not None else self.required(CHAMPION)
