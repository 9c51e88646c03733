from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.base import Settings
from configs.errors import SettingsError
from configs.loading import effective_settings, load_settings, named_configs
from configs.serving import ExperimentFile, ServingSettings
from configs.settings import EtlSettings, RetrainSettings
from configs.studies import CompareSettings, ReplaySettings
from infra.prefect_server import EnvironmentSettings


def test_overrides_beat_the_file_and_the_file_beats_defaults(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("seed: 5\nmodels:\n  ss4rec: {width: 32, blocks: 3}\n")
    found = load_settings(
        RetrainSettings, str(path), ["models.ss4rec.width=8", "evaluation.ks=[1, 10]", "promotion.approval=manual"]
    )
    assert (found.seed, found.models.ss4rec.width, found.models.ss4rec.blocks) == (5, 8, 3)
    assert found.evaluation.ks == (1, 10) and found.models.ss4rec.dropout == RetrainSettings().models.ss4rec.dropout


def test_later_files_beat_earlier_ones_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("models: {ss4rec: {width: 8, blocks: 5}, ncf: null}\npromotion: {baselines: [popularity]}\n")
    (tmp_path / "y.yaml").write_text("models: {ss4rec: {width: 16}, ncf: {mf_width: 4}}\n")
    found = load_settings(RetrainSettings, [str(tmp_path / "x.yaml"), str(tmp_path / "y.yaml")])
    assert (found.models.ss4rec.width, found.models.ss4rec.blocks) == (16, 5)
    assert found.models.ncf is not None and found.models.ncf.mf_width == 4
    assert found.promotion.baselines == ("popularity",)


def test_the_papers_preset_has_none_of_our_additions() -> None:
    paper, best = (load_settings(RetrainSettings, ["ml-1m", name]) for name in ("paper", "best"))
    assert paper.data.source == best.data.source == "ml-1m"
    model = paper.models.ss4rec
    assert (model.embedding_dropout, model.label_smoothing, model.weight_averaging, model.two_norms) == (0.0, 0.0, 0.0, False)
    assert (model.width, model.blocks, model.time_state, model.relation_state, model.dropout) == (64, 2, 32, 32, 0.2)
    assert not model.user_features and not model.shuffle_ties and model.interval == "seconds" and model.loss == "cross_entropy"
    assert best.models.ss4rec.two_norms and best.models.ss4rec.embedding_dropout > 0


SETTINGS: list[type[Settings]] = [RetrainSettings, CompareSettings, EnvironmentSettings]


@pytest.mark.parametrize("path", (Path(__file__).parents[2] / "configs").glob("*.yaml"), ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_differs_from_the_defaults(path: Path) -> None:
    models = [model for model in SETTINGS if path.stem in named_configs(model)]
    assert models
    for model in models:
        assert load_settings(model, path.stem) != model()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sed: 1", "sed is not a setting; did you mean seed?"),
        ("models: {ss4rec: {zzz: 1}}", "models.ss4rec.zzz is not a setting; the settings are width"),
        ("seed: many", "seed: Input should be a valid integer, unable to parse string as an integer (given 'many')"),
        ("models: {ss4rec: {step_min: 1.0}}", "step_min (1.0) must be below step_max (0.1)"),
        ("models: {ss4rec: {replicas: 0}}", "models.ss4rec.replicas: the value must be auto, or a whole number of at least 1"),
        ("models: {ss4rec: {replicas: all}}", "models.ss4rec.replicas: the value must be auto, or a whole number of at least 1"),
        ("models: {ss4rec: {replicas: true}}", "models.ss4rec.replicas: the value must be auto, or a whole number of at least 1"),
        ("models: {ncf: null}\npromotion: {baselines: [ncf]}", "promotion.baselines names ncf, which is not trained"),
        ("data: {source: ml-10b}", "data.source: Input should be 'ml-100k'"),
        ("- a\n- b", "is not a file of settings: its content is not of the form `name: value`"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_the_error_names_the_key_and_the_remedy(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, str(tmp_path / "x.yaml"))
    assert said in str(caught.value)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("")
    assert load_settings(RetrainSettings, str(tmp_path / "x.yaml")) == RetrainSettings()


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(SettingsError, match=r"given 'x{50,76}\.\.\."):
        load_settings(RetrainSettings, None, ["seed=" + "x" * 500])


def test_a_cluster_needs_its_schedulers_address() -> None:
    with pytest.raises(ValidationError, match="scheduler_address is not set"):
        EtlSettings(engine="dask")
    assert EtlSettings(engine="dask", scheduler_address="tcp://127.0.0.1:8786").memory_rows == 2_000_000


@pytest.mark.parametrize(
    ("key", "text", "found"),
    [
        ("tracking.mode", "off", "off"),
        ("data.dataset", "2024", "2024"),
        ("data.dataset", "2024-05-01", "2024-05-01"),
        ("data.dataset", "0123", "0123"),
        ("data.dataset", "1e3", "1e3"),
        ("data.dataset", "yes", "yes"),
        ("data.dataset", "null", None),
        ("data.dataset", "", None),
        ("seed", "12", 12),
        ("models.ss4rec.dropout", "0.25", 0.25),
        ("models.ss4rec.shuffle_ties", "off", False),
        ("models.ss4rec.replicas", "2", 2),
        ("models.ss4rec.replicas", "auto", "auto"),
        ("promotion.baselines", "[popularity, ncf]", ("popularity", "ncf")),
    ],
)
def test_text_stays_text_in_files_in_options_and_in_the_environment(key: str, text: str, found: object, tmp_path: Path) -> None:
    """YAML alone would read `off` as false and 2024 as a number."""
    *sections, last = key.split(".")
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(sections)] + [f"{'  ' * len(sections)}{last}: {text}"]
    (tmp_path / "x.yaml").write_text("\n".join(lines))
    variable = {"RECSYS__" + key.upper().replace(".", "__"): text}
    for settings in (
        load_settings(RetrainSettings, str(tmp_path / "x.yaml")),
        load_settings(RetrainSettings, None, [f"{key}={text}"]),
        load_settings(RetrainSettings, environment=variable),
    ):
        value: object = settings
        for name in (*sections, last):
            value = getattr(value, name)
        assert value == found and type(value) is type(found)


def test_credentials_made_of_digits_keep_their_zeros() -> None:
    store = load_settings(RetrainSettings, None, ["store={access_key_id: 0123, secret_access_key: 1e5}"]).store
    assert store.secret_access_key is not None
    assert (store.access_key_id, store.secret_access_key.get_secret_value()) == ("0123", "1e5")


def test_names_in_a_mapping_are_text() -> None:
    found = load_settings(EnvironmentSettings, None, ['crons={2024: "0 4 * * *"}'])
    assert found.crons == {"2024": "0 4 * * *"}


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=8))
@example("2026-0-0")  # YAML alone would fail to make a date of it
@example("'null'")
def test_a_text_setting_holds_exactly_the_word_that_it_is_given(word: str) -> None:
    try:
        nodes = [event for event in yaml.parse(word, yaml.SafeLoader) if isinstance(event, yaml.NodeEvent)]
    except yaml.YAMLError:
        reject()
    assume(len(nodes) == 1 and isinstance(nodes[0], yaml.ScalarEvent) and nodes[0].anchor is nodes[0].tag is None)
    scalar = nodes[0]
    assume(scalar.style is not None or scalar.value.lower() not in ("", "~", "null"))
    assert load_settings(RetrainSettings, None, [f"store.region={word}"]).store.region == scalar.value


