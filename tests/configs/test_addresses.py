from __future__ import annotations

import pytest

from configs.errors import SettingsError
from configs.loading import effective_settings, load_settings
from configs.serving import ServingSettings
from configs.settings import RetrainSettings


@pytest.mark.parametrize(
    "override",
    [
        "data.mirror_url=https://me:hidden@mirror/films",
        "data.mirror_url=https://mirror/films?token=hidden",
        "store.endpoint_url=https://hidden@host:9000",
        "etl.scheduler_address=tls://me:hidden@dask:8786",
    ],
)
def test_an_address_with_a_password_is_refused_because_runs_show_their_parameters(override: str) -> None:
    with pytest.raises(SettingsError, match="everyone with access to the Prefect server can read the parameters") as refused:
        load_settings(RetrainSettings, None, [override])
    assert "hidden" not in str(refused.value) and "NETRC" in str(refused.value)


def test_the_password_of_an_address_is_not_shown() -> None:
    found = {
        each.key: each.value for each in effective_settings(ServingSettings, None, ["redis.url=redis://me:hidden@host:6379/0"])
    }
    assert found["redis.url"] == "redis://********@host:6379/0"
