"""Whatever boto3 raises comes out of every method as an error of the store."""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

import botocore.exceptions
import botocore.parsers
import pytest
from boto3.exceptions import S3UploadFailedError

from configs.errors import NotFoundError, RecsysError, StoreDeniedError, StoreError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage import S3Store
from tests.doubles.s3.small_s3 import Reply, SmallS3, small_s3

RAISED = [
    kind
    for _, kind in inspect.getmembers(botocore.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and not issubclass(kind, Warning)
]


@pytest.fixture(scope="module")
def server() -> Iterator[SmallS3]:
    with small_s3() as running:
        yield running


@pytest.fixture(scope="module")
def store(server: SmallS3) -> S3Store:
    values = {"url": "s3://b/p", "endpoint_url": server.url, "access_key_id": "id", "secret_access_key": "very-secret"}
    return S3Store("b", "p", StoreSettings.model_validate({**values, "attempts": 1, "part_mb": 5}))


def made(kind: type[Exception]) -> Exception:
    """Return an instance, with a word for each field of its message."""
    if issubclass(kind, botocore.exceptions.ClientError):
        return kind({"Error": {"Code": "Strange", "Message": "no"}}, "PutObject")
    if not hasattr(kind, "fmt"):
        return kind("word")
    fields = [name for _, name, _, _ in string.Formatter().parse(kind.fmt) if name]
    required = [
        name
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return kind(**dict.fromkeys([*fields, *required], "word"))


def calls(store: S3Store, folder: Path) -> dict[str, Callable[[], object]]:
    large = b"x" * ((5 << 20) + 1)
    return {
        "put": lambda: store.put("k", b"x"),
        "put in parts": lambda: store.put("k", large),
        "put_new": lambda: store.put_new("k", b"x"),
        "claim": lambda: store.claim("k", b"x"),
        "get": lambda: store.get("k"),
        "fetch": lambda: store.fetch("k", folder / "copy"),
        "exists": lambda: store.exists("k"),
        "list": lambda: list(store.list()),
        "entries": lambda: list(store.entries()),
        "delete": lambda: store.delete("k"),
    }


@pytest.mark.full
@pytest.mark.parametrize("proven", [True, False])
def test_every_error_of_boto3_comes_out_of_every_method_as_an_error_of_the_store(
    store: S3Store, tmp_path: Path, proven: bool
) -> None:
    raised: list[Exception] = []

    def fail(**_: object) -> None:
        raise raised[-1]

    store._client.meta.events.register_first("before-call.s3", fail)
    try:
        for kind in [*RAISED, botocore.parsers.ResponseParserError, S3UploadFailedError]:
            raised.append(made(kind))
            for name, call in calls(store, tmp_path).items():
                store._proof.exclusive = proven
                with pytest.raises(RecsysError) as caught:
                    call()
                text = str(caught.value)
                assert text.endswith((".", ")")) and "very-secret" not in text, f"{kind.__name__} at {name}: {text}"
    finally:
        store._client.meta.events.unregister("before-call.s3", fail)
    assert len(raised) > 80
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kind",
    [
        botocore.exceptions.CredentialRetrievalError,
        botocore.exceptions.NoCredentialsError,
        botocore.exceptions.RefreshWithMFAUnsupportedError,
        botocore.exceptions.UnauthorizedSSOTokenError,
        botocore.exceptions.TokenRetrievalError,
        botocore.exceptions.ProfileNotFound,
    ],
)
def test_the_message_says_that_credentials_cannot_be_renewed(
    store: S3Store, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise made(kind)

    monkeypatch.setattr(store._client._request_signer, "get_auth_instance", fail)
    with pytest.raises(StoreDeniedError, match=r"credentials.*(AWS profile or role|AWS profile)"):
        store.get("k")


def test_a_broken_connection_counts_as_a_temporary_failure(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise made(botocore.exceptions.HTTPClientError)

    monkeypatch.setattr(store._client._endpoint, "_send", fail)
    with pytest.raises(StoreUnavailableError):
        store.get("k")


def test_a_page_instead_of_a_listing_does_not_look_like_an_empty_store(store: S3Store, server: SmallS3) -> None:
    server.refuse = lambda method, path, headers: (200, "<html><body>Welcome</body></html>")
    with pytest.raises(StoreError, match=r"does not answer as S3 does.*store\.endpoint_url"):
        list(store.list())
    server.refuse = lambda method, path, headers: None


def test_an_answer_that_does_not_state_its_length_is_read(store: S3Store, server: SmallS3, tmp_path: Path) -> None:
    store.put("k", b"0123456789")
    server.chunked = True
    try:
        assert store.get("k") == store.get("k", limit=10) == b"0123456789"
        store.fetch("k", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"0123456789"
        with pytest.raises(StoreError, match="more than 9 bytes"):
            store.get("k", limit=9)
    finally:
        server.chunked = False


def denying(server: SmallS3, *, lists: bool = True, reads: bool = False) -> None:
    """Answer as AWS does to a role that may list its own prefixes only: absent objects are refused, too."""

    def refuse(method: str, path: str, headers: Message) -> Reply | None:
        listing = "list-type" in path
        absent = method in ("HEAD", "GET") and not listing and path not in server.objects
        return (403, "AccessDenied") if (listing and not lists) or absent or (reads and not listing) else None

    server.refuse = refuse


@pytest.fixture
def refusing(server: SmallS3) -> Iterator[SmallS3]:
    yield server
    server.refuse = lambda method, path, headers: None


def test_an_absent_object_is_absent_for_a_role_that_may_not_list_the_whole_bucket(
    store: S3Store, refusing: SmallS3, tmp_path: Path
) -> None:
    store.put("there-too", b"x")
    denying(refusing)
    assert not store.exists("there") and store.exists("there-too")
    with pytest.raises(NotFoundError, match="s3://b/p/there is not in the store"):
        store.get("there")
    with pytest.raises(NotFoundError):
        store.fetch("there", tmp_path / "copy")
    assert store._creates.stored_writer("there") is None


def test_what_may_not_be_listed_or_read_is_denied_and_does_not_look_absent(store: S3Store, refusing: SmallS3) -> None:
    store.put("mine", b"x")
    denying(refusing, lists=False)
    with pytest.raises(StoreDeniedError):
        store.exists("there")
    denying(refusing, reads=True)
    for read in (store.get, store.exists, store._creates.stored_writer):
        with pytest.raises(StoreDeniedError):
            read("mine")
    refusing.refuse = lambda method, path, headers: (
        (200, "<html><body>Welcome</body></html>") if "list-type" in path else (403, "AccessDenied")
    )
    with pytest.raises(StoreDeniedError):
        store.exists("there")


def test_an_object_that_is_created_while_its_absence_is_found_out_was_absent(store: S3Store, refusing: SmallS3) -> None:
    def refuse(method: str, path: str, headers: Message) -> Reply | None:
        if "list-type" in path:
            refusing.objects["/b/p/new"] = (b"x", "")
            return None
        return (403, "AccessDenied") if path not in refusing.objects else None

    refusing.refuse = refuse
    for read in (store.get, store.exists):
        refusing.objects.pop("/b/p/new", None)
        if read == store.exists:
            assert not read("new")
        else:
            with pytest.raises(NotFoundError):
                read("new")
        assert store.exists("new")
