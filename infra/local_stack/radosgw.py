"""A real S3 server without Docker: Ceph's radosgw with one monitor and one disk in a folder, on loopback only."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

__all__ = ["PROGRAMS", "RadosGateway", "radosgw"]

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "ceph", "monmaptool", "radosgw-admin")
START_S = 600

CONFIG = """[global]
fsid = {fsid}
mon initial members = a
mon data avail crit = 0
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 4
osd pool default pgp num = 4
mon allow pool size one = true
mon max pg per osd = 1000
osd objectstore = bluestore
bluestore block create = true
bluestore block size = 4294967296
osd memory target = 939524096
run dir = {folder}/run
log file = {folder}/$name.log
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
mon data avail crit = 1
mon data avail warn = 2
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{s3}
ms mon client mode = crc
"""


@dataclass(frozen=True)
class RadosGateway:
    """A running server and the keys of one of its users."""

    endpoint_url: str
    access_key: str
    secret_key: str
    config: Path

    def add_user(self, name: str) -> RadosGateway:
        """Create a user, and return the same server with its keys. The user only has the rights that a bucket policy grants."""
        made = self.admin("user", "create", f"--uid={name}", f"--display-name={name}")
        key = json.loads(made)["keys"][0]
        return replace(self, access_key=key["access_key"], secret_key=key["secret_key"])

    def admin(self, *arguments: str) -> str:
        """Run radosgw-admin and return its output."""
        return _run("radosgw-admin", "-c", str(self.config), "-n", "client.rgw.a", *arguments)


@contextmanager
def radosgw(folder: Path) -> Iterator[RadosGateway]:
    """Start the server with all its files under `folder`. Stop it and delete the folder afterwards."""
    for name in ("run", "mon", "osd", "rgw"):
        (folder / name).mkdir(parents=True)
    ports = dict(zip(("mon_v2", "mon_v1", "s3"), _free_ports(3), strict=True))
    fsid, config = str(uuid.uuid4()), folder / "ceph.conf"
    config.write_text(CONFIG.format(fsid=fsid, folder=folder, **ports))
    try:
        address = f"[v2:127.0.0.1:{ports['mon_v2']},v1:127.0.0.1:{ports['mon_v1']}]"
        _run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, str(folder / "monmap"))
        _run("ceph-mon", "-c", str(config), "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"))
        _run("ceph-mon", "-c", str(config), "-i", "a")
        disk = str(uuid.uuid4())
        _run("ceph", "-c", str(config), "osd", "new", disk)
        _run("ceph-osd", "-c", str(config), "-i", "0", "--mkfs", "--osd-uuid", disk)
        _run("ceph-osd", "-c", str(config), "-i", "0")
        _run("radosgw", "-c", str(config), "-n", "client.rgw.a")
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        _wait_for(endpoint)
        made = _run(
            "radosgw-admin", "-c", str(config), "-n", "client.rgw.a", "user", "create", "--uid=tester", "--display-name=Tester"
        )
        key = json.loads(made)["keys"][0]
        yield RadosGateway(endpoint, key["access_key"], key["secret_key"], config)
    finally:
        _stop(folder)


def _run(program: str, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=START_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()[-600:]}")
    return done.stdout


def _wait_for(endpoint: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(endpoint, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"radosgw did not answer at {endpoint}")


def _stop(folder: Path) -> None:
    pids = [int(file.read_text()) for file in sorted((folder / "run").glob("*.pid"), reverse=True) if file.read_text().strip()]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)  # no clean shutdown is needed: the folder is deleted too
        except ProcessLookupError:
            continue
    shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
