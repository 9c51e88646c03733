"""The store on Ceph's S3 server over a network that is slow or breaks, with large objects, and with rights that are missing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest

from configs.errors import AlreadyExistsError, NotFoundError, StoreDeniedError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage import S3Store
from tests.doubles.faulty_proxy import FaultyProxy, faulty_proxy
from tests.doubles.radosgw import PROGRAMS, RadosGateway
from tests.infra.aws.test_policies import read_policy
from tests.volume import volume

missing = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed; CONTRIBUTING.md names Ceph's Debian packages"),
]
PART = volume(8, 32) << 20
LARGE = 6 * PART + PART // 4  # seven parts: 50 MB, or 200 MB
AREAS = {
    "datasets", "histories", "models", "promotions", "drift", "due", "runs", "handed-over", "exposures", "outcomes", "erasures",
}  # fmt: skip
PAGES = {"drift", "due", "runs"}  # areas of pages, which the API serves
PASSING = {"histories", "handed-over", "exposures", "outcomes"}  # the worker replaces or removes them


@pytest.fixture(scope="module", autouse=True)
def bucket(gateway: RadosGateway) -> None:
    client(gateway).create_bucket(Bucket="recsys")


@pytest.fixture
def proxy(gateway: RadosGateway) -> Iterator[FaultyProxy]:
    with faulty_proxy(gateway.endpoint_url) as running:
        yield running


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that no network can compress, and whose megabytes all differ."""
    path = tmp_path_factory.mktemp("large") / "model.bin"
    block = hashlib.shake_256(b"large").digest(1 << 20)
    with path.open("wb") as file:
        for number in range(LARGE >> 20):
            file.write(number.to_bytes(4, "big") + block[4:])
    return path


def client(gateway: RadosGateway) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=gateway.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=gateway.access_key,
        aws_secret_access_key=gateway.secret_key,
    )


def store(gateway: RadosGateway, prefix: str, url: str | None = None, **changes: Any) -> S3Store:
    values = {
        "url": f"s3://recsys/{prefix}",
        "endpoint_url": url or gateway.endpoint_url,
        "access_key_id": gateway.access_key,
        "secret_access_key": gateway.secret_key,
    }
    return S3Store("recsys", prefix, StoreSettings.model_validate({**values, "timeout_s": 60, **changes}))


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_large_file_goes_in_parts_over_a_network_that_breaks_and_arrives_whole(
    gateway: RadosGateway, proxy: FaultyProxy, large: Path, tmp_path: Path
) -> None:
    broken = store(gateway, "large", proxy.url)
    broken.part_bytes = PART
    # Parts that are sent at once break, but none more often than it may be tried.
    proxy.drop_after, proxy.drops = 3 * PART // 4, 3
    broken.put("model.bin", large)
    assert proxy.dropped >= 3, "nothing broke"
    sent = client(gateway).head_object(Bucket="recsys", Key="large/model.bin")
    assert sent["ETag"].strip('"').endswith("-7"), "it did not go in parts"
    proxy.dropped, proxy.connections = 0, 0
    proxy.drop_after, proxy.drops = 45 * PART // 32, 6
    broken.fetch("model.bin", tmp_path / "copy")
    assert proxy.dropped >= 3 and digest(tmp_path / "copy") == digest(large)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert client(gateway).list_multipart_uploads(Bucket="recsys").get("Uploads", []) == [], "parts were left"


def test_a_large_file_is_created_once_whatever_the_server_can_do(gateway: RadosGateway, large: Path, tmp_path: Path) -> None:
    """Ceph ignores If-None-Match when it puts parts together. The store notices, and creates with one conditional write."""
    whole = store(gateway, "once")
    whole.part_bytes = PART
    whole.put_new("model.bin", large)
    whole.fetch("model.bin", tmp_path / "copy")
    assert digest(tmp_path / "copy") == digest(large)
    with pytest.raises(AlreadyExistsError):
        whole.put_new("model.bin", large)
    assert not [key for key in client(gateway).list_objects_v2(Bucket="recsys", Prefix="once/.tmp").get("Contents", [])]


def test_one_of_many_large_creates_wins(gateway: RadosGateway) -> None:
    stores = [store(gateway, "race") for _ in range(8)]
    for each in stores:
        each.part_bytes = 5 << 20
    for number in range(3):

        def create(writer: int, key: str = f"k{number}") -> int | None:
            try:
                stores[writer].put_new(key, bytes([writer]) * (6 << 20))
            except AlreadyExistsError:
                return None
            return writer

        with ThreadPoolExecutor(8) as pool:
            won = [winner for winner in pool.map(create, range(8)) if winner is not None]
        assert len(won) == 1
        assert set(stores[0].get(f"k{number}")) == {won[0]}, "the object is not the winner's"


def test_the_store_waits_for_a_slow_network(gateway: RadosGateway, proxy: FaultyProxy) -> None:
    slow = store(gateway, "slow", proxy.url, timeout_s=6)
    content = bytes(range(256)) * 4_800
    proxy.bytes_per_s = 150_000  # it takes longer than the timeout, but no pause between bytes does
    slow.put_new("k", content)
    assert slow.get("k") == content


def test_a_network_that_swallows_everything_is_reported_in_time(
    gateway: RadosGateway, proxy: FaultyProxy, tmp_path: Path
) -> None:
    silent = store(gateway, "silent", proxy.url, timeout_s=1, attempts=2)
    patient = store(gateway, "silent", proxy.url, timeout_s=60)  # a busy machine's Ceph may take longer than a second
    patient.put_new("k", b"x")
    proxy.swallow, proxy.drop_after = True, 0
    (tmp_path / "k").write_bytes(b"old")
    for call in (lambda: silent.put_new("k2", b"x"), lambda: silent.get("k"), lambda: silent.fetch("k", tmp_path / "k")):
        with pytest.raises(StoreUnavailableError, match=rf"{proxy.url} does not answer.*run again"):
            call()
    proxy.swallow, proxy.drop_after = False, None
    assert patient.get("k") == b"x" and not patient.exists("k2"), "it did not recover"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("k", b"old")]


