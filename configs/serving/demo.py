"""Settings of `recsys demo` and their defaults."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from configs.base import Settings
from configs.kinds import Plugins
from configs.settings import RetrainSettings, StoreSettings

__all__ = ["DemoSettings"]


class DemoSettings(Settings):
    """Content of the demo, and the sources of its data."""

    model_name: str = RetrainSettings().model_name
    """Name of the model to show."""
    store: StoreSettings = StoreSettings()
    plugins: Plugins = ()
    """Specs of models from other packages, as `package.module:NAME`, as in `models.plugins`. Packages with an entry point in the group
    `recsys.models` are found without it."""
    host: str = "127.0.0.1"
    """Address that the demo listens on."""
    port: int = Field(default=8501, ge=1, le=65535)
    """Port that the demo listens on."""
    api_url: str | None = None
    """Address of a running `recsys serve`. Its answers are shown beside the demo's own. If empty, the demo loads the model
    versions itself."""
    api_key: SecretStr | None = None
    """API key for that server, sent in the header X-API-Key."""
    api_key_file: Path | None = None
    """File with that key, in place of `api_key`. An empty file stands for no key."""
    rules: Path | None = None
    """YAML file of business rules."""
    experiments: Path | None = None
    """YAML file of experiments."""
    exposures: Path | None = None
    """Folder of the exposure log. If empty, the exposures that were uploaded to the store are read."""
    outcomes: Path | None = None
    """File of outcomes, in a format that `recsys experiment report` accepts. It is added to those that the API has stored."""
    work_dir: Path = Path(".recsys/demo")
    """Folder for downloaded model versions."""
    users: int = Field(default=300, ge=1)
    """Number of users to choose from. They are sampled from the training data of the version."""
    refresh_s: float = Field(default=10.0, ge=0)
    """Seconds between two reads of the store."""
