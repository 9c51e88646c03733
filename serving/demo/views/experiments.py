"""Page: experiments on live traffic, their users, and their results."""

from __future__ import annotations

import time

import streamlit as st

from configs.errors import RecsysError
from configs.serving import Experiment
from infra.pages import VERDICT_COLOURS, escaped, utc_minute
from serving.demo import Context, charts, plain_table
from serving.experiments import (
    ExperimentReport,
    Experiments,
    all_outcomes,
    arm_rows,
    check_rows,
    logged_exposures,
    report_experiment,
    versus_rows,
)

__all__ = ["show"]


def show(context: Context) -> None:
    """Draw the page."""
    path = context.settings.experiments
    if path is None:
        st.info("No experiments file is configured: `recsys demo --set experiments=experiments.yaml`.")
        return
    experiments = Experiments.load(path)
    file = experiments.file
    if not file.experiments:
        st.info(f"{escaped(str(path))} has no experiments.")
        return
    st.subheader("Experiments in the file")
    plain_table(
        [
            {
                "experiment": each.name,
                "arms": ", ".join(f"{arm.name} {share:.0%}" for arm, share in zip(each.arms, each.shares, strict=True)),
                "versions": ", ".join(arm.version for arm in each.arms),
                "users": f"{each.users[0]:g} to {each.users[1]:g}",
                "state": "active" if each.active and each.during.holds(int(time.time())) else "off",
                "revision": each.revision,
            }
            for each in file.experiments
        ]
    )
    for shadow in file.shadow:
        st.caption(
            f"Shadow: {escaped(shadow.version)} also answers for {shadow.share:.0%} of the users, but its answers are not shown."
        )
    user = st.text_input("Which arm is a user in?", value="1", help="Any user id. Nothing is stored: the id decides.")
    found = experiments.assign(user.strip(), int(time.time()))
    st.markdown(
        f"User {escaped(user.strip())} is served with **{escaped(found.version)}**"
        + (
            f", in the arm **{escaped(found.arm)}** of **{escaped(found.experiment)}**."
            if found.experiment and found.arm
            else ", in no experiment."
        )
    )
    names = {each.name: each for each in file.experiments}
    chosen = names[st.selectbox("Report on", list(names))]
    try:
        report = _report(context, chosen)
    except RecsysError as error:
        st.warning(escaped(str(error)))
        return
    _draw(report)


def _report(context: Context, experiment: Experiment) -> ExperimentReport:
    settings = context.settings
    logged = logged_exposures(context.view.store, settings.exposures)
    return report_experiment(experiment, logged, all_outcomes(context.view.store, settings.outcomes))


def _draw(report: ExperimentReport) -> None:
    better = any(each.verdict == "better" for each in report.versus)
    (st.error if not report.trusted else st.success if better else st.info)(escaped(report.verdict))
    for each in report.versus:
        if each.course.get("users"):
            st.subheader(f"{escaped(each.arm)} compared with {escaped(report.control)}")
            decided = None if each.comparison is None else each.comparison.decided_at
            st.altair_chart(charts.course(each.course, decided, VERDICT_COLOURS[each.verdict]), width="stretch")
            st.caption("The band covers the true difference at all looks together, so you may look, and stop, whenever you like.")
    plain_table(versus_rows(report))
    st.subheader("Arms")
    plain_table(arm_rows(report))
    st.caption(f"Measured: {escaped(report.outcome)}. Data up to {utc_minute(report.as_of)}, {escaped(report.as_of_is)}.")
    st.subheader("Can the results be trusted?")
    plain_table(check_rows(report))
