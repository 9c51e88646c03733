from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.addresses import is_loopback
from configs.errors import SettingsError
from configs.loading import load_settings
from configs.settings import RetrainSettings
from infra.runpod import RunPodSettings


def test_each_setting_is_read_from_its_variable() -> None:
    given_ = {"RECSYS_RUNPOD_LOOK_EVERY_S": "3.5", "RUNPOD_API_BASE_URL": "https://api.example.org/v2/", "OTHER": "x"}
    found = RunPodSettings.from_environment(given_)
    assert found.look_every_s == 3.5 and found.base_url == "https://api.example.org"
    assert RunPodSettings.from_environment({}) == RunPodSettings()
    allowed = RunPodSettings.from_environment({"RECSYS_RUNPOD_ALLOW_IMAGE_TAGS": "true", "RECSYS_RUNPOD_SERVER_URL": " "})
    assert allowed.allow_image_tags and not allowed.allow_private_addresses and allowed.server_url is None


@pytest.mark.parametrize(
    "given_",
    [{"RECSYS_RUNPOD_LOOKS_TO_MISS": "1"}, {"RECSYS_RUNPOD_TIMEOUT_S": "soon"}, {"RUNPOD_API_BASE_URL": "http://api.runpod.io"}],
)
def test_a_wrong_variable_is_named(given_: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(given_))):
        RunPodSettings.from_environment(given_)


@given(
    st.sampled_from(
        [
            *("http://api.runpod.io", "http://10.0.0.1", "ftp://localhost", "api.runpod.io", "http://localhost.evil.org"),
            *("http://127.0.0.1.evil.org", "http://127.evil.org"),
        ]
    )
)
def test_the_key_is_never_sent_unencrypted(url: str) -> None:
    with pytest.raises(ValidationError, match="the API key is sent there"):
        RunPodSettings(base_url=url)
    assert not is_loopback(url) or url.startswith("ftp")


def test_this_machine_may_be_asked_without_encryption() -> None:
    assert [RunPodSettings(base_url=url).base_url for url in ("http://127.0.0.1:9", "http://localhost:9")]


def test_training_is_inline_unless_set_otherwise() -> None:
    assert RetrainSettings().training.where == "inline"
    found = load_settings(RetrainSettings, None, ["training.where=deployment", "training.deployment=train/h100"])
    assert found.training.deployment == "train/h100"
    with pytest.raises(SettingsError, match=r"training\.deployment"):
        load_settings(RetrainSettings, None, ["training.deployment=gpu"])


def test_a_pod_gets_the_address_of_the_api_if_it_is_not_runpods_own() -> None:
    assert RunPodSettings().for_pods() == {}
    other = RunPodSettings.from_environment({"RUNPOD_API_BASE_URL": "https://gateway.example/"})
    assert other.for_pods() == {"RUNPOD_API_BASE_URL": "https://gateway.example"}
