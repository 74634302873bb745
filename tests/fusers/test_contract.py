"""Every fuser that is found keeps the contract."""

from collections.abc import Mapping

import pytest

from modalrec import plugins
from modalrec.config import Config
from modalrec.fusers import Fuser, TrainedFuser
from modalrec.testing.configs import ConfigContract
from modalrec.testing.fusers import FuserContract, Make, TrainedFuserContract

FOUND = plugins.discover("fusers")
TRAINED = {name: cls for name, cls in FOUND.items() if issubclass(cls, TrainedFuser)}


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


@pytest.mark.parametrize("make", list(TRAINED), indirect=True)
class TestEveryTrainedFuser(TrainedFuserContract):
    @pytest.fixture
    def config(self, request: pytest.FixtureRequest) -> Config:
        return TRAINED[request.node.callspec.params["make"]].Config()

    @pytest.fixture
    def make(self, request: pytest.FixtureRequest) -> Make:
        cls = TRAINED[request.param]

        def build(dimensions: Mapping[str, int], seed: int) -> Fuser:
            return cls(cls.Config(), dimensions, seed)

        return build
