"""The job variables of a work pool of type `runpod`: the fields of the pool's form, which a deployment can set."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from prefect.workers.base import BaseJobConfiguration, BaseVariables
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from prefect_runpod.pods.order import Marks, Order, OrderError, server_mark
from prefect_runpod.project import current
from prefect_runpod.settings import RunPodSettings
from prefect_runpod.texts.addresses import is_loopback, why_unreachable
from prefect_runpod.texts.redaction import shown_address

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
    from prefect.client.schemas.responses import DeploymentResponse

__all__ = ["RunPodJobConfiguration", "RunPodVariables"]

DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
COMMIT = re.compile(r"(?=\d*[a-f])[0-9a-f]{7,40}|\d{40}")  # but not a date or a build number
# Settings of the worker's own machine. They mean nothing in a pod, so they are removed unless a deployment's env sets them.
NOT_FOR_PODS = (
    "PREFECT_API_SSL_CERT_FILE",
    "PREFECT_HOME",
    "PREFECT_LOCAL_STORAGE_PATH",
    "PREFECT_LOGGING_CONFIG_PATH",
    "PREFECT_LOGGING_SETTINGS_PATH",
    "PREFECT_MEMO_STORE_PATH",
    "PREFECT_PROFILE",
    "PREFECT_RESULTS_LOCAL_STORAGE_PATH",
    "PREFECT_RUNNER_",
    "PREFECT_SERVER_",
    "PREFECT_TEST",
    "PREFECT_UI_",
    "PREFECT_WORKER_",
)


class _Fields(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    image: str | None = Field(default=None, title="Image")
    """Image with the code of the flows, prefect-runpod and what they need on a GPU, by its digest, for example
    ghcr.io/you/train@sha256:.... It gets the keys of the Prefect server and of the job variable env. There is no default."""
    gpu_types: list[str] = Field(
        default=["NVIDIA GeForce RTX 4090", "NVIDIA RTX A6000", "NVIDIA L40S", "NVIDIA A100 80GB PCIe"],
        min_length=1,
        title="GPU types",
    )
    """RunPod ids of GPU types, in order of preference. Types that the catalogue lists as available are tried first."""
    gpu_count: int = Field(default=1, ge=1, title="GPUs")
    """Number of GPUs of the pod."""
    cloud: Literal["SECURE", "COMMUNITY"] = Field(default="SECURE", title="Cloud")
    """SECURE: RunPod's own data centers. COMMUNITY: hosts of other providers."""
    data_centers: list[str] = Field(default=[], title="Data centers")
    """Data centers to rent in, for example EU-RO-1. Empty means any. A network volume needs the data center that it is in."""
    disk_gb: int = Field(default=40, ge=1, title="Container disk (GB)")
    """Size of the container's disk. The disk is deleted with the pod."""
    network_volume: str | None = Field(default=None, title="Network volume")
    """Id of a network volume to mount, for example as a cache of datasets."""
    network_volume_path: str = Field(default="/runpod-volume", title="Network volume's path")
    """Path at which the network volume is mounted."""
    registry: str | None = Field(default=None, title="Registry credential")
    """Id of RunPod's credential for a private image."""
    min_cuda_version: str | None = Field(default=None, pattern=r"^\d+\.\d+$", title="Minimum CUDA version of the host")
    """For example 12.8. Empty means any."""
    max_price_per_hour: float | None = Field(default=5.0, gt=0, title="Maximum price (USD per hour)")
    """A GPU type is not rented if the pod would cost more than this per hour."""
    max_runtime: int = Field(default=21_600, ge=60, title="Maximum lifetime (s)")
    """Seconds after which the pod is deleted and its run is marked crashed, whatever it does."""
    max_cost: float | None = Field(default=20.0, gt=0, title="Maximum cost (USD)")
    """Cost at which a pod is deleted and its run is marked crashed. Depending on the price, this may shorten its lifetime."""
    startup_timeout: int = Field(default=1800, ge=1, title="Startup timeout (s)")
    """Seconds from the creation of the pod within which the run must start. They include the time to pull the image."""
    capacity_timeout: int = Field(default=3600, ge=0, title="Maximum wait for a GPU (s)")
    """Seconds for which the worker keeps trying while no GPU type is available."""
    command_style: Literal["auto", "exec", "args"] = Field(default="auto", title="How the command is sent")
    """`exec`: as cmd and entrypoint. `args`: as a JSON text, for API descriptions before September 2026. `auto`: as `exec`, or as
    `args` if that is refused."""


