from __future__ import annotations

import pytest
from prefect import task

from configs.errors import DataRefusedError, StoreUnavailableError
from tasks.stages.task_options import NETWORK


@pytest.mark.parametrize(("error", "tries"), [(StoreUnavailableError, 3), (DataRefusedError, 1), (ZeroDivisionError, 1)])
def test_only_a_store_that_does_not_answer_is_asked_again(error: type[Exception], tries: int) -> None:
    called = []

    @task(**{**NETWORK, "retry_delay_seconds": 0})
    def stage() -> str:
        called.append(1)
        if len(called) < 3:
            raise error("once more")
        return "done"

    if tries == 3:
        assert stage() == "done"
    else:
        with pytest.raises(error):
            stage()
    assert len(called) == tries
