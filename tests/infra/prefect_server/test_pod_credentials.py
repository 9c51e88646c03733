from __future__ import annotations

import pytest

from configs.errors import SettingsError
from infra.prefect_server.pod_credentials import pod_environment, read_credentials


def test_both_keys_are_read_from_the_text_of_a_credentials_file() -> None:
    found = read_credentials("# of the trainer\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key = a/b+c%d=\n")
    assert found == {"aws_access_key_id": "AKIA1", "aws_secret_access_key": "a/b+c%d="}


@pytest.mark.parametrize(
    "text", ["AKIA1:planted", "[default]\naws_access_key_id = planted\n", "[other]\naws_access_key_id = planted"]
)
def test_a_text_that_is_not_a_credentials_file_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(SettingsError, match="AWS_TRAINER_CREDENTIALS") as refused:
        read_credentials(text)
    assert "planted" not in str(refused.value) and refused.value.__cause__ is None


def test_a_pods_variables_name_the_block_and_contain_no_key() -> None:
    assert pod_environment() == {
        "AWS_ACCESS_KEY_ID": "{{ prefect.blocks.recsys-trainer-keys.recsys.aws_access_key_id }}",
        "AWS_SECRET_ACCESS_KEY": "{{ prefect.blocks.recsys-trainer-keys.recsys.aws_secret_access_key }}",
    }