def test_a_network_that_drops_each_connection_loses_and_doubles_no_write(gateway: RadosGateway, proxy: FaultyProxy) -> None:
    dropping = store(gateway, "dropping", proxy.url, attempts=6)
    dropping.put_new("warm", b"")
    proxy.drop_after, proxy.drops = 300, 1_000
    written = []
    for number in range(0, 12, 2):
        proxy.drop_after = 300 + 150 * number  # in the request, before the answer, within the answer
        proxy.dropped, proxy.drops = 0, 2
        dropping.put_new(f"k{number}", bytes([number]) * 400)
        written.append(f"k{number}")
    proxy.drop_after = None
    assert sorted(key for key in dropping.list() if key != "warm") == sorted(written)
    assert all(dropping.get(f"k{number}") == bytes([number]) * 400 for number in range(0, 12, 2))


def test_withdrawn_keys_and_a_suspended_user_are_reported(gateway: RadosGateway) -> None:
    other = gateway.add_user("leaver")
    client(gateway).put_bucket_policy(Bucket="recsys", Policy=json.dumps(as_bucket_policy("worker", "leaver")))
    theirs = store(other, "production")
    theirs.put_new("k1", b"x")
    gateway.admin("user", "suspend", "--uid=leaver")
    with pytest.raises(StoreDeniedError, match=r"UserSuspended.*store\.access_key_id"):
        theirs.put_new("k2", b"x")
    gateway.admin("user", "enable", "--uid=leaver")
    gateway.admin("key", "rm", "--uid=leaver", f"--access-key={other.access_key}")
    with pytest.raises(StoreDeniedError, match=r"InvalidAccessKeyId.*store\.access_key_id") as caught:
        theirs.get("k1")
    assert other.secret_key not in str(caught.value)
    wrong = store(gateway, "production", secret_access_key="not-the-secret")
    with pytest.raises(StoreDeniedError, match="SignatureDoesNotMatch"):
        wrong.get("k1")


def as_bucket_policy(role: str, user: str) -> dict[str, Any]:
    """Return the role's policy as a bucket policy for one user, which Ceph accepts."""
    policy = read_policy(role)
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{user}"]}
    return policy


@pytest.mark.parametrize(
    ("role", "writable", "readable"),
    [
        ("worker", AREAS, AREAS),
        ("trainer", {"handed-over"}, {"datasets", "handed-over"}),
        ("api", {"exposures", "outcomes", "erasures"}, {"histories", "models", "promotions", "erasures"} | PAGES),
    ],
)
def test_each_roles_policy_lets_it_do_its_work_and_no_more(
    gateway: RadosGateway, role: str, writable: set[str], readable: set[str]
) -> None:
    owner = store(gateway, "production")
    for area in AREAS:
        owner.put(f"{area}/{role}/old", b"x")
    user = gateway.add_user(f"user-{role}")
    client(gateway).put_bucket_policy(Bucket="recsys", Policy=json.dumps(as_bucket_policy(role, f"user-{role}")))
    theirs = store(user, "production")
    for area in AREAS:
        key = f"{area}/{role}"
        if area in readable:
            assert theirs.get(f"{key}/old") == b"x" and f"{key}/old" in theirs.list(f"{area}/")
        else:
            with pytest.raises(StoreDeniedError):
                theirs.get(f"{key}/old")
        if area in writable:
            theirs.put_new(f"{key}/new", b"y")
        else:
            with pytest.raises(StoreDeniedError):
                theirs.put_new(f"{key}/new", b"y")
            assert not owner.exists(f"{key}/new")
        if role == "worker" and area in PASSING:
            theirs.delete(f"{key}/old")
        else:  # nobody removes what is stored
            with pytest.raises(StoreDeniedError):
                theirs.delete(f"{key}/old")
    elsewhere = store(user, "other-environment")
    with pytest.raises(StoreDeniedError):
        elsewhere.get("models/x")


@pytest.mark.parametrize(("role", "area"), [("worker", "models"), ("trainer", "datasets"), ("api", "promotions")])
def test_each_role_is_told_that_an_object_is_absent_and_never_lists_the_bucket(
    gateway: RadosGateway, tmp_path: Path, role: str, area: str
) -> None:
    """A request for an object that is absent is answered with 403, unless the role may list without a prefix."""
    owner, name = store(gateway, "production"), f"listing-{role}"
    owner.put(f"{area}/{role}/there-too", b"x")
    user = gateway.add_user(name)
    client(gateway).put_bucket_policy(Bucket="recsys", Policy=json.dumps(as_bucket_policy(role, name)))
    theirs = store(user, "production")
    for absent in (f"{area}/{role}/absent", f"{area}/{role}/there"):
        assert not theirs.exists(absent)
        with pytest.raises(NotFoundError):
            theirs.get(absent)
        with pytest.raises(NotFoundError):
            theirs.fetch(absent, tmp_path / "absent")
    if role != "worker":
        with pytest.raises(StoreDeniedError):
            theirs.exists("landing/absent")
    with pytest.raises(StoreDeniedError):
        store(user, "other-environment").exists(f"{area}/absent")
    for wide in ({}, {"Prefix": ""}, {"Prefix": "production"}, {"Prefix": "other-environment/"}):
        with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
            client(user).list_objects_v2(Bucket="recsys", **wide)
