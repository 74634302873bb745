"""Reading tables of artifacts piece by piece."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts.schemas import stream


@pytest.mark.parametrize("group", [1, 3, 4, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 8, 11])
def test_batches_are_full_whatever_the_row_groups(count: int, group: int, tmp_path: Path) -> None:
    vectors = pa.array([[row, row + 0.5] for row in range(count)], pa.list_(pa.float32(), 2))
    lists = pa.array([[[row, 0.0]] * (row % 3) for row in range(count)], pa.list_(pa.list_(pa.float32(), 2)))
    table = pa.table({"row": pa.array(range(count), pa.int32()), "vector": vectors, "list": lists})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=group)
    with pq.ParquetFile(tmp_path / "t.parquet") as file:
        batches = list(stream(file, 4))
        assert [len(batch) for batch in batches] == [4] * (count // 4) + [count % 4] * bool(count % 4)
        assert pa.Table.from_batches(batches, table.schema).equals(table)
        flat = [number for batch in batches for number in batch.column("vector").flatten().to_pylist()]
        assert flat == [number for pair in vectors.to_pylist() for number in pair]
        assert [batch.schema.names for batch in stream(file, 4, ["vector"])] == [["vector"]] * len(batches)
