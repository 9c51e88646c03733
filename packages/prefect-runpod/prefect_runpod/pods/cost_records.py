"""The cost records of pods, which are stored with their runs.

A failure to store a record must not keep a pod alive. So a record that cannot be stored now is stored by a later check.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from datetime import datetime

from prefect_runpod.pods.cost import PodCost
from prefect_runpod.pods.runs import Runs, RunsUnavailableError, RunView
from prefect_runpod.pods.tracked import Tracked

__all__ = ["CostRecords"]

LOG = logging.getLogger(__name__)


class CostRecords:
    """Opens, keeps and closes the records. `now` returns the time by the clock that dates the pods."""

    def __init__(self, runs: Runs, now: Callable[[], datetime]) -> None:
        self._runs, self._now = runs, now
        self._unsettled: dict[str, Tracked] = {}

    @property
    def unsettled(self) -> list[Tracked]:
        """The pods that do not exist any more and whose final record is not stored yet."""
        return list(self._unsettled.values())

    async def open(self, tracked: Tracked) -> None:
        """Store the cost so far of a pod, unless it is stored already."""
        async with tracked.accounting:  # the task that rented the pod and a check may get here at the same time
            if tracked.cost is not None:
                return
            try:
                kept = {record.pod: record for record in await self._runs.accounts(tracked.marks.run)}
                record = kept.get(tracked.pod.id)
                if record is None:
                    record = PodCost.of(tracked.pod, self._now())
                    await self._runs.account(tracked.marks.run, record)
                tracked.cost = record
            except RunsUnavailableError as error:
                LOG.warning("The cost record of pod %s is opened later: %s", tracked.pod.id, error)

    async def keep(self, tracked: Tracked, when: datetime, *, closed: bool, note: str = "") -> None:
        """Store the cost up to `when`. If `closed`, this is the final record."""
        async with tracked.accounting:
            record = tracked.cost or PodCost.of(tracked.pod, when)
            tracked.cost = record.until(when, closed=closed, note=note)
            if closed:
                self._unsettled[record.pod] = tracked
            try:
                await self._runs.account(tracked.marks.run, tracked.cost)
            except RunsUnavailableError as error:
                LOG.warning("Pod %s cost %.4f USD, which could not be stored yet: %s", record.pod, tracked.cost.usd, error)
                return
            self._unsettled.pop(record.pod, None)

    async def settle(self, tracked: Tracked, run: RunView | None) -> None:
        """Store the final record of a pod that does not exist any more. If its run is gone too, drop the record."""
        if run is not None and tracked.cost is not None:
            await self._runs.account(run.id, tracked.cost)
        self._unsettled.pop(tracked.pod.id, None)

    async def close(self, run: RunView, note: str) -> None:
        """Close the open record of the run's pod, which nobody watched."""
        for record in await self._runs.accounts(run.id):
            if record.pod == run.pod and not record.closed:
                await self._runs.account(run.id, record.until(self._now(), closed=True, note=note))

    async def close_left_open(self, watched: Container[str]) -> bool:
        """Close the records that are still open because their worker was killed right after a deletion.

        Returns whether that was possible.

        Args:
            watched: The ids of the pods that are watched. A pod that is rented during the search must appear in it.
        """
        try:
            for run, record in await self._runs.open_accounts():
                if record.pod not in watched and record.pod not in self._unsettled:
                    now = {each.pod: each for each in await self._runs.accounts(run.id)}.get(record.pod, record)
                    if now.closed:  # the worker that deleted the pod has closed it in the meantime
                        continue
                    last = max(run.since, now.ended)
                    await self._runs.account(run.id, now.until(last, closed=True, note="closed by a later worker"))
        except RunsUnavailableError as error:
            LOG.warning("Open cost records are left open for now: %s", error)
            return False
        return True
