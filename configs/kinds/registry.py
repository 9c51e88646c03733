"""Find the spec of a kind: built in, from an entry point of an installed package, or named in `models.plugins`.

A broken plugin concerns only those who use its kind. It is imported when the kind is first asked for, and its fault is one
sentence that names the plugin and the remedy. Plugins of settings stay registered as long as the process lives, because files
name a kind and no plugin.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, NoReturn

from pydantic import AfterValidator

from configs.errors import SettingsError
from configs.kinds.spec import PATH, ModelSpec

__all__ = [
    "ENTRY_POINTS",
    "Plugins",
    "colour_of",
    "label_of",
    "place_of",
    "plugins_in_use",
    "register",
    "registered_kinds",
    "spec_of",
]

ENTRY_POINTS = "recsys.models"
BUILT_IN = {
    "ss4rec": "models.ss4rec:SPEC",
    "ncf": "models.ncf:SPEC",
    "popularity": "models.popularity:SPEC",
    "popular_lately": "models.popular_lately:SPEC",
    "markov": "models.markov:SPEC",
    "itemknn": "models.itemknn:SPEC",
    "ease": "models.ease:SPEC",
    "biased_mf": "models.biased_mf:SPEC",
    "sasrec": "models.transformers:SASREC",
    "gsasrec": "models.transformers:GSASREC",
    "esasrec": "models.transformers:ESASREC",
    "hstu": "models.transformers:HSTU_SPEC",
    "lrurec": "models.transformers:LRUREC",
    "recbole": "models.recbole_bridge:SPEC",
}
"""Where the spec of each kind of this project is. Its package names it too; everything else asks this registry."""
COLOURS = ("#5b4b8a", "#2f7d5b", "#b5533c", "#8a7a1f", "#3f5fa8", "#a04b7d")
"""Colours of kinds whose specs have none, in the order of their names."""

_named: dict[str, ModelSpec] = {}  # by plugin, as `models.plugins` names it
_log = logging.getLogger(__name__)


def register(plugins: Sequence[str]) -> list[str]:
    """Make the kinds of these plugins known in this process, and return them.

    Args:
        plugins: Specs as `package.module:NAME`.

    Raises:
        SettingsError: A plugin cannot be imported, its spec is wrong, or its kind is another one's.
    """
    for plugin in plugins:
        if plugin not in _named:
            spec = _loaded(plugin, f"The plugin {plugin} (models.plugins)")
            _refuse_second(spec.kind, {*_places(spec.kind), plugin})
            _named[plugin] = spec
    return [_named[plugin].kind for plugin in plugins]


def _registered(plugins: tuple[str, ...]) -> tuple[str, ...]:
    try:
        register(plugins)
    except SettingsError as error:
        raise ValueError(str(error).removesuffix(".")) from error
    return plugins


Plugins = Annotated[tuple[str, ...], AfterValidator(_registered)]
"""Type of a setting that names plugins. They are registered as soon as the setting is read."""


def plugins_in_use() -> tuple[str, ...]:
    """Return the plugins that settings have named in this process, for another process to register."""
    return tuple(_named)


def spec_of(kind: str) -> ModelSpec:
    """Return the spec of a kind.

    Raises:
        SettingsError: Nothing has this kind, several have it, or its plugin is broken.
    """
    places = _places(kind)
    _refuse_second(kind, places)
    for place in places:
        if place in _named:
            return _named[place]
        origin = f"The model {kind}" if kind in BUILT_IN else f"The plugin {place} (entry point {kind} of {ENTRY_POINTS})"
        spec = _loaded(place, origin)
        if spec.kind != kind:
            raise SettingsError(
                f"{origin} cannot be used: its spec has the kind {spec.kind!r}; name the entry point {spec.kind} too."
            )
        return spec
    _refuse_unknown(kind)


def registered_kinds() -> dict[str, ModelSpec]:
    """Return every kind that works, by name: first those built in. A broken entry point is logged and left out."""
    return dict(_working((*BUILT_IN, *sorted({*_installed(), *(spec.kind for spec in _named.values())} - set(BUILT_IN)))))


def place_of(kind: str) -> str | None:
    """Return where the spec of a plugin's kind is, as `package.module:NAME`, or None if the kind is built in."""
    return None if kind in BUILT_IN else next(iter(sorted(_places(kind))), kind)


def label_of(kind: str) -> str:
    """Return the name of a kind in pages. A kind that this machine does not know keeps its own name."""
    try:
        return spec_of(kind).name
    except SettingsError:
        return kind


def colour_of(kind: str) -> str:
    """Return the colour of a kind in figures: its spec's, or one by its place among those without one."""
    try:
        given = spec_of(kind).colour
    except SettingsError:
        given = None
    if given is not None:
        return given
    plain = sorted({name for name, spec in registered_kinds().items() if spec.colour is None} | {kind})
    return COLOURS[plain.index(kind) % len(COLOURS)]


def _working(kinds: Iterable[str]) -> Iterator[tuple[str, ModelSpec]]:
    for kind in kinds:
        try:
            yield kind, spec_of(kind)
        except SettingsError as error:
            _log.warning("%s", error)


def _places(kind: str) -> set[str]:
    """Return where the specs of a kind are, each as `package.module:NAME`."""
    named = {plugin for plugin, spec in _named.items() if spec.kind == kind}
    return named | set(_installed().get(kind, ())) | ({BUILT_IN[kind]} if kind in BUILT_IN else set())


@cache
def _installed() -> dict[str, tuple[str, ...]]:
    """Return the entry points of installed packages: kind -> values."""
    found: dict[str, tuple[str, ...]] = {}
    for point in entry_points(group=ENTRY_POINTS):
        found[point.name] = (*found.get(point.name, ()), point.value.replace(" ", ""))
    return found


def _loaded(place: str, origin: str) -> ModelSpec:
    if not PATH.fullmatch(place):
        raise SettingsError(f"{origin} cannot be used: write it as package.module:NAME, where NAME is its ModelSpec.")
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name, None)
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        remedy = f"mend its module {module}"
        if isinstance(error, ModuleNotFoundError) and error.name:
            remedy = f"install the package that has {error.name} in this environment, or correct the name"
        raise SettingsError(f"{origin} cannot be imported ({said}): {remedy}, or remove the plugin.") from error
    if found is None:
        raise SettingsError(f"{origin} cannot be used: {module} has no {name}; write the name of its ModelSpec there.")
    if not isinstance(found, ModelSpec):
        raise SettingsError(
            f"{origin} cannot be used: {name} is of the type {type(found).__name__}; it must be a configs.kinds.ModelSpec."
        )
    if (fault := found.fault()) is not None:
        raise SettingsError(f"{origin} cannot be used: {fault}.")
    return found


def _refuse_second(kind: str, places: set[str]) -> None:
    if len(places) > 1:
        which = " and ".join(f"{place} (built in)" if place == BUILT_IN.get(kind) else place for place in sorted(places))
        raise SettingsError(
            f"The kind {kind} has more than one spec: {which}. Rename the kind of a plugin, or remove the plugin."
        )


def _refuse_unknown(kind: str) -> NoReturn:
    from difflib import get_close_matches

    known = list(dict.fromkeys((*BUILT_IN, *_installed(), *(spec.kind for spec in _named.values()))))
    near = get_close_matches(kind, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the kinds are {', '.join(known)}."
    raise SettingsError(
        f"No model of the kind {kind} is known here; {hint} A plugin is found if its package is installed with an entry point in "
        f"{ENTRY_POINTS}, or if models.plugins names its spec as package.module:NAME."
    )
