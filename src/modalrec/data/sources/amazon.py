"""Amazon reviews: the releases of 2014, 2018 and 2023, and the sequences that semantic-ID papers share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field as Limited
from pydantic import model_validator

from modalrec import config
from modalrec.data.archives import Archive
from modalrec.data.sources import Source, find_pictures
from modalrec.data.sources._amazon_products import FIELDS, Field, Products
from modalrec.data.sources._amazon_reviews import PER_SECOND, find_release, has_release, read_reviews
from modalrec.data.sources._amazon_sequences import Sequences, has_sequences
from modalrec.errors import ConfigError


class Amazon(Source):
    """Products with texts and pictures, and who bought or reviewed them.

    The releases are read as they are distributed, packed, one object a line. The other form, `sequences`, is
    `NAME.inter.json` and `NAME.item.json`: each user's purchases in order, without times.
    """

    class Config(config.Config):
        """Settings.

        Attributes:
            release: The form; `auto` is the one that the names of the files are of.
            reviews: Name of the file of reviews, where the folder has several, such as all and the 5-core.
            metadata: Name of the file of products, where the folder has several.
            fields: What the text of a product is made of, in this order; [title, description] is the form `td` of
                semantic-ID papers.
            max_bad_share: Share of bad lines of a release's file that are left out and counted; by default none.
            images: Folder or zip in the source folder, with one picture an item, named by the item's id; by default
                `images` or `images.zip` where there is one. Pictures that are not there have an address in the
                releases, see `images.download` of ingest.
        """

        name: Literal["amazon"] = "amazon"
        release: Literal["auto", "sequences", 2014, 2018, 2023] = "auto"
        reviews: str | None = None
        metadata: str | None = None
        fields: tuple[Field, ...] = Limited(FIELDS, min_length=1)
        max_bad_share: float = Limited(0.0, ge=0, lt=1)
        images: str | None = None

        @model_validator(mode="after")
        def _possible(self) -> "Amazon.Config":
            if len(set(self.fields)) < len(self.fields):
                raise ValueError("fields: one is named twice")
            return self

    expects = (
        "NAME.inter.json and NAME.item.json; or a release of the reviews: meta_NAME.json.gz and reviews_NAME.json.gz "
        "(2014) or NAME.json.gz (2018), or meta_NAME.jsonl.gz and NAME.jsonl.gz or NAME.csv.gz (2023)"
    )

    def __init__(self, config: Config, folder: Path) -> None:
        self.counts: dict[str, int] = {}
        self._config = config
        self._pictures = find_pictures(folder, config.images)
        self.other_files = (self._pictures.path,) if self._pictures and self._pictures.path.is_file() else ()
        self._sequences: Sequences | None = None
        if config.release == "sequences" or (config.release == "auto" and has_sequences(folder)):
            if config.reviews or config.metadata:
                raise ConfigError(
                    "source.reviews and source.metadata: files of a release; leave them out for sequences"
                )
            self._sequences = Sequences(folder, config.fields, self._pictures, self.counts)
            self.items_file, self.events_file = self._sequences.items_file, self._sequences.events_file
            self.has_timestamps = self.has_ratings = False
            return
        release = None if config.release == "auto" else config.release
        self._files = find_release(folder, release, config.metadata, config.reviews)
        self.items_file, self.events_file = self._files.products, self._files.reviews[0]
        self.other_files += self._files.reviews[1:]
        self.has_timestamps = self.has_ratings = True
        self.per_second = PER_SECOND[self._files.release]

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder looks like this source."""
        return has_sequences(folder) or has_release(folder)

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the products, see `Source.items`."""
        if self._sequences:
            yield from self._sequences.items()
            return
        config = self._config
        products = Products(
            self.items_file, self._files.release, config.fields, self._pictures, config.max_bad_share, self.counts
        )
        yield from products.batches()

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields purchases or reviews, see `Source.interactions`."""
        if self._sequences:
            yield from self._sequences.interactions()
        else:
            yield from read_reviews(self._files, self._config.max_bad_share, self.counts)

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._pictures
