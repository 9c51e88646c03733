from __future__ import annotations

import pytest

from configs.errors import SettingsError
from configs.loading import load_settings
from infra.prefect_server import EnvironmentSettings


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("timezone=Mars/Olympus", "is not a time zone"),
        ("alerts.blocks=[ops]", "is not a block name: write <type>/<name>"),
        ("alerts.blocks=[a/b/c]", "is not a block name"),
        ("retraining.store.secret_access_key=hidden", "can read the parameters of deployments"),
        ("retraining.data.mirror_url=https://me:hidden@mirror", "contains a user, password or query"),
        ("retraining.store.secret_access_key=[hidden]", "secret_access_key: "),
        ("retraining.store={secret_access_key: hidden, timeout_s: -1}", "timeout_s.*greater than 0"),
        ("retraining.store=hidden", "retraining.store: "),
        ("alerts.missed_heartbeats=1", "greater than or equal to 2"),
        ("pools.training_limit=0", "greater than or equal to 1"),
        ("environment=Prod One", "pattern"),
        ("crons={retrain/retrain: every monday}", "is not a cron expression of five fields"),
        ("crons={retrain/retrain: 0 4 * * 1 30}", "is not a cron expression of five fields"),
        ("crons={retrain/retrain: 0 4 31 2 *}", "'0 4 31 2 .' never occurs"),
        ("timezone=posixrules", "is not a time zone"),
        ("retraining.store.url=/tmp/x", "retraining.store.url: write file:<folder> for a folder"),
        ("retraining.store.url=s3:bucket", "retraining.store.url: write file:<folder>"),
        ("store.url=file:x", "store is not a setting; did you mean retraining.store.url?"),
    ],
)
def test_an_invalid_environment_is_refused_without_its_secrets(override: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        load_settings(EnvironmentSettings, None, [override])
    assert "hidden" not in str(refused.value)


def test_only_settings_that_differ_from_their_defaults_become_parameters() -> None:
    settings = load_settings(EnvironmentSettings, None, ["retraining.data.source=ml-1m", "retraining.promotion.alpha=0.05"])
    assert settings.overrides == {"data": {"source": "ml-1m"}, "promotion": {"alpha": 0.05}}
    assert EnvironmentSettings().overrides == {}


def test_the_environment_that_ships_can_be_loaded() -> None:
    settings = load_settings(EnvironmentSettings, "production")
    assert settings.environment == "production" and settings.retraining.promotion.approval == "manual"
    assert settings.retraining.work_dir.is_absolute() and settings.retraining.data.cache_dir.is_absolute()
