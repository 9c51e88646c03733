"""The store's credentials for rented pods, kept in an encrypted block of the Prefect server.

A pod does not run on the workers' machine and has none of their files. A deployment's job variables only refer to the block,
because everyone who can see the server can read them. The worker of type runpod resolves the references when it rents a pod,
so only that pod has the values.
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
    """The keys, in two secret fields. Prefect would show secrets inside a single JSON field in clear text."""

    _block_type_name = "Recsys Trainer Keys"
    _block_type_slug = "recsys-trainer-keys"
    _description = "Store credentials for rented pods, with the rights of infra/iam/trainer.json. Created by `recsys setup`."

    aws_access_key_id: SecretStr = Field(description="ID of the access key.")
    aws_secret_access_key: SecretStr = Field(description="The secret access key.")


def read_credentials(text: str) -> dict[str, str]:
    """Read both keys from a text in the format of ~/.aws/credentials, section `default`.

    Raises SettingsError if a key is missing. The message never quotes the text.
    """
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text)
        return {name: parser.get("default", name) for name in FIELDS}
    except ConfigError:
        lacks = "AWS_TRAINER_CREDENTIALS is not in the form of ~/.aws/credentials: a line [default], then aws_access_key_id = ... and "
        raise SettingsError(
            f"{lacks}aws_secret_access_key = .... Use the keys of a user with the rights of infra/iam/trainer.json."
        ) from None


def pod_environment() -> dict[str, str]:
    """Return the job variable `env` that makes the worker pass both keys to a pod, and to nothing else."""
    block = TRAINER.replace("/", ".")
    return {variable: f"{{{{ prefect.blocks.{block}.{name} }}}}" for name, variable in FIELDS.items()}
