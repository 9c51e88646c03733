"""Answers requests whose lists somebody sees now: explores, and logs who was shown what, with which probability, by which version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from configs.serving import Exploration
from serving.engine import Answer, Batcher, Models, RecommendJob
from serving.experiments import Assignment, Experiments, Exposure, ExposureSink, chances, explored, mixed, team_draft
from serving.reranking import Rules

__all__ = ["Showing"]

Chances = Mapping[int | str, float]


class Showing:
    """Answers, and logs each answer as an exposure. Shadow versions, and the versions of other arms, answer when there is time."""

    def __init__(
        self,
        batcher: Batcher,
        sink: ExposureSink,
        *,
        models: Callable[[], Models],
        rules: Callable[[], Rules],
        experiments: Callable[[], Experiments],
        rng: Random | None = None,
    ) -> None:
        """Assemble what answers.

        Args:
            batcher: Ranks.
            sink: Takes the exposures.
            models: Returns the served versions.
            rules: Returns the business rules that rank now.
            experiments: Returns the experiments and the exploration of now.
            rng: Draws the lists of the exploration.
        """
        self._batcher, self._sink = batcher, sink
        self._models, self._rules, self._experiments = models, rules, experiments
        self._rng = rng or Random()

    async def answer(self, job: RecommendJob, *, seen: bool = True) -> Answer:
        """Return the list to show to the job's user, who is known. If nobody sees it, it is neither drawn nor logged."""
        if job.assignment.against is not None:
            return await self._interleaved(job, job.assignment.against, seen=seen)
        if not seen:
            found: Answer = await self._batcher.submit(job)
            return found
        user = _user(job)
        exploration = None if job.named else self._experiments().exploring(user)
        wide = job if exploration is None else replace(job, k=max(job.k, exploration.pool))
        ranking: Answer = await self._batcher.submit(wide)
        answer, pinned = ranking, self._pinned(ranking)
        if exploration is not None:
            answer = replace(ranking, items=explored(ranking.items, job.k, pinned, exploration, self._rng))
        own = chances(_ids(ranking), job.k, pinned, exploration)
        if not self._ask_other_arms(wide, job, answer, own, exploration):
            self._log(job, answer, own)
        self._ask_shadows(job, user)
        return answer

    async def _interleaved(self, job: RecommendJob, against: str, *, seen: bool) -> Answer:
        """Return a list that two versions drafted in turn, or the control's if the other one cannot answer."""
        assigned = job.assignment
        asked = (job, replace(job, assignment=Assignment(against)))
        found: list[Answer | BaseException] = await asyncio.gather(*map(self._batcher.submit, asked), return_exceptions=True)
        control, other = found
        if isinstance(control, BaseException):
            raise control
        if isinstance(other, BaseException) or not (
            assigned.covers(control.version) and Assignment(against).covers(other.version)
        ):
            if seen:
                self._sink.write(_exposure(replace(job, assignment=Assignment(assigned.version)), control))
            return control
        rankings = (control.items, other.items)
        drafted = team_draft(_ids(control), _ids(other), job.k, self._rng)
        answer = replace(control, items=[rankings[team][place] for team, place in drafted])
        if seen:
            exposure = _exposure(job, answer)
            teams = [assigned.teams[team] for team, _ in drafted]
            self._sink.write(replace(exposure, version=f"{control.version}+{other.version}", teams=teams))
            self._ask_shadows(job, _user(job))
        return answer

    def _pinned(self, ranking: Answer) -> set[int]:
        """Return the places of pinned items."""
        pins = {rule.name for rule in self._rules().file.rules if rule.action == "pin"}
        return {place for place, item in enumerate(ranking.items) if pins.intersection(item.applied_rules)} if pins else set()

    def _ask_other_arms(
        self, wide: RecommendJob, job: RecommendJob, answer: Answer, own: Chances, exploration: Exploration | None
    ) -> bool:
        """Log the exposure once the other arms' versions have answered, with the probabilities over all arms.

        Where one cannot answer, the probabilities are those within the arm, which are exact too. Return False if nobody was asked.
        """
        assigned = job.assignment
        if not assigned.others or not assigned.covers(answer.version):
            return False
        parts: list[tuple[float, Chances]] = [(assigned.share, own)]
        left = len(assigned.others)

        def take(version: str, share: float, other: Answer | Exception) -> None:
            nonlocal left
            left -= 1
            if isinstance(other, Answer) and Assignment(version).covers(other.version):
                parts.append((share, chances(_ids(other), job.k, self._pinned(other), exploration)))
            if not left:
                self._log(job, answer, mixed(parts) if len(parts) == 1 + len(assigned.others) else own)

        for version, share in assigned.others:
            asked = replace(wide, assignment=Assignment(version), explain=False)
            if not self._batcher.offer(asked, partial(take, version, share)):
                take(version, share, RuntimeError("there is no time"))
        return True

    def _ask_shadows(self, job: RecommendJob, user: int | str) -> None:
        """Let the shadow versions answer too, when there is time. Their answers are only logged."""

        def log(asked: RecommendJob, answer: Answer | Exception) -> None:
            if isinstance(answer, Answer):
                self._sink.write(_exposure(asked, answer, shadow=True))

        for version in job.assignment.shadow:
            if self._models().named(version) is not None:
                asked = replace(job, assignment=Assignment(version), named=True, explain=False)
                self._batcher.offer(asked, partial(log, asked))

    def _log(self, job: RecommendJob, answer: Answer, known: Chances) -> None:
        shown = _ids(answer)
        exposure = _exposure(job, answer)
        if any(known[item] < 1 for item in shown):
            others = [(item, round(chance, 9)) for item, chance in known.items() if item not in set(shown)]
            exposure = replace(exposure, propensities=[round(known[item], 9) for item in shown], others=others)
        self._sink.write(exposure)


def _exposure(job: RecommendJob, answer: Answer, *, shadow: bool = False) -> Exposure:
    assigned = job.assignment
    tested = not shadow and assigned.covers(answer.version)
    return Exposure(
        time=job.time.server_now,
        user=_user(job),
        request=job.request_id,
        version=answer.version,
        items=_ids(answer),
        experiment=assigned.experiment if tested else None,
        arm=assigned.arm if tested else None,
        revision=assigned.revision if tested else None,
        shadow=shadow,
    )


def _ids(answer: Answer) -> Sequence[int | str]:
    return [item.item_id for item in answer.items]


def _user(job: RecommendJob) -> int | str:
    """Return the user as the team writes the id."""
    assert job.user is not None
    return job.user if job.user_id is None else job.user_id
