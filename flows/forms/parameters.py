"""The parameters of a flow as its form shows them, and what the flow makes of a filled-in form.

A deployment's form has the flow's own plain parameters, and `settings`, which is a `RunForm`. A flow that takes
sections of the settings, such as `store`, gets them from there. The sections, and parameters that only other runs give, have no
field in the form. A run may still name them, so older deployments and scheduled runs keep working.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_type_hints

from prefect import Flow
from prefect.utilities.callables import parameter_docstrings
from pydantic import MISSING, BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from configs.base import title_of
from configs.settings import RetrainSettings
from flows.forms.run_form import RunForm, first_sentence

__all__ = ["with_form"]

P = ParamSpec("P")
R = TypeVar("R")
SETTINGS = "settings"


class _Drawn:
    """Gives a parameter the JSON schema of a form."""

    def __init__(self, form: RunForm[Any]) -> None:
        self._form = form

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return self._form.schema(handler(core), handler.resolve_ref_schema)


def with_form(*common: str, first: tuple[str, ...] = (), hidden: tuple[str, ...] = ()) -> Callable[[Flow[P, R]], Flow[P, R]]:
    """Return a decorator that gives a flow its form.

    Args:
        *common: Keys of the settings that have a field of their own, such as `data.source`.
        first: The flow's own parameters that are shown before the settings. The others are shown after them.
        hidden: The flow's own parameters that have no field.
    """

    def decorated(flow: Flow[P, R]) -> Flow[P, R]:
        form, sections = _form_of(flow, common)
        accepts = flow.validate_parameters

        def validated(parameters: dict[str, Any]) -> dict[str, Any]:
            given = dict(parameters)
            if isinstance(given.get(SETTINGS), Mapping):
                filled = given.pop(SETTINGS)
                named = {field: given.pop(name) for name, field in sections.items() if given.get(name) is not None}
                settings = form.settings({**named, **filled})
                if form.sections is None:
                    given[SETTINGS] = settings
                # A parameter without a value, such as the gate of `promote`, has a meaning of its own.
                given |= {
                    name: getattr(settings, field)
                    for name, field in sections.items()
                    if field in settings.model_fields_set or _parameters(flow)[name].default is not None
                }
            return accepts(given)

        # Prefect builds the form from the signature of the flow, and calls the function by the function's own.
        flow.validate_parameters = validated  # type: ignore[method-assign]
        flow.__signature__ = _signature(flow, form, sections, first, hidden)  # type: ignore[attr-defined]
        return flow

    return decorated


def _form_of(flow: Flow[..., Any], common: tuple[str, ...]) -> tuple[RunForm[Any], dict[str, str]]:
    """Return the form of a flow's settings, and which setting or section each of its other parameters is."""
    hints = get_type_hints(flow.fn)
    if SETTINGS in hints:
        return RunForm(hints[SETTINGS], common), {}
    fields = {field.annotation: name for name, field in RetrainSettings.model_fields.items()}
    sections = {}
    for name in _parameters(flow):
        models = [
            kind for kind in (hints[name], *get_args(hints[name])) if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if models or name in RetrainSettings.model_fields:
            sections[name] = fields[models[0]] if models else name
    return RunForm(RetrainSettings, common, tuple(sections.values())), sections


def _parameters(flow: Flow[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(flow.fn).parameters


def _signature(
    flow: Flow[..., Any], form: RunForm[Any], sections: Mapping[str, str], first: tuple[str, ...], hidden: tuple[str, ...]
) -> inspect.Signature:
    """Return the signature that a form is built from: the parameters that it shows, in their order."""
    own = [name for name in _parameters(flow) if name not in (SETTINGS, *sections, *hidden)]
    hints, said = get_type_hints(flow.fn, include_extras=True), parameter_docstrings(inspect.getdoc(flow.fn))
    shown = []
    for name in (*first, SETTINGS, *(name for name in own if name not in first)):
        if name == SETTINGS:
            kind: Any = Annotated[form.model, _Drawn(form)]
            default = Field(default=None, json_schema_extra={"title": title_of(name), "description": "", "default": {}})
        else:
            kind, default = hints[name], _parameters(flow)[name].default
            if default is None:  # an empty field is left out, so that the UI draws one field and no choice of a type
                kind, default = _without_none(kind), MISSING
            given = ... if default is inspect.Parameter.empty else default
            default = Field(default=given, description=first_sentence(said[name]), json_schema_extra={"title": title_of(name)})
        shown.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    return inspect.Signature(shown)


def _without_none(kind: Any) -> Any:
    return next(part for part in get_args(kind) if part is not type(None)) | MISSING
