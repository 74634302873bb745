import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from modalrec import fusers, plugins
from modalrec.errors import ConfigError

PLUGIN = """
from typing import Literal
from modalrec.config import Config
from modalrec.fusers import Fuser

class MeanConfig(Config):
    name: Literal["{name}"] = "{name}"

class Mean(Fuser):
    Config = MeanConfig
    def __init__(self, config, dimensions, seed):
        self.dimension = max(dimensions.values())
    def fuse(self, vectors, present):
        raise NotImplementedError
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files count as files of `modalrec.fusers`."""
    monkeypatch.setattr(fusers, "__path__", [*fusers.__path__, str(tmp_path)])
    plugins.discover.cache_clear()
    yield tmp_path
    plugins.discover.cache_clear()
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"modalrec.fusers.{path.stem}", None)
        fusers.__dict__.pop(path.stem, None)


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_is_named_after_its_file(kind: str) -> None:
    found = plugins.discover(kind)
    assert found
    for name, plugin in found.items():
        assert plugin.__module__.rpartition(".")[2] == name
        assert plugin.Config().name == name
        assert (plugin.__doc__ or "").strip(), f"{plugin} has no text for `modalrec plugins`"


def test_one_file_is_a_plugin(folder: Path) -> None:
    (folder / "mean.py").write_text(PLUGIN.format(name="mean"))
    found = plugins.discover("fusers")
    assert list(found) == sorted(found)
    config = found["mean"].Config()
    assert plugins.create("fusers", config, {"text": 3, "image": 5}, 0).dimension == 5


def test_two_plugins_of_one_name_are_refused(folder: Path) -> None:
    (folder / "mean.py").write_text(PLUGIN.format(name="concat"))
    with pytest.raises(ConfigError, match=r"fusers: .*concat.* are both named 'concat'"):
        plugins.discover("fusers")


@pytest.mark.parametrize("text", ["", PLUGIN.format(name="mean") + "class Second(Mean):\n    pass\n"])
def test_a_file_without_exactly_one_plugin_is_refused(text: str, folder: Path) -> None:
    (folder / "mean.py").write_text(text)
    with pytest.raises(ConfigError, match=r"a plug-in file defines one Fuser, this one [02]"):
        plugins.discover("fusers")


def test_other_packages_add_plugins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "their_fusers.py").write_text(PLUGIN.format(name="theirs"))
    monkeypatch.syspath_prepend(str(elsewhere))
    entry = EntryPoint("theirs", "their_fusers:Mean", "modalrec.fusers")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert plugins.discover("fusers")["theirs"].__module__ == "their_fusers"
