"""New items for trained models: what they get is what they would have had among the model's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts.codes import read_codes
from modalrec.artifacts.embeddings import load
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.recommenders import load_recommender
from modalrec.run import Run
from modalrec.stages.encode_items import Config, encode_items
from modalrec.stages.recommend import LISTS, Server, recommend_users
from tests.raw import histories, write_tables
from tests.stages.trained import run_stage

WORDS = ("blue", "pump", "steel", "valve", "rubber", "glove", "lamp", "filter", "wire", "tape")
KNOWN = {f"f{film}": " ".join(WORDS[film : film + 3]) for film in range(8)}
NEW = {"n0": "brass wire tape", "n1": KNOWN["f3"]}
"""Two new items; the second is like f3."""
QUIET = Run("encode_items", quiet=True)
MODELS: dict[str, dict[str, Any]] = {
    "sasrec": {"name": "sasrec", "content": "only", "width": 8, "neighbours": 1.0},
    "encoder_decoder": {"name": "encoder_decoder", "width": 8, "layers": 1, "heads": 2, "beam_size": 20},
    "encoder_retrieve": {"name": "encoder_retrieve", "width": 8, "layers": 1, "heads": 2, "content": "sum"},
    "hybrid": {"name": "hybrid", "width": 8, "layers": 1, "heads": 2},
}


def table(items: dict[str, str]) -> str:
    return "item_id,title\n" + "".join(f"{item},{title}\n" for item, title in items.items())


def chain(folder: Path, items: dict[str, str]) -> dict[str, Path]:
    """Dataset, vectors and codes of a catalogue, of which only the known items have events."""
    events = [",".join(map(str, (user, film, time))) for user, film, _, time in histories(12, 8)]
    write_tables(folder / "raw", table(items), "\n".join(["user_id,item_id,timestamp", *events]) + "\n")
    edges = {name: folder / name for name in ("dataset", "text_embeddings", "embeddings", "codes")}
    chosen = {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out"], "keep_cold_items": True}
    run_stage("ingest", chosen, source=folder / "raw", dataset=edges["dataset"])
    encoder = {"encoder": {"name": "hashing", "dimension": 32}}
    run_stage("embed_text", encoder, dataset=edges["dataset"], text_embeddings=edges["text_embeddings"])
    run_stage("fuse", {}, text_embeddings=edges["text_embeddings"], embeddings=edges["embeddings"])
    settings = {"quantizer": {"name": "rq_kmeans", "levels": 2, "codebook_size": 4}}
    run_stage("quantize", settings, embeddings=edges["embeddings"], codes=edges["codes"])
    return edges


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return chain(tmp_path_factory.mktemp("chain"), KNOWN)


def train(edges: dict[str, Path], model: Path, recommender: dict[str, Any]) -> Path:
    given = {edge: edges[edge] for edge in ("dataset", "codes", "embeddings")}
    run_stage("finetune", {"recommender": recommender, "training": {"epochs": 1}}, **given, model=model)
    return model


def add(model: Path, items: Path, encoded: Path) -> dict[str, float]:
    return encode_items(model, items, encoded, config=resolve(Config, {}), run=QUIET)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A table of the new items and one that the model has."""
    path = tmp_path / "new.csv"
    path.write_text(table({**NEW, "f5": "other words"}))
    return path


@pytest.mark.parametrize("name", MODELS)
def test_new_items_are_described_as_the_models_own_and_can_be_recommended(
    name: str, edges: dict[str, Path], new: Path, tmp_path: Path
) -> None:
    model = train(edges, tmp_path / "model", MODELS[name])
    metrics = add(model, new, tmp_path / "encoded")
    assert (metrics["items"], metrics["known"], metrics["added"], metrics["without_vector"]) == (3, 1, 2, 0)
    before, after = load_recommender(model), load_recommender(tmp_path / "encoded")
    assert after.items.item_ids == [*before.items.item_ids, "n0", "n1"]
    assert after.items.titles[-2:] == list(NEW.values())
    twin = before.items.item_ids.index("f3")
    if after.items.content is not None:
        whole = chain(tmp_path / "whole", KNOWN | NEW)
        expected = dict(zip(*load(whole["embeddings"])[::2], strict=True))
        np.testing.assert_allclose(after.items.content[-2], expected["n0"], atol=1e-6)
        np.testing.assert_array_equal(after.items.content[-1], before.items.content[twin])
    if after.items.codes is not None:
        assert after.items.codes[-1, :-1].tolist() == before.items.codes[twin, :-1].tolist()
        assert after.items.codebook_sizes == before.items.codebook_sizes
    server = Server(tmp_path / "encoded")
    (found,) = server.recommend([["f1", "n0"]], 10)
    assert {one.item_id for one in found} == {"f0", "f2", "f3", "f4", "f5", "f6", "f7", "n1"}
    assert {one.title for one in found if one.item_id == "n1"} == {NEW["n1"]}


