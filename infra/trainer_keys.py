"""The store's credentials for rented pods: kept in an encrypted block of the Prefect server, named by a deployment's job variables.

A pod is not on the workers' machine and has none of their files, and job variables are readable by everyone who can see the
server. The worker of type runpod fills the references in when it rents a pod, so only that pod has the values.
"""

from __future__ import annotations

from configparser import ConfigParser
from configparser import Error as ConfigError

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from configs.errors import SettingsError

__all__ = ["TRAINER", "TrainerKeys", "pod_environment", "read_credentials"]

TRAINER = "recsys-trainer-keys/recsys"
FIELDS = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}


class TrainerKeys(Block):
    """Two fields, and not one of JSON: Prefect shows what is within a field in clear."""

    _block_type_name = "Recsys Trainer Keys"
    _block_type_slug = "recsys-trainer-keys"
    _description = "Keys of the store for rented pods, with the rights of infra/iam/trainer.json. `recsys setup` makes it."

    aws_access_key_id: SecretStr = Field(description="Id of the key.")
    aws_secret_access_key: SecretStr = Field(description="The key.")


def read_credentials(text: str) -> dict[str, str]:
    """Both keys from a text in the form of ~/.aws/credentials, section `default`. Raises SettingsError, which never quotes it."""
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text)
        return {name: parser.get("default", name) for name in FIELDS}
    except ConfigError:
        lacks = "AWS_TRAINER_CREDENTIALS is not in the form of ~/.aws/credentials: a line [default], then aws_access_key_id = ... and "
        raise SettingsError(
            f"{lacks}aws_secret_access_key = ..., those of a user with the rights of infra/iam/trainer.json."
        ) from None


def pod_environment() -> dict[str, str]:
    """Job variable `env` that has the worker give both keys to a pod, and to nobody else."""
    block = TRAINER.replace("/", ".")
    return {variable: f"{{{{ prefect.blocks.{block}.{name} }}}}" for name, variable in FIELDS.items()}
