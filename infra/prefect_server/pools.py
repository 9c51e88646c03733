"""The work pools, and the queues that order the runs of this machine by urgency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.errors import SettingsError
from infra.prefect_server.change import Change
from infra.prefect_server.environment import CPU_POOL, PoolSettings
from prefect_runpod import POOL_TYPE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = ["GPU_POOL", "NO_IMAGE", "NO_KEY", "check_pools", "has_image", "set_up_pools"]

GPU_POOL = "recsys-gpu"
KINDS = {CPU_POOL: "process", GPU_POOL: POOL_TYPE}
NO_IMAGE = "left out: GPU pods have no image yet. Build infra/docker/train.Dockerfile and set pools.gpu_image to its digest"
NO_KEY = "left out: this server has no RunPod key (RUNPOD_API_KEY)"


def check_pools(client: SyncPrefectClient) -> None:
    """Raise SettingsError if a work pool exists with another type, which cannot be changed."""
    from prefect.exceptions import ObjectNotFound

    for name, kind in KINDS.items():
        try:
            found = client.read_work_pool(name).type
        except ObjectNotFound:
            continue
        if found != kind:
            raise SettingsError(
                f"The work pool {name} exists with the type {found}, not {kind}. A pool's type cannot be changed. Delete it in the UI "
                "(its deployments have no pool until setup runs again), or use another server."
            )


def set_up_pools(client: SyncPrefectClient, settings: PoolSettings, rents: bool) -> list[Change]:
    """Create or update the work pools and the queues of the CPU pool. The GPU pool needs a server that rents pods."""
    changes = [_pool(client, CPU_POOL, "Processes on the worker's machine.", settings.concurrency_limit)]
    changes += [
        _queue(client, "urgent", 1, None, "Runs that a person is waiting for."),
        _queue(client, "default", 2, None, "The work pool's default queue."),
        _queue(client, "training", 3, settings.training_limit, "Runs that use the entire machine."),
    ]
    if not rents:
        return [*changes, Change("work pool", GPU_POOL, NO_KEY)]
    return [*changes, _pool(client, GPU_POOL, "Pods with a GPU, rented by the second.", settings.gpu_limit)]


def has_image(client: SyncPrefectClient) -> bool:
    """Return whether the form of the GPU pool has an image, by its digest, for deployments that name none."""
    fields = client.read_work_pool(GPU_POOL).base_job_template.get("variables", {}).get("properties", {})
    return "@sha256:" in str(fields.get("image", {}).get("default"))


def _pool(client: SyncPrefectClient, name: str, description: str, limit: int | None) -> Change:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.base import BaseWorker

    import prefect_runpod.worker  # noqa: F401 - registers its type

    kind = KINDS[name]
    worker = BaseWorker.get_worker_class_from_type(kind)
    assert worker is not None
    template = worker.get_default_base_job_template()
    wanted: dict[str, Any] = {"description": description, "concurrency_limit": limit}
    try:
        current = client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template, **wanted))
        return Change("work pool", name, "created")
    differing = [key for key, value in wanted.items() if getattr(current, key) != value]
    if not differing:
        return Change("work pool", name, "unchanged")  # the job template is not compared: people may edit it
    client.update_work_pool(name, WorkPoolUpdate(**wanted))
    return Change("work pool", name, f"updated: {', '.join(differing)}")


def _queue(client: SyncPrefectClient, name: str, priority: int, limit: int | None, description: str) -> Change:
    from prefect.exceptions import ObjectNotFound

    full = f"{CPU_POOL}/{name}"
    wanted: dict[str, Any] = {"priority": priority, "concurrency_limit": limit, "description": description}
    try:
        current = client.read_work_queue_by_name(name, work_pool_name=CPU_POOL)
    except ObjectNotFound:
        client.create_work_queue(name=name, work_pool_name=CPU_POOL, **wanted)
        return Change("work queue", full, "created")
    differing = [key for key, value in wanted.items() if getattr(current, key) != value]
    if not differing:
        return Change("work queue", full, "unchanged")
    client.update_work_queue(current.id, **wanted)
    return Change("work queue", full, f"updated: {', '.join(differing)}")
