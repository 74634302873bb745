"""Every recommender keeps the contract; small settings for those that are slow by default."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from modalrec import plugins
from modalrec.config import resolve
from modalrec.recommenders import BASE_KIND, Recommender
from modalrec.testing.recommenders import RecommenderContract, item_space
from tests.recommenders import mp4sr_cases

SMALL = {
    "encoder_decoder": {"width": 32, "dropout": 0.0, "history": 12},
    "encoder_retrieve": {"width": 32, "dropout": 0.0, "history": 12},
    "gru4rec": {"layers": [32], "n_sample": 32},
    "hybrid": {"width": 32, "dropout": 0.0, "history": 12},
    "mp4sr": mp4sr_cases.SMALL,
    "sasrec": {"width": 32, "dropout": 0.0, "history": 12},
}


NAMES = [name for name, plugin in plugins.discover(BASE_KIND).items() if issubclass(plugin, Recommender)]


@pytest.mark.parametrize("name", NAMES, scope="class")
class TestRecommenders(RecommenderContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.plugin = plugins.discover(BASE_KIND)[name]
        self.settings = SMALL.get(name, {})

    def build(self, seed: int = 0) -> Recommender:
        """With content for those that do not go without."""
        config = resolve(self.plugin.Config, self.settings)
        vectors = np.random.default_rng(0).standard_normal((60, 12)).astype(np.float32)
        spaces = {
            "embeddings": replace(item_space(), content=vectors),
            "text_embeddings": mp4sr_cases.multimodal_space(),
        }
        found = [space for edge, space in spaces.items() if edge in self.plugin.edges(config)]
        torch.manual_seed(seed)
        return self.plugin(config, *found or [item_space()])
