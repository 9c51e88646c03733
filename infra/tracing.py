"""Traces by OpenTelemetry: spans of requests, batches, calls of Redis, and runs, sent to a receiver by OTLP over HTTP.

Tracing is off unless OpenTelemetry's own variable OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, names a
receiver. Its other variables apply, too: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS.

The spans are the product's own. OpenTelemetry's instrumentation of ASGI records the path of each request, which names the user, and
that of Redis does not see commands that bypass redis-py's client (`serving.state`). Prefect makes the spans of flows and tasks itself.
No span holds an id of a user or an item.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from configs.errors import SettingsError
from configs.extras import install_command

__all__ = ["RECEIVERS", "SpanKind", "current_span", "remote_caller", "span", "start_tracing", "stop_tracing", "tracing_is_on"]

RECEIVERS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROJECT = "movielens-recsys"
_propagator = TraceContextTextMapPropagator()
_tracer: Tracer | None = None
_provider: Any = None


def start_tracing(environment: Mapping[str, str] = os.environ) -> bool:
    """Start to trace this process if the environment asks for it, and return whether it is traced. Later calls do nothing.

    A receiver that does not answer costs no request: spans wait in a queue of bounded length, and a thread sends them.

    Raises:
        SettingsError: The packages of the extra `tracing` are not installed, or the environment asks for another protocol.
    """
    global _provider, _tracer
    if _tracer is not None:
        return True
    if not any(environment.get(name) for name in RECEIVERS) or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if (asked := next(filter(None, map(environment.get, PROTOCOLS)), "http/protobuf")) != "http/protobuf":
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {asked}. Traces are sent by http/protobuf only; receivers take it at port 4318."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and {error.name} is not installed. Install it with "
            f"`{install_command('tracing')}`, or unset the variable."
        ) from error
    known: dict[str, str] = {"service.version": _version()}
    if not environment.get("OTEL_SERVICE_NAME") and "service.name=" not in environment.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        known["service.name"] = "recsys"
    _provider = TracerProvider(resource=Resource.create(known))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)  # Prefect asks for it
    _tracer = _provider.get_tracer("recsys", _version())
    return True


def stop_tracing() -> None:
    """Send the spans that wait, and end tracing in this process."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.shutdown()


def tracing_is_on() -> bool:
    """Return whether this process is traced."""
    return _tracer is not None


def remote_caller(headers: Mapping[bytes, bytes]) -> Context | None:
    """Return the trace of which a request is part, by its header `traceparent`, or None."""
    given = headers.get(b"traceparent")
    return None if given is None else _propagator.extract({"traceparent": given.decode("latin-1")}, context=Context())


def current_span() -> SpanContext | None:
    """Return the ids of the span in which the caller runs, or None."""
    if _tracer is None:
        return None
    found = trace.get_current_span().get_span_context()
    return found if found.is_valid else None


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    callers: Sequence[SpanContext] = (),
    context: Context | None = None,
) -> Iterator[Span]:
    """Record what the block does. An error that it raises marks the span, by its class only: its message may name a person.

    Args:
        name: What is done, from a small set of names.
        attributes: What is known of it beforehand.
        kind: Its place between a client and a server.
        callers: The spans on whose behalf it is done: the first one is the parent, and the others are linked.
        context: The trace that it is part of, in place of the current one.
    """
    if _tracer is None:
        yield INVALID_SPAN
        return
    if callers:
        context = set_span_in_context(NonRecordingSpan(callers[0]))
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=dict(attributes or {}),
        links=[Link(each) for each in callers[1:]],
        record_exception=False,
        set_status_on_exception=False,
    ) as found:
        try:
            yield found
        except Exception as error:
            found.set_attribute("error.type", type(error).__name__)
            found.set_status(Status(StatusCode.ERROR))
            raise


def _version() -> str:
    try:
        return version(PROJECT)
    except PackageNotFoundError:  # run from its folder, without being installed
        return "unknown"
