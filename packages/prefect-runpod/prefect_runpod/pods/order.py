"""The order for a run's pod, and the marks by which any worker identifies a pod as that run's.

RunPod has no labels. The marks are therefore the name of the pod and entries of its environment, which the API returns. A
worker that was started after the pod reads there which run the pod belongs to and how long it may live.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from prefect_runpod.api import Pod
from prefect_runpod.errors import PodError
from prefect_runpod.project import current
from prefect_runpod.texts.redaction import shown_address

__all__ = ["Marks", "Order", "OrderError", "marks_of", "server_mark"]

MOST_BYTES = 102_400  # maximum size of the body of a create
MOST_ENTRIES = 50  # maximum number of environment variables, as reported by users
ROUNDED_USD = 1e-6  # prices per hour are multiplied by the number of GPUs


class OrderError(PodError):
    """A pod cannot be ordered with these job variables."""


@dataclass(frozen=True)
class Marks:
    """The owner of a pod, and the pod's limits."""

    pool: UUID
    """Id of the work pool."""
    run: UUID
    """Id of the flow run."""
    attempt: int
    """Number of earlier starts of the run. A pod of an earlier attempt is never used for this one."""
    startup_s: int
    """Seconds within which the run must start."""
    max_runtime_s: int
    """Maximum lifetime of the pod in seconds."""
    max_cost: float | None = None
    """Maximum cost of the pod in USD."""
    server: str = ""
    """Digest of the Prefect server's address, as used by the worker that rented the pod. Empty if it is not known."""
    max_price: float | None = None
    """Maximum price of the complete pod in USD per hour."""

    @property
    def name(self) -> str:
        """The name of the pod."""
        return f"{current().name}-{self.pool.hex[:8]}-{self.run}"

    def life_s(self, price: float) -> int:
        """Return how many seconds the pod may live at `price` USD per hour, by its maximum runtime and cost."""
        if self.max_cost is None or price <= 0:
            return self.max_runtime_s
        return min(self.max_runtime_s, int(3600 * self.max_cost / price))

    def too_dear(self, price: float) -> bool:
        """Return whether `price` USD per hour, as billed, is above the maximum price."""
        return self.max_price is not None and price > self.max_price + ROUNDED_USD

    def environment(self) -> dict[str, str]:
        """Return the marks as environment variables of the pod."""
        fields = {"POOL": self.pool, "RUN": self.run, "ATTEMPT": self.attempt}
        fields |= {"STARTUP_S": self.startup_s, "MAX_RUNTIME_S": self.max_runtime_s}
        fields |= {} if self.max_cost is None else {"MAX_COST_USD": self.max_cost}
        fields |= {} if self.max_price is None else {"MAX_PRICE_USD": self.max_price}
        fields |= {"SERVER": self.server} if self.server else {}
        return {f"{current().marks}{name}": str(value) for name, value in fields.items()}


def server_mark(address: str) -> str:
    """Return the digest that represents a Prefect server in the marks. The address itself may contain a password."""
    return hashlib.sha256(shown_address(address.rstrip("/")).encode()).hexdigest()[:16]


def marks_of(pod: Pod) -> Marks | None:
    """Return the marks of the pod, or None if it is not a pod of this project."""
    start = current().marks
    try:
        return Marks(
            pool=UUID(pod.env[f"{start}POOL"]),
            run=UUID(pod.env[f"{start}RUN"]),
            attempt=int(pod.env[f"{start}ATTEMPT"]),
            startup_s=int(pod.env[f"{start}STARTUP_S"]),
            max_runtime_s=int(pod.env[f"{start}MAX_RUNTIME_S"]),
            max_cost=float(pod.env[cost]) if (cost := f"{start}MAX_COST_USD") in pod.env else None,
            server=pod.env.get(f"{start}SERVER", ""),
            max_price=float(pod.env[price]) if (price := f"{start}MAX_PRICE_USD") in pod.env else None,
        )
    except (KeyError, ValueError):
        return None


@dataclass(frozen=True)
class Order:
    """A pod to be rented. The GPU type is chosen while ordering. `env` may carry secrets and is not printed."""

    marks: Marks
    image: str
    command: tuple[str, ...]
    gpu_types: tuple[str, ...]
    gpu_count: int = 1
    cloud: str = "SECURE"
    data_centers: tuple[str, ...] = ()
    disk_gb: int = 40
    network_volume: str | None = None
    network_volume_path: str = "/runpod-volume"
    registry: str | None = None
    min_cuda_version: str | None = None
    capacity_timeout_s: int = 1800
    command_style: Literal["auto", "exec", "args"] = "auto"
    env: dict[str, str] = field(default_factory=dict, repr=False)

    def body(self, gpu: str, price: float, style: Literal["exec", "args"]) -> dict[str, Any]:
        """Return the body of a create (schema CreatePodRequest) for a GPU type.

        Args:
            gpu: RunPod's id of the GPU type.
            price: Price of the complete pod in USD per hour.
            style: `exec` sends the command as `cmd` and `entrypoint`. `args` sends it as the JSON text in `args` that API
                descriptions before September 2026 expect.

        Raises:
            OrderError: RunPod would refuse the body because of its size.
        """
        marks = replace(self.marks, max_runtime_s=self.marks.life_s(price))  # for the pod itself, which does not know its price
        entrypoint, command = list(current().launcher), ["--", *self.command]
        body: dict[str, Any] = {
            "name": marks.name,
            "image": self.image,
            "gpu": {"id": gpu, "count": self.gpu_count},
            "cloud": self.cloud,
            "disk": self.disk_gb,
            "env": {**self.env, **marks.environment()},
        }
        if style == "exec":
            body |= {"entrypoint": entrypoint, "cmd": command}
        else:
            body["args"] = json.dumps({"entrypoint": entrypoint, "cmd": command})
        if self.min_cuda_version is not None:
            body["gpu"]["minCudaVersion"] = self.min_cuda_version
        if self.data_centers:
            body["dataCenterIds"] = list(self.data_centers)
        if self.network_volume is not None:
            body["mounts"] = {"network": [{"volumeId": self.network_volume, "path": self.network_volume_path}]}
        if self.registry is not None:
            body["registry"] = self.registry
        size, entries = len(json.dumps(body).encode()), len(body["env"])
        if size > MOST_BYTES or entries > MOST_ENTRIES:
            raise OrderError(
                f"The pod {marks.name} would have {entries} environment variables and {size:,} bytes; RunPod allows "
                f"{MOST_ENTRIES} and {MOST_BYTES:,}. Shorten the job variable env."
            )
        return body
