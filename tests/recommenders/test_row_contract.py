"""Every model of rows keeps the contract; small settings for those that are slow by default."""

import pytest

from modalrec import plugins
from modalrec.recommenders import BASE_KIND
from modalrec.recommenders._rows import RowModel
from modalrec.testing.rows import RowModelContract

SMALL = {
    "din": {"width": 8, "attention": [16], "layers": [32], "dropout": 0.0, "user_id": True},
    "target_transformer": {"width": 8, "layers": [32], "dropout": 0.0, "history": 12, "user_id": True},
}
NAMES = [name for name, plugin in plugins.discover(BASE_KIND).items() if issubclass(plugin, RowModel)]


@pytest.mark.parametrize("name", NAMES, scope="class")
class TestRowModels(RowModelContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.plugin = plugins.discover(BASE_KIND)[name]
        self.settings = SMALL.get(name, {})
