"""The section on semantic IDs, from a real quantizer's folder."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.codes import read_codes
from modalrec.config import resolve
from modalrec.evaluation.report.codes import Codes, code_section
from modalrec.run import Run
from modalrec.stages.quantize import Config, quantize
from modalrec.testing.quantizers import mixture
from tests.stages.small import jpeg, write_dataset, write_embeddings

SETTINGS = {"quantizer": {"name": "rq_kmeans", "levels": 2, "codebook_size": 16}, "last_level": "distinct"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    present_N = np.ones(400, bool)
    present_N[7] = False
    source = write_embeddings(tmp_path / "embeddings", mixture()[0].numpy(), present_N)
    run = Run("quantize", device="cpu", quiet=True)
    quantize(tmp_path / "codes", source, config=resolve(Config, SETTINGS), run=run)
    return tmp_path / "codes"


def section(folder: Path) -> Codes:
    dataset = folder.parent / "dataset"
    if not dataset.is_dir():
        write_dataset(dataset, ["Text"] * 400, {0: jpeg("red")})
    found = code_section({"codes": folder, "dataset": dataset}, {"codes": read_manifest(folder, "codes", verify=False)})
    assert found is not None
    return found


def test_steps_count_down_to_no_collision(folder: Path) -> None:
    nearest, moved, last = section(folder).steps
    assert nearest.collisions > moved.collisions > last.collisions == 0
    assert (nearest.name, moved.name) == ("nearest codes", "last level distinct")
    assert float(nearest.errors[0]) < float(moved.errors[0]) == float(last.errors[0])


def test_levels_tell_use_and_entropy(folder: Path) -> None:
    first = section(folder).levels[0]
    assert (first.size, first.bits) == (16, 4)
    assert first.normalised == pytest.approx(first.entropy / 4)


def dots_of(svg: ET.Element) -> dict[str | None, list[float]]:
    paths = svg.iter("path")
    return {
        dot[0].text: [float(part) for part in dot.attrib["d"].removeprefix("M").removesuffix("h0").split()]
        for dot in paths
    }


def test_map_shows_every_item_with_a_vector_once_and_inside(folder: Path) -> None:
    found = section(folder)
    assert found.map is not None
    svg = ET.fromstring(found.map.dots)  # noqa: S314
    dots = dots_of(svg)
    assert dots.keys() == {f"Title {item}" for item in range(400)} - {"Title 7"}
    found_N2 = np.array(list(dots.values()))
    assert max(np.ptp(found_N2, axis=0)) == pytest.approx(400, abs=0.1), "as large as fits"
    assert found_N2.min(0) + found_N2.max(0) == pytest.approx(np.array([420, 420]), abs=0.2), "in the middle"
    assert len(list(svg.iter("g"))) == found.levels[0].used
    assert found.map.note.startswith("399 items along the two leading principal components")


def test_ringed_items_lie_where_their_dots_do(folder: Path) -> None:
    found = section(folder)
    assert found.map is not None
    assert len(found.map.spots) == 100
    assert [spot.tile.title for spot in found.map.spots if spot.tile.picture] == ["Title 0"]
    dots = dots_of(ET.fromstring(found.map.dots))  # noqa: S314
    for spot in found.map.spots:
        assert [4.2 * spot.left, 4.2 * spot.top] == pytest.approx(dots[spot.tile.title], abs=0.1)
    _, codes_NL, _ = read_codes(folder)
    assert found.map.spots[0].codes == "-".join(map(str, codes_NL[0].tolist()))


def test_codes_made_elsewhere_have_no_map(folder: Path) -> None:
    written = json.loads((folder / "manifest.json").read_bytes())
    manifest = read_manifest(folder, "codes").model_copy(update={"statistics": {}, "config": {}})
    assert "map.json" in written["files"]
    (folder / "map.json").unlink()
    found = code_section({"codes": folder, "dataset": folder.parent}, {"codes": manifest})
    assert found is not None
    assert found.map is None
    assert [step.errors for step in found.steps] == [["", ""], ["", ""]]


def test_no_codes() -> None:
    assert code_section({}, {}) is None
