"""The CloudFormation template of the store is valid, and grants what infra/iam says and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local_stack.services import ROOT

TEMPLATE = ROOT / "infra" / "aws" / "store.yaml"


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short functions, such as !Sub, as their arguments."""


Loader.add_multi_constructor(
    "!",
    lambda loader, tag, node: (
        loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else loader.construct_scalar(node)
    ),
)


def content() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)
    return found


@pytest.mark.full
def test_the_template_is_valid_for_cloudformation() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cfn-lint")), str(TEMPLATE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ["worker", "api", "trainer", "demo", "exporter"])
def test_a_user_has_the_rights_of_its_policy_and_the_key_of_the_store(role: str) -> None:
    found = {name: each["Properties"] for name, each in content()["Resources"].items() if each["Type"] == "AWS::IAM::UserPolicy"}
    own = [each["PolicyDocument"]["Statement"] for each in found.values() if each["UserName"] == role.capitalize()]
    text = json.dumps(own).replace("${Bucket.Arn}", "arn:aws:s3:::${Bucket}").replace("${AWS::Partition}", "aws")
    (*statements, key), *others = json.loads(text)
    rights = json.loads((ROOT / "infra" / "iam" / f"{role}.json").read_text())["Statement"]
    assert [*statements, *(each for other in others for each in other)] == rights
    writes = any("s3:PutObject" in each["Action"] for each in rights)
    assert key["Action"] == ["kms:Decrypt", *(["kms:GenerateDataKey"] if writes else [])] and key["Resource"] == "Key.Arn"


def test_the_bucket_is_encrypted_versioned_private_and_survives_the_stack() -> None:
    resources = content()["Resources"]
    bucket = resources["Bucket"]
    assert "BucketName" not in bucket["Properties"], "a fixed name is taken in every other account"
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    rule = bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "Key.Arn"}
    assert bucket["DeletionPolicy"] == resources["Key"]["DeletionPolicy"] == "Retain"
    (denied,) = resources["OnlyEncryptedConnections"]["Properties"]["PolicyDocument"]["Statement"]
    assert denied["Effect"] == "Deny" and denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_an_abandoned_upload_and_a_deleted_object_end_as_in_the_lifecycle_of_other_servers() -> None:
    rules = {each["Id"]: each for each in content()["Resources"]["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]}
    for rule in json.loads((ROOT / "infra" / "iam" / "lifecycle.json").read_text())["Rules"]:
        own = rules[rule["ID"]]
        if "Expiration" in rule:
            assert own["ExpirationInDays"] == rule["Expiration"]["Days"]
        else:
            upload = rule["AbortIncompleteMultipartUpload"]
            assert own["AbortIncompleteMultipartUpload"] == upload
