"""Every page of documentation: its links lead somewhere, its commands are known with these options and settings."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documents import anchors, commands, dead_links, pages, problem
from tests.test_readme import EXAMPLES

PAGE = """# A: the `b`, c

Say `make test`
and `x`. It needs a cluster:

```sh
kfp a \\
  b  # c
make x && make y
```
"""


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_and_anchors(page: Path) -> None:
    text = (ROOT / page).read_text()
    assert "@@" not in text
    assert not dead_links(page, text)


@pytest.mark.parametrize("page", pages(), ids=str)
def test_commands(page: Path, tmp_path: Path) -> None:
    """Those with plug-ins of the page run in `test_readme.py`, in a copy of the sources that has them."""
    new = [f"name={Path(path).stem}" for path in EXAMPLES]
    wrong = {}
    for command, whole, cluster in commands((ROOT / page).read_text()):
        if not any(name in command for name in new):
            found = problem(command, whole=whole, cluster=cluster, folder=tmp_path)
            wrong |= {command: found} if found else {}
    assert not wrong


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make nothing", "nothing"),
        ("make demo DATUM=x", "DATUM"),
        ("make demo RECIPE=sesion DATA=DIR", "did you mean session"),
        ("make bench ARGS=rankin", "rankin"),
        ('make bench ARGS="ranking --second 5"', "--second"),
        ("make bench ARGS=--seconds", "one measurement"),
        (".venv/bin/modalrec quantise --codes out/codes", "quantise"),
        (".venv/bin/modalrec quantize --embedings DIR --codes DIR", "--embedings"),
        (".venv/bin/modalrec quantize --embeddings DIR", "codes"),
        (".venv/bin/modalrec quantize --codes DIR --set quantizer.levls=3", "did you mean levels"),
        (".venv/bin/modalrec ingest --source DIR --dataset DIR --preset babi", "babi"),
        (".venv/bin/modalrec config quantizer", "unknown stage"),
        (".venv/bin/python -m pipelines run semantic_id --data DIR --set quantize.levls=3", "levls"),
        (".venv/bin/python -m pipelines submit semantic_id --endpoint URL", "needs a cluster"),
        ("python -m tests.benchmarks.quality --row sasrec_ids", "--row"),
        (".venv/bin/pytest tests/nowhere", "tests/nowhere"),
        ("kfp run create", "no test knows"),
    ],
)
def test_a_wrong_command_is_found(command: str, said: str) -> None:
    assert said in problem(command)


def test_what_a_page_says() -> None:
    assert anchors(PAGE) == {"a-the-b-c"}
    assert list(commands(PAGE)) == [
        ("make test", False, False),
        ("kfp a    b", True, True),
        ("make x", True, True),
        ("make y", True, True),
    ]
    text = "[a](#a-the-b-c) [b](#b) [c](Makefile) [d](nothing.md) [e](README.md#recipes) [f](https://example.org/x)"
    assert dead_links(Path("CONTRIBUTING.md"), f"{PAGE}{text} [g](README.md#recipe)") == [
        "#b",
        "nothing.md",
        "README.md#recipe",
    ]
