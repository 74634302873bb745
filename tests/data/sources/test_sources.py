"""What holds for every source: the contract of `Source` on a small folder of each form."""

from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from modalrec import plugins
from modalrec.config import dump
from modalrec.data.sources import EVENT_ROWS, ITEM_ROWS, Source
from tests.raw import WRITERS

NAMES = list(plugins.discover("sources"))


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def source(name: str, tmp_path: Path) -> Source:
    folder = WRITERS[name](tmp_path / "raw")
    return plugins.create("sources", plugins.discover("sources")[name].Config(), folder)


def test_every_source_has_a_small_folder_here():
    assert set(NAMES) == set(WRITERS)


def test_the_configuration_survives_being_written_and_refuses_unknown_keys(name):
    cls = plugins.discover("sources")[name].Config
    assert cls(**dump(cls())) == cls()
    with pytest.raises(ValidationError, match="unknown_key"):
        cls(unknown_key=1)


def test_a_folder_looks_like_its_own_source_alone(source, name, tmp_path):
    fitting = [other for other, cls in plugins.discover("sources").items() if cls.detect(tmp_path / "raw")]
    assert fitting == [name]


def test_no_source_claims_an_empty_folder(name, tmp_path):
    assert not plugins.discover("sources")[name].detect(tmp_path)


def test_batches_have_the_columns_of_their_kind(source):
    for batches, schema in ((source.items(), ITEM_ROWS), (source.interactions(), EVENT_ROWS)):
        table = pa.Table.from_batches(batches)
        for place, field in enumerate(schema):
            numbers = pa.types.is_dictionary(field.type) and table.schema.field(place).type == pa.int64()
            assert table.schema.field(place).equals(field.with_type(pa.int64()) if numbers else field)
        assert table.num_rows > 0
        assert all(table[field.name].null_count == 0 for field in schema if not field.nullable)


def test_times_and_ratings_are_there_when_said_so(source):
    table = pa.Table.from_batches(source.interactions())
    times = source.has_timestamps or source.times_only_sort
    for column, there in (("timestamp", times), ("rating", source.has_ratings)):
        assert table[column].null_count == (0 if there else table.num_rows)


def test_reading_twice_gives_the_same(source):
    for read in (source.items, source.interactions):
        assert pa.Table.from_batches(read()).equals(pa.Table.from_batches(read()))
    assert source.items_file.is_file()
    assert source.events_file.is_file()
