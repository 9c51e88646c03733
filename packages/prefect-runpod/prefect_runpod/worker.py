"""The Prefect worker `runpod`. Each flow run gets its own pod, which is rented for the run and deleted after it."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
from prefect.exceptions import InfrastructureNotFound
from prefect.types._datetime import now
from prefect.workers.base import BaseWorker, BaseWorkerResult

from prefect_runpod.api import RunPodClient
from prefect_runpod.block import RunPodCredentials, api_key
from prefect_runpod.job import RunPodJobConfiguration, RunPodVariables
from prefect_runpod.pods.provision import Provisioner, WithdrawnError
from prefect_runpod.pods.reconciler import Reconciler, Watcher
from prefect_runpod.pods.runs import RunsUnavailableError
from prefect_runpod.prefect_runs import PrefectRuns
from prefect_runpod.project import current
from prefect_runpod.settings import POOL_TYPE

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from prefect.client.schemas.objects import FlowRun

__all__ = ["RunPodCredentials", "RunPodWorker", "RunPodWorkerResult"]


class RunPodWorkerResult(BaseWorkerResult):
    """The result of a run. `identifier` is the id of the pod; the state of the run shows how the run ended."""


class RunPodWorker(BaseWorker[RunPodJobConfiguration, RunPodVariables, RunPodWorkerResult]):
    """Rents the pods, and leaves everything else to the reconciler. It treats the pods of an earlier worker in the same way."""

    type = POOL_TYPE
    job_configuration = RunPodJobConfiguration
    job_configuration_variables = RunPodVariables
    _display_name = "RunPod"
    _description = "Runs each flow run in its own GPU pod on RunPod, which is rented for the run and deleted after it."
    _documentation_url = "https://docs.runpod.io/api-reference-v2"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._runpod = current().settings(os.environ)
        self._commit = current().commit()
        self._watch: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._adopted: set[str] = set()
        self._counted = False
        self._labelling = asyncio.Lock()

    async def setup(self) -> None:
        """Start the worker. Raises SettingsError if there is no key."""
        await super().setup()
        self._rented = await self._exit_stack.enter_async_context(RunPodClient(await api_key(self._runpod), self._runpod))
        self._watch = asyncio.create_task(self._watch_pods())

    async def teardown(self, *exc_info: Any) -> None:
        """Stop the worker. Its pods are left to the next worker, because this one may only be restarting."""
        try:
            await super().teardown(*exc_info)  # the runs that it waits for need the reconciler until they end
        finally:
            if self._watch is not None:
                self._watch.cancel()
                with suppress(asyncio.CancelledError):
                    await self._watch

    async def _watch_pods(self) -> None:
        while self._work_pool is None:  # the server may not have answered yet
            await asyncio.sleep(self._runpod.look_every_s)
        pool = self._work_pool
        self._runs = PrefectRuns(lambda: self.client, pool.id, pool.name)
        watcher = Watcher(
            self.name,
            server=self._address(),
            submits=lambda run: run in self._submitting_flow_run_ids,
            adopts=self._count if self._limiter is not None else None,
        )
        self._reconciler = Reconciler(self._rented, self._runs, pool.id, self._runpod, watcher)
        self._provisioner = Provisioner(self._rented, self._reconciler, self._runpod)
        self._ready.set()
        await self._reconciler.forever()

    def _address(self) -> str:
        """Return the address that identifies the server in the marks of pods. The one inside compose is the same in each installation."""
        return self._runpod.server_url or str(self.client.api_url)

    def _count(self, pods: set[str]) -> None:
        """Count the pods that an earlier worker rented against `--limit`. If there are more pods than slots, no slot is free."""
        assert self._limiter is not None
        for pod in self._adopted - pods:
            self._limiter.release_on_behalf_of(pod)
        self._adopted &= pods
        for pod in sorted(pods - self._adopted):
            with suppress(anyio.WouldBlock):
                self._limiter.acquire_on_behalf_of_nowait(pod)
                self._adopted.add(pod)
        self._counted = True

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take runs that are due. With a limit, no run is taken until the existing pods are counted."""
        if self._limiter is not None and not self._counted:
            self._last_polled_time = now("UTC")  # the worker must not look stuck
            return []
        return await super().get_and_submit_flow_runs()

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Write the labels one run at a time.

        Many writes at once block each other in a server's SQLite, and Prefect crashes a run whose label cannot be written.
        """
        async with self._labelling:
            await super()._give_worker_labels_to_flow_run(flow_run_id)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: RunPodJobConfiguration,
        task_status: TaskStatus[Any] | None = None,
    ) -> RunPodWorkerResult:
        """Rent the run's pod and wait until it is gone. If the worker is stopped, it leaves the pod alone.

        Raises RunPodError or OrderError if no pod could be rented. Prefect then marks the run crashed with that message.
        """
        await self._ready.wait()
        order = configuration.order(self._runpod, self._address(), self._commit)
        log = self.get_flow_run_logger(flow_run)
        hold = self._reconciler.hold(flow_run.id)

        async def tell(said: str) -> None:
            log.info("No GPU yet. %s", said)
            with suppress(RunsUnavailableError):
                await self._runs.tell(flow_run.id, "AwaitingGPU", said)

        try:
            try:
                pod = await self._provisioner.rent(order, hold.withdrawn, tell)
            except WithdrawnError:
                await self._withdraw(flow_run.id)
                if task_status is not None:
                    task_status.started(None)
                return RunPodWorkerResult(identifier="", status_code=0)
            life_s = order.marks.life_s(pod.cost)
            said = "Pod %s: %d x %s at %.3f USD per hour; at most %.2f USD in %d s"
            log.info(said, pod.id, pod.gpu_count, pod.gpu, pod.cost, pod.cost * life_s / 3600, life_s)
            self._reconciler.follow(pod, order.marks)
            if task_status is not None:  # if a second pod has appeared for the run, the older one executes it
                chosen = self._reconciler.pod_of(flow_run.id, order.marks.attempt) or pod
                task_status.started(chosen.id)
            await self._reconciler.open_account(pod.id)  # only now: the pod is already billed and waits to be named
            await hold.gone.wait()
        finally:
            self._reconciler.release(flow_run.id)
        return RunPodWorkerResult(identifier=pod.id, status_code=0)

    async def _withdraw(self, run_id: UUID) -> None:
        """Mark the withdrawn run cancelled. If the server does not answer, the reconciler finds the run later, without a pod."""
        with suppress(RunsUnavailableError):
            await self._cancel_withdrawn(run_id)

    async def _cancel_withdrawn(self, run_id: UUID) -> None:
        run = (await self._runs.look({run_id})).get(run_id)
        if run is not None and run.state == "CANCELLING":
            await self._runs.cancel(run, "The run was cancelled while it waited for a GPU.")

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: RunPodJobConfiguration, grace_seconds: int = 30
    ) -> None:
        """Delete the pod. The grace period is RunPod's own."""
        if not await self._rented.delete_pod(infrastructure_pid):
            raise InfrastructureNotFound(f"The pod {infrastructure_pid} does not exist any more.")
