"""rollout: watch how a new champion serves a share of the users, and give it all of them, or none."""

from __future__ import annotations

import time

from prefect import flow

from configs.settings import RetrainSettings, StoreSettings, TrackingSettings
from flows.challenge import ask_for_rollout
from flows.forms import with_form
from infra.registry import ModelRegistry, Promotion
from infra.storage import Store, open_store
from serving.experiments import StoredOutcomes
from serving.rollout import CONTROLS
from tasks.rollout import Watch, rejected, sentence
from tasks.stages import mirror_promotion, publish_failure_artifact
from tasks.stages.endings import begin_summary, dated, ended, fails_with_a_sentence
from tasks.stages.rollouts import rollout_progress, show_rollout, take_step

__all__ = ["rollout", "watch_of"]

DEFAULTS = RetrainSettings()


def watch_of(store: Store, model_name: str) -> Watch:
    """Return what watches the rollout of a model in a store."""
    return Watch(store, model_name, CONTROLS, StoredOutcomes(store))


@with_form("model_name", "store.url")
@flow(name="rollout", flow_run_name=dated("{model_name}"), on_failure=[publish_failure_artifact])
@fails_with_a_sentence
def rollout(
    model_name: str = DEFAULTS.model_name,
    store: StoreSettings = DEFAULTS.store,
    tracking: TrackingSettings = DEFAULTS.tracking,
) -> Promotion | None:
    """Watch the rollout that is under way until it has ended.

    The log says what comes next, so a run that is started again, or beside another one, takes no step twice.

    Args:
        model_name: Name that the versions are registered under.
        store: Store of the log.
        tracking: Whether the champion is mirrored in MLflow's registry.

    Returns:
        The entry of the log that ended the rollout, or None if none was under way or a person is waited for.
    """
    place = open_store(store)
    watch = watch_of(place, model_name)
    standing = watch.look()
    if standing is None:
        return ended("Nothing rolls out", f"No rollout of {model_name} is under way.", None)
    begin_summary(sentence(standing))
    with rollout_progress() as update:
        while True:
            update(standing)
            show_rollout(standing, store)
            if standing.move == "ask":
                take_step(watch, standing, store)
                answer = ask_for_rollout(standing)
                if answer is None:
                    wait = f"{sentence(standing)} Nobody answered: `recsys rollout advance` or `abort` decides."
                    return ended("Needs approval", wait, None)
                standing = watch.look() or standing
                standing = standing if answer.approved else rejected(standing, answer.who, answer.note)
                take_step(watch, standing, store, answer.who if answer.approved else "")
            elif standing.move == "wait":
                watch.write_page(standing)
                time.sleep(standing.settings.look_s)
            else:
                take_step(watch, standing, store)
            following = watch.look()
            if following is None:
                break
            standing = following
    last = ModelRegistry(place).newest(model_name)
    assert last is not None, "the log had an entry before"
    mirror_promotion(model_name, tracking, store)
    name = "Returned" if last.kind in ("return", "rollback") else "Rolled out" if last.kind == "advance" else "Ended"
    return ended(name, f"{last.version} serves everybody: {last.reason}", last, f"{model_name} {last.version}: {name.lower()}")


if __name__ == "__main__":
    print(rollout())
