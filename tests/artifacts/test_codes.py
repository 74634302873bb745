"""Codes are read as they were written, and wrong ones refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts.codes import CodeGroup, read_code_groups, read_codes, write_code_groups, write_codes
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


def grouped(folder: Path, **sizes: list[int]) -> Path:
    groups = {
        name: CodeGroup(np.arange(3 * len(of), dtype=np.int32).reshape(3, -1) % 4, tuple(of), len(set(of)) == 1)
        for name, of in sizes.items()
    }
    write_code_groups(folder, ["a", "b", "c"], groups)
    return folder


def test_groups_come_back_in_their_order(tmp_path: Path) -> None:
    item_ids, groups = read_code_groups(grouped(tmp_path, text=[4, 4], image=[4, 5, 6]))
    assert item_ids == ["a", "b", "c"]
    assert list(groups) == ["text", "image"]
    assert groups["text"].sizes == (4, 4)
    assert groups["text"].shared
    assert groups["image"].sizes == (4, 5, 6)
    assert not groups["image"].shared
    assert groups["image"].codes_NK.dtype == np.int32
    assert groups["image"].codes_NK.tolist() == [[0, 1, 2], [3, 0, 1], [2, 3, 0]]


def test_semantic_ids_are_one_group_without_the_position(tmp_path: Path) -> None:
    _, groups = read_code_groups(written(tmp_path, [4, 2, 2]))
    assert list(groups) == ["semantic_id"]
    assert groups["semantic_id"].sizes == (4, 2)
    np.testing.assert_array_equal(groups["semantic_id"].codes_NK, CODES[:, :2])


def test_groups_are_no_semantic_ids(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds the code groups text, image, .*form=semantic_id"):
        read_codes(grouped(tmp_path, text=[4], image=[4, 4]))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"name": "text", "codebook_sizes": [4, 3], "shared": False}], r"row 1 \(item 'b'\) has the codes \[2, 3\]"),
        ([{"name": "text", "codebook_sizes": [4], "shared": False}], r"text \(fixed_size_list"),
        ([{"name": "image", "codebook_sizes": [4, 4], "shared": False}], r"image \(missing"),
        ([{"name": "text", "codebook_sizes": [4, 4], "shared": False}] * 2, "or one twice"),
        ([{"name": "text"}], "has no codebook_sizes"),
        (["text"], "not a list of named groups"),
        ("text", "not a list of named groups"),
        (None, "not a list of named groups"),
        ([], "no names"),
    ],
)
def test_groups_that_do_not_fit(tmp_path: Path, groups: object, message: str) -> None:
    write_json(grouped(tmp_path, text=[4, 4]) / "quantizer.json", {"groups": groups})
    with pytest.raises(ArtifactError, match=message):
        read_code_groups(tmp_path)


def test_empty_cells_are_refused(tmp_path: Path) -> None:
    grouped(tmp_path, text=[4, 4])
    column = pa.array([[1, 2], None, [0, 0]], pa.list_(pa.int32(), 2))
    pq.write_table(pa.table({"item_id": ["a", "b", "c"], "text": column}), tmp_path / "codes.parquet")
    with pytest.raises(ArtifactError, match="text has empty cells"):
        read_code_groups(tmp_path)
