"""Settings are plain YAML: what could harm the reader, or would be dropped silently, is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from configs.errors import SettingsError
from configs.loading import load_settings
from configs.serving import ExperimentFile, RuleFile, ServingSettings

BOMB = "a: &a [1,1,1]\nb: &b [*a,*a,*a]\nrules: [*b,*b,*b]\n"
RULE = "{name: r, action: exclude, where: {items: [%s]}}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "aliases"),
        ("a: &a 1\n", "anchor"),
        ("seen: !!str hide\n", "tag"),
        ("diversity: {<<: {weight: 0}}\n", "merge key"),
        ("seen: hide\nseen: show\n", "'seen' is given twice (lines 1 and 2)"),
        (
            "rules:\n- {name: a, action: pin, items: [1]}\nmin_popularity: 1\nrules: []\n",
            "'rules' is given twice (lines 1 and 4)",
        ),
        ("[" * 20_000, "deeper than"),
        ("a: " + "{a: " * 20_000, "deeper than"),
        ("? [1, 2]\n: 3\n", "cannot be a name"),
        ("seen: [", "not valid YAML"),
        ("seen: hide\n---\nseen: show\n", "document"),
        ("rules: [" + "1," * 260_000 + "]", "values"),
        ("seen: hide # " + "x" * (5 << 20), "MiB"),
        (b"seen: \xff\xfe\n", "UTF-8"),
        ("seen: \x00\n", "not valid YAML"),
        ("rules: [{name: r, action: pin, items: [1], during: {start: 2026-11-31T00:00:00Z}}]", "during.start"),
        ("rules: [{name: r, action: pin, items: [1], during: {start: 2026-11-31}}]", "during.start"),
        ("rules: [" + RULE % ("9" * 5000) + "]", "where.items"),
        ("min_popularity: " + ":".join(["59"] * 20_000), "min_popularity"),
        ("min_popularity: " + ":".join(["59"] * 500) + ".5", "min_popularity"),
        ("1: 2\n", "Keys should be strings"),
        ("null: 2\n2026-01-01: 3\n", "Keys should be strings"),
    ],
)
def test_what_a_settings_file_must_not_contain_is_refused_in_one_sentence(
    content: str | bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as caught:
        load_settings(RuleFile, str(path))
    assert said in str(caught.value) and "rules.yaml" in str(caught.value)
    assert len(str(caught.value)) < 2000 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("limits.k=2026-11-31", "limits.k"),
        ("limits.k=[" + "[" * 20_000, "deeper than"),
        ("limits.k={a: 1, a: 2}", "twice"),
        ("limits.k=" + "9" * 5000, "limits.k"),
        ("versions=[&a x, *a]", "anchor"),
        ("host=\udcff", "not valid YAML"),
        ("limits.api_keys=[*a]", "not valid YAML"),
    ],
)
def test_an_option_that_is_not_plain_yaml_is_refused_in_one_sentence(option: str, said: str) -> None:
    with pytest.raises(SettingsError, match="--set") as caught:
        load_settings(ServingSettings, overrides=[option])
    assert said in str(caught.value)
    if "api_keys" in option:
        assert "*a" not in str(caught.value), "a secret is shown"


def test_of_many_faults_the_error_names_the_first_few(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [" + RULE % ",".join(["1.5"] * 1000) + "]")
    with pytest.raises(SettingsError, match="There are 995 more") as caught:
        load_settings(RuleFile, str(path))
    assert len(str(caught.value)) < 2000


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("seen: hide")

    def failing(self: Path, *_: object, **__: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(SettingsError, match=r"rules\.yaml cannot be read: Permission denied"):
        load_settings(RuleFile, str(path))


def test_plain_values_keep_their_types_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_bytes(
        b"\xef\xbb\xbfhost: 10.20\nport: 0x50\nversions: [2026-11-31, off, 1_000]\nwork_dir: ~/x\nredis:\nlimits: {k: 7}\n"
    )
    with pytest.raises(SettingsError, match="redis"):
        load_settings(ServingSettings, str(path))
    path.write_bytes(path.read_bytes().replace(b"redis:\n", b""))
    found = load_settings(ServingSettings, str(path))
    assert (found.host, found.port, found.limits.k) == ("10.20", 80, 7)
    assert found.versions == ("2026-11-31", "off", "1_000")


PIECES = st.sampled_from(
    ["rules", "seen", ":", ": ", "\n", "\n- ", "  ", "{", "}", "[", "]", ",", "&a ", "*a", "!!int ", "!x ", "<<: ", "? ", "|\n", ">\n",
     "'", '"', "#", "2026-11-31", "1e999", "0x", "-", "---\n", "...\n", "%YAML 1.1\n", "null", "true", "1:99", "\t", "é", "\x85", "="]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map("".join), st.sampled_from([RuleFile, ExperimentFile, ServingSettings]))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_text_gives_either_settings_or_an_error_of_one_sentence(text: str, model: type[RuleFile]) -> None:
    try:
        load_settings(model, overrides=[f"rules={text}"])
    except SettingsError as error:
        assert "\n" not in str(error)
