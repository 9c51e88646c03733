"""Every setting is used, and every setting refuses impossible values in one sentence."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from configs.annotations import models_in
from configs.base import MOST_S, Settings
from configs.errors import SettingsError
from configs.kinds import registered_kinds
from configs.loading import load_settings
from configs.serving import ExperimentFile, KeyFile, RuleFile
from configs.settings import RetrainSettings, SearchOrigin, ValidationSettings
from configs.studies import ReplaySettings
from flows.cli.options import models
from infra.runpod import RunPodSettings

ROOT = Path(__file__).parents[2]
FOLDERS = ("configs", "flows", "infra", "models", "packages/prefect-runpod/prefect_runpod", "serving", "tasks")
KINDS = [spec.settings for spec in registered_kinds().values()]
FILES: list[type[BaseModel]] = [*models(), *KINDS, RuleFile, ExperimentFile, KeyFile, RunPodSettings]
RECORDED = "the whole record goes into the lineage of a version (tasks/gate/publication.py), and `recsys config show` prints it"
SHOWING = ("ServingSettings", "DemoSettings")
USED_AS_A_WHOLE: dict[tuple[str, str], str] = {
    **{("SearchOrigin", name): RECORDED for name in SearchOrigin.model_fields},
    ("RecBoleSettings", "options"): "models/recbole_bridge/model.py passes them to RecBole as they are",
    ("SS4RecSettings", "replicas"): "models/loading.py reads it of every kind whose spec is replicated",
    **{(model, "plugins"): "configs/kinds/registry.py registers them as soon as they are read" for model in SHOWING},
}
"""Settings that no code reads by name, and how they take effect."""
UNBOUNDED = {
    ("ValidationSettings", "min_rating"),
    ("ValidationSettings", "max_rating"),
    *(("Parameter", name) for name in ("low", "high", "choices")),
    ("Parameter", "step"),  # above 0, which the JSON schema of a union does not show
}
"""Numbers without a lower bound. Those that form a pair must be in order."""


@cache
def sections() -> list[type[BaseModel]]:
    """Return every settings model, each once."""
    found: dict[type[BaseModel], None] = {}

    def visit(model: type[BaseModel]) -> None:
        if model not in found:
            found[model] = None
            for field in model.model_fields.values():
                for below in models_in(field.annotation):
                    visit(below)

    for model in FILES:
        visit(model)
    return list(found)


def leaves() -> list[tuple[type[BaseModel], str]]:
    """Return every setting that is not a section, with the model that declares it."""
    found: dict[tuple[type[BaseModel], str], None] = {}
    for model in sections():
        for name, field in model.model_fields.items():
            declaring = next(base for base in reversed(model.__mro__) if name in getattr(base, "model_fields", {}))
            if not any(issubclass(below, Settings) for below in models_in(field.annotation)):
                found[declaring, name] = None
    return list(found)


class Reads(ast.NodeVisitor):
    """Collects `receiver.attribute`, and which names are annotated with which class."""

    def __init__(self) -> None:
        self.read: set[tuple[str, str]] = set()  # (last name of the receiver, attribute)
        self.in_class: set[tuple[str, str]] = set()  # (class, attribute of self)
        self.named: set[tuple[str, str]] = set()  # (class, name annotated with it)
        self.alias: set[tuple[str, str]] = set()  # (name, last name of what it was assigned or iterates over)
        self._class = ""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, node.name
        self.generic_visit(node)
        self._class = outer

    def visit_arg(self, node: ast.arg) -> None:
        self._annotated(node.arg, node.annotation)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._annotated(_last(node.target), node.annotation)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            receiver = _last(node.value)
            self.read.add((receiver, node.attr))
            if receiver == "self":
                self.in_class.add((self._class, node.attr))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assigned(target, node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._assigned(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._assigned(node.target, node.iter)
        self.generic_visit(node)

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple):
            values = value.elts if isinstance(value, ast.Tuple) else value.args if isinstance(value, ast.Call) else []
            for one, its in zip(target.elts, values, strict=False):
                self._assigned(one, its)
        elif source := _last(value):
            self.alias.add((_last(target), source))

    def _annotated(self, name: str, annotation: ast.expr | None) -> None:
        for part in ast.walk(annotation) if annotation is not None else ():
            if isinstance(part, ast.Name):
                self.named.add((part.id, name))


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last(node.func)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@cache
def reads() -> Reads:
    found = Reads()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def is_read(model: type[BaseModel], name: str) -> bool:
    """Whether some code reads the setting from something that is annotated with its model, or with one that inherits from it."""
    classes = {each.__name__ for each in sections() if issubclass(each, model)} | {model.__name__}
    receivers = {named for kind, named in reads().named if kind in classes}
    receivers |= {alias for alias, source in reads().alias if source in receivers}
    receivers = {named.lstrip("_") for named in receivers}
    return any(name == attribute and receiver.lstrip("_") in receivers for receiver, attribute in reads().read) or any(
        (kind, name) in reads().in_class for kind in classes
    )


MODELS = list(dict.fromkeys(model for model, _ in leaves()))
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


def own(model: type[BaseModel]) -> Iterator[str]:
    """Yield the names of the settings that the model declares."""
    yield from (name for declaring, name in leaves() if declaring is model)


@each_model
def test_a_setting_is_read_by_code_that_has_its_section(model: type[BaseModel]) -> None:
    unread = {name for name in own(model) if not is_read(model, name)}
    known = {name for declaring, name in USED_AS_A_WHOLE if declaring == model.__name__}
    assert unread <= known, f"nothing reads {model.__name__}.{unread - known}: remove it by configs/renames.py, or give it a use"
    assert known <= unread, f"{model.__name__}.{known - unread} is read by name: remove it from USED_AS_A_WHOLE"


def numbers(schema: dict[str, Any]) -> Iterator[tuple[dict[str, Any], int | None]]:
    """Yield the JSON schema of each number that a setting holds, and the length of the list that it is in, if any."""
    if schema.get("type") in ("integer", "number"):
        yield schema, None
    for part in schema.get("anyOf", ()):
        yield from numbers(part)
    for part in (schema.get("items"), *schema.get("prefixItems", ())):
        if isinstance(part, dict):
            yield from ((number, len(schema.get("prefixItems", [0]))) for number, _ in numbers(part))


def beyond(number: dict[str, Any]) -> Iterator[float]:
    """Yield values just outside of the bounds of a number's JSON schema."""
    for bound, value in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1), ("exclusiveMaximum", 0)):
        if bound in number:
            yield number[bound] + value
    if number["type"] == "number":
        yield from (math.nan, math.inf, -math.inf)


