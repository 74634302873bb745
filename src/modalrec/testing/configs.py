"""What the configuration of every plug-in does."""

from typing import Any

import pytest

from modalrec.config import Config, dump, resolve
from modalrec.errors import ConfigError


class ConfigContract:
    """Tests of a plug-in's configuration; a subclass gives the fixture `config`, one instance that is valid."""

    def test_round_trip(self, config: Config) -> None:
        """What a manifest keeps of the configuration gives the same configuration again."""
        assert resolve(type(config), dump(config)) == config

    def test_name_is_the_modules(self, config: Config) -> None:
        """`name`, by which users choose the plug-in, is the name of its file."""
        assert dump(config)["name"] == type(config).__module__.rpartition(".")[2]

    def test_unknown_key_is_refused_with_a_suggestion(self, config: Config) -> None:
        """A key that is nearly right is refused, and the right one named."""
        known = list(type(config).model_fields)[-1]
        settings: dict[str, Any] = dump(config) | {f"{known}x": 1}
        with pytest.raises(ConfigError, match=f"{known}x: unknown field, did you mean {known}"):
            resolve(type(config), settings)
