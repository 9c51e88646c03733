"""The store's contract, on a folder and on S3 over HTTP."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.errors import (
    AlreadyExistsError,
    NotFoundError,
    SettingsError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from configs.settings import StoreSettings
from infra.storage import Store, open_store
from infra.storage.base import check_key
from infra.storage.local import LocalStore
from tests.doubles.contract import check_contract, check_one_winner, create_as
from tests.doubles.forks import forks
from tests.doubles.moto_s3 import moto_s3


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with moto_s3() as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", "s3", "s3 with a prefix"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreSettings:
    if request.param == "folder":
        return StoreSettings(url=f"file:{tmp_path}/store")
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"b{abs(hash(tmp_path)) % 10**9}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    prefix = "/some/place" if "prefix" in request.param else ""
    return StoreSettings(url=f"s3://{bucket}{prefix}", endpoint_url=endpoint, timeout_s=60)


@pytest.mark.full
def test_every_store_keeps_the_contract(settings: StoreSettings, tmp_path: Path) -> None:
    check_contract(open_store(settings), tmp_path)


def test_one_of_many_creates_wins_and_its_object_is_complete(settings: StoreSettings) -> None:
    check_one_winner(open_store(settings), writers=16, rounds=3)


def test_one_of_many_processes_wins(tmp_path: Path) -> None:
    for number in range(5):
        results: multiprocessing.Queue[str | None] = forks.Queue()
        running = [
            forks.Process(target=create_as, args=(str(tmp_path), f"k{number}", bytes([65 + i]) * 100_000, results))
            for i in range(8)
        ]
        for process in running:
            process.start()
        won = [winner for winner in (results.get(timeout=120) for _ in running) if winner]
        for process in running:
            process.join()
        assert len(won) == 1
        assert LocalStore(tmp_path).get(f"k{number}") == won[0].encode() * 100_000


def test_a_killed_writer_leaves_no_part_of_an_object(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from infra.storage.local import LocalStore; s = LocalStore(Path(sys.argv[1])); n = 0\n"
        "print('go', flush=True)\n"
        "while True: s.put_new(f'k{n}', b'x' * 3_000_000); s.put('same', bytes([n % 256]) * 3_000_000); n += 1"
    )
    for delay in (0.05, 0.11, 0.17):
        folder = tmp_path / str(delay)
        process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"go\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        store = LocalStore(folder)
        for key in store.list():
            content = store.get(key)
            assert len(content) == 3_000_000 and len(set(content)) == 1
        store.put_new("after", b"the store works on")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EROFS, StoreDeniedError),
        (errno.EIO, StoreUnavailableError),
    ],
)
def test_a_failing_disk_is_reported_and_leaves_nothing_behind(
    number: int, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for write in (store.put, store.put_new):
        with pytest.raises(error, match=r"/(a|b)\b"):
            write("b" if write == store.put_new else "a", b"new")
    monkeypatch.undo()
    assert store.get("a") == b"old" and list(store.list()) == ["a"]
    assert not list((tmp_path / ".tmp").iterdir())


def test_a_real_size_limit_is_reported_as_a_full_store(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path; from infra.storage.local import LocalStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from configs.errors import StoreFullError\n"
        "try: LocalStore(Path(sys.argv[1])).put_new('k', b'x' * 5000)\n"
        "except StoreFullError: print('full')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "full\n" and list(LocalStore(tmp_path).list()) == []


@given(st.text(max_size=12))
def test_a_key_that_is_not_a_plain_relative_path_is_refused(key: str) -> None:
    try:
        check_key(key)
    except ValueError:
        return
    path = Path("/root/store") / key
    assert os.path.normpath(path) == str(path) and str(path).startswith("/root/store/")


@pytest.mark.parametrize("url", ["ftp://x", "file:", "file://host/x", "s3://", "store"])
def test_an_address_of_an_unknown_kind_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="write file:<folder>"):
        StoreSettings(url=url)
    with pytest.raises(SettingsError, match=r"store\.url"):
        open_store(StoreSettings.model_construct(url=url))


def test_a_folder_may_be_relative_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("file:here", f"file:{tmp_path}/here", f"file://{tmp_path}/here"):
        store = open_store(StoreSettings(url=url))
        assert store.uri("a") == f"file://{tmp_path}/here/a"


def test_reading_while_others_replace_sees_whole_objects(tmp_path: Path) -> None:
    store: Store = LocalStore(tmp_path)
    store.put("k", b"\0" * 200_000)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number = (number + 1) % 256
            store.put("k", bytes([number]) * 200_000)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for _ in range(50):
            content = store.get("k")
            assert len(content) == 200_000 and len(set(content)) == 1
        stop.set()
        writing.result()


def test_a_folder_that_cannot_be_listed_does_not_look_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("a/b/c", b"x")
    scan = os.scandir

    def deny(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(StoreDeniedError, match="/a/b cannot be used"):
        list(store.list())


def test_a_file_system_without_hard_links_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="no hard links"):
        LocalStore(tmp_path).put_new("k", b"x")
    assert not list((tmp_path / ".tmp").iterdir())


def test_a_link_that_was_made_although_its_answer_was_lost_counts_as_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def made_and_denied(source: Path, target: Path) -> None:  # as NFS answers if it repeats the request
        link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(source), None, str(target))

    monkeypatch.setattr(os, "link", made_and_denied)
    store = LocalStore(tmp_path)
    store.put_new("k", b"mine")
    assert store.get("k") == b"mine"
    with pytest.raises(AlreadyExistsError):
        store.put_new("k", b"theirs")
    assert store.get("k") == b"mine" and not list((tmp_path / ".tmp").iterdir())


def test_a_full_disk_during_a_fetch_leaves_the_earlier_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, target = LocalStore(tmp_path / "store"), tmp_path / "work" / "copy"
    store.put("k", b"old")
    store.fetch("k", target)
    store.put("k", b"new")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFullError, match=r"receives a stored object is full .*work/copy"):
        store.fetch("k", target)
    assert [(path.name, path.read_bytes()) for path in target.parent.iterdir()] == [("copy", b"old")]


def test_files_that_killed_writers_left_are_removed_after_a_day(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    for name, age_s in (("old", 100_000), ("under way", 60)):
        (tmp_path / ".tmp" / name).write_bytes(b"part")
        then = time.time() - age_s
        os.utime(tmp_path / ".tmp" / name, (then, then))
    store.put("b", b"x")
    assert [path.name for path in (tmp_path / ".tmp").iterdir()] == ["under way"]


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        LocalStore(tmp_path).get("nothing")
