"""Settings of `recsys demo`, with their one default."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from configs.base import Settings
from configs.settings import RetrainSettings, StoreSettings

__all__ = ["DemoSettings"]


class DemoSettings(Settings):
    """What the demo shows, and where it finds it."""

    model_name: str = RetrainSettings().model_name
    store: StoreSettings = StoreSettings()
    host: str = "127.0.0.1"
    port: int = Field(default=8501, ge=1, le=65535)
    api_url: str | None = None
    """Address of a running `recsys serve` whose answers are shown beside the demo's own; without one the demo loads the
    versions itself."""
    api_key: SecretStr | None = None
    """Sent as X-API-Key."""
    rules: Path | None = None
    """The YAML file of business rules."""
    experiments: Path | None = None
    """The YAML file of experiments."""
    exposures: Path | None = None
    """Folder of the exposure log; what the logs put into the store by default."""
    outcomes: Path | None = None
    """File of outcomes, as `recsys experiment report` takes it."""
    work_dir: Path = Path(".recsys/demo")
    """Folder of the fetched versions."""
    users: int = Field(default=300, ge=1)
    """Users to pick from, drawn from the data that the version was trained on."""
    refresh_s: float = Field(default=10.0, ge=0)
    """Seconds after which the store is looked at again."""
