from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tasks.forked_check import forked_checks

pytest.register_assert_rewrite("tests.full.operation.town", "tests.full.operation.weeks", "tests.full.operation.other_weeks")


@pytest.fixture(autouse=True)
def cheap_load_checks() -> Iterator[None]:
    with forked_checks():
        yield