def too_long(name: str) -> list[float]:
    """Return a value beyond the bound of seconds, which the JSON schema does not show."""
    return [MOST_S + 1] if name.endswith("_s") else []


def numbers_of(model: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any], int | None]]:
    """Yield each number of the model's settings, with the setting's name."""
    fields = model.model_json_schema()["properties"]
    for name in own(model):
        yield from ((name, number, length) for number, length in numbers(fields.get(name, {})))


@each_model
def test_a_number_has_a_lower_bound(model: type[BaseModel]) -> None:
    free = {name for name, number, _ in numbers_of(model) if not {"minimum", "exclusiveMinimum"} & number.keys()}
    assert free == {name for declaring, name in UNBOUNDED if declaring == model.__name__}


@each_model
def test_a_number_beyond_its_bounds_or_not_finite_is_refused_in_one_sentence(model: type[BaseModel]) -> None:
    for name, number, length in numbers_of(model):
        for value in [] if (model.__name__, name) == ("Parameter", "choices") else [*beyond(number), *too_long(name)]:
            with pytest.raises(ValidationError) as caught:
                model.model_validate({name: [value] * length if length else value})
            said = [error["msg"] for error in caught.value.errors() if error["loc"][:1] == (name,)]
            assert said and "\n" not in said[0] and len(said[0]) < 200, f"{model.__name__}.{name} takes {value}"


def test_enough_settings_are_enumerated() -> None:
    """The tests above check what they find, so this one checks that they find enough."""
    assert len(leaves()) > 300 and sum(1 for model in MODELS for _ in numbers_of(model)) > 150
    assert {"RetrainSettings", "ServingSettings", "RunPodSettings", "AlertSettings"} <= {model.__name__ for model in MODELS}


@pytest.mark.parametrize(
    ("model", "option", "said"),
    [
        (RetrainSettings, "validation={min_rating: 5, max_rating: 1}", "validation: min_rating (5) must not be above max_rating (1)"),
        (RetrainSettings, "validation.earliest=8000000000", "earliest (8000000000) lies in the future, so no event would be valid"),
        (RetrainSettings, "validation.max_rating=.inf", "validation.max_rating: Input should be a finite number"),
        (RetrainSettings, "seed=-1", "seed: Input should be greater than or equal to 0"),
        (RetrainSettings, "seed=4294967296", "seed: Input should be less than or equal to 4294967295"),
        (RetrainSettings, "evaluation.tie_seed=-1", "evaluation.tie_seed: Input should be greater than or equal to 0"),
        (RetrainSettings, "store.timeout_s=1e300", "store.timeout_s: the value must be at most 315360000 seconds, which is ten years"),
        (
            RuleFile,
            "rules=[{name: a, action: exclude, where: {min_popularity: 2, max_popularity: 1}}]",
            "min_popularity (2) must not be above max_popularity (1)",
        ),
        (
            RuleFile,
            "rules=[{name: a, action: pin, items: [1], audience: {min_history: 2, max_history: 1}}]",
            "min_history (2) must not be above max_history (1)",
        ),
        (ReplaySettings, "promotion.approval=manual", "promotion.approval must be automatic: nobody can approve a promotion in the past"),
        (
            ReplaySettings,
            f"{{model_name: {'m' * 32}, policies: {{{'p' * 32}: {{}}}}}}",
            "has 65 characters, and a model's name has at most 63: shorten model_name or the policy's name",
        ),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_at_once(model: type[BaseModel], option: str, said: str) -> None:
    values = [option] if "=" in option else [f"{key}={value}" for key, value in yaml.safe_load(option).items()]
    with pytest.raises(SettingsError) as caught:
        load_settings(model, None, values)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_waits_of_the_worker_must_be_in_order() -> None:
    with pytest.raises(SettingsError, match=r"^RECSYS_RUNPOD_\*: backoff_s \(5\) must not be above max_backoff_s \(2\)\.$"):
        RunPodSettings.from_environment({"RECSYS_RUNPOD_BACKOFF_S": "5", "RECSYS_RUNPOD_MAX_BACKOFF_S": "2"})


def test_a_whole_scale_of_one_rating_is_allowed() -> None:
    assert ValidationSettings(min_rating=1, max_rating=1).min_rating == 1
