"""Every model of rows keeps the contract; small settings for those that are slow by default."""

import pytest

from modalrec import plugins
from modalrec.recommenders import BASE_KIND
from modalrec.recommenders._rows import RowModel
from modalrec.testing.rows import RowModelContract

SMALL = {
    "din": {"width": 8, "attention": [16], "layers": [32], "dropout": 0.0, "user_id": True},
    "dlrm": {"width": 8, "bottom": [8], "top": [32, 16], "dropout": 0.0, "id_dropout": 0.0, "without": ["content"]},
    "target_transformer": {
        **{"width": 8, "layers": [16], "head": [8], "dropout": 0.0, "attention_dropout": 0.0, "user_id": True},
        **{"history": 12, "blocks": 1, "feed_forward_width": 16, "last": 2, "crosses": 1, "embedding_std": 0.3},
    },
}
NAMES = [name for name, plugin in plugins.discover(BASE_KIND).items() if issubclass(plugin, RowModel)]


@pytest.mark.parametrize("name", NAMES, scope="class")
class TestRowModels(RowModelContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.plugin = plugins.discover(BASE_KIND)[name]
        self.settings = SMALL.get(name, {})
