"""Published lists of vectors: read as data alone, matched with the dataset's items, all problems at once."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalrec.artifacts.embedding_lists import load_lists
from modalrec.errors import ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.exchange import EmbeddingsConfig, import_embeddings
from tests.stages.small import write_dataset

RUN = Run("import", quiet=True)
VECTORS = np.arange(24, dtype=np.float32).reshape(6, 4)
PUBLISHED = {"a2": [VECTORS[0], VECTORS[1]], "a0": [VECTORS[2]], "a1": [VECTORS[3], VECTORS[4], VECTORS[5]]}
"""As `desc_emb.pkl`: from item to a list of numpy vectors."""


class Harmful:
    """A pickle that would run a command."""

    def __reduce__(self) -> Any:
        return (eval, ("1 / 0",))


def bring(tmp_path: Path, value: object, protocol: int = 4, **settings: Any) -> dict[str, float]:
    dataset = write_dataset(tmp_path / "dataset", ["x", "y", "z"])
    file = tmp_path / "desc_emb.pkl"
    file.write_bytes(pickle.dumps(value, protocol))
    config = EmbeddingsConfig(**{"allow_pickle": True, **settings})
    return import_embeddings(file, dataset, tmp_path / "text_embeddings", config=config, run=RUN)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "form",
    [
        lambda published: published,
        lambda published: {item: np.stack(vectors) for item, vectors in published.items()},
        lambda published: {item: [vector.tolist() for vector in vectors] for item, vectors in published.items()},
        lambda published: [(item, vector) for item, vectors in published.items() for vector in vectors],
    ],
    ids=["lists of vectors", "arrays", "lists of numbers", "pairs"],
)
def test_published_forms_come_back_in_the_datasets_order(form: Any, protocol: int, tmp_path: Path) -> None:
    metrics = bring(tmp_path, form(PUBLISHED), protocol)
    assert metrics == {"items": 3, "present": 3, "missing": 0, "vectors": 6, "dimension": 4, "rows_dropped": 0}
    item_ids, lists = load_lists(tmp_path / "text_embeddings")
    assert item_ids.tolist() == ["a0", "a1", "a2"]
    found = [lists.vectors_VD[lists.of(np.array([item]))[0]] for item in range(3)]
    for vectors, item in zip(found, item_ids, strict=True):
        np.testing.assert_array_equal(vectors, np.stack(PUBLISHED[item]))


def test_half_precision_and_items_without_a_vector(tmp_path: Path) -> None:
    published: dict[str, Any] = {item: [one.astype(np.float16) for one in rows] for item, rows in PUBLISHED.items()}
    metrics = bring(tmp_path, {**published, "a1": []}, missing="zero")
    assert (metrics["present"], metrics["vectors"]) == (2, 3)


def test_without_being_allowed_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a pickle; give --allow-pickle"):
        bring(tmp_path, PUBLISHED, allow_pickle=False)


@pytest.mark.parametrize("value", [Harmful(), {"a0": [Harmful()]}, {Harmful(): [VECTORS[0]]}])
def test_a_program_is_refused_and_not_run(value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refused: the pickle asks for builtins\.eval.*nothing of it was run"):
        bring(tmp_path, value)
    assert not (tmp_path / "text_embeddings").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({**PUBLISHED, "a1": [VECTORS[0][:3]]}, r"item 'a1': has vectors of length 3, expected 4"),
        ({**PUBLISHED, "a0": [VECTORS[0] * np.nan]}, r"item 'a0': has a vector that is not finite"),
        ({"a0": [VECTORS[0]], "a1": [VECTORS[1]]}, r"item 'a2' of the dataset: has no row"),
        ({**PUBLISHED, "b": [VECTORS[0]]}, r"'b' is no item of"),
        ({**PUBLISHED, "a1": [VECTORS[0], VECTORS[1][:3]]}, r"item 'a1': all input arrays must have the same shape"),
        ({**PUBLISHED, "a1": VECTORS[0].tolist()}, r"item 'a1': a number where a vector is expected"),
        ({**PUBLISHED, "a1": VECTORS[None]}, r"item 'a1': an array \[1, 6, 4\] of float32 where vectors are expected"),
        ({**PUBLISHED, "a1": np.array(3.0)}, r"item 'a1': an array \[\] of float64 where"),
        ({**PUBLISHED, "a1": [VECTORS[0][:0]]}, r"item 'a1': an array \[1, 0\] of float32 where"),
        ({**PUBLISHED, "a1": np.array([[1.0, "x"]], object)}, r"item 'a1': could not convert string to float"),
        ([1, 2], "holds no pickled dictionary"),
        ("text", "str where a dictionary is expected"),
    ],
)
def test_what_is_wrong_is_named(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        bring(tmp_path, value)
    assert not (tmp_path / "text_embeddings").exists()