def test_the_environment_beats_files_and_options_beat_both(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("store: {url: file:a}\nseed: 1\nmodel_name: one\n")
    variables = {"RECSYS__STORE__URL": "file:b", "RECSYS__SEED": "2", "RECSYS_SERVING": "{}", "OTHER": "x"}
    found = load_settings(RetrainSettings, str(tmp_path / "x.yaml"), ["seed=3"], variables)
    assert (found.store.url, found.seed, found.model_name) == ("file:b", 3, "one")


@pytest.mark.parametrize("name", ["RECSYS__STOER__URL", "recsys__stoer", "RECSYS__STOER"])
def test_a_variable_of_an_unknown_section_is_named(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, environment={name: "file:b"}, others=[ServingSettings])
    assert str(caught.value) == f"{name} cannot be used: stoer is not a setting; did you mean store?"


def test_the_error_for_a_variable_that_resembles_no_setting_lists_the_settings() -> None:
    with pytest.raises(
        SettingsError, match="RECSYS__XYZZY cannot be used: xyzzy is not a setting; the settings are model_name, "
    ):
        load_settings(RetrainSettings, environment={"RECSYS__XYZZY": "1"})


def test_variables_of_other_commands_and_other_programs_are_passed_over() -> None:
    variables = {
        "RECSYS__REDIS__URL": "redis://x",
        "RECSYS__VALUE__CURRENCY": "EUR",
        "RECSYS__BASE_SLICES": "4",
        "RECSYS_SERVING": "{}",
        "RECSYS_RUNPOD_TIMEOUT_S": "3",
        "RECSYS_TEST_VOLUME": "nightly",
    }
    every = (RetrainSettings, ServingSettings, ReplaySettings)
    assert load_settings(RetrainSettings, environment=variables, others=every).business_value.currency == "EUR"
    assert load_settings(ServingSettings, environment=variables, others=every).redis.url == "redis://x"
    assert load_settings(ReplaySettings, environment=variables, others=every).base_slices == 4


@pytest.mark.parametrize(
    ("overrides", "variables", "said"),
    [
        (["seed=x"], {}, "--set seed cannot be used: seed: Input should be a valid integer"),
        ([], {"RECSYS__SEED": "x"}, "RECSYS__SEED cannot be used: seed: Input should be a valid integer"),
        ([], {"RECSYS__STORE__ULR": "x"}, "RECSYS__STORE__ULR cannot be used: store.ulr is not a setting; did you mean url?"),
        (["models.ss4rec={width: none}"], {}, "--set models.ss4rec cannot be used: models.ss4rec.width"),
        (["seed=5"], {}, "x.yaml cannot be used: model_name"),
    ],
)
def test_the_error_names_the_source_of_the_mistake(
    overrides: list[str], variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text("model_name: a/b\n" if "model_name" in said else "model_name: fine\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, str(tmp_path / "x.yaml"), overrides, variables)
    assert said in str(caught.value) and (said.startswith(("RECSYS", "--set")) is ("x.yaml" not in str(caught.value)))


def test_a_secret_that_is_not_valid_yaml_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"store\.secret_access_key: the value is not valid YAML") as caught:
        load_settings(RetrainSettings, None, ["store.secret_access_key=[hidden"])
    assert "hidden" not in str(caught.value)


def test_each_effective_setting_names_the_source_that_won(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("seed: 1\nstore: {url: file:a, region: x}\nmodels: {ss4rec: {width: 8}}\n")
    second.write_text("store: {url: file:b}\n")
    files, options = [str(first), str(second)], ["models.ss4rec={blocks: 3}", "store.secret_access_key=hidden"]
    found = {each.key: each for each in effective_settings(RetrainSettings, files, options, {"RECSYS__SEED": "2"})}
    assert (found["seed"].value, found["seed"].origin) == (2, "RECSYS__SEED")
    assert (found["store.url"].value, found["store.url"].origin) == ("file:b", str(second))
    assert (found["store.region"].value, found["store.region"].origin) == ("x", str(first))
    assert (found["models.ss4rec.blocks"].value, found["models.ss4rec.blocks"].origin) == (3, "--set models.ss4rec")
    assert found["model_name"].origin == found["store.endpoint_url"].origin == found["models.ss4rec.width"].origin == "default"
    assert found["store.secret_access_key"].value == "**********"


def test_sections_that_are_off_and_mappings_have_an_origin(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("searched: null\npromotion: {baselines: [popularity]}\n")
    found = {each.key: each for each in effective_settings(RetrainSettings, str(tmp_path / "x.yaml"))}
    assert (found["searched"].value, found["searched"].origin) == (None, str(tmp_path / "x.yaml"))
    crons = {each.key: each for each in effective_settings(EnvironmentSettings, None, ['crons={etl/etl: "0 4 * * *"}'])}["crons"]
    assert (crons.value, crons.origin) == ({"etl/etl": "0 4 * * *"}, "--set crons")


def test_every_effective_setting_can_be_given_to_set() -> None:
    for each in effective_settings(RetrainSettings):
        if each.value is not None and not isinstance(each.value, dict | list):
            assert load_settings(RetrainSettings, None, [f"{each.key}={json.dumps(each.value)}"]) == RetrainSettings(), each.key


def test_an_option_for_a_section_replaces_all_that_a_file_says_there(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("models: {ss4rec: {width: 8}}\n")
    option = ["models.ss4rec={blocks: 3}"]
    found = {each.key: each for each in effective_settings(RetrainSettings, str(tmp_path / "x.yaml"), option)}
    loaded = load_settings(RetrainSettings, str(tmp_path / "x.yaml"), option)
    assert found["models.ss4rec.width"].value == loaded.models.ss4rec.width == RetrainSettings().models.ss4rec.width


def test_a_missing_file_is_named_with_the_shipped_ones_if_there_are_any() -> None:
    with pytest.raises(SettingsError, match=r"^There is no configuration no\.yaml: give a YAML file, or one of .*quick.*\.$"):
        load_settings(RetrainSettings, "no.yaml")
    with pytest.raises(SettingsError, match=r"^There is no configuration no\.yaml: give a YAML file\.$"):
        load_settings(ExperimentFile, "no.yaml")
