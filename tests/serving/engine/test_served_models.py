"""Which served version a request, or an arm of an experiment, means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import RequestRefusedError
from configs.serving.experiments import Arm
from serving.engine import Models
from serving.experiments.assignment import Assignment

A = "20261129T121055Z-0123456789abcdef0123456789abcdef"
B = "20261129T121055Z-ffff456789abcdef0123456789abcdef"
C = "20261130T080000Z-0123456789abcdef0123456789abcdef"
SERVED: dict[str, Any] = {version: SimpleNamespace(version=version) for version in (A, B, C)}
MODELS = Models(SERVED[C], {A: SERVED[A], B: SERVED[B]})


def test_a_request_names_a_version_by_its_beginning() -> None:
    assert MODELS.required("20261130T080000Z").version == MODELS.required("champion").version == C
    assert MODELS.required("20261129T121055Z-f").version == MODELS.required(B).version == B


def test_a_beginning_that_fits_several_is_refused_with_the_candidates_and_leaves_an_arm_with_the_champion() -> None:
    with pytest.raises(RequestRefusedError, match="may be any of 2 versions: 20261129T121055Z-0123, 20261129T121055Z-ffff"):
        MODELS.required("20261129T121055Z")
    with pytest.raises(RequestRefusedError, match="The version 2025 is not served"):
        MODELS.required("2025")
    assert MODELS.assigned(Assignment("20261129T121055Z")).version == C


def test_an_arm_that_is_named_by_its_beginning_covers_that_version_alone() -> None:
    assert Assignment("20261130T080000Z").covers(C) and not Assignment("20261130T080000Z").covers(A)
    for moving in ("latest", "previous"):
        with pytest.raises(ValidationError, match="would change what the arm measures"):
            Arm(name="new", version=moving)
