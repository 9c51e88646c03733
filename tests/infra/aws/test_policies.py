"""The policies of infra/iam: each role may do its work and no more, and none names a bucket."""

from __future__ import annotations

import json
import re
import subprocess
from fnmatch import fnmatch, fnmatchcase
from typing import Any

import pytest

from infra.local_stack.services import ROOT
from tests.infra.test_production_files import API_LISTS, AREAS

IAM = ROOT / "infra" / "iam"


@pytest.mark.parametrize("address", ["s3://films/eu/blue", "s3://recsys/production"])
def test_the_printed_policies_and_rules_name_the_store_that_was_asked_for_and_no_other(address: str) -> None:
    backups = "s3://elsewhere/a/b"
    command = ["make", "--silent", "-C", str(ROOT), "iam-policies", f"STORE={address}", f"BACKUPS={backups}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "${" not in done.stdout
    printed = json.loads("[" + re.sub(r"(?m)^}\n{", "},\n{", done.stdout) + "]")
    assert printed == [
        filled(name, address, backups) for name in ("worker", "trainer", "api", "demo", "exporter", "backup", "lifecycle")
    ]
    named = {place.split("/")[0] for policy in printed[:4] for each in policy["Statement"] for place in each["Resource"]}
    assert named == {f"arn:aws:s3:::{address.removeprefix('s3://').partition('/')[0]}"}


def test_the_backup_reads_the_whole_store_writes_nothing_there_and_removes_no_backup() -> None:
    policy = read_policy("backup")
    assert all(may_list(policy, f"production/{area}") and may(policy, "s3:GetObject", f"{area}x") for area in AREAS)
    assert not may(policy, "s3:PutObject", "models/movie-ranker/v/manifest.json") and not may(policy, "s3:DeleteObject", ".tmp/x")
    (deletes,) = (each for each in policy["Statement"] if "s3:DeleteObject" in each["Action"])
    assert deletes["Resource"] == ["arn:aws:s3:::backups/kept/.tmp/*"], "whoever has its keys could remove the backups"


def test_the_demo_and_the_exporter_write_nothing_and_read_no_more_than_they_show() -> None:
    demo, exporter = read_policy("demo"), read_policy("exporter")
    for policy in (demo, exporter):
        assert {action for each in policy["Statement"] for action in each["Action"]} == {"s3:ListBucket", "s3:GetObject"}
    assert {area for area in AREAS if may(exporter, "s3:GetObject", f"{area}x")} == {"promotions/", "drift/"}
    assert not {area for area in ("landing/", "leases/", "handed-over/", "searches/") if may(demo, "s3:GetObject", f"{area}x")}
    (done,) = (each for each in exporter["Statement"] if each["Resource"] == ["arn:aws:s3:::backups"])
    assert done["Action"] == ["s3:ListBucket"] and done["Condition"]["StringLike"]["s3:prefix"] == ["kept/*/done/*"]


@pytest.mark.parametrize("role", ["worker", "trainer", "api", "demo"])
def test_a_policy_names_its_bucket_its_keys_and_no_more_rights_than_the_store_uses(role: str) -> None:
    policy = read_policy(role)
    known = {
        "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    }  # fmt: skip
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow" and set(statement["Action"]) <= known
        assert all(place.startswith("arn:aws:s3:::recsys") for place in statement["Resource"])
        if "s3:ListBucket" in statement["Action"]:
            assert statement["Condition"]["StringLike"]["s3:prefix"]
        else:
            assert all(place.startswith("arn:aws:s3:::recsys/production/") for place in statement["Resource"])

    promotion = "promotions/movie-ranker/00000001.json"
    assert may(policy, "s3:PutObject", promotion) == (role == "worker"), "not exactly the worker may promote"
    assert may(policy, "s3:PutObject", "models/movie-ranker/v/model.safetensors") == (role == "worker")
    assert not may(policy, "s3:DeleteObject", "models/movie-ranker/v/model.safetensors"), "a version can be removed"
    assert may(policy, "s3:GetObject", "models/movie-ranker/v/manifest.json") == (role != "trainer")


def test_the_worker_replaces_histories_and_the_api_reads_them() -> None:
    key = "histories/movies/00000001-abc-def"
    right = {
        role: {action for action in ("Get", "Put", "Delete") if may(read_policy(role), f"s3:{action}Object", key)}
        for role in ("worker", "trainer", "api")
    }
    assert right == {"worker": {"Get", "Put", "Delete"}, "trainer": set(), "api": {"Get"}}


def read_policy(role: str) -> dict[str, Any]:
    """Return the policy of a role for the store s3://recsys/production."""
    return filled(role, "s3://recsys/production", "s3://backups/kept")


def filled(name: str, store: str, backups: str) -> dict[str, Any]:
    """Return a file of infra/iam with the addresses of a store and of its backups."""
    text = (IAM / f"{name}.json").read_text()
    for address, start in ((store, ""), (backups, "Backups")):
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        text = text.replace(f"${{{start}Bucket}}", bucket).replace(f"${{{start}Prefix}}", prefix)
    policy: dict[str, Any] = json.loads(text)
    return policy


def may(policy: dict[str, Any], action: str, key: str) -> bool:
    place = f"arn:aws:s3:::recsys/production/{key}"
    return any(
        action in statement["Action"] and any(fnmatch(place, pattern) for pattern in statement["Resource"])
        for statement in policy["Statement"]
    )


def may_list(policy: dict[str, Any], prefix: str | None) -> bool:
    """Decide as IAM does whether a listing is allowed. `prefix` is None if the request names none."""

    def holds(operator: str, patterns: list[str]) -> bool:
        assert operator in ("StringLike", "StringLikeIfExists")
        return operator.endswith("IfExists") if prefix is None else any(fnmatchcase(prefix, pattern) for pattern in patterns)

    return any(
        all(holds(operator, keys["s3:prefix"]) for operator, keys in statement["Condition"].items())
        for statement in policy["Statement"]
        if "s3:ListBucket" in statement["Action"]
    )


@pytest.mark.parametrize(
    ("role", "areas"),
    [
        ("worker", {"", *AREAS}),
        ("trainer", {"datasets/", "handed-over/", "comparisons/", "searches/"}),
        ("api", API_LISTS),
        ("demo", API_LISTS | {"datasets/", "exposures/", "outcomes/"}),
        ("exporter", {"promotions/", "drift/"}),
    ],
)
def test_a_role_lists_its_own_prefixes_and_never_the_bucket_or_another_store_in_it(role: str, areas: set[str]) -> None:
    """`StringLike` denies a request that names no prefix, and that is meant for every role.

    `StringLikeIfExists` would allow it, and such a listing shows the keys of all stores in the bucket. The price is that S3 answers
    403 for an absent object. The store then lists the object's name, which the role may (`S3Errors`).
    """
    policy = read_policy(role)
    for wide in (None, "", "p", "production", "production-old/", "staging/", "staging/models/"):
        assert not may_list(policy, wide), wide
    assert {area for area in ("", *AREAS) if may_list(policy, f"production/{area}")} == areas
    for area in areas - {""}:
        assert may_list(policy, f"production/{area}name/version/an-object"), "it could not find out that an object is absent"
