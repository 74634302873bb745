"""Codes are read as they were written, and wrong ones refused."""

from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts.codes import read_codes, write_codes
from modalrec.artifacts.files import write_json
from modalrec.errors import ArtifactError

CODES = np.array([[3, 0, 0], [3, 1, 0], [3, 1, 1]], np.int32)


def written(folder: Path, sizes: list[int]) -> Path:
    write_codes(folder, ["a", "b", "c"], CODES)
    write_json(folder / "quantizer.json", {"codebook_sizes": sizes})
    return folder


def test_round_trip(tmp_path: Path) -> None:
    item_ids, codes_NL, sizes = read_codes(written(tmp_path, [4, 2, 2]))
    assert item_ids == ["a", "b", "c"]
    assert sizes == (4, 2, 2)
    assert codes_NL.dtype == np.int32
    np.testing.assert_array_equal(codes_NL, CODES)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([4, 2, 1], r"row 2 \(item 'c'\) has the codes \[3, 1, 1\], the codebooks have \[4, 2, 1\]"),
        ([4, 2], r"semantic_id \(fixed_size_list"),
        ([], "not sizes of at least 1"),
        ([4, 2, 0], "not sizes of at least 1"),
        (["many"], "has no codebook_sizes"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path: Path, sizes: list[int], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_codes(written(tmp_path, sizes))


@pytest.mark.parametrize("name", ["codes.parquet", "quantizer.json"])
def test_missing_or_damaged_file(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, [4, 2, 2]) / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArtifactError, match=name):
        read_codes(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactError, match=name):
        read_codes(tmp_path)