class RunPodVariables(BaseVariables, _Fields):
    """The fields of the pool's form."""


class RunPodJobConfiguration(BaseJobConfiguration, _Fields):
    """The fields of the pool's form, filled in for one flow run."""

    _marks: Marks | None = PrivateAttr(default=None)
    _names_server: bool = PrivateAttr(default=False)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Fill in the configuration for a flow run. Raises OrderError if the run could not work in a pod."""
        own = dict(self.env)
        self._names_server = bool(own.get("PREFECT_API_URL"))
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)
        if "RUNPOD_API_KEY" in own:
            raise OrderError(
                "The job variable env sets RUNPOD_API_KEY. A pod gets its own key and must not have the account's. "
                "Remove the variable."
            )
        if any(name.startswith(current().marks) for name in own):
            raise OrderError(f"The job variable env sets {current().marks}..., which the worker sets itself. Remove it.")
        self.env = {k: v for k, v in self.env.items() if k in own or not k.startswith(NOT_FOR_PODS)}
        assert work_pool is not None, "a worker prepares runs of its pool"
        self._marks = Marks(
            work_pool.id,
            flow_run.id,
            flow_run.run_count,
            self.startup_timeout,
            self.max_runtime,
            self.max_cost,
            max_price=self.max_price_per_hour,
        )
        self.name = self._marks.name

    def order(self, settings: RunPodSettings, address: str = "", commit: str | None = None) -> Order:
        """Return the order for the run's pod.

        Args:
            settings: Settings of the worker.
            address: Address of the Prefect server, as the worker uses it.
            commit: Commit of the worker's code, or None if it is not known.

        Raises:
            OrderError: There is no image, or not a certain one, or a pod could not reach the server.
        """
        assert self._marks is not None and self.command is not None, "prepared"
        image, server = self._image(settings, commit), self._server(settings)
        env = {name: value for name, value in self.env.items() if value is not None}
        fields: dict[str, Any] = self.model_dump(include=set(_Fields.model_fields) & set(Order.__dataclass_fields__))
        fields |= {"image": image, "gpu_types": tuple(self.gpu_types), "data_centers": tuple(self.data_centers)}
        marks = current().marks
        own = {"PREFECT_API_URL": server, f"{marks}LINGER_S": str(settings.linger_s)}
        own |= {} if commit is None else {f"{marks}COMMIT": commit}
        own |= {f"{marks}ALLOW_OTHER_COMMIT": "true"} if settings.allow_other_commit else {}
        return Order(
            marks=replace(self._marks, server=server_mark(address)) if address else self._marks,
            command=tuple(shlex.split(self.command)),
            capacity_timeout_s=self.capacity_timeout,
            env={**env, **settings.for_pods(), **own},
            **fields,
        )

    def _image(self, settings: RunPodSettings, commit: str | None) -> str:
        image = (self.image or "").strip()
        if not image:
            raise OrderError(f"The pods of this work pool have no image. {current().image_advice}")
        if not DIGEST.fullmatch(image) and not settings.allow_image_tags:
            raise OrderError(
                f"The job variable image is {image}, which does not name an image by its digest, so another image may take its "
                "place and get the keys of the run. Write <registry>/<name>@sha256:... with the digest that `docker push` "
                f"prints, or set {current().settings_prefix}ALLOW_IMAGE_TAGS=true for the worker."
            )
        tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if commit and COMMIT.fullmatch(tag) and not commit.startswith(tag) and not settings.allow_other_commit:
            raise OrderError(
                f"The tag of the image {image} is the commit {tag}, but the worker's code is {commit}. Build the image from the "
                f"worker's commit, or set {current().settings_prefix}ALLOW_OTHER_COMMIT=true for the worker."
            )
        return image

    def _server(self, settings: RunPodSettings) -> str:
        """Return the address of the Prefect server for the pod."""
        own = self.env.get("PREFECT_API_URL") or ""
        server = own if self._names_server else settings.server_url or own
        if is_loopback(settings.base_url) and is_loopback(server):
            return server
        why = why_unreachable(server, allow_private=settings.allow_private_addresses)
        if why is not None:
            raise OrderError(
                f"The address of the Prefect server for pods is {shown_address(server) or 'not set'}, which a pod cannot use: {why}. "
                f"{current().server_advice}, or {current().settings_prefix}ALLOW_PRIVATE_ADDRESSES=true if pods reach a private address, "
                "as in a VPN."
            )
        return server
