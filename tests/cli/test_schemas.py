"""The page on artifacts is what the code says."""

import re

from modalrec.artifacts.manifest import SCHEMA_VERSIONS
from modalrec.cli.schemas import FILES, TABLES, page
from tests.cli.conftest import Cli, cli
from tests.conftest import ROOT

__all__ = ["cli"]


def test_the_page_is_what_the_command_prints(cli: Cli) -> None:
    """`.venv/bin/modalrec schemas > src/ARTIFACTS.md` mends it."""
    code, printed, _ = cli("schemas")
    assert code == 0
    assert (ROOT / "src" / "ARTIFACTS.md").read_text() == printed == page()


def test_every_kind_is_there_with_its_columns() -> None:
    assert set(TABLES) == set(SCHEMA_VERSIONS) == set(re.findall(r"^## (\w+)$", page(), re.MULTILINE))
    assert set(FILES) <= set(TABLES)
    for row in ("| `embedding` | D x float | no |", "| `embedding` | list of D x float | no |", "`<group>`"):
        assert row in page()
    assert "| `semantic_id` | L x int32 | no |" in page()
