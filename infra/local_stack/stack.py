"""Start the services in order, wait until each one is up, and stop them in reverse order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import SettingsError
from infra.lifeline import groups_end_with_this_process
from infra.local_stack.containers import Containers
from infra.local_stack.radosgw import PROGRAMS, radosgw
from infra.local_stack.services import ROOT, Layout, Service, free_port, localised, read_services

__all__ = ["Running", "local_stack"]

START_S = 600
STOP_S = 60
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS", "PYTHONPATH", "RUNPOD_API_BASE_URL", "VIRTUAL_ENV")
BUCKET = "recsys"
PUBLISHED = ("prefect", "proxy", "demo")  # services that browsers open


@dataclass(frozen=True)
class Running:
    """A running stack."""

    layout: Layout
    processes: dict[str, subprocess.Popen[bytes]]
    left_out: dict[str, str]  # service -> reason
    known: Sequence[Service]
    tell: Callable[[str], None]
    watch: Callable[[int], None]
    containers: Containers | None = None  # of the services that run in their images

    def start(self, *names: str) -> None:
        """Start services that do not run, and their dependencies. Without names, start all that do not wait to be asked for."""
        for service in _chosen(self.known, names):
            process = self.processes.get(service.name)
            if process is None or (process.poll() is not None and not service.ends):
                _start(localised(service, self.layout), self)

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.layout.ports[service]}"

    def log(self, service: str) -> Path:
        return self.layout.folder / "logs" / f"{service}.log"


@contextmanager
def local_stack(
    folder: Path,
    only: Sequence[str] = (),
    *,
    s3: bool = False,
    images: bool = False,
    usual_ports: bool = True,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = print,
) -> Iterator[Running]:
    """Start the services of infra/compose.yaml, and stop them at the end of the block.

    Args:
        folder: Folder for all data, logs and secrets.
        only: Services to start, with their dependencies; all if empty.
        s3: Keep the store on Ceph's radosgw instead of in the folder.
        images: Run the services of this project in their images, as containers. The store must then be on S3.
        usual_ports: Use compose's ports if they are free. If False, use any free ports, so that several stacks can start at once.
        environment: More variables for all services, which replace those of compose.
        tell: Receives one line of progress per service.

    Raises:
        SettingsError: A program or an image is missing, or a service does not come up. The message has the end of the service's log.
    """
    if images and not s3:
        raise SettingsError("Services in images share no folder for the store. Give --s3 too.")
    folder = folder.absolute()
    for name in ("logs", "secrets", "var"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # PostgreSQL runs as its own user
    (folder / "secrets").chmod(0o700)
    subprocess.run(["sh", str(ROOT / "infra" / "compose" / "make-secrets"), str(folder / "secrets")], check=True)
    known = [_with(service, environment or {}) for service in read_services()]
    with ExitStack() as stack:
        watch = stack.enter_context(groups_end_with_this_process())
        endpoint = _start_s3(stack, folder, tell, watch) if s3 else None
        store = f"s3://{BUCKET}/production" if s3 else f"file:{folder}/store"
        ports = {service.name: free_port(service.port if usual_ports else 0) for service in known if service.port is not None}
        usual = {service.name: service.port for service in known if service.port is not None and service.name in PUBLISHED}
        containers = stack.enter_context(Containers.opened()) if images else None
        layout = Layout(folder, _distinct(ports), store, endpoint, usual, images)
        running = Running(layout, {}, {}, known, tell, watch, containers)
        stack.callback(_stop, running.processes)
        running.start(*only)
        yield running


def _with(service: Service, environment: Mapping[str, str]) -> Service:
    return replace(service, environment={**service.environment, **environment})


def _chosen(services: Sequence[Service], only: Sequence[str]) -> list[Service]:
    """Return the requested services and their dependencies."""
    if not only:
        return [service for service in services if not service.asked]
    known = {service.name: service for service in services}
    if unknown := set(only) - set(known):
        raise SettingsError(f"There is no service {', '.join(sorted(unknown))}. The services are {', '.join(known)}.")
    wanted, open_ = set(only), list(only)
    while open_:
        more = set(known[open_.pop()].after) & set(known) - wanted
        wanted |= more
        open_ += more
    return [service for service in services if service.name in wanted]


def _distinct(ports: dict[str, int]) -> dict[str, int]:
    """Give each service a port of its own: two services may have found the same port free."""
    taken: set[int] = set()
    for name, port in ports.items():
        while port in taken:
            port = free_port(0)
        ports[name] = port
        taken.add(port)
    return ports


def _start(service: Service, running: Running) -> None:
    layout, tell = running.layout, running.tell
    if service.needs is not None and not (layout.folder / "secrets" / service.needs).read_text(encoding="utf-8").strip():
        running.left_out[service.name] = f"the secret {service.needs} is empty"
        tell(f"{service.name}: left out, {running.left_out[service.name]}")
        return
    own = layout.folder / "var" / ("work" if service.name == "worker" else service.name)
    own.mkdir(parents=True, exist_ok=True)
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | service.environment
    environment |= {"PREFECT_HOME": str(own / "prefect"), "NO_PROXY": "127.0.0.1,localhost", "PYTHONPATH": str(ROOT)}
    if running.containers is not None and service.own:
        command = running.containers.command(service, layout)
    else:
        command = [
            str(ROOT / "infra" / "docker" / "with-secrets"),
            *_found(_prepared(service, layout, own), service, environment),
        ]
    with running.log(service.name).open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=own, stdout=log, stderr=log, start_new_session=True)
    running.processes[service.name] = process
    if not service.ends:
        running.watch(process.pid)
    _wait_for(service, process, running)
    where = f" at {running.url(service.name)}" if service.health and not service.ends else ""
    tell(f"{service.name}: {'done' if service.ends else 'up'}{where}")


def _found(command: list[str], service: Service, environment: dict[str, str]) -> list[str]:
    """Return the command with the path of its program."""
    if program := shutil.which(command[0], path=environment.get("PATH")):
        return [program, *command[1:]]
    raise SettingsError(
        f"{service.name} needs the program {command[0]}, which is not installed (CONTRIBUTING.md names Debian's packages)."
    )


def _prepared(service: Service, layout: Layout, own: Path) -> list[str]:
    """Prepare a third-party program as its image would, and return the command."""
    command = list(service.command)
    if service.name == "postgres":
        return _postgres(command, service, layout, own)
    if service.name == "proxy":
        own.chmod(0o777)  # its workers run as another user
    return command


def _postgres(command: list[str], service: Service, layout: Layout, own: Path) -> list[str]:
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not binaries:
        raise SettingsError("postgres is not installed: apt-get install -y --no-install-recommends postgresql")
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    user, database = service.environment["POSTGRES_USER"], service.environment["POSTGRES_DB"]
    if other:
        shutil.chown(own, "postgres")
        if subprocess.run([*other, "test", "-w", str(own)], check=False, cwd="/").returncode:
            raise SettingsError(
                f"PostgreSQL must run as the user postgres, who cannot access {own}. "
                "Give another --folder, such as /var/tmp/stack."
            )
    if not (own / "data").exists():
        password = (layout.folder / "secrets" / "postgres_password").read_text(encoding="utf-8")
        made = f"umask 077; cat > {own}/password; {binaries[-1]}/initdb -D {own}/data -U {user} --pwfile={own}/password --auth=scram-sha-256"
        _run([*other, "sh", "-c", f"{made}; status=$?; rm {own}/password; exit $status"], password)
        _run(
            [*other, str(binaries[-1] / "postgres"), "--single", "-D", f"{own}/data", "postgres"],
            f'CREATE DATABASE "{database}"\n',
        )
    place = ["-D", f"{own}/data", "-p", str(layout.ports["postgres"]), "-c", "listen_addresses=127.0.0.1"]
    return [*other, str(binaries[-1] / "postgres"), *command[1:], *place, "-c", f"unix_socket_directories={own}"]


def _run(command: list[str], given: str) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise SettingsError(f"{command[-1]} failed: {done.stderr.strip()[-600:]}")


def _start_s3(stack: ExitStack, folder: Path, tell: Callable[[str], None], watch: Callable[[int], None]) -> str:
    import tempfile

    import boto3

    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise SettingsError(
            f"{', '.join(missing)} not installed: apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd"
        )
    # Use a short path: the path of an admin socket of Ceph has at most 107 characters.
    gateway = stack.enter_context(radosgw(Path(tempfile.mkdtemp(prefix="rgw"))))
    for file in (gateway.config.parent / "run").glob("*.pid"):  # daemons, each in a group of its own
        watch(os.getpgid(int(file.read_text())))
    keys = {"aws_access_key_id": gateway.access_key, "aws_secret_access_key": gateway.secret_key}
    session = boto3.session.Session()
    session.client("s3", endpoint_url=gateway.endpoint_url, region_name="us-east-1", **keys).create_bucket(Bucket=BUCKET)
    text = "[default]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())
    for name in ("aws_worker", "aws_api", "aws_demo", "aws_exporter", "aws_trainer", "aws_backup"):
        path = folder / "secrets" / name
        path.chmod(0o600)
        path.write_text(text, encoding="utf-8")
        path.chmod(
            0o444
        )  # as make-secrets leaves them: images run as other users, and the folder keeps this machine's others out
    tell(f"s3: up at {gateway.endpoint_url}")
    return gateway.endpoint_url


def _wait_for(service: Service, process: subprocess.Popen[bytes], running: Running) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        code = process.poll()
        if service.ends and code == 0:
            return
        if code is not None:
            raise SettingsError(f"{service.name} ended with status {code}:\n{_tail(running.log(service.name))}")
        if not service.ends and _answers(service, running):
            return
        time.sleep(0.3)
    raise SettingsError(f"{service.name} was not up within {START_S} s:\n{_tail(running.log(service.name))}")


def _answers(service: Service, running: Running) -> bool:
    import socket

    if service.port is None:
        return True
    port = running.layout.ports[service.name]
    if service.health is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{service.health}", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for process in reversed(list(processes.values())):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # processes that the service left behind
        process.wait()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
