"""The report as a page: honest, complete, escaped, and alone."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from modalrec.evaluation.report.tiles import HEIGHT
from tests.stages import trained

SETTINGS = {"list_length": 12, "cutoffs": [1, 5, 10], "gallery_users": 12, "beam_sample": 5, "ties": "report"}
HOSTILE = {
    "f0": "<script>alert(1)</script>",
    "f1": '"><img src=x onerror=alert(2)>',
    "f2": "{{ 7 * 7 }} {% raw %}",
    "f3": "\u202eevil \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "f4": "long " * 2000,
    "f5": "' onload='alert(3)",
    "f6": "&amp; </style></main>",
    "f7": "",
}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects a page's elements, text and attributes, and checks that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def assert_alone(html: str) -> None:
    """Nothing is loaded and nothing is run: no scripts, no addresses but `data:`, no style that names a resource."""
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in {"src", "href", "srcset", "poster", "action", "data", "background"} or name.endswith(":href"):
            assert value.startswith("data:image/jpeg;base64,")
    assert not re.findall(r"@import|url\((?!#)", html)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Evaluation folder and report of a dataset with the titles above."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = [f'{film},"{title.replace(chr(34), chr(34) * 2)}",Text of {film}' for film, title in HOSTILE.items()]
    edges = trained.train_all(folder, "\n".join(["item_id,title,text", *rows]) + "\n", images={"missing": "draw"})
    trained.run_stage("evaluate", SETTINGS, **edges, evaluation=folder / "evaluation")
    return folder / "evaluation", (folder / "evaluation" / "report.html").read_text(encoding="utf-8")


def test_hostile_titles_are_text(hostile: tuple[Path, str]) -> None:
    assert_alone(hostile[1])
    text = "".join(Page(hostile[1]).text)
    for film in ("f0", "f1", "f2", "f5", "f6"):
        assert HOSTILE[film] in text
    assert "\u202e" not in hostile[1]
    assert "\u05e9\u05dc\u05d5\u05dd" in text


def test_long_titles_are_cut_and_empty_ones_replaced_by_the_id(hostile: tuple[Path, str]) -> None:
    text = "".join(Page(hostile[1]).text)
    assert "long " * 15 in text
    assert "long " * 20 not in text
    assert "f7" in text


def test_the_whole_story_is_there(hostile: tuple[Path, str]) -> None:
    text = " ".join("".join(Page(hostile[1]).text).split())
    for words in ("Leave-one-out", "leaky", "Temporal", "Item-KNN", "Popularity", "From scratch", "Shuffled order"):
        assert words in text
    for words in (
        "With and without pre-training",
        "in their order and shuffled",
        "perplexity",
        "reconstruction error",
        "by the fused",
    ):
        assert words in text
    for stage in ("ingest", "quantize", "pretrain", "finetune", "evaluate"):
        assert stage in text
    assert "fewer than 3 events a user" in text
    assert "Leakage checks" in text
    assert "test events are not later: the last train event is of" in text, "leave-one-out is said to leak"


def test_the_numbers_are_the_metrics(hostile: tuple[Path, str]) -> None:
    folder, html = hostile
    metrics = json.loads((folder / "metrics.json").read_bytes())
    text = " ".join("".join(Page(html).text).split())
    assert f"recall_10 is {metrics['recall_10']:.3f} (95 % interval {metrics['recall_10_low']:.3f} to" in text
    short = (folder / "summary.md").read_text(encoding="utf-8")
    assert f"| Leave-one-out: Model | {metrics['recall_10']:.3f} |" in short.replace("\\", "")
    assert "- All numbers are of one seed" in short


def test_drawn_cards_say_so_and_pictures_are_small(hostile: tuple[Path, str]) -> None:
    page = Page(hostile[1])
    assert "drawn" in "".join(page.text)
    pictures = {value for name, value in page.attributes if name == "src"}
    assert pictures
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
        assert image.width <= 2 * HEIGHT // 3
        assert image.height <= HEIGHT
    assert len(hostile[1].encode()) < 3_000_000


def test_missing_pictures_are_labelled(tmp_path: Path) -> None:
    dataset = trained.ingest(tmp_path)
    model = trained.train(tmp_path / "model", dataset, trained.code(tmp_path, dataset))
    trained.run_stage("evaluate", SETTINGS, dataset=dataset, model=model, evaluation=tmp_path / "e")
    html = (tmp_path / "e" / "report.html").read_text(encoding="utf-8")
    assert_alone(html)
    text = "".join(Page(html).text)
    assert "no picture" in text
    assert "The Film 3" in text
    assert "Semantic IDs" not in text