def test_nothing_changes_for_the_items_that_were_there(edges: dict[str, Path], new: Path, tmp_path: Path) -> None:
    """An item like f3 scores as f3 does, but for the neighbours that it has not had yet."""
    model = train(edges, tmp_path / "model", MODELS["sasrec"] | {"neighbours": 0.0})
    add(model, new, tmp_path / "encoded")
    before, after = load_recommender(model), load_recommender(tmp_path / "encoded")
    history = [np.array([0, 4, 2], np.int32)]
    old = before.score(before.prepare(history), 0, 8)
    both = after.score(after.prepare(history), 0, 10)
    np.testing.assert_allclose(both[:, :8], old, rtol=1e-5)
    np.testing.assert_allclose(both[:, 9], both[:, after.items.item_ids.index("f3")], rtol=1e-5)


def test_items_can_be_added_again_and_come_from_a_dataset(edges: dict[str, Path], new: Path, tmp_path: Path) -> None:
    model = train(edges, tmp_path / "model", MODELS["hybrid"])
    add(model, new, tmp_path / "once")
    later = chain(tmp_path / "later", KNOWN | NEW | {"n2": "glove lamp blue"})
    metrics = add(tmp_path / "once", later["dataset"], tmp_path / "twice")
    assert (metrics["known"], metrics["added"]) == (10, 1)
    cold = load_recommender(tmp_path / "twice").cold_N.tolist()
    assert cold[-3:] == [True, True, True]
    assert load_recommender(tmp_path / "twice").items.item_ids[-3:] == ["n0", "n1", "n2"]


def test_positions_run_out_and_codes_are_shared_then(edges: dict[str, Path], tmp_path: Path) -> None:
    model = train(edges, tmp_path / "model", MODELS["encoder_decoder"])
    sizes = read_codes(edges["codes"])[2]
    path = tmp_path / "many.csv"
    path.write_text(table({f"m{row}": KNOWN["f3"] for row in range(5)}))
    metrics = add(model, path, tmp_path / "encoded")
    codes = load_recommender(tmp_path / "encoded").items.codes[-5:]
    assert (codes[:, :-1] == codes[0, :-1]).all()
    assert codes[-1, -1] == sizes[-1] - 1
    assert 0 < metrics["shared_ids"] <= 5
    (found,) = Server(tmp_path / "encoded").recommend([["f1"]], 12)
    assert len({one.item_id for one in found}) == 12


@pytest.mark.parametrize(
    "recommender", [{"name": "sasrec", "width": 8}, {"name": "gru4rec", "layers": [8]}], ids=lambda given: given["name"]
)
def test_ids_alone_take_no_new_items(
    recommender: dict[str, Any], edges: dict[str, Path], new: Path, tmp_path: Path
) -> None:
    model = train(edges, tmp_path / "model", recommender)
    with pytest.raises(ConfigError, match="with these settings takes no new items"):
        add(model, new, tmp_path / "encoded")
    assert not (tmp_path / "encoded").exists()


