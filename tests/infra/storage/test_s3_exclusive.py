"""Servers whose conditional creates are not exclusive are refused. If a server races later, no claim is lost silently."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Literal

import pytest

from configs.errors import AlreadyExistsError, OverwrittenError, StoreDeniedError, StoreError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.digests import sha256_of
from infra.storage import S3Store, Store
from infra.storage.s3_exclusive import CREATORS
from tests.doubles.s3.small_s3 import Reply, SmallS3, small_s3


@pytest.fixture
def server() -> Iterator[SmallS3]:
    with small_s3() as running:
        yield running


def connect(server: SmallS3, **changes: object) -> S3Store:
    values = {"url": "s3://b/p", "endpoint_url": server.url, "access_key_id": "id", "secret_access_key": "secret"}
    return S3Store("b", "p", StoreSettings.model_validate({**values, "attempts": 1, "timeout_s": 60, **changes}))


def outcome(store: Store, key: str, content: bytes, *, claim: bool = False) -> str:
    try:
        (store.claim if claim else store.put_new)(key, content)
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    return "won"


# If the server decides by the headers, the requests need not meet by chance, because the proof holds their bodies back.
@pytest.mark.full
@pytest.mark.parametrize(("looks", "gap_s"), [("headers", 0.0), ("body", 0.1)])
def test_eight_concurrent_creates_on_a_server_that_races_are_all_refused_at_the_first_use(
    server: SmallS3, looks: Literal["headers", "body"], gap_s: float
) -> None:
    server.looks, server.gap = looks, lambda: gap_s
    stores = [connect(server) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda number: outcome(stores[number], "promotions/1", b"%d" % number), range(8)))
    for said in outcomes:
        assert said.startswith("StoreError: The S3 server at http://127.0.0.1:"), said
        assert "of 8 concurrent creates of one key succeed" in said and "Use a server that supports conditional writes." in said
    assert server.objects == {}


def test_a_server_that_refuses_a_create_and_stores_it_nevertheless_is_refused(server: SmallS3) -> None:
    numbers = itertools.count()

    def overwrite(method: str, path: str, headers: Message) -> Reply | None:
        taken = method == "PUT" and headers.get("If-None-Match") == "*" and path in server.objects
        if taken and next(numbers) >= 1:  # the proof's single pair of creates is answered correctly
            server.objects[path] = (b"", headers["x-amz-meta-writer"])
        return (412, "PreconditionFailed") if taken else None

    server.refuse = overwrite
    assert "concurrent creates" in outcome(connect(server), "k", b"x")


@pytest.mark.parametrize(
    "answer",
    [
        (501, "NotImplemented"),
        (501, ""),
        (501, "<html>Not implemented</html>"),
        (400, "InvalidArgument"),
        (400, "bad header"),
        (405, "MethodNotAllowed"),
        (405, "what is this"),
        (403, "SignatureDoesNotMatch"),  # a proxy removed the header, which is signed
        (412, "PreconditionFailed"),
        (500, "InternalError"),
        None,
    ],
)
def test_the_message_says_that_a_server_has_no_conditional_writes_however_it_answers(
    server: SmallS3, answer: Reply | None
) -> None:
    server.conditional = False
    server.refuse = lambda method, path, headers: answer if "If-None-Match" in headers else None
    with pytest.raises(StoreError, match=r"(has no conditional writes|ignores If-None-Match).* Use a server that") as caught:
        connect(server).put_new("k", b"x")
    assert not isinstance(caught.value, StoreUnavailableError), "it is reported as a temporary failure"
    assert server.objects == {} and len(server.seen) < 20


def test_a_server_that_drops_metadata_is_refused(server: SmallS3) -> None:
    server.writer_header = "x-other"
    with pytest.raises(StoreError, match="does not keep the metadata of objects"):
        connect(server).put_new("k", b"x")


def test_a_server_that_refuses_every_write_is_not_said_to_lack_conditional_writes(server: SmallS3) -> None:
    server.refuse = lambda method, path, headers: (403, "AccessDenied") if method == "PUT" else None
    with pytest.raises(StoreDeniedError, match="refuses these credentials"):
        connect(server).put_new("k", b"x")


def test_a_temporary_failure_is_not_taken_for_a_missing_feature(server: SmallS3) -> None:
    answers = iter([(500, "InternalError")])
    server.refuse = lambda method, path, headers: next(answers, None) if "If-None-Match" in headers else None
    connect(server).put_new("k", b"x")
    assert server.objects["/b/p/k"][0] == b"x"


def test_the_proof_is_made_once_for_a_bucket_and_leaves_nothing_behind(server: SmallS3) -> None:
    connect(server).put_new("first", b"")
    proof = len(server.seen) - 1
    assert CREATORS * 2 < proof <= 60
    connect(server).put_new("second", b"")
    assert len(server.seen) == proof + 2
    assert set(server.objects) == {"/b/p/first", "/b/p/second"}


@pytest.mark.full
def test_on_a_server_that_races_after_its_proof_one_claim_wins_and_the_others_learn_that_they_lost(server: SmallS3) -> None:
    stores = [connect(server) for _ in range(6)]
    stores[0].put_new("warm", b"")
    server.looks, server.gap = "body", lambda: random.uniform(0.0, 0.15)
    overwritten = 0
    for turn in range(100):
        if turn >= 8 and overwritten:  # the server has raced, which is left to chance
            break
        for store in stores:
            store._proof.exclusive = True  # otherwise the next claim would be refused
        with ThreadPoolExecutor(6) as pool:
            outcomes = list(pool.map(lambda n, t=turn: outcome(stores[n], f"entry-{t}", b"%d" % n, claim=True), range(6)))
        won = [number for number, said in enumerate(outcomes) if said == "won"]
        assert len(won) == 1, outcomes
        assert stores[0].get(f"entry-{turn}") == b"%d" % won[0], "the store does not hold what the winner wrote"
        lost = [said for said in outcomes if said != "won"]
        overwritten += sum("holds what the other one wrote" in said for said in lost)
        assert all(said.startswith(("AlreadyExistsError", "OverwrittenError")) for said in lost)
    assert overwritten, "the server did not race"
    assert not any("/.tmp/" in path for path in server.objects)


def test_after_an_overwritten_claim_the_server_is_refused(server: SmallS3) -> None:
    store = connect(server)
    store.put_new("warm", b"")

    def overwritten(method: str, path: str, headers: Message) -> Reply | None:
        if method == "HEAD":
            server.objects[path] = (b"theirs", "another writer")
        return None

    server.refuse = overwritten
    with pytest.raises(OverwrittenError, match=r"p/k was created by this run and by another one.*Use a server that"):
        store.claim("k", b"mine")
    server.refuse = lambda method, path, headers: None
    server.conditional = False
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        store.put_new("other", b"x")


def test_a_claim_waits_for_an_announced_claim_but_not_for_that_of_a_killed_run(server: SmallS3) -> None:
    store = connect(server)
    store.put_new("warm", b"")
    store._settings = store._settings.model_copy(update={"timeout_s": 1.0})  # the patience of a claim; a request may take longer
    # The first is dated in the future, so that it stays recent on a machine that stalls.
    for key, age in (("recent", timedelta(minutes=-1)), ("old", timedelta(hours=1))):
        path = f"/b/p/.tmp/claims/{sha256_of(key.encode())[:32]}/theirs"
        server.objects[path], server.written[path] = (b"", ""), datetime.now(UTC) - age
        before = len(server.seen)
        store.claim(key, b"mine")
        listings = sum("list-type" in path for _, path, _ in server.seen[before:])
        assert (listings > 1) == (key == "recent")
        with pytest.raises(AlreadyExistsError):
            store.claim(key, b"again")


def test_a_claim_whose_outcome_is_unknown_stays_announced(server: SmallS3) -> None:
    store = connect(server)
    store.put_new("warm", b"")
    server.reply = lambda path, writes: (500, "InternalError")
    with pytest.raises(StoreUnavailableError):
        store.claim("k", b"x")
    assert any("/.tmp/claims/" in path for path in server.objects), "its write may still arrive"
