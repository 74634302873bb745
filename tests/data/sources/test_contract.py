"""Every source keeps the contract: its own form of raw data is found, by it alone, and reads twice alike."""

from pathlib import Path
from typing import Any

import pytest

from modalrec import plugins
from modalrec.config import Config
from modalrec.data.sources import ITEM_ROWS, Source
from modalrec.testing.configs import ConfigContract
from tests.raw import WRITERS


@pytest.mark.parametrize("name", plugins.discover("sources"), scope="class")
class TestSources(ConfigContract):
    @pytest.fixture
    def config(self, name: str) -> Config:
        config: Config = plugins.discover("sources")[name].Config()
        return config

    @pytest.fixture
    def source(self, name: str, config: Any, tmp_path: Path) -> Source:
        WRITERS[name](tmp_path / "raw")
        source: Source = plugins.create("sources", config, tmp_path / "raw")
        return source

    def test_it_alone_detects_its_form(self, name: str, source: Source, tmp_path: Path) -> None:
        assert [other for other, cls in plugins.discover("sources").items() if cls.detect(tmp_path / "raw")] == [name]

    def test_reading_twice_gives_the_same_rows(self, source: Source) -> None:
        for read in (source.items, source.interactions):
            first, second = ([batch.to_pydict() for batch in read()] for _ in range(2))
            assert first == second
            assert sum(len(next(iter(batch.values()))) for batch in first) > 0

    def test_items_have_the_columns_of_the_contract(self, source: Source) -> None:
        assert all(batch.schema.equals(ITEM_ROWS) for batch in source.items())

    def test_every_event_names_an_item(self, source: Source) -> None:
        known = {item for batch in source.items() for item in batch["item_id"].to_pylist()}
        named = {item for batch in source.interactions() for item in batch["item_id"].to_pylist()}
        assert {str(item) for item in named} <= known
