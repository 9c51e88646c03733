"""The proof that an S3 server lets exactly one of several concurrent creates succeed.

Some servers ignore `If-None-Match`, or refuse it. Others look for the object first and write it later: if two runs promote at the
same time, both are told that they have won, and one promotion is lost. Creates that are sent one after the other do not show
this. Therefore the proof sends several creates of one key at once. Each request sends its headers first and holds its body back
until the others have come as far. A server that decides when it sees the headers then fails in every round, and does not depend
on requests that happen to meet.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from configs.errors import AlreadyExistsError, StoreError
from infra.storage.base import TEMPORARY
from infra.storage.s3_creates import ContestedError, Creates
from infra.storage.s3_errors import UNREACHABLE

__all__ = ["Proof", "fault_of", "hold_bodies"]

CREATORS = 8
ROUNDS = 5
PARTS_ROUNDS = 2  # an upload in parts takes three requests, and no promotion is one
LEAST_ROUNDS = 2
LONGEST_S = 10.0  # on a slow server, no further round begins after this time
HOLD_S = 2.0  # time for which a body waits for the others, because a server may answer one request at a time
SENDING = threading.local()  # .body: the thread sends a request; until then, its body is only read for the signature


class Proof:
    """What this process knows about the creates of one bucket.

    A proof takes some sixty requests, so it is made once. It is not kept in the bucket: a note there would outlive a change of
    the server.
    """

    known: dict[tuple[str, str], Proof] = {}  # noqa: RUF012  # server and bucket -> proof
    _knowing = threading.Lock()

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.exclusive = False
        self.exclusive_parts: bool | None = None  # the same for uploads in parts; None: not examined yet

    @classmethod
    def of(cls, server: str, bucket: str) -> Proof:
        with cls._knowing:
            return cls.known.setdefault((server, bucket), cls())


def hold_bodies(client: Any) -> None:
    """Prepare a client: its requests tell the bodies of a proof that they are being sent."""
    client.meta.events.register("before-send.s3.PutObject", _note_sending)


def fault_of(creates: Creates, *, parts: bool = False) -> str | None:
    """Examine the server.

    Args:
        creates: The creates of the bucket.
        parts: Whether to examine uploads in parts.

    Returns:
        What the server does wrong, as a clause, or None if exactly one of several creates succeeds.

    Raises:
        StoreError: The server cannot be examined. The message names the reason.
    """
    if fault := _fault_alone(creates, parts=parts):
        return fault
    begun = time.monotonic()
    for number in range(PARTS_ROUNDS if parts else ROUNDS):
        if number >= LEAST_ROUNDS and time.monotonic() - begun > LONGEST_S:
            break
        winners = _winners(creates, parts=parts)
        if not winners:
            return f"let none of {CREATORS} concurrent creates of one key succeed"
        if winners != 1:
            return (
                f"let {winners} of {CREATORS} concurrent creates of one key succeed: it honours If-None-Match only if creates come one "
                "after the other"
            )
    return None


def _fault_alone(creates: Creates, *, parts: bool) -> str | None:
    """Examine two creates of one key, one after the other."""
    with _probe(creates) as key:
        refused, writer = None, ""
        for _ in range(2):  # twice: a failure that passes on its own must not look like a missing feature
            try:
                writer = creates.create(key, io.BytesIO(b"first"), parts=parts)
                refused = None
                break
            except StoreError as error:
                if isinstance(error.__cause__, UNREACHABLE) or not _accepts_plain_write(creates, key, parts=parts):
                    raise
                refused = error
        if refused:
            return f"has no conditional writes: it accepts a write without If-None-Match and refuses one with it ({refused})"
        if creates.stored_writer(key) != writer:
            return "does not keep the metadata of objects, by which a run recognises what it wrote"
        try:
            creates.create(key, io.BytesIO(b"second"), parts=parts)
        except AlreadyExistsError:
            return None
        return "accepted a second create of one key: it ignores If-None-Match"


def _accepts_plain_write(creates: Creates, key: str, *, parts: bool) -> bool:
    try:
        creates.create(key, io.BytesIO(b"plain"), parts=parts, conditional=False)
        creates.delete(key)
    except StoreError:
        return False
    return True


def _winners(creates: Creates, *, parts: bool) -> int:
    """Send several creates of one key at once, and return how many were told that they succeeded."""
    gate = threading.Barrier(CREATORS)

    def create(number: int) -> str | None:
        SENDING.body = False
        body = _HeldBody(b"%d" % number, gate, at_end=parts)
        try:
            return creates.create(key, body, parts=parts)
        except (AlreadyExistsError, ContestedError):
            return None
        finally:
            body.release_others()

    with _probe(creates) as key:
        with ThreadPoolExecutor(CREATORS) as pool:
            running = [pool.submit(create, number) for number in range(CREATORS)]
        writers = [each.result() for each in running if each.exception() is None]
        winners = [writer for writer in writers if writer]
        if len(winners) > 1:
            return len(winners)
        for each in running:
            each.result()  # raises what a create raised
        stored = creates.stored_writer(key)
        overwritten = bool(winners) and stored != winners[0]  # by a create that was told that it lost
        return len(winners) + overwritten if winners else int(stored is not None)


class _HeldBody(io.BytesIO):
    """The body of a request. It waits for the other bodies of its round while it is being sent."""

    def __init__(self, content: bytes, gate: threading.Barrier, *, at_end: bool) -> None:
        """Make a body.

        Args:
            content: The bytes.
            gate: Where the bodies of a round meet.
            at_end: Whether the end is held back, which comes before the last request of an upload in parts.
        """
        super().__init__(content)
        self._gate, self._at_end, self._held = gate, at_end, False

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if not self._held and (not content if self._at_end else SENDING.body):
            self._held = True
            with suppress(threading.BrokenBarrierError):  # another request was answered before its body was sent
                self._gate.wait(HOLD_S)
        return content

    def release_others(self) -> None:
        """Let the others go on, if this body was never sent."""
        if not self._held:
            self._gate.abort()


@contextmanager
def _probe(creates: Creates) -> Iterator[str]:
    """Provide the key of an object that is removed afterwards."""
    key = f"{TEMPORARY}/probe-{secrets.token_hex(8)}"
    try:
        yield key
    except BaseException:
        with suppress(StoreError):
            creates.delete(key)
        raise
    creates.delete(key)


def _note_sending(**_: Any) -> None:
    SENDING.body = True
