"""Mistakes of the first week, each with its command.

docs/troubleshooting.md has what the commands say. `python -m tests.flows.cli.troubleshooting` writes it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from infra.locks import run_lock
from tests.doubles.s3.small_s3 import small_s3

__all__ = ["MISTAKES", "SERVER", "TAKEN", "Mistake", "taken_port"]

Prepare = Callable[[Path], AbstractContextManager[object]]
"""Sets up what the mistake needs in a folder. It may yield the address that a command names as `SERVER`."""
TAKEN = "TAKEN"
"""In a command: a port at which another program listens."""
SERVER = "https://s3.example.com"
"""In a command: the S3 server that was prepared."""
EVENTS = "userId,movieId,rating,timestamp\n"


@dataclass(frozen=True)
class Mistake:
    """What a person did, and the command that shows it."""

    what: str
    command: str  # without `recsys`
    prepare: Prepare = nullcontext
    environment: dict[str, str] = field(default_factory=dict)
    status: int = 1
    runs_a_flow: bool = False  # it takes seconds


def file(name: str, content: bytes | str = "") -> Prepare:
    """Return what writes a file into the folder of the command."""

    @contextmanager
    def written(folder: Path) -> Iterator[None]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        yield

    return written


@contextmanager
def folder_of_events(folder: Path) -> Iterator[None]:
    (folder / "events").mkdir()
    yield


@contextmanager
def another_run(folder: Path) -> Iterator[None]:
    with run_lock(folder / ".recsys/work", "movie-ranker"):
        yield


def refusing_s3(code: str, message: str) -> Prepare:
    """Return what runs an S3 server that refuses every request, and yields its address."""

    @contextmanager
    def running(folder: Path) -> Iterator[str]:
        with small_s3() as server:
            server.refuse = lambda method, path, headers: (403, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")
            yield server.url

    return running


@contextmanager
def nothing_served(folder: Path) -> Iterator[None]:
    """Let `recsys serve` end where the server would begin."""
    with patch("serving.run.serve"), patch("infra.ports.tell_when_it_answers"):
        yield


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


ARMS = "experiments: [{name: longer, arms: [{name: now, version: champion}, {name: new, version: V2}]}]\n"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
S3 = "--set store.url=s3://films/production"

MISTAKES: dict[str, list[Mistake]] = {
    "The command line": [
        Mistake("A command is misspelt", "retrian", status=2),
        Mistake("A command in a group is misspelt", "model promot V1", status=2),
        Mistake("An option is misspelt", "retrain --jsn result.json", status=2),
        Mistake("A required argument is missing", "model show", status=2),
        Mistake("A required option is missing", "data remove --user 1", status=2),
        Mistake("A port is out of range", "serve --port 99999", status=2),
        Mistake("A command gets both --quiet and --verbose", "model list -q -v", status=2),
        Mistake("The result should go into a folder that does not exist", "retrain --json out/result.json"),
        Mistake("The result should go onto a full disk", "config show --json /dev/full"),
    ],
    "Settings": [
        Mistake("A setting is misspelt", "retrain --set models.ss4rec.widht=64"),
        Mistake("A setting lacks its value", "retrain --set seed"),
        Mistake("A value has the wrong type", "retrain --set seed=abc"),
        Mistake("A value is out of range", "retrain --set models.ss4rec.max_epochs=0"),
        Mistake("A setting of the retraining is given to setup", "setup --set store.url=file:store"),
        Mistake("A shipped configuration is misspelt", "retrain -c fast"),
        Mistake("A configuration belongs to another command", "study compare -c quick"),
        Mistake("A folder is given as a configuration", "retrain -c events", folder_of_events),
        Mistake("A file of events is given as a configuration", "retrain -c e.csv", file("e.csv", EVENTS)),
        Mistake("A YAML file lacks a bracket", "retrain -c my.yaml", file("my.yaml", "models:\n  ss4rec: {width: 16\n")),
        Mistake("A YAML file is indented with tabs", "retrain -c my.yaml", file("my.yaml", "models:\n\tss4rec: {}\n")),
        Mistake("A YAML file is not UTF-8", "retrain -c my.yaml", file("my.yaml", b"model_name: caf\xe9\n")),
        Mistake("A variable misspells a setting", "model list", environment={"RECSYS__STOER__URL": "file:store"}),
        Mistake("A variable has single underscores", "model list", environment={"RECSYS_STORE_URL": "file:store"}),
        Mistake("A schedule is not a cron expression", "setup --set 'crons={retrain/retrain: every day}'"),
        Mistake("A kind of model is unknown", "retrain --set challenger=ss4"),
        Mistake("A plugin is not installed", "model check mine_plugin:SPEC"),
        Mistake("A plugin has another name for its spec", "model check json:SPEC"),
        Mistake("A section of settings does not exist", "config show promotions"),
    ],
    "Events": [
        Mistake("The file does not exist", "init orders.csv"),
        Mistake("The file is empty", "init orders.csv", file("orders.csv")),
        Mistake("The file is a picture", "init photo.png", file("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(300))),
        Mistake("The file is an Excel workbook", "init orders.xlsx", file("orders.xlsx", b"PK\x03\x04" + bytes(300))),
        Mistake("The folder has no file of events", "init events", folder_of_events),
        Mistake("A table has no column of users", "init prices.csv", file("prices.csv", "item,price\n1,2\n2,3\n")),
        Mistake("A settings file exists already", "init e.csv --out e.yaml", file("e.yaml", "seed: 1\n")),
        Mistake(
            "A zip is cut short",
            "etl --set data.local_path=films.zip",
            file("films.zip", b"PK\x03\x04cut short"),
            runs_a_flow=True,
        ),
        Mistake("The source does not exist", "etl --set data.local_path=films.zip", runs_a_flow=True),
        Mistake(
            "The columns have names of your own",
            "etl --set data.local_path=orders.csv",
            file("orders.csv", "customer_id,product_id,occurred_at\n1,2,2026-01-01T00:00:00Z\n"),
            runs_a_flow=True,
        ),
        Mistake(
            "There is no network",
            "etl -c ml-1m --set data.mirror_url=http://127.0.0.1:9 --set data.retries=0 --set data.cache_dir=cache",
            runs_a_flow=True,
        ),
        Mistake("Files are read again without a landing zone", "data retry"),
        Mistake("A removal does not say what to remove", "data remove --reason 'asked by the user'"),
    ],
    "The store": [
        Mistake("The store's address has no scheme", "model list --set store.url=/srv/store"),
        Mistake("The store's address has an unknown scheme", "model list --set store.url=gs://films"),
        Mistake(
            "The S3 server does not answer",
            f"model list {S3} --set store.endpoint_url=http://127.0.0.1:9 --set store.attempts=1",
            environment=KEYS,
        ),
        Mistake(
            "There are no S3 credentials",
            f"model list {S3}",
            environment={"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_CONFIG_FILE": "none"},
        ),
        Mistake(
            "The S3 credentials are wrong",
            f"model list {S3} --set store.endpoint_url={SERVER}",
            refusing_s3("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
            KEYS,
        ),
        Mistake(
            "The clock of the machine is off",
            f"model list {S3} --set store.endpoint_url={SERVER}",
            refusing_s3("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
            KEYS,
        ),
        Mistake("The store's folder is a file", "data histories --set store.url=file:notes.txt", file("notes.txt", "buy milk")),
        Mistake("The command runs in another folder", "model show champion"),
        Mistake("A version does not exist", "model show 20260101T000000Z"),
        Mistake("A page's address is one of the web", "data open https://films/page.html"),
        Mistake("A page's address is incomplete", "data open file:/nowhere/page.html"),
        Mistake("A dataset version does not exist", "model train --dataset films/none", runs_a_flow=True),
        Mistake("Another run of the model is under way", "retrain", another_run, runs_a_flow=True),
    ],
    "Models and experiments": [
        Mistake("There is no champion to return to", "model rollback"),
        Mistake("A forced promotion has no reason", "model promote V1 --force"),
        Mistake("A file of experiments does not exist", "experiment list --experiments ab.yaml"),
        Mistake(
            "An experiment does not exist",
            "experiment report longr --experiments ab.yaml --outcomes o.csv",
            file("ab.yaml", ARMS),
        ),
        Mistake(
            "A report is asked for the future",
            "experiment report longer --experiments ab.yaml --outcomes o.csv --as-of 2999-01-01",
            file("ab.yaml", ARMS),
        ),
    ],
    "Servers": [
        Mistake("The port of the server is used", f"serve --port {TAKEN}"),
        Mistake("The port of the demo is used", f"demo --port {TAKEN}"),
        Mistake("The host is not an address of the machine", "serve --set host=192.0.2.1"),
        Mistake("Redis has the wrong kind of address", "serve --redis http://127.0.0.1:6379"),
        Mistake("Redis does not answer", "serve --redis redis://127.0.0.1:9", nothing_served, status=0),
        Mistake("There is no Prefect server to set up", "setup"),
        Mistake(
            "The home folder cannot be written",
            "retrain",
            file("home", "buy milk"),
            environment={"PREFECT_HOME": "home/.prefect"},
        ),
        Mistake("The Prefect server does not answer", "retrain", environment={"PREFECT_API_URL": "http://127.0.0.1:9/api"}),
        Mistake("The Prefect address lacks its scheme", "retrain", environment={"PREFECT_API_URL": "127.0.0.1:4200/api"}),
        Mistake("There is no key of RunPod", "gpu list"),
    ],
}
