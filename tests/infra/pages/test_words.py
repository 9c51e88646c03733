from __future__ import annotations

import pytest

from infra.pages import count, digits, duration, listed, money, utc_day, utc_minute, visible


@pytest.mark.parametrize(("seconds", "said"), [(0.05, "50 ms"), (61, "61.0 s"), (600, "10.0 min"), (7300, "2.0 h")])
def test_durations_are_readable(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("dollars", "said"), [(0, "$0.00"), (0.01, "$0.010"), (0.1, "$0.10"), (12.345, "$12.35")])
def test_small_amounts_have_a_third_decimal_place(dollars: float, said: str) -> None:
    assert money(dollars) == said


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [listed(list("abc")[:length]) for length in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert listed(["a", "b"], "or") == "a or b"


def test_numbers_and_times_are_readable() -> None:
    assert (count(1, "run"), count(0, "run"), count(2, "week")) == ("1 run", "0 runs", "2 weeks")
    assert (digits(0.12345), digits(1234.56)) == ("0.1235", "1,234.6")
    assert (utc_day(86_400), utc_minute(86_460)) == ("1970-01-02", "1970-01-02 00:01 UTC")


def test_control_characters_are_shown_and_not_sent_to_the_terminal() -> None:
    assert visible("a\x1b[2J\r\x9b\u202eb\u2066\udc80") == r"a\x1b[2J\r\x9b\u202eb\u2066\udc80"
    assert visible("Amélie\u00a0\N{ZERO WIDTH JOINER}\n\tb 东京 🎬") == "Amélie\u00a0\N{ZERO WIDTH JOINER}\n\tb 东京 🎬"
