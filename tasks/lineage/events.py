"""Sends the events of a run by OpenLineage's own client: START, then COMPLETE, FAIL or ABORT."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from configs.extras import install_command
from configs.redaction import shown_address
from configs.settings import StoreSettings

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

__all__ = ["FollowedRun", "Item", "Touched", "follow", "lineage_is_on"]

RECEIVER, NAMESPACE, DISABLED, KEY = "OPENLINEAGE_URL", "OPENLINEAGE_NAMESPACE", "OPENLINEAGE_DISABLED", "OPENLINEAGE_API_KEY"
PRODUCER = "urn:movielens-recsys"
TIMEOUT_S = 3.0  # of a request, which is sent once
SAID = 500  # characters of a failure

Log = logging.Logger | logging.LoggerAdapter[Any]
_given_up: set[str] = set()
_current: ContextVar[FollowedRun | None] = ContextVar("followed_run", default=None)


def lineage_is_on(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the environment names a receiver."""
    return bool(environment.get(RECEIVER)) and environment.get(DISABLED, "").lower() != "true"


@dataclass(frozen=True)
class Item:
    """Something that is read or written: an area of the store with a name, or an address elsewhere."""

    name: str
    version: str | None = None
    elsewhere: bool = False


@dataclass(frozen=True)
class Touched:
    """The items of one run."""

    inputs: tuple[Item, ...] = ()
    outputs: tuple[Item, ...] = ()


@dataclass
class FollowedRun:
    """A run whose events are sent. `touched` is what it has read and written."""

    id: str
    job: str
    store: StoreSettings
    log: Log
    parent: FollowedRun | None = None
    touched: Touched = field(default_factory=Touched)
    failure: str | None = None
    """Why the run failed, if it did although no error is raised."""

    def send(self, kind: str) -> None:
        """Send an event of this kind. A failure is logged once, and nothing more is sent then to this receiver."""
        address = os.environ[RECEIVER]
        if address in _given_up:
            return
        try:
            with _client(address) as client:
                client.emit(self._event(kind))
        except ImportError:
            _given_up.add(address)
            self.log.warning(
                "The lineage of runs is not sent: openlineage-python is not installed. Install it with `%s`.",
                install_command("lineage"),
            )
        except Exception as error:
            _given_up.add(address)
            said = " ".join(str(error).replace(address, shown_address(address)).split())[:SAID]
            self.log.warning(
                "The lineage of runs cannot be sent to %s, and is now turned off; the run itself is not affected. %s: %s",
                shown_address(address),
                type(error).__name__,
                said,
            )

    def _event(self, kind: str) -> Any:
        from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState, set_producer
        from openlineage.client.facet_v2 import error_message_run, job_type_job, parent_run

        set_producer(PRODUCER)
        namespace = os.environ.get(NAMESPACE) or "recsys"
        facets: dict[str, Any] = {}
        if self.parent is not None:
            facets["parent"] = parent_run.ParentRunFacet(
                run=parent_run.Run(runId=self.parent.id), job=parent_run.Job(namespace=namespace, name=self.parent.job)
            )
        if self.failure is not None:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=self.failure, programmingLanguage="PYTHON")
        kind_of_job = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="PREFECT", jobType="FLOW")
        return RunEvent(
            eventType=RunState[kind],
            eventTime=datetime.now(UTC).isoformat(),
            run=Run(runId=self.id, facets=facets),
            job=Job(namespace=namespace, name=self.job, facets={"jobType": kind_of_job}),
            producer=PRODUCER,
            inputs=[InputDataset(*self._place(item), facets=_version(item)) for item in self.touched.inputs],
            outputs=[OutputDataset(*self._place(item), facets=_version(item)) for item in self.touched.outputs],
        )

    def _place(self, item: Item) -> tuple[str, str]:
        """Return the namespace and the name of an item, as OpenLineage's rules of naming say: file and path, or bucket and key."""
        if item.elsewhere:
            parts = urlsplit(item.name)
            if parts.scheme and parts.netloc:
                return f"{parts.scheme}://{parts.netloc}", parts.path.lstrip("/") or "/"
            path = Path(parts.path if parts.scheme == "file" else item.name)
            return ("file", str(path.absolute())) if path.is_absolute() or path.exists() else ("recsys", item.name)
        place = self.store.place
        if isinstance(place, Path):
            return "file", str(place.expanduser().absolute() / item.name)
        bucket, prefix = place
        return f"s3://{bucket}", "/".join(filter(None, (prefix, item.name)))


@contextmanager
def follow(run: str, job: str, store: StoreSettings, started: Touched, log: Log) -> Iterator[FollowedRun]:
    """Send the events of a run. The block fills in `touched` before its end, and `failure` if it fails without an error.

    Args:
        run: Id of the run, a UUID.
        job: Name of the job that it is a run of.
        store: Settings of the store that it reads and writes.
        started: What is known at its start.
        log: Log for a warning.
    """
    followed = FollowedRun(run, job, store, log, _current.get(), started)
    token = _current.set(followed)
    followed.send("START")
    end = "ABORT"
    try:
        yield followed
        end = "COMPLETE" if followed.failure is None else "FAIL"
    except Exception as error:
        end, followed.failure = "FAIL", followed.failure or type(error).__name__
        raise
    finally:
        _current.reset(token)
        followed.send(end)


@contextmanager
def _client(address: str) -> Iterator[OpenLineageClient]:
    """Yield a client for a receiver or a file."""
    from openlineage.client import OpenLineageClient

    if address.startswith("file:"):
        from openlineage.client.transport.file import FileConfig, FileTransport

        path = Path(urlsplit(address).path if address.startswith("file:/") else address.removeprefix("file:"))
        path.parent.mkdir(parents=True, exist_ok=True)
        client = OpenLineageClient(transport=FileTransport(FileConfig(str(path.absolute()), append=True)))
    else:
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

        key = os.environ.get(KEY)
        auth = ApiKeyTokenProvider({"apiKey": key}) if key else TokenProvider({})
        once: dict[str, Any] = {"total": 0, "connect": 0, "read": 0}
        client = OpenLineageClient(transport=HttpTransport(HttpConfig(address, timeout=TIMEOUT_S, auth=auth, retry=once)))
    try:
        yield client
    finally:
        client.close(TIMEOUT_S)


def _version(item: Item) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {} if item.version is None else {"version": dataset_version_dataset.DatasetVersionDatasetFacet(item.version)}
