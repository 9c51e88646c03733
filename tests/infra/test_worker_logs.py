"""What a worker process logs is handled once, by the process that started it."""

from __future__ import annotations

import logging
import multiprocessing
import time
from logging import LogRecord
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event

from infra.prefect_server import hearing_workers, send_records
from infra.progress import STEP, Step, step


class Kept(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[LogRecord] = []

    def emit(self, record: LogRecord) -> None:
        self.records.append(record)

    def ours(self) -> list[LogRecord]:
        return [record for record in self.records if record.name == "prefect.search_worker"]


def work(records: Queue[LogRecord], heard: Event) -> None:
    send_records(records)
    log = logging.getLogger("prefect.search_worker")
    log.setLevel(logging.DEBUG)
    log.debug("a detail")
    log.info("trial %d of %d", 1, 2, extra=step("trials", 1, 2))
    heard.wait(300)


def test_records_of_a_worker_arrive_with_their_step_and_the_worker_prints_nothing(capfd) -> None:  # type: ignore[no-untyped-def]
    kept, root = Kept(), logging.getLogger()
    root.addHandler(kept)
    try:
        with hearing_workers() as records:
            context = multiprocessing.get_context("spawn")
            heard = context.Event()
            worker = context.Process(target=work, args=(records, heard))
            worker.start()
            while worker.is_alive() and not kept.ours():
                time.sleep(0.05)
            heard.set()
            worker.join()
        assert worker.exitcode == 0
    finally:
        root.removeHandler(kept)
    (ours,) = kept.ours()
    assert ours.getMessage() == "trial 1 of 2" and getattr(ours, STEP) == Step("trials", 1, 2)
    assert "trial 1 of 2" not in capfd.readouterr().err
