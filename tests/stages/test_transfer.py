"""From a union of datasets to one of them or to a new one: one codebook, and what a model may take along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from modalrec import plugins
from modalrec.artifacts import read_manifest
from modalrec.artifacts.codes import read_codes
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.recommenders import CONTENT, load_recommender
from modalrec.recommenders._content import whitened, whitening
from modalrec.run import Run
from modalrec.stages._identity import codebook_of, vector_space
from modalrec.stages.finetune import Config, finetune
from modalrec.testing.recommenders import item_space
from tests.raw import histories, write_atomic
from tests.stages.trained import RECOMMENDER, run_stage

Edges = dict[str, Path]
QUANTIZER = {"quantizer": {"name": "rq_kmeans", "levels": 2, "codebook_size": 4}}
TRAINING = {"epochs": 1, "batch_size": 8}
SASREC = {"name": "sasrec", "width": 8, "layers": 1, "heads": 2, "history": 8, "content": "sum"}


def source(*only: str) -> dict[str, Any]:
    return {"source": {"name": "several", "only": list(only)}}


def make(folder: Path, raw: Path, codebook: Path | None = None, **settings: Any) -> Edges:
    """A dataset with vectors and codes."""
    edges = {name: folder / name for name in ("dataset", "text_embeddings", "embeddings", "codes")}
    chosen = {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out", "temporal"], **settings}
    run_stage("ingest", chosen, source=raw, dataset=edges["dataset"])
    encoder = {"encoder": {"name": "hashing", "dimension": 8}}
    texts = {name: edges[name] for name in ("dataset", "text_embeddings")}
    run_stage("embed_text", encoder, **texts)
    run_stage("fuse", {}, text_embeddings=edges["text_embeddings"], embeddings=edges["embeddings"])
    return edges | {"codes": quantize(edges["codes"], edges["embeddings"], codebook)}


def quantize(codes: Path, embeddings: Path, codebook: Path | None = None, **settings: Any) -> Path:
    given = {} if codebook is None else {"codebook": codebook}
    run_stage("quantize", settings or QUANTIZER, embeddings=embeddings, codes=codes, **given)
    return codes


def train(target: Path, edges: Edges, pretrained: Path | None = None, epochs: int = 0, **settings: Any) -> Path:
    """A model, by default without an epoch: what it starts from."""
    chosen = {"recommender": RECOMMENDER, "training": TRAINING | {"epochs": epochs}, **settings}
    needed = plugins.discover("recommenders")[chosen["recommender"]["name"]]
    wanted = needed.edges(needed.Config(**chosen["recommender"]))
    given = {"dataset": edges["dataset"]} | {edge: edges[edge] for edge in wanted}
    given |= {"pretrained": pretrained} if pretrained else {}
    run_stage("finetune", chosen, model=target, **given)
    return target


def weights(model: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(model / "model.safetensors").items() if name != CONTENT}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_atomic(folder / "a", histories(12, 8), 8)
    write_atomic(folder / "b", histories(9, 6), 6)
    return folder


@pytest.fixture(scope="module")
def union(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Edges:
    return make(tmp_path_factory.mktemp("union"), raw)


@pytest.fixture(scope="module")
def part(raw: Path, union: Edges, tmp_path_factory: pytest.TempPathFactory) -> Edges:
    """The second dataset of the union alone, with the union's codebook."""
    return make(tmp_path_factory.mktemp("part"), raw, union["codes"], **source("b"))


@pytest.fixture(scope="module")
def other(union: Edges, tmp_path_factory: pytest.TempPathFactory) -> Edges:
    """A dataset that the union does not hold, most of its films of equal titles, with the union's codebook."""
    folder = tmp_path_factory.mktemp("other")
    write_atomic(folder / "raw", histories(10, 20), 20)
    path = folder / "raw" / "small.item"
    lines = path.read_text().splitlines()
    same = [line.split("\t")[0] + "\tThe same\t1990\tDrama" for line in lines[1:]]
    path.write_text("\n".join([lines[0], *same[:17], *lines[18:]]) + "\n")
    return make(folder, folder / "raw", union["codes"])


