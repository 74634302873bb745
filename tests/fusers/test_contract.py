"""Every fuser that is found keeps the contract."""

from collections.abc import Mapping

import pytest

from modalrec import plugins
from modalrec.config import Config
from modalrec.fusers import Fuser
from modalrec.testing.configs import ConfigContract
from modalrec.testing.fusers import FuserContract, Make

FOUND = plugins.discover("fusers")


@pytest.mark.parametrize("config", [cls.Config() for cls in FOUND.values()], ids=list(FOUND))
class TestEveryConfig(ConfigContract):
    config: Config


@pytest.mark.parametrize("make", list(FOUND), indirect=True)
class TestEveryFuser(FuserContract):
    @pytest.fixture
    def make(self, request: pytest.FixtureRequest) -> Make:
        cls = FOUND[request.param]

        def build(dimensions: Mapping[str, int], seed: int) -> Fuser:
            return cls(cls.Config(), dimensions, seed)

        return build
