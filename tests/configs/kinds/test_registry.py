"""Kinds of models: plugins have typed settings, and a wrong plugin is refused by one sentence that names it and the remedy."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from configs.base import Settings
from configs.errors import SettingsError, TrainingError, VersionCorruptError
from configs.kinds import colour_of, label_of, plugins_in_use, register, registered_kinds, registry, spec_of
from configs.loading import effective_settings, load_settings
from configs.serving import DemoSettings, ServingSettings
from configs.settings import ModelSettings, NCFSettings, PromotionSettings, RetrainSettings
from configs.studies import CompareSettings, EntrySettings, ReplaySettings, SearchSettings
from models.kinds import kind_in
from models.loading import make_recommender

LATELY = "tests.plugins.lately:SPEC"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def only_these_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the plugins of a test after it."""
    monkeypatch.setattr(registry, "_named", {})
    yield


def installed(folder: Path, name: str, **points: str) -> None:
    """Install an empty package with entry points, as pip does."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(f"{kind} = {place}" for kind, place in points.items())
    (about / "entry_points.txt").write_text(f"[recsys.models]\n{lines}\n")


def python(code: str, path: Path | str = "") -> str:
    places = os.pathsep.join((str(ROOT), str(path)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_plugin_of_the_settings_is_a_kind_with_typed_settings() -> None:
    found = load_settings(
        RetrainSettings, None, [f"models.plugins=[{LATELY}]", "challenger=lately", "models.lately.half_life_days=7"]
    )
    assert found.kinds == ("popularity", "ncf", "lately")
    assert found.models.of("lately").model_dump() == {"half_life_days": 7.0}
    assert make_recommender("lately", found.models).settings() == {"half_life_days": 7.0}
    again = RetrainSettings.model_validate(json.loads(found.model_dump_json()))
    assert again == found


def test_a_kind_without_settings_has_its_defaults_which_are_recorded() -> None:
    found = RetrainSettings.model_validate({"models": {"plugins": [LATELY]}, "baselines": ["popularity", "lately"]})
    assert found.model_dump()["models"]["lately"] == {"half_life_days": 60.0}
    assert found.kinds == ("popularity", "lately", "ss4rec")


@pytest.mark.full
def test_an_installed_package_needs_no_setting(tmp_path: Path) -> None:
    installed(tmp_path, "lately_model", lately=LATELY)
    code = (
        "from configs.settings import RetrainSettings as R; r = R(challenger='lately'); print(r.kinds[-1], r.models.of('lately'))"
    )
    assert python(code, tmp_path) == "lately half_life_days=60.0"


@pytest.mark.full
def test_a_plugin_named_twice_is_one_kind(tmp_path: Path) -> None:
    installed(tmp_path, "lately_model", lately=LATELY)
    assert python(
        f"from configs.kinds import register, spec_of; register(['{LATELY}'] * 2); print(spec_of('lately').kind)", tmp_path
    )


def test_a_broken_package_harms_only_those_who_use_it(tmp_path: Path) -> None:
    installed(tmp_path, "broken_model", broken="tests.plugins.unimportable:SPEC")
    code = """
from configs.errors import SettingsError
from configs.kinds import registered_kinds, spec_of
from configs.settings import RetrainSettings
assert RetrainSettings().kinds and "broken" not in registered_kinds() and RetrainSettings.model_json_schema()
try:
    spec_of("broken")
except SettingsError as error:
    print(error)
