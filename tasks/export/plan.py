"""What one export contains. The same plan gives the same files, so a killed export can be continued."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from configs.errors import ChampionMissingError
from configs.settings import model_option
from infra.digests import sha256_of_json
from infra.registry import ModelRef, ModelRegistry, find_version
from infra.storage import Store

__all__ = ["LATEST", "MANIFEST", "ExportPlan", "chosen_version", "continued"]

MANIFEST, LATEST = "manifest.json", "latest.json"
RESUME_S = 86_400
"""An unfinished export that began longer ago is not continued: its time is no longer that of the recommendations."""
NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{12})")
TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class ExportPlan:
    """One export."""

    model_name: str
    version: str
    dataset: str  # name/version: the users and their events
    at: int  # UTC seconds of the recommendations
    parts: tuple[str, ...]
    k: int
    hide_seen: bool
    piece_users: int
    users: str | None = None  # digest of the chosen users; None for all
    erased: str | None = None  # digest of the users who are left out because they were erased; None if nobody was

    @property
    def name(self) -> str:
        """The folder of the export: its time, and 12 hex digits of everything else."""
        rest = {key: value for key, value in asdict(self).items() if key != "at" and (key, value) != ("erased", None)}
        return f"{datetime.fromtimestamp(self.at, UTC):{TIME}}-{sha256_of_json(json.loads(json.dumps(rest)))[:12]}"

    @property
    def prefix(self) -> str:
        return f"{self.model_name}/{self.name}"


def chosen_version(store: Store, model_name: str, version: str) -> ModelRef:
    """Return the version of a model that `infra.registry.find_version` finds.

    Raises:
        ChampionMissingError: Nothing has been promoted yet.
        NotFoundError: There is no such version.
    """
    registry = ModelRegistry(store)
    if version != "champion":
        return registry.version(model_name, find_version(registry, model_name, version))
    found = registry.champion_ref(model_name)
    if found is None:
        raise ChampionMissingError(
            f"{model_name} has no champion yet, so there is nothing to export. Name a version (`recsys model list{model_option(model_name)}` "
            "lists them), or promote one first."
        )
    return found[0]


def continued(plan: ExportPlan, destination: Store) -> ExportPlan:
    """Return the plan of an unfinished export that differs by its time only, if there is one of today. Otherwise return `plan`."""
    begun: dict[str, set[str]] = {}
    for key in destination.list(f"{plan.model_name}/"):
        folder, _, file = key.removeprefix(f"{plan.model_name}/").partition("/")
        begun.setdefault(folder, set()).add(file)
    for folder in sorted(begun, reverse=True):
        match = NAME.fullmatch(folder)
        if match and MANIFEST not in begun[folder]:
            at = int(datetime.strptime(match[1], TIME).replace(tzinfo=UTC).timestamp())
            earlier = replace(plan, at=at)
            if earlier.name == folder and 0 <= plan.at - at <= RESUME_S:
                return earlier
    return plan
