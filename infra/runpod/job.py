"""What a deployment on a work pool of type `runpod` can set: the fields of the pool's form."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from prefect.workers.base import BaseJobConfiguration, BaseVariables
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from configs.runpod import RunPodSettings, is_loopback
from infra.runpod.order import MARKS, Marks, Order, OrderError, server_mark

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

__all__ = ["RunPodJobConfiguration", "RunPodVariables"]

# Settings of the worker's own machine, which mean nothing in a pod; what a deployment's env sets is kept.
NOT_FOR_PODS = (
    "PREFECT_HOME",
    "PREFECT_LOCAL_STORAGE_PATH",
    "PREFECT_PROFILE",
    "PREFECT_RUNNER_",
    "PREFECT_SERVER_",
    "PREFECT_TEST",
    "PREFECT_UI_",
    "PREFECT_WORKER_",
)


class _Fields(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    image: str = Field(default="ghcr.io/movielens-recsys/train:latest", title="Image")
    """Image with this product and its requirements for CUDA (infra/docker/train.Dockerfile)."""
    gpu_types: list[str] = Field(
        default=["NVIDIA GeForce RTX 4090", "NVIDIA RTX A6000", "NVIDIA L40S", "NVIDIA A100 80GB PCIe"],
        min_length=1,
        title="GPU types",
    )
    """GPU types by preference, with RunPod's ids. Those that the catalogue calls free are tried first."""
    gpu_count: int = Field(default=1, ge=1, title="GPUs")
    """GPUs of the pod."""
    cloud: Literal["SECURE", "COMMUNITY"] = Field(default="SECURE", title="Cloud")
    """RunPod's own data centers, or hosts of others."""
    data_centers: list[str] = Field(default=[], title="Data centers")
    """Data centers to rent in, for example EU-RO-1; any where empty. A network volume needs its own one."""
    disk_gb: int = Field(default=40, ge=1, title="Container disk (GB)")
    """Disk of the container, which ends with the pod."""
    network_volume: str | None = Field(default=None, title="Network volume")
    """Id of a network volume to mount, for example as a cache of data sets."""
    network_volume_path: str = Field(default="/runpod-volume", title="Network volume's path")
    """Where the network volume is mounted."""
    registry: str | None = Field(default=None, title="Registry credential")
    """Id of RunPod's credential for a private image."""
    min_cuda_version: str | None = Field(default=None, pattern=r"^\d+\.\d+$", title="Least CUDA version of the host")
    """For example 12.8; any where empty."""
    max_price_per_hour: float | None = Field(default=5.0, gt=0, title="Highest price (USD per hour)")
    """GPU types whose pod costs more by the hour are not rented."""
    max_runtime: int = Field(default=21_600, ge=60, title="Longest life (s)")
    """Seconds after which the pod is deleted and its run crashed, whatever it does."""
    max_cost: float | None = Field(default=20.0, gt=0, title="Highest cost (USD)")
    """Cost of one pod at which it is deleted and its run crashed: with its price it may shorten the longest life."""
    startup_timeout: int = Field(default=1800, ge=1, title="Longest start (s)")
    """Seconds from the creation of the pod in which the run must begin: the image is pulled in them."""
    capacity_timeout: int = Field(default=3600, ge=0, title="Longest wait for a GPU (s)")
    """Seconds for which the worker goes on asking while no GPU type is free."""
    command_style: Literal["auto", "exec", "args"] = Field(default="auto", title="How the command is sent")
    """`exec`: cmd and entrypoint; `args`: a JSON text, for descriptions of the API before September 2026; `auto`: the first,
    and the second where it is refused."""


class RunPodVariables(BaseVariables, _Fields):
    """The pool's form."""


class RunPodJobConfiguration(BaseJobConfiguration, _Fields):
    """The pool's form, filled in for one flow run."""

    _marks: Marks | None = PrivateAttr(default=None)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Raises OrderError where the run could not work in a pod."""
        own = dict(self.env)
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)
        if "RUNPOD_API_KEY" in own:
            raise OrderError(
                "The job variable env sets RUNPOD_API_KEY: a pod gets a key for itself, and must not have the account's. Take it out."
            )
        if any(name.startswith(MARKS) for name in own):
            raise OrderError(f"The job variable env sets {MARKS}..., which the worker sets itself. Take it out.")
        self.env = {k: v for k, v in self.env.items() if k in own or not k.startswith(NOT_FOR_PODS)}
        assert work_pool is not None, "a worker prepares runs of its pool"
        self._marks = Marks(work_pool.id, flow_run.id, flow_run.run_count, self.startup_timeout, self.max_runtime, self.max_cost)
        self.name = self._marks.name

    def order(self, settings: RunPodSettings, address: str = "") -> Order:
        """What to rent; `address` is the Prefect server's, as the worker knows it. Raises OrderError where a pod could not reach
        the server."""
        assert self._marks is not None and self.command is not None, "prepared"
        server = self.env.get("PREFECT_API_URL") or ""
        if not server or (is_loopback(server) and not is_loopback(settings.base_url)):
            raise OrderError(
                f"PREFECT_API_URL is {server or 'not set'}, which a pod cannot reach. Give the worker, or the job variable env, the "
                "server's public address."
            )
        env = {name: value for name, value in self.env.items() if value is not None}
        fields: dict[str, Any] = self.model_dump(include=set(_Fields.model_fields) & set(Order.__dataclass_fields__))
        fields |= {"gpu_types": tuple(self.gpu_types), "data_centers": tuple(self.data_centers)}
        return Order(
            marks=replace(self._marks, server=server_mark(address)) if address else self._marks,
            command=tuple(shlex.split(self.command)),
            max_price=self.max_price_per_hour,
            capacity_timeout_s=self.capacity_timeout,
            env={**env, **settings.for_pods(), f"{MARKS}LINGER_S": str(settings.linger_s)},
            **fields,
        )