@pytest.fixture(scope="module")
def pretrained(union: Edges, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of the union, by the name of its recommender."""
    folder = tmp_path_factory.mktemp("pretrained")
    models = {"encoder_decoder": RECOMMENDER, "sasrec": SASREC}
    for name, recommender in models.items():
        train(folder / name, union, recommender=recommender, epochs=1)
    return lambda name: folder / name


def test_items_get_the_codes_that_they_had_in_the_union(union: Edges, part: Edges) -> None:
    ids, codes_NL, sizes = read_codes(union["codes"])
    of_union = dict(zip(ids, codes_NL[:, :-1].tolist(), strict=True))
    own_ids, own_NL, own_sizes = read_codes(part["codes"])
    assert own_ids == [f"b/f{film}" for film in range(6)]
    assert own_NL[:, :-1].tolist() == [of_union[item] for item in own_ids]
    assert own_sizes[:-1] == sizes[:-1]
    assert len(np.unique(own_NL, axis=0)) == 6
    manifests = [read_manifest(edges["codes"], "codes") for edges in (union, part)]
    assert manifests[1].inputs["codebook"] == manifests[0].digest
    assert codebook_of(manifests[0]) == codebook_of(manifests[1]) != ""
    assert manifests[1].statistics["epochs"] == 0
    spaces = {vector_space(read_manifest(edges["embeddings"], "embeddings")) for edges in (union, part)}
    assert len(spaces) == 1


def test_positions_grow_where_more_items_share_their_codes(union: Edges, other: Edges) -> None:
    before, after = (read_codes(edges["codes"])[2] for edges in (union, other))
    assert after[-1] == 17 > before[-1]


def test_a_codebook_brings_its_settings(union: Edges, part: Edges, tmp_path: Path) -> None:
    plain = quantize(tmp_path / "plain", part["embeddings"], union["codes"], quantizer={"name": "rqvae"})
    assert read_manifest(plain, "codes").config == read_manifest(part["codes"], "codes").config
    distinct = quantize(tmp_path / "distinct", part["embeddings"], union["codes"], last_level="distinct")
    assert read_manifest(distinct, "codes").config["last_level"] == "distinct"
    assert codebook_of(read_manifest(distinct, "codes")) == codebook_of(read_manifest(part["codes"], "codes"))
    settings = {"quantizer": {"name": "rq_kmeans", "levels": 5}}
    with pytest.raises(ConfigError, match=r"was made with quantizer\.levels=2, not 5; it brings its settings, leave"):
        quantize(tmp_path / "refused", part["embeddings"], union["codes"], **settings)
    with pytest.raises(ConfigError, match=r"quantizer\.name=rq_kmeans, not pq"):
        quantize(tmp_path / "refused", part["embeddings"], union["codes"], quantizer={"name": "pq"})
    with pytest.raises(ConfigError, match=r"towers=fused, not separate"):
        quantize(tmp_path / "refused", part["embeddings"], union["codes"], towers="separate")


def test_vectors_that_the_codebook_does_not_know(union: Edges, part: Edges, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    settings = {"encoder": {"name": "hashing", "dimension": 16}}
    run_stage("embed_text", settings, dataset=part["dataset"], text_embeddings=texts)
    run_stage("fuse", {}, text_embeddings=texts, embeddings=tmp_path / "long")
    settings = {"fuser": {"name": "concat", "weights": {"text": 2.0}}}
    run_stage("fuse", settings, text_embeddings=part["text_embeddings"], embeddings=tmp_path / "other")
    with pytest.raises(ArtifactError, match=r"vectors of length 16, and the codebook .* codes those of length 8"):
        quantize(tmp_path / "codes", tmp_path / "long", union["codes"])
    with pytest.raises(ArtifactError, match="embeddings: from other encoders or another fuser than what the codebook"):
        quantize(tmp_path / "codes", tmp_path / "other", union["codes"])


@pytest.mark.parametrize("towers", ["separate", "shared"])
def test_a_codebook_of_towers(union: Edges, part: Edges, tmp_path: Path, towers: str) -> None:
    settings = {**QUANTIZER, "towers": towers}
    for name, edges, codebook in (("whole", union, None), ("own", part, tmp_path / "whole")):
        places = {"text_embeddings": edges["text_embeddings"], "image_embeddings": edges["embeddings"]}
        given = {} if codebook is None else {"codebook": codebook}
        run_stage("quantize", settings, codes=tmp_path / name, **places, **given)
    manifests = [read_manifest(tmp_path / name, "codes") for name in ("whole", "own")]
    assert codebook_of(manifests[0]) == codebook_of(manifests[1])
    ids, codes_NL, _ = read_codes(tmp_path / "whole")
    of_union = dict(zip(ids, codes_NL[:, :-1].tolist(), strict=True))
    own_ids, own_NL, _ = read_codes(tmp_path / "own")
    assert own_NL[:, :-1].tolist() == [of_union[item] for item in own_ids]
    shared = (tmp_path / "own" / "text" / "quantizer.safetensors").read_bytes()
    assert (shared == (tmp_path / "own" / "image" / "quantizer.safetensors").read_bytes()) == (towers == "shared")


@pytest.mark.parametrize("edges", ["part", "other"])
def test_a_generative_model_goes_on_with_all_but_new_positions(
    edges: str, pretrained: Callable[[str], Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    given = request.getfixturevalue(edges)
    before = weights(pretrained("encoder_decoder"))
    after = weights(train(tmp_path / "model", given, pretrained("encoder_decoder")))
    fresh = weights(train(tmp_path / "fresh", given))
    assert before.keys() == after.keys()
    grown = {name for name in before if before[name].shape != after[name].shape}
    assert len(grown) == 3, "the table of codes, and the last level's logits with their bias"
    for name, old in before.items():
        both = min(len(old), len(after[name]))
        assert torch.equal(after[name][:both], old[:both]), name
        assert torch.equal(after[name][both:], fresh[name][both:]), name
    manifest = read_manifest(tmp_path / "model", "model")
    assert manifest.statistics["codebook"] == codebook_of(read_manifest(given["codes"], "codes"))
    assert 0 < manifest.statistics["transferred"] <= sum(tensor.numel() for tensor in after.values())
    train(tmp_path / "trained", given, pretrained("encoder_decoder"), epochs=1)


def test_what_belongs_to_items_goes_to_the_same_items_alone(
    union: Edges, part: Edges, other: Edges, pretrained: Callable[[str], Path], tmp_path: Path
) -> None:
    before = weights(pretrained("sasrec"))
    ids = load_recommender(pretrained("sasrec")).items.item_ids
    after = weights(train(tmp_path / "part", part, pretrained("sasrec"), recommender=SASREC))
    rows = [ids.index(f"b/f{film}") for film in range(6)]
    assert torch.equal(after["ids.weight"], before["ids.weight"][rows])
    after = weights(train(tmp_path / "other", other, pretrained("sasrec"), recommender=SASREC))
    fresh = weights(train(tmp_path / "fresh", other, recommender=SASREC))
    assert torch.equal(after["ids.weight"], fresh["ids.weight"])
    for name in before.keys() - {"ids.weight"}:
        assert torch.equal(after[name], before[name]), name


def test_what_is_counted_on_the_data_is_counted_anew(union: Edges, part: Edges, tmp_path: Path) -> None:
    settings = {"recommender": SASREC | {"neighbours": 0.5}, "epochs": 1}
    start = train(tmp_path / "start", union, **settings)
    after = weights(train(tmp_path / "model", part, start, **settings))
    alone = weights(train(tmp_path / "alone", part, **settings))
    for name in ("starts", "items", "counts"):
        assert torch.equal(after[f"neighbours.{name}"], alone[f"neighbours.{name}"])
    assert len(weights(start)["neighbours.counts"]) > len(after["neighbours.counts"]) > 0


def test_equal_ids_of_other_raw_data_are_other_items(other: Edges, tmp_path: Path) -> None:
    """Both catalogues count their films from f0, and have as many."""
    write_atomic(tmp_path / "raw", histories(14, 20), 20)
    twin = make(tmp_path / "twin", tmp_path / "raw")
    start = train(tmp_path / "start", twin, recommender=SASREC, epochs=1)
    after = weights(train(tmp_path / "model", other, start, recommender=SASREC))
    fresh = weights(train(tmp_path / "fresh", other, recommender=SASREC))
    assert after["ids.weight"].shape == weights(start)["ids.weight"].shape
    assert torch.equal(after["ids.weight"], fresh["ids.weight"])


def test_content_is_whitened_as_the_projection_has_learnt_it(
    union: Edges, other: Edges, pretrained: Callable[[str], Path], tmp_path: Path
) -> None:
    model = load_recommender(train(tmp_path / "model", other, pretrained("sasrec"), recommender=SASREC))
    source = load_recommender(pretrained("sasrec"))
    expected = whitened(model.items.content, whitening(source.items.content))
    np.testing.assert_array_equal(model.content.vectors.numpy(), expected)


def test_codes_of_another_codebook_are_refused(
    union: Edges, part: Edges, other: Edges, pretrained: Callable[[str], Path], tmp_path: Path
) -> None:
    """Of the same shape, for the same items, from the same vectors; in both directions."""
    foreign = part | {"codes": quantize(tmp_path / "codes", part["embeddings"])}
    assert codebook_of(read_manifest(foreign["codes"], "codes")) != codebook_of(read_manifest(part["codes"], "codes"))
    message = "was trained with other codes; give the same --codes, quantize these items with its codes as --codebook"
    with pytest.raises(ArtifactError, match=message):
        train(tmp_path / "model", foreign, pretrained("encoder_decoder"))
    start = train(tmp_path / "start", foreign)
    with pytest.raises(ArtifactError, match=message):
        train(tmp_path / "model", union, start)
    back = train(tmp_path / "back", part)
    train(tmp_path / "from_part_to_union", union, back)


def test_a_cut_that_is_later_is_refused(raw: Path, union: Edges, part: Edges, tmp_path: Path) -> None:
    cuts = [read_manifest(edges["dataset"], "dataset").statistics["temporal_test_cut"] for edges in (union, part)]
    assert cuts[0] > cuts[1]
    late = train(tmp_path / "late", union, split="temporal")
    with pytest.raises(ArtifactError, match=r"has temporal_valid_cut=.*, later than .* here: it has learnt from the"):
        train(tmp_path / "model", part, late, split="temporal")
    early = make(tmp_path / "early", raw, union["codes"], valid_share=0.45, test_share=0.45)
    start = train(tmp_path / "start", early, split="temporal")
    train(tmp_path / "model", part, start, split="temporal")
    with pytest.raises(ConfigError, match="was trained with split=temporal, this is leave_one_out"):
        train(tmp_path / "other", part, start)


@pytest.mark.parametrize("settings", [{"positive_rating": 3}, {"min_user_events": 1}, {"deduplicate": "first"}])
def test_the_same_raw_data_selected_otherwise_is_refused(
    raw: Path, union: Edges, pretrained: Callable[[str], Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """The last event of a user is another one then, and may be a train event of the union."""
    edges = make(tmp_path, raw, union["codes"], **source("b"), **settings)
    with pytest.raises(ArtifactError, match=f"on the same raw data with other {next(iter(settings))}: events that"):
        train(tmp_path / "model", edges, pretrained("encoder_decoder"))
    alone = make(tmp_path / "alone", raw / "b", union["codes"], **settings)
    with pytest.raises(ArtifactError, match="on the same raw data"):
        train(tmp_path / "model", alone, pretrained("encoder_decoder"))


def test_a_leak_does_not_hide_behind_a_model_between(
    raw: Path, union: Edges, other: Edges, pretrained: Callable[[str], Path], tmp_path: Path
) -> None:
    between = train(tmp_path / "between", other, pretrained("encoder_decoder"), epochs=1)
    edges = make(tmp_path / "otherwise", raw, union["codes"], **source("b"), positive_rating=3)
    with pytest.raises(ArtifactError, match="on the same raw data with other positive_rating"):
        train(tmp_path / "model", edges, between)


def test_it_is_said_what_starts_fresh(
    other: Edges, pretrained: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = resolve(Config, {"recommender": SASREC, "training": {"epochs": 0}})
    places = {"embeddings": other["embeddings"], "pretrained": pretrained("sasrec")}
    finetune(other["dataset"], tmp_path / "model", **places, config=config, run=Run("finetune"))
    said = capfd.readouterr().err
    assert "starts from a model of another dataset: " in said
    assert "ids.weight: 0 of 20 items' rows are taken over, the others start fresh" in said


BUILT = [
    ("encoder_decoder", {}),
    ("sasrec", {}),
    ("sasrec", {"content": "sum", "neighbours": 1.0}),
    ("gru4rec", {"embedding": "separate"}),
    ("gru4rec", {"embedding": "none", "content": "sum"}),
]


@pytest.mark.parametrize(("name", "settings"), BUILT)
def test_tensors_that_depend_on_the_number_of_items_are_declared(name: str, settings: dict[str, Any]) -> None:
    """Else rows of one catalogue's items would go to another's."""
    cls = plugins.discover("recommenders")[name]
    shapes = []
    for n_items in (60, 50):
        space = item_space(n_items)
        content = np.random.default_rng(0).standard_normal((n_items, 6)).astype(np.float32)
        space = type(space)(space.item_ids, space.titles, space.codes, space.codebook_sizes, content)
        model = cls(cls.Config(**settings), space)
        shapes.append({key: value.shape for key, value in model.state_dict().items()})
    assert shapes[0].keys() == shapes[1].keys()
    differing = {key for key, shape in shapes[0].items() if shape != shapes[1][key]}
    assert differing <= cls.item_tensors
    learnt = cls.item_tensors & dict(model.named_parameters()).keys()
    assert all(shapes[0][key][0] == 60 and shapes[1][key][0] == 50 for key in learnt)


def test_models_and_codes_record_what_they_stand_for(union: Edges, pretrained: Callable[[str], Path]) -> None:
    space = vector_space(read_manifest(union["embeddings"], "embeddings"))
    assert read_manifest(pretrained("sasrec"), "model").statistics["vector_space"] == space
    assert read_manifest(union["codes"], "codes").statistics["vector_spaces"] == {"embeddings": space}
    assert pq.read_table(union["codes"] / "codes.parquet").num_rows == 14
