"""`recsys study`: what takes many trainings and ends with a report. A killed study resumes when it is started again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import (
    Config,
    Dataset,
    Json,
    Set,
    needs_prefect,
    plain,
    records_table,
    say,
    settings_of,
    table,
    writable,
    write_json,
    write_output,
)
from flows.cli.outcome import print_decision

if TYPE_CHECKING:
    from flows.search import SearchSummary
    from tasks.comparison import ModelComparison
    from tasks.replay import Replay

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Search for settings, compare models, and replay the past.\n\nExample: recsys study compare -c compare",
)


@app.command()
def search(dataset: Dataset = None, config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Search for better settings of the challenger.

    The best model enters the gate. Run the same command again to resume.

    Example: recsys study search --set search.trials=60 --set search.workers=2
    """
    from configs.studies import SearchSettings

    settings = settings_of(config, set_, SearchSettings)
    needs_prefect("flows.search")
    from flows.search import search as flow

    summary = flow(settings, dataset)
    write_json(json_file, summary.to_dict())
    _print_search(summary)


@app.command()
def compare(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Train models with several seeds, and test which are better.

    `-c compare` includes the paper's preset. Run the same command again to do only the missing trainings.

    Example: recsys study compare -c compare --set max_parallel=2
    """
    from configs.studies import CompareSettings

    settings = settings_of(config, set_, CompareSettings)
    needs_prefect("flows.compare")
    from flows.compare import compare as flow
    from tasks.comparison import IncompleteComparisonError

    try:
        comparison = flow(settings)
    except IncompleteComparisonError as error:
        write_json(json_file, error.comparison.to_dict())
        _print_comparison(error.comparison)
        raise
    write_json(json_file, comparison.to_dict())
    _print_comparison(comparison)


@app.command()
def replay(config: Config = None, set_: Set = None, json_file: Json = None) -> None:
    """Replay a dataset's past under several retraining policies.

    The report shows what each policy was worth. Run the same command again to resume.

    Example: recsys study replay --set slices=month --set base_slices=2
    """
    from configs.studies import ReplaySettings

    settings = settings_of(config, set_, ReplaySettings)
    needs_prefect("flows.replay")
    from flows.replay import replay as flow

    found = flow(settings)
    write_json(json_file, found.to_dict())
    _print_replay(found)


@app.command()
def adopt(
    replay: Annotated[str, typer.Argument(help="Id of the replay.")],
    policy: Annotated[str, typer.Argument(help="Name of the policy.")],
    to: Annotated[
        Path | None, typer.Option(callback=writable, help="Write the settings to this file instead of printing them.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Let monitoring retrain by a policy that did well in a replay.

    The result is a settings file for `recsys setup`, after your environment's own.

    Example: recsys study adopt my-replay volume --to policy.yaml
    """
    import yaml

    settings = settings_of(config, set_)
    from tasks.replay import adopted_policy

    found = adopted_policy(settings.store, replay, policy)
    content = (
        f"# The policy {found.name} of the replay {found.replay}: retrain {found.rule}.\n"
        f"{yaml.safe_dump(found.environment(), sort_keys=False)}"
    )
    if to is None:
        say(content.rstrip())
    else:
        write_output(to, content.encode())
    if found.worth:
        say(found.worth)
    if to is not None:
        say(f"`recsys setup -c {to}` takes the policy over. Give your environment's own file first, if it has one.")


def _print_search(summary: SearchSummary) -> None:
    import yaml

    record, best = summary.record, summary.record.best_trial
    say(f"\n{len(record.trials)} trials of {record.study} on {record.dataset}, valid NDCG@10 under {record.protocol}:")
    rows = [
        [
            str(trial.number),
            trial.state,
            "" if trial.value is None else f"{trial.value:.4f}",
            f"{trial.best_epoch or '-'} of {trial.epochs}",
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
            trial.reason or plain({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in trial.parameters.items()}),
        ]
        for trial in record.trials
    ]
    table(["trial", "state", "NDCG@10", "best epoch", "seconds", "parameters, or why it failed"], rows)
    settings = summary.settings
    say(
        f"best: trial {best.number}, valid NDCG@10 {best.value:.4f}. The trials were trained with search.seed {record.seed}; a training "
        f"with these settings uses seed {settings.seed}, so its figure differs. As a file for --config:\n"
    )
    own = settings.models.of(settings.challenger)
    changed = {*best.parameters, *own.model_dump(exclude_defaults=True)}
    chosen = {key: value for key, value in own.model_dump(mode="json").items() if key in changed}
    assert settings.searched is not None
    names = settings.model_dump(mode="json", include={"challenger", "baselines"}, exclude_defaults=True)
    plugins = {"plugins": list(settings.models.plugins)} if settings.models.plugins else {}
    searched = settings.searched.model_dump(mode="json")
    content = {**names, "models": {**plugins, settings.challenger: chosen}, "searched": searched}
    say(yaml.safe_dump(content, sort_keys=False))
    if summary.challenge is None:
        say("The best settings have not entered the gate.")
        return
    decision = summary.challenge.decision
    print_decision(decision)
    say(
        f"verdict: {decision.outcome}. version {summary.challenge.version.version}, "
        f"champion {summary.challenge.champion or 'none'}"
    )


def _print_comparison(comparison: ModelComparison) -> None:
    from tasks.comparison import headline, result_rows

    say(f"\n{comparison.requests} test requests of {comparison.dataset}, full ranking under {comparison.protocol}:")
    rows = result_rows(comparison)
    if rows:
        records_table(rows)
        names = [entry.name for entry in comparison.entries]
        cells = {name: [comparison.cell(name, other) for other in names] for name in names}
        say(f"NDCG@10 of the row minus the column, with Holm-corrected p; * is significant at {comparison.alpha:g}:")
        table(
            ["", *names],
            [
                [
                    name,
                    *[
                        "" if c is None else f"{c.difference:+.4f} p {c.adjusted:.4f}{' *' if c.significant else ''}"
                        for c in cells[name]
                    ],
                ]
                for name in names
            ],
        )
    say(headline(comparison))
    say(f"comparison {comparison.id}: {comparison.page}")


def _print_replay(found: Replay) -> None:
    from tasks.replay import difference_rows, headline, policy_rows

    for rows in (policy_rows(found), difference_rows(found)):
        records_table(rows)
    say(headline(found))
    say(f"replay {found.id}: {found.page}")
