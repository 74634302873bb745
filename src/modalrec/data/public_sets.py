"""The public data sets that `modalrec download` knows, read from `public_sets.yaml`."""

import difflib
import functools
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import model_validator

from modalrec.config import Config
from modalrec.errors import ConfigError

REGISTRY = Path(__file__).parent / "public_sets.yaml"
CATEGORY = "{category}"


class RemoteFile(Config):
    """A file of a set.

    Attributes:
        url: Its address; `{category}` stands for the category where the set has some.
        md5: The publisher's checksum, where there is one.
    """

    url: str
    md5: str | None = None

    @property
    def name(self) -> str:
        """What the file is called here."""
        return urlsplit(self.url).path.rpartition("/")[2]


class PublicSet(Config):
    """One data set.

    Attributes:
        title: What it is.
        licence: Its terms, in words.
        page: Where its publisher describes it.
        checked: What the addresses were compared with.
        files: What is fetched; nothing where it cannot be without a person.
        categories: Those that there are, one of which is fetched.
        manual: How a person gets it, where a program may not.
        unpack: What is to be done with the files before they can be read.
        ingest: Options of `modalrec ingest` that suit it.
    """

    title: str
    licence: str
    page: str
    checked: str
    files: tuple[RemoteFile, ...] = ()
    categories: tuple[str, ...] = ()
    manual: str | None = None
    unpack: str | None = None
    ingest: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> "PublicSet":
        if bool(self.files) == bool(self.manual):
            raise ValueError("has both files and a way by hand, or neither")
        if bool(self.categories) != any(CATEGORY in file.url for file in self.files):
            raise ValueError("has categories and no address with one, or the reverse")
        return self

    def files_of(self, category: str | None, name: str) -> list[RemoteFile]:
        """The files to fetch, of one category where there are some.

        Raises:
            ConfigError: The category is missing, unknown, or given for a set without any.
        """
        if not self.categories:
            if category is not None:
                raise ConfigError(f"--category {category}: {name} has no categories; leave it out")
            return list(self.files)
        if category not in self.categories:
            near = difflib.get_close_matches(category or "", self.categories, n=1)
            what = f"{category!r}: unknown" if category else "missing"
            meant = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"--category {what}; {meant}{name} has {', '.join(self.categories)}")
        return [file.model_copy(update={"url": file.url.replace(CATEGORY, category)}) for file in self.files]


@functools.cache
def public_sets() -> dict[str, PublicSet]:
    """All of them by name."""
    read = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    licences = read["licences"]
    return {
        name: PublicSet.model_validate({**fields, "licence": licences[fields["licence"]]})
        for name, fields in read["sets"].items()
    }


def find_set(name: str) -> PublicSet:
    """The set of that name.

    Raises:
        ConfigError: There is none.
    """
    sets = public_sets()
    if name not in sets:
        near = difflib.get_close_matches(name, sets, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{name}: no data set of that name; {meant}there are {', '.join(sets)}")
    return sets[name]
