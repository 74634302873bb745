"""Ready-made codes and embeddings: the forms of others become artifacts, and artifacts those forms, exactly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.codes import read_codes
from modalrec.artifacts.embeddings import load
from modalrec.artifacts.exchange import level_name
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.exchange import (
    CodesConfig,
    EmbeddingsConfig,
    export_codes,
    export_embeddings,
    import_codes,
    import_embeddings,
)
from modalrec.stages.ingest import Config, ingest
from tests.raw import real_data
from tests.stages.small import write_dataset

RUN = Run("import", quiet=True)
INDEX = {"a0": [1, 2], "a1": [0, 3], "a2": [1, 2], "a3": [1, 2], "a4": [2, 0]}
PUBLISHED = {"rqvae_native": 554, "rkmeans_native": 875, "letter_native": 27, "quasid_native": 122, "mql4grec": 0}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", [f"Text {row}" for row in range(5)])


def index(path: Path, rows: dict[str, Any] | None = None) -> Path:
    rows = INDEX if rows is None else rows
    tokens = {key: [f"<{level_name(level)}_{code}>" for level, code in enumerate(codes)] for key, codes in rows.items()}
    path.write_text(json.dumps(tokens))
    return path


def codes(file: Path, dataset: Path, name: str = "codes", **settings: Any) -> Path:
    places = {key: settings.pop(key) for key in ("ids", "numbers") if key in settings}
    target = dataset.parent / name
    import_codes(file, dataset, target, config=resolve(CodesConfig, settings), run=RUN, **places)
    read_manifest(target, "codes")
    return target


def vectors(file: Path, dataset: Path, name: str = "embeddings", **settings: Any) -> Path:
    places = {key: settings.pop(key) for key in ("ids", "numbers") if key in settings}
    target = dataset.parent / name
    import_embeddings(file, dataset, target, config=resolve(EmbeddingsConfig, settings), run=RUN, **places)
    read_manifest(target, "embeddings")
    return target


def test_published_codes_become_unique_semantic_ids(tmp_path: Path, dataset: Path) -> None:
    folder = codes(index(tmp_path / "x.index.json"), dataset)
    item_ids, semantic_ids, sizes = read_codes(folder)
    assert item_ids == ["a0", "a1", "a2", "a3", "a4"]
    assert semantic_ids.tolist() == [[1, 2, 0], [0, 3, 0], [1, 2, 1], [1, 2, 2], [2, 0, 0]]
    assert sizes == (4, 4, 3), "one more than the largest code of any level"
    manifest = read_manifest(folder, "codes")
    assert manifest.stage == "import"
    assert manifest.inputs == {"dataset": read_manifest(dataset, "dataset").digest}
    assert {name: manifest.statistics[name] for name in ("items", "levels", "collisions", "distinct")} == {
        "items": 5,
        "levels": 2,
        "collisions": 2,
        "distinct": 3,
    }
    assert manifest.statistics["level_1_usage"] == 0.75
    assert set(manifest.statistics["source_files"]) == {"x.index.json"}
    assert read_codes(codes(tmp_path / "x.index.json", dataset, "sized", sizes=[256]))[2] == (256, 256, 3)


def test_all_that_is_wrong_with_the_rows_comes_at_once(tmp_path: Path, dataset: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a0": [1], "a1": [1], "b7": [2], "a1": [3], "a2": [0]}')
    with pytest.raises(DataError) as caught:
        codes(path, dataset)
    for part in (
        "row 3: 'a1' stands there already",
        "row 2: 'b7' is no item of",
        "item 'a3' of the dataset: has no row",
        "item 'a4' of the dataset: has no row",
        "2 of 5 items lack a row, 1 of 5 rows are of other items. --extra drop",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "codes").exists()
    rows = {**INDEX, "b7": [9, 9]}
    assert read_codes(codes(index(path, rows), dataset, extra="drop"))[2] == (4, 4, 3), "dropped codes do not count"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not of the form"),
        ("{}", "is not of the form"),
        ('[["a0", ["<a_1>"]]]', "is not of the form"),
        ('{"a0": ["<a_1>", "<a_2>"]}', "item 'a0': '<a_2>' is no code of level b"),
        (
            '{"a0": ["<a_1>"], "a1": ["<a_1>", "<b_1>"], "a2": ["<a_-1>"], "a3": 5, "a4": [true]}',
            "(?s)item 'a1': has 2 codes, the first item has 1.*'a2': '<a_-1>'.*'a3': has 0 codes.*'a4': True",
        ),
        ('{"a0": {"b": 1}}', "is no code of level a"),
        ('{"a0": [-1]}', "-1 is no code of level a"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, dataset: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match=message):
        codes(tmp_path / "x.json", dataset)


def test_codes_beyond_their_level_are_refused(tmp_path: Path, dataset: Path) -> None:
    path = index(tmp_path / "x.json")
    with pytest.raises(DataError, match=r"(?s)item 'a1': code 3 of level 2, which has 3"):
        codes(path, dataset, sizes=[3, 3])
    with pytest.raises(ConfigError, match=r"sizes: \[4, 4, 4\] for 2 levels"):
        codes(path, dataset, sizes=[4, 4, 4])
    with pytest.raises(DataError, match=r"(?s)item 'a2': has the codes of 'a0', also in the collision position.*'a3'"):
        codes(path, dataset, positions=True)


@pytest.mark.parametrize("suffix", [".json", ".npy", ".parquet"])
def test_codes_come_back_as_they_went(tmp_path: Path, dataset: Path, suffix: str) -> None:
    first = codes(index(tmp_path / "x.json"), dataset, "first", sizes=[256, 64])
    settings: dict[str, Any] = {} if suffix == ".parquet" else {"positions": True, "sizes": [256, 64]}
    export_codes(first, tmp_path / f"out{suffix}")
    if suffix == ".npy":
        settings["ids"] = tmp_path / "out.npy.ids.json"
    again = codes(tmp_path / f"out{suffix}", dataset, "again", **settings)
    assert (again / "codes.parquet").read_bytes() == (first / "codes.parquet").read_bytes()
    assert read_codes(again)[2] == (256, 64, 3)
    export_codes(first, tmp_path / f"plain{suffix}", positions=False)
    if suffix == ".json":
        assert json.loads((tmp_path / "plain.json").read_text()) == json.loads((tmp_path / "x.json").read_text())
    with pytest.raises(ArtifactError, match="exists; remove it"):
        export_codes(first, tmp_path / f"out{suffix}")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("variant", "collisions"), PUBLISHED.items())
def test_published_indexes_collide_as_published(tmp_path: Path, variant: str, collisions: int) -> None:
    raw = real_data("amazon_scientific")
    file = raw / "indexes" / variant / "Scientific.index.json"
    if not (tmp_path / "dataset").exists():
        ingest(raw, tmp_path / "dataset", config=Config(), run=RUN)
    folder = codes(file, tmp_path / "dataset")
    statistics = read_manifest(folder, "codes").statistics
    assert (statistics["items"], statistics["levels"], statistics["collisions"]) == (4344, 4, collisions)
    _, semantic_ids, sizes = read_codes(folder)
    assert len(np.unique(semantic_ids, axis=0)) == 4344
    assert sizes[:-1] == (256,) * 4
    if variant == "letter_native":
        assert statistics["level_1_usage"] == 129 / 256
    export_codes(folder, tmp_path / "again.json", positions=False)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(file.read_text())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("ids", ["ids.json", "ids.txt"])
def test_vectors_are_put_in_the_dataset_s_order(tmp_path: Path, dataset: Path, dtype: str, ids: str) -> None:
    order = [3, 0, 4, 1, 2]
    values = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    np.save(tmp_path / "x.npy", values[order])
    names = [f"a{row}" for row in order]
    (tmp_path / ids).write_text(json.dumps(names) if ids == "ids.json" else "\n".join(names) + "\n")
    found = load(vectors(tmp_path / "x.npy", dataset, ids=tmp_path / ids))
    assert found.present.all()
    np.testing.assert_array_equal(found.vectors_ND, values.astype(np.float32))
    statistics = read_manifest(tmp_path / "embeddings", "embeddings").statistics
    assert (statistics["dimension"], statistics["dtype"], statistics["zero_vectors"]) == (7, dtype, 0)


def test_rows_may_be_named_by_numbers(tmp_path: Path, dataset: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(10, dtype=np.float32).reshape(5, 2))
    with pytest.raises(DataError, match=r"nothing says which item a row is of; give --ids"):
        vectors(tmp_path / "x.npy", dataset)
    assert load(vectors(tmp_path / "x.npy", dataset, "rows", keys="row")).vectors_ND[3].tolist() == [6, 7]
    (tmp_path / "item2id").write_text("a4\t0\na3\t1\na2\t2\na1\t3\na0\t4\nb9\t5\n")
    found = load(vectors(tmp_path / "x.npy", dataset, "numbers", numbers=tmp_path / "item2id"))
    assert found.vectors_ND[3].tolist() == [2, 3]
    by_number = index(tmp_path / "x.json", {str(number): [number] for number in range(5)})
    assert read_codes(codes(by_number, dataset, "coded", numbers=tmp_path / "item2id"))[1][:, 0].tolist() == [
        4,
        3,
        2,
        1,
        0,
    ]
    assert read_codes(codes(by_number, dataset, "by_row", keys="row"))[1][:, 0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="No row is of the dataset: are these numbers"):
        codes(by_number, dataset, "failed")
    (tmp_path / "item2id").write_text("a4\nb 0\na1\t0\n")
    with pytest.raises(DataError, match=r"(?s)line 1: 'a4' is not an id and a number.*line 3: number 0 is item 'b'"):
        codes(by_number, dataset, "failed", numbers=tmp_path / "item2id")


def test_items_may_lack_vectors_when_that_is_said(tmp_path: Path, dataset: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float16))
    (tmp_path / "ids").write_text("a0\na4\na2")
    with pytest.raises(DataError, match=r"(?s)item 'a1' of the dataset: has no row.*--missing zero"):
        vectors(tmp_path / "x.npy", dataset, ids=tmp_path / "ids")
    first = vectors(tmp_path / "x.npy", dataset, "first", ids=tmp_path / "ids", missing="zero")
    found = load(first)
    assert found.present.tolist() == [True, False, True, False, True]
    assert found.vectors_ND[1].tolist() == [0, 0]
    for suffix, settings in ((".parquet", {}), (".npy", {"missing": "zero", "ids": tmp_path / "out.npy.ids.json"})):
        for dtype in ("float16", "float32"):
            file = tmp_path / f"out{suffix}"
            export_embeddings(first, file, dtype=dtype)
            again = vectors(file, dataset, f"again{suffix}{dtype}", **settings)
            assert (again / "embeddings.parquet").read_bytes() == (first / "embeddings.parquet").read_bytes()
            file.unlink()
            (tmp_path / "out.npy.ids.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1, np.nan], [0, 0], [np.inf, 0], [0, 0], [1, 1.0]]), "(?s)item 'a0': has a.*item 'a2'"),
        (np.full((5, 2), 1e300), "item 'a4': has a vector that is not finite in float32"),
        (np.ones((5, 2), np.int64), "holds int64; vectors are float16"),
        (np.ones(5), "expected two dimensions"),
        (np.ones((4, 2)), "has 4 rows, .* has 5 ids"),
        (np.ones((5, 0)), "holds nothing"),
        (np.array([["x"] * 2] * 5, object), "is no array of numbers"),
        (np.ones((5, 3)), "vectors of length 3, expected 2"),
    ],
)
def test_vectors_that_cannot_be_used(tmp_path: Path, dataset: Path, values: Any, message: str) -> None:
    np.save(tmp_path / "x.npy", values)
    (tmp_path / "ids").write_text("a0\na1\na2\na3\na4\n")
    with pytest.raises(DataError, match=message):
        vectors(tmp_path / "x.npy", dataset, ids=tmp_path / "ids", dimension=2)
    assert not (tmp_path / "embeddings").exists()


def test_cut_and_foreign_files_are_refused(tmp_path: Path, dataset: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((5, 2)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-9])
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "x.bin").write_bytes(b"1")
    for name, message in {
        "cut.npy": "is no array of numbers",
        "x.parquet": "cannot be read",
        "x.bin": r"is none of \.npy, \.parquet",
        "gone.npy": "no such file",
    }.items():
        with pytest.raises(DataError, match=message):
            vectors(tmp_path / name, dataset, keys="row")
    for columns, message in (
        ({"item_id": ["a0", "a1"], "embedding": [[1.0], [1.0, 2.0]]}, "several lengths"),
        ({"item_id": ["a0", None], "embedding": [[1.0], [2.0]]}, "empty cells"),
        ({"item_id": ["a0"], "vector": [[1.0]]}, "no column embedding; it has item_id, vector"),
        ({"item_id": ["a0"], "embedding": [1.0]}, "not lists of numbers"),
    ):
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        with pytest.raises(DataError, match=message):
            vectors(tmp_path / "x.parquet", dataset)
    with pytest.raises(ArtifactError, match=r"no such|is not a folder|manifest"):
        vectors(tmp_path / "x.npy", tmp_path / "gone", keys="row")


def test_exports_that_cannot_be_written(tmp_path: Path, dataset: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((5, 2), 1e5, np.float32))
    folder = vectors(tmp_path / "x.npy", dataset, keys="row")
    with pytest.raises(DataError, match="item 'a0' has a value beyond float16"):
        export_embeddings(folder, tmp_path / "out.npy", dtype="float16")
    with pytest.raises(ConfigError, match=r"ends in none of \.npy, \.parquet"):
        export_embeddings(folder, tmp_path / "out.json")
    with pytest.raises(ConfigError, match="names its rows itself"):
        export_embeddings(folder, tmp_path / "out.parquet", ids=tmp_path / "ids")
    with pytest.raises(ConfigError, match="neither float16 nor float32"):
        export_embeddings(folder, tmp_path / "out.npy", dtype="int8")
