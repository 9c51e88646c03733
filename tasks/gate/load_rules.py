"""The rules about the load check of a stored version: does it load and answer correctly, and how fast.

A rollback needs them too, and its process does not import torch.
"""

from __future__ import annotations

from configs.settings import PromotionSettings
from tasks.evaluation import LoadCheck
from tasks.gate.decision import ANSWERS, LOAD_TIME, REQUEST_TIME, Rule

__all__ = ["load_rules", "slowness"]


def load_rules(check: LoadCheck, settings: PromotionSettings) -> list[Rule]:
    """Check that a clean process loaded the stored version, which then answered correctly, and whether it was fast enough."""
    if check.cut_off:
        detail = (
            f"The check of the stored version was cut off: {check.reason}. This says nothing about the version. Judge it again "
            "when the machine is less busy; if it happens then too, raise promotion.max_load_s, on which the time for the check "
            "depends."
        )
        return [Rule(5, ANSWERS, None, None, "", "not judged", detail)]
    detail = (
        f"A clean process loaded the stored version in {check.load_s:.2f} s of CPU time and gave the same answers as the trained model."
        if check.ok
        else f"The stored version failed its check: {check.reason}."
    )
    answers = Rule(5, ANSWERS, float(check.ok), 1.0, "==", "passed" if check.ok else "failed", detail)
    return [answers, *_time_rules(check, settings)]


def slowness(check: LoadCheck, settings: PromotionSettings) -> list[str]:
    """Return one sentence for each limit of time that the stored version exceeds."""
    return [rule.detail for rule in _time_rules(check, settings) if rule.verdict == "failed"]


def _time_rules(check: LoadCheck, settings: PromotionSettings) -> list[Rule]:
    what = "Loading the stored version took"
    measured = [(LOAD_TIME, what, check.load_s, "max_load_s", settings.max_load_s)]
    what = "A sample request (the median of them) took"
    measured += [(REQUEST_TIME, what, check.request_s, "max_request_s", settings.max_request_s)]
    rules = []
    for name, what, seconds, setting, most in measured:
        if seconds is None:
            continue
        detail = f"{what} {seconds:.3f} s of CPU time; promotion.{setting} allows {most:g} s."
        if seconds > most:
            detail += f" If that is fast enough, raise the limit (--set promotion.{setting}=SECONDS)."
        rules.append(Rule(5, name, seconds, most, "<=", "failed" if seconds > most else "passed", detail))
    return rules
