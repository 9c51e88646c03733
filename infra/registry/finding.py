"""Which version of a model a person means by what they write."""

from __future__ import annotations

from configs.errors import ChampionMissingError, NotFoundError
from configs.settings import model_option
from infra.registry.promotion_log import version_to_restore
from infra.registry.registry import ModelRegistry
from infra.registry.versions import VERSION
from infra.version_names import MOST_NAMED, matching_version, short_version

__all__ = ["find_version", "short_name"]


def find_version(registry: ModelRegistry, name: str, asked: str) -> str:
    """Return the complete name of a sealed version.

    Args:
        registry: The registry.
        name: Name of the model.
        asked: The name of the version, its beginning, `latest` (the newest), `champion`, or `previous` (the champion before it).

    Raises:
        ChampionMissingError: There is no champion, or none before it.
        NotFoundError: No version is meant, or several may be. The message lists those that exist, and the next command.
    """
    if VERSION.fullmatch(asked):
        return asked  # whoever reads it finds out whether it exists
    if asked == "previous":
        return version_to_restore(name, registry.history(name), None)
    names = registry.version_names(name)
    if asked == "champion":
        if (newest := registry.newest(name)) is None:
            raise ChampionMissingError(f"{name} has no champion yet. {_next(name, names)}")
        return newest.version
    found = names[-1] if asked == "latest" and names else matching_version(asked, names)
    if found is None:
        raise NotFoundError(f"There is no version {asked} of the model {name}. {_next(name, names)}")
    return found


def short_name(registry: ModelRegistry, name: str, version: str) -> str:
    """Return the short form of a version, long enough to tell it from the model's other versions."""
    return short_version(version, registry.version_names(name))


def _next(name: str, names: list[str]) -> str:
    option = model_option(name)
    if not names:
        return f"It has none yet: `recsys retrain{option}` makes the first."
    shown = ", ".join(short_version(each, names) for each in names[: -MOST_NAMED - 1 : -1])
    return (
        f"The newest are {shown}. `recsys model list{option}` lists all, and `latest`, `champion` and `previous` are names, too."
    )