"""
    assert python(code, tmp_path) == (
        "The plugin tests.plugins.unimportable:SPEC (entry point broken of recsys.models) cannot be imported (OSError: libfancy.so is "
        "missing): mend its module tests.plugins.unimportable, or remove the plugin."
    )


def test_two_packages_with_one_kind_are_both_named(tmp_path: Path) -> None:
    installed(tmp_path, "one", ncf="a.b:SPEC")
    code = "from configs.settings import RetrainSettings\ntry: RetrainSettings()\nexcept ValueError as error: print(error)"
    said = python(code, tmp_path)
    assert "The kind ncf has more than one spec: a.b:SPEC and models.ncf:SPEC (built in). Rename the kind of a plugin" in said


FAULTY = "tests.plugins.faulty_specs"


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("mymodel", "The plugin mymodel (models.plugins) cannot be used: write it as package.module:NAME"),
        ("no.such:SPEC", "(ModuleNotFoundError: No module named 'no'): install the package that has no in this environment"),
        ("tests.plugins.needs_more:SPEC", "install the package that has a_package_that_nobody_has in this environment"),
        ("tests.plugins.unimportable:SPEC", "(OSError: libfancy.so is missing): mend its module tests.plugins.unimportable"),
        ("tests.plugins.lately:MODEL", "tests.plugins.lately has no MODEL; write the name of its ModelSpec there"),
        (f"{FAULTY}:NOT_A_SPEC", "NOT_A_SPEC is of the type dict; it must be a configs.kinds.ModelSpec"),
        (f"{FAULTY}:BAD_KIND", "its kind is 'My Model'; a kind has up to 31 lower-case letters"),
        (f"{FAULTY}:RESERVED_KIND", "its kind is 'plugins'; a kind has"),
        (f"{FAULTY}:BAD_SETTINGS", "give a subclass of configs.base.Settings"),
        (f"{FAULTY}:REQUIRED_SETTING", "its settings Needy have no default for rank; give each field a default"),
        (f"{FAULTY}:BAD_CLASS", "its recommender is 'Lately'; name the class as package.module:Class"),
        (f"{FAULTY}:BAD_COLOUR", "its colour is 'green'; write it as #rrggbb"),
        (f"{FAULTY}:NOT_REPLICATED", "its settings lack device or replicas"),
        (f"{FAULTY}:BAD_SPACE", "its search space names width, which LatelySettings does not have"),
        (f"{FAULTY}:SECOND_NCF", "The kind ncf has more than one spec: models.ncf:SPEC (built in) and"),
    ],
)
def test_a_wrong_plugin_is_refused_by_one_sentence(plugin: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, None, [f"models.plugins=[{plugin}]"])
    assert plugin in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)
    assert plugins_in_use() == ()


def test_two_plugins_with_one_kind_are_both_named() -> None:
    with pytest.raises(SettingsError, match=rf"The kind lately .* {FAULTY}:SECOND_LATELY and {LATELY}\. Rename"):
        load_settings(RetrainSettings, None, [f"models.plugins=[{LATELY}, {FAULTY}:SECOND_LATELY]"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["challenger=latly"], "No model of the kind latly is known here; did you mean lately?"),
        (["models.bert.width=3"], "No model of the kind bert is known here; the kinds are ss4rec, ncf, popularity"),
        (
            ["models.lately.half_life=3"],
            "--set models.lately.half_life cannot be used: models.lately.half_life is not a setting; did you",
        ),
        (["models.lately.half_life_days=0"], "models.lately.half_life_days: Input should be greater than 0 (given 0)"),
        (["models.ncf=null", "baselines=[ncf]"], "models.ncf is null, but it must be trained"),
        (["models.ss4rec=null"], "models.ss4rec is null, but it must be trained"),
        (["baselines=[ss4rec]"], "challenger and baselines must be different kinds, found ss4rec, ss4rec"),
        (["promotion.baselines=[lately]"], "promotion.baselines names lately, which is not trained: add it to baselines"),
    ],
)
def test_a_wrong_choice_of_kinds_is_refused_by_one_sentence(given: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(RetrainSettings, None, [f"models.plugins=[{LATELY}]", *given])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_that_cannot_be_imported_is_named_before_training() -> None:
    register([f"{FAULTY}:NO_SUCH_CLASS"])
    with pytest.raises(
        TrainingError, match=r"^The class tests\.plugins\.lately:Never of the model no_class cannot be imported \(Attr"
    ):
        make_recommender("no_class", ModelSettings())


def test_a_version_of_a_plugin_that_is_absent_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": "lately"}')
    with pytest.raises(
        VersionCorruptError, match=r"A plugin is found if its package is installed with an entry point in recsys\.models"
    ):
        kind_in(tmp_path)
    register([LATELY])
    assert kind_in(tmp_path) == spec_of("lately")


def test_a_stored_version_stays_readable_after_its_plugin_dropped_a_setting(caplog: pytest.LogCaptureFixture) -> None:
    register([LATELY])
    found = ModelSettings.of_version(
        {"lately": {"half_life_days": 7, "neighbours": 5}, "ncf": {"mf_width": 8}, "absent": {"width": 3}}
    )
    assert found.of("lately").model_dump() == {"half_life_days": 7.0} and found.ncf.mf_width == 8
    assert "models.lately.neighbours of a stored version is ignored" in caplog.text
    assert ModelSettings.of_version({"lately": {"half_life_days": -1}}).of("lately") == spec_of("lately").settings()
    steps = {"step_min": 2.0, "step_max": 1.0, "width": 8}  # they do not fit together
    assert ModelSettings.of_version({"ss4rec": steps}).ss4rec == ModelSettings().ss4rec


def test_a_null_once_meant_not_trained_and_still_does() -> None:
    found = RetrainSettings.model_validate({"models": {"ncf": None}})
    assert found.baselines == ("popularity",) and found.models.ncf == NCFSettings()
    assert ModelSettings.model_validate({"ncf": None}).ncf == NCFSettings()  # as stored with a version


def test_a_kind_of_a_plugin_is_shown_by_its_spec() -> None:
    assert (label_of("lately"), label_of("ncf")) == ("lately", "NCF")  # unknown here
    register([LATELY])
    assert (label_of("lately"), colour_of("lately")) == ("popular lately", "#2f7d5b")
    assert colour_of("unknown").startswith("#") and list(registered_kinds())[:3] == ["ss4rec", "ncf", "popularity"]


@pytest.mark.full
def test_another_process_that_gets_the_settings_knows_the_plugin(tmp_path: Path) -> None:
    settings = RetrainSettings.model_validate({"models": {"plugins": [LATELY]}, "challenger": "lately"})
    (tmp_path / "settings").write_bytes(pickle.dumps(settings))
    code = f"""
