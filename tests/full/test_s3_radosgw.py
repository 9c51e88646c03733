"""The store on a real S3 server, Ceph's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest

from configs.errors import AlreadyExistsError, StoreDeniedError
from configs.settings import PromotionSettings, StoreSettings
from infra.stores import open_store
from tasks.load_check import check_version
from tasks.promotions import champion, promote
from tests.doubles.contract import check_contract, check_one_winner
from tests.doubles.radosgw import PROGRAMS, RadosGateway, radosgw
from tests.tasks.stored import NAME, sealed

missing = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed; README names Ceph's Debian packages"),
]


@pytest.fixture(scope="module")
def gateway() -> Iterator[RadosGateway]:
    # A short path: Ceph's admin sockets have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rgw"))
    with radosgw(folder) as running:
        yield running


@pytest.fixture
def settings(gateway: RadosGateway, request: pytest.FixtureRequest) -> StoreSettings:
    bucket = f"b{abs(hash(request.node.name)) % 10**10}"
    boto3.session.Session().client(
        "s3",
        endpoint_url=gateway.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=gateway.access_key,
        aws_secret_access_key=gateway.secret_key,
    ).create_bucket(Bucket=bucket)
    return StoreSettings.model_validate(
        {
            "url": f"s3://{bucket}/p",
            "endpoint_url": gateway.endpoint_url,
            "access_key_id": gateway.access_key,
            "secret_access_key": gateway.secret_key,
        }
    )


def test_it_keeps_the_contract(settings: StoreSettings, tmp_path: Path) -> None:
    check_contract(open_store(settings), tmp_path)


def test_of_many_creates_one_wins(settings: StoreSettings) -> None:
    check_one_winner(open_store(settings), writers=16, rounds=5)


def test_a_version_is_sealed_checked_and_promoted(settings: StoreSettings, tmp_path: Path) -> None:
    store = open_store(settings)
    ref = sealed(store, tmp_path / "model")
    assert check_version(store, ref, PromotionSettings()).ok
    promote(store, NAME, ref.version, expected=0, reason="first", now=datetime.now(UTC))
    current = champion(store, NAME)
    assert current is not None and current.version == ref.version
    with pytest.raises(AlreadyExistsError):
        promote(store, NAME, ref.version, expected=0, reason="again", now=datetime.now(UTC))


def test_wrong_credentials_and_a_missing_bucket_are_told_apart(settings: StoreSettings) -> None:
    wrong = settings.model_copy(update={"access_key_id": "nobody"})
    with pytest.raises(StoreDeniedError, match=r"InvalidAccessKeyId.*store.access_key_id"):
        open_store(wrong).put("k", b"x")
    elsewhere = open_store(settings.model_copy(update={"url": "s3://no-such-bucket"}))
    for call in (lambda: elsewhere.put("k", b"x"), lambda: elsewhere.exists("k"), lambda: list(elsewhere.list())):
        with pytest.raises(StoreDeniedError, match="bucket no-such-bucket does not exist"):
            call()
