"""Every recommender keeps the contract; small settings for those that are slow by default."""

import pytest

from modalrec import plugins
from modalrec.recommenders import BASE_KIND
from modalrec.testing.recommenders import RecommenderContract

SMALL = {
    "encoder_decoder": {"width": 32, "dropout": 0.0, "history": 12},
    "encoder_retrieve": {"width": 32, "dropout": 0.0, "history": 12},
    "gru4rec": {"layers": [32], "n_sample": 32},
    "sasrec": {"width": 32, "dropout": 0.0, "history": 12},
}


@pytest.mark.parametrize("name", plugins.discover(BASE_KIND), scope="class")
class TestRecommenders(RecommenderContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.plugin = plugins.discover(BASE_KIND)[name]
        self.settings = SMALL.get(name, {})
