"""Servers that take long to start: one gateway to S3 for all tests of a process, and one browser for those of a module."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from configs.settings import StoreSettings
from tests.doubles.radosgw import RadosGateway, radosgw

CHROMIUM = os.environ.get("RECSYS_CHROMIUM", "/usr/bin/chromium")
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """Open a page in Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1440, "height": 1000})
        opened.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield opened
        browser.close()


@pytest.fixture(scope="session")
def gateway() -> Iterator[RadosGateway]:
    # A short path: Ceph's admin sockets have at most 107 characters.
    with radosgw(Path(tempfile.mkdtemp(prefix="rgw"))) as running:
        yield running


@pytest.fixture
def ceph(gateway: RadosGateway, request: pytest.FixtureRequest) -> StoreSettings:
    """Return a store on Ceph, in a bucket that only this test uses."""
    bucket = f"b{abs(hash(request.node.nodeid)) % 10**10}"
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
            "timeout_s": 30,
        }
    )
