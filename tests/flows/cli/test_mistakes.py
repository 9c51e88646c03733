"""The mistakes of the first week: one sentence with the cause and the remedy, once, and as docs/troubleshooting.md has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.cli.mistakes import MISTAKES, Mistake
from tests.flows.cli.troubleshooting import PAGE, answer_to, page_of, row_of, sentence_of
from tests.serving.api.wrong_requests import WRONG_REQUESTS

ALL = [each for mistakes in MISTAKES.values() for each in mistakes]


@pytest.mark.parametrize("mistake", ALL, ids=lambda mistake: mistake.what.replace(" ", "-"))
def test_a_mistake_is_answered_with_the_sentence_of_the_page(mistake: Mistake, tmp_path: Path) -> None:
    status, said, out = answer_to(mistake, tmp_path)
    sentence = sentence_of(said)
    assert status == mistake.status and "Traceback" not in said + out
    assert said.count(sentence[:60]) == 1 and sentence[:60] not in out, "it is said once"
    assert row_of(mistake, sentence) in PAGE.read_text(encoding="utf-8"), (
        "write the page again: python -m tests.flows.cli.troubleshooting"
    )


def test_the_page_has_these_mistakes_and_no_others() -> None:
    whole, empty = PAGE.read_text(encoding="utf-8"), page_of({each.what: "" for each in [*ALL, *WRONG_REQUESTS]})
    assert len(ALL) == len({each.what for each in ALL}) >= 45
    assert not {each.what for each in ALL} & {each.what for each in WRONG_REQUESTS}, "the page finds a sentence by what was done"
    assert whole.count("\n| ") == empty.count("\n| ") and whole.startswith(empty[: empty.index("## ")])
