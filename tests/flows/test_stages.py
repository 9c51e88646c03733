from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest
from prefect import Task, task
from prefect.cache_policies import NO_CACHE

import flows
from configs.errors import DataRefusedError, StoreUnavailableError
from tasks import stages
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


def test_no_task_is_skipped_because_an_earlier_run_had_the_same_inputs() -> None:
    modules = [
        import_module(f"{package.__name__}.{found.name}")
        for package in (flows, stages)
        for found in iter_modules(package.__path__)
    ]
    tasks = {each.name: each for module in modules for each in vars(module).values() if isinstance(each, Task)}
    assert len(tasks) > 20
    assert [name for name, each in tasks.items() if each.cache_policy != NO_CACHE] == []