import pickle, sys
from configs.kinds import spec_of
found = pickle.loads(open({str(tmp_path / "settings")!r}, "rb").read())
print(spec_of("lately").kind, found.models.of("lately"))
"""
    assert python(code) == "lately half_life_days=60.0"


def test_the_form_of_a_run_has_the_fields_of_each_registered_kind() -> None:
    register([LATELY])
    schema: dict[str, Any] = RetrainSettings.model_json_schema()
    section = schema["$defs"]["ModelSettings"]
    assert section["properties"]["lately"]["title"] == "popular lately"
    assert section["properties"]["lately"]["properties"]["half_life_days"]["exclusiveMinimum"] == 0
    places = [field["position"] for field in section["properties"].values()]
    assert places == list(range(len(places)))
    assert {"type": "null"} in section["properties"]["ncf"]["anyOf"]  # as in the parameters of earlier runs
    assert section["additionalProperties"] == {"type": "object"}  # of a plugin that is unknown where the form is made


def test_config_show_lists_the_settings_of_a_plugin() -> None:
    rows = effective_settings(RetrainSettings, None, [f"models.plugins=[{LATELY}]", "models.lately.half_life_days=2"])
    found = {row.key: (row.value, row.origin) for row in rows}
    assert found["models.lately.half_life_days"] == (2.0, "--set models.lately.half_life_days")


def test_comparisons_searches_and_replays_take_any_kind() -> None:
    entry = EntrySettings(name="mine", kind="lately", plugin=LATELY, settings={"half_life_days": 3})
    assert entry.models.of("lately").model_dump() == {"half_life_days": 3.0}
    given = CompareSettings(entries=(entry, EntrySettings(name="ss4rec", kind="ss4rec")))
    assert given.seeds_of(entry) == (1,)  # its spec says that no seed matters
    with pytest.raises(ValueError, match="half_life is not a setting of lately"):
        EntrySettings(name="mine", kind="lately", settings={"half_life": 3})
    with pytest.raises(ValueError, match="the entry mine cannot be used: No model of the kind bert is known"):
        EntrySettings(name="mine", kind="bert")
    plugin = {"plugins": [LATELY]}
    search = SearchSettings.model_validate({"models": plugin, "challenger": "lately"})
    assert list(search.parameters) == ["half_life_days"]
    with pytest.raises(
        ValueError, match=r"search\.space\.half_life is not a setting of popular lately; did you mean half_life_days"
    ):
        SearchSettings.model_validate(
            {"models": plugin, "challenger": "lately", "search": {"space": {"half_life": {"choices": [1]}}}}
        )
    with pytest.raises(ValueError, match="NCF has no search space of its own: give one in search"):
        SearchSettings.model_validate({"challenger": "ncf", "baselines": ["popularity"]})
    assert ReplaySettings.model_validate({"models": plugin, "challenger": "lately"}).kinds == ("popularity", "lately")


@pytest.mark.parametrize("model", [ServingSettings, DemoSettings])
def test_a_server_and_the_demo_know_the_plugins_that_their_settings_name(model: type[Settings]) -> None:
    load_settings(model, None, [f"plugins=[{LATELY}]"])
    assert spec_of("lately").kind == "lately"
    with pytest.raises(
        SettingsError, match=r"--set plugins cannot be used: plugins: The plugin no\.such:SPEC .* install the package"
    ):
        load_settings(model, None, ["plugins=[no.such:SPEC]"])


def test_the_spec_in_the_documentation_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "how-to" / "own-model.md").read_text()
    module = ModuleType("mine_plugin")
    monkeypatch.setitem(sys.modules, "mine_plugin", module)
    exec(re.findall(r"```python[^\n]*\n(.*?)```", page, re.DOTALL)[0], module.__dict__)
    settings = yaml.safe_load(re.findall(r"```yaml[^\n]*\n(.*?)```", page, re.DOTALL)[0])
    settings["models"]["plugins"] = ["mine_plugin:SPEC"]
    found = RetrainSettings.model_validate(settings)
    assert found.kinds == ("popularity", "ss4rec", "mine") and found.models.of("mine").model_dump() == {"width": 128}


STAGES_AND_SERVERS = ("flows", "tasks", "serving", "infra")
# Popularity is also a property of items: drift is looked for in it, the catalogue holds it, and rules select by it.
OF_ITEMS = ("tasks/monitoring/", "serving/catalogue.py")
# Modules that adapt what is called a movie in MovieLens, in files of earlier versions, or in the columns of a team's file.
ADAPTERS = (
    "tasks/ingest/movielens.py", "tasks/ingest/events/columns.py", "tasks/ingest/events/files.py", "tasks/ingest/sources.py",
    "tasks/ingest/table_reading.py", "tasks/datasets/quarantine.py", "tasks/monitoring/reference.py",
)  # fmt: skip


def lines_with(pattern: str, excluded: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in STAGES_AND_SERVERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".pyi", ".html") and not str(path.relative_to(ROOT)).startswith(excluded)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(pattern, line, re.IGNORECASE)
    ]


def test_no_module_of_the_stages_and_servers_names_a_kind() -> None:
    found = [*lines_with(r"ss4rec|\bncf\b"), *lines_with(r"""["']popularity["']""", OF_ITEMS)]
    assert not found, "ask the spec of the kind (configs.kinds), or the settings, which kind is meant"


def test_only_what_adapts_movielens_speaks_of_movies() -> None:
    assert not lines_with(r"\bmovies?(?!lens|-ranker)", ADAPTERS), "the words for items and users are settings (data.nouns)"


def test_all_baselines_must_be_beaten_unless_settings_choose() -> None:
    assert PromotionSettings().baselines is None
    assert PromotionSettings.model_validate({"baselines": ["popularity", "ncf"]}).baselines == (
        "popularity",
        "ncf",
    )  # of a version