def test_what_cannot_be_read_or_adds_nothing(edges: dict[str, Path], tmp_path: Path) -> None:
    model = train(edges, tmp_path / "model", MODELS["sasrec"])
    path = tmp_path / "items.csv"
    for text, message in (
        (table({"f1": "old"}), "the model has all of its 1 items already"),
        (table(NEW) + "n0,again\n", "row 3: item 'n0' stands already in row 1"),
        ("name\nx\n", "item_id"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            add(model, path, tmp_path / "encoded")
    with pytest.raises(DataError, match="is not there"):
        add(model, tmp_path / "nowhere.csv", tmp_path / "encoded")
    assert [place.name for place in tmp_path.iterdir() if "encoded" in place.name] == []


def test_vectors_that_were_brought_in_cannot_be_made_again(edges: dict[str, Path], new: Path, tmp_path: Path) -> None:
    from tests.stages.small import write_vectors

    ids = read_codes(edges["codes"])[0]
    vectors = write_vectors(tmp_path / "vectors", ids, [True] * 8, 6)
    model = train({**edges, "embeddings": vectors}, tmp_path / "model", MODELS["sasrec"])
    with pytest.raises(ArtifactError, match="brought in ready-made"):
        add(model, new, tmp_path / "encoded")


def test_a_model_with_new_items_is_not_evaluated_as_trained(edges: dict[str, Path], new: Path, tmp_path: Path) -> None:
    add(train(edges, tmp_path / "model", MODELS["sasrec"]), new, tmp_path / "encoded")
    with pytest.raises(ArtifactError, match="was made by `encode_items` and not trained on the dataset"):
        run_stage("evaluate", {}, dataset=edges["dataset"], model=tmp_path / "encoded", evaluation=tmp_path / "e")


def test_a_table_of_users_gets_lists(edges: dict[str, Path], tmp_path: Path) -> None:
    server = Server(train(edges, tmp_path / "model", MODELS["sasrec"]))
    users = {"user": ["a", "b", "c"], "history": [["f1", "f2"], ["gone"], ["f4", "gone"]]}
    pq.write_table(pa.table(users), tmp_path / "users.parquet")
    metrics = recommend_users(server, tmp_path / "users.parquet", tmp_path / "lists.parquet", 3, True, QUIET)
    assert metrics == {"users": 3, "without_history": 1, "unknown_items": 2}
    lists = pq.read_table(tmp_path / "lists.parquet")
    assert lists.schema == LISTS
    assert [len(row) for row in lists["items"].to_pylist()] == [3, 0, 3]
    (alone,) = server.recommend([["f4"]], 3)
    assert lists["items"][2].as_py() == [one.item_id for one in alone]
    assert lists["titles"][2].as_py() == [KNOWN[one.item_id] for one in alone]
    with pytest.raises(ConfigError, match="exists; remove it"):
        recommend_users(server, tmp_path / "users.parquet", tmp_path / "lists.parquet", 3, True, QUIET)


def test_tables_of_users_that_are_none(edges: dict[str, Path], tmp_path: Path) -> None:
    server = Server(train(edges, tmp_path / "model", MODELS["sasrec"]))
    pq.write_table(pa.table({"history": ["f1"]}), tmp_path / "users.parquet")
    with pytest.raises(DataError, match=r"user: the column is missing(.|\n)*history: is string, not a list"):
        recommend_users(server, tmp_path / "users.parquet", tmp_path / "lists.parquet", 3, True, QUIET)
    pq.write_table(pa.table({"user": ["a"], "history": [[{"item": "f1"}]]}), tmp_path / "users.parquet")
    with pytest.raises(DataError, match=r"users\.parquet: after row 0: .*history as a list of item ids"):
        recommend_users(server, tmp_path / "users.parquet", tmp_path / "lists.parquet", 3, True, QUIET)
    content = bytearray((tmp_path / "users.parquet").read_bytes())
    content[4:40] = bytes(36)
    (tmp_path / "users.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"users\.parquet"):
        recommend_users(server, tmp_path / "users.parquet", tmp_path / "lists.parquet", 3, True, QUIET)
    assert not (tmp_path / "lists.parquet").exists()
    (tmp_path / "users.csv").write_text("user,history\n")
    with pytest.raises(DataError, match="is no parquet file"):
        recommend_users(server, tmp_path / "users.csv", tmp_path / "lists.parquet", 3, True, QUIET)
    with pytest.raises(DataError, match="no such file; give a parquet file with the columns user and history"):
        recommend_users(server, tmp_path / "nobody.parquet", tmp_path / "lists.parquet", 3, True, QUIET)
    with pytest.raises(DataError, match=r"history 1 \('gone'\): the model has none of its items"):
        server.recommend([["gone"]], 3)
    assert not (tmp_path / "lists.parquet").exists()
