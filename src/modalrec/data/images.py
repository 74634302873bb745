"""Pictures: decoded under limits, re-encoded once as small RGB JPEGs, stored in and read from a dataset's parts."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from modalrec.artifacts.schemas import IMAGES, UNREADABLE, stream
from modalrec.config import Config
from modalrec.data.archives import BadFile
from modalrec.data.downloads import DownloadConfig
from modalrec.errors import ArtifactError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
BACKGROUND = (255, 255, 255)
PART_BYTES = 64 << 20
GROUP_ROWS = 256


class ImageConfig(Config):
    """What becomes of the pictures.

    Attributes:
        max_side: Longer pictures are made smaller, to this many pixels; image encoders look at 224 to 256.
        jpeg_quality: Of the stored JPEG; 85 is where artefacts stop being visible.
        max_pixels: Pictures with more, by their header, are not decoded: memory grows with pixels, not bytes.
        max_bytes: Files that are longer are not read.
        max_bad_share: Share of bad pictures above which the stage fails: then the input is wrong, not one picture.
        missing: `keep` items without a picture as they are, or `draw` a stand-in card for them.
        download: Fetch pictures that are not beside the data from the addresses in it.
        downloads: How they are fetched.
    """

    max_side: int = Field(default=256, ge=16, le=4096)
    jpeg_quality: int = Field(default=85, ge=1, le=95)
    max_pixels: int = Field(default=40_000_000, ge=1)
    max_bytes: int = Field(default=20 << 20, ge=1)
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    missing: Literal["keep", "draw"] = "keep"
    download: bool = False
    downloads: DownloadConfig = DownloadConfig()


def decode(content: bytes, max_pixels: int, max_side: int) -> Image.Image:
    """Decodes a foreign picture to RGB: first frame, upright, transparency on white, at most `max_side` pixels long.

    Raises:
        BadFile: It is of no known format, has too many pixels, or is damaged.
    """
    with warnings.catch_warnings():
        # The limit below is stricter than Pillow's, which only warns at first; other warnings are about odd metadata.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                if picture.width * picture.height > max_pixels:
                    raise BadFile("too many pixels")
                picture.draft("RGB", (max_side, max_side))
                picture.load()
                rgb = _to_rgb(_upright(picture))
        except Image.DecompressionBombError:
            raise BadFile("too many pixels") from None
        except Image.UnidentifiedImageError:
            raise BadFile("no picture of a known format") from None
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error):
            # Everything that Pillow's decoders raise on damaged files.
            raise BadFile("damaged") from None
    rgb.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return rgb


def encode(picture: Image.Image, quality: int) -> bytes:
    """An RGB picture as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def open_image(content: bytes) -> Image.Image:
    """Decodes a picture of a dataset, RGB."""
    picture = Image.open(io.BytesIO(content), formats=("JPEG",))
    return picture.convert("RGB")


class ImageWriter:
    """Writes a dataset's `images/part-*.parquet`, in parts of about 64 MB; use it in a `with`."""

    def __init__(self, dataset: Path, part_bytes: int = PART_BYTES) -> None:
        self.folder = dataset / "images"
        self.part_bytes = part_bytes
        self._rows: list[tuple[int, bytes, int, int]] = []
        self._writer: pq.ParquetWriter | None = None
        self._parts = self._written = 0

    def __enter__(self) -> "ImageWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._close()

    def add(self, item: int, content: bytes, size: tuple[int, int]) -> None:
        """Adds the JPEG of an item; items come in ascending order."""
        self._rows.append((item, content, *size))
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self.folder.mkdir(exist_ok=True)
            # JPEGs do not shrink any more.
            path = self.folder / f"part-{self._parts:05d}.parquet"
            self._writer = pq.ParquetWriter(path, IMAGES, compression="none", use_dictionary=False)
            self._parts += 1
        columns = [
            pa.array(column, field.type) for column, field in zip(zip(*self._rows, strict=True), IMAGES, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=IMAGES))
        self._written += sum(len(content) for _, content, _, _ in self._rows)
        self._rows = []
        if self._written >= self.part_bytes:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer, self._written = None, 0


def load_images(dataset: Path, batch_size: int = GROUP_ROWS) -> Iterator[tuple[NDArray[np.int32], list[bytes]]]:
    """Yields the pictures of a dataset, given and drawn, in the order of the items.

    Args:
        dataset: The artifact's folder.
        batch_size: Pictures at a time.

    Yields:
        Item indices [n], ascending, and their n JPEGs; n is at most `batch_size`.
    """
    for path in _parts(dataset):
        with _open(path) as file:
            for batch in stream(file, batch_size, ["item", "image"]):
                yield batch.column("item").to_numpy(), batch.column("image").to_pylist()


def read_image_bytes(dataset: Path, items: Sequence[int]) -> dict[int, bytes]:
    """The JPEGs of a few items, by item index; items without a picture are left out."""
    wanted = np.unique(np.asarray(items, np.int64))
    found: dict[int, bytes] = {}
    for path in _parts(dataset):
        with _open(path) as file:
            for group in range(file.num_row_groups):
                have = file.read_row_group(group, columns=["item"])["item"].to_numpy()
                if np.isin(have, wanted).any():
                    images = file.read_row_group(group, columns=["image"])["image"]
                    found |= {int(have[row]): images[int(row)].as_py() for row in np.flatnonzero(np.isin(have, wanted))}
    return found


def _parts(dataset: Path) -> list[Path]:
    return sorted((dataset / "images").glob("part-*.parquet"))


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except UNREADABLE as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run ingest again") from None


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        # Unreadable EXIF says nothing about the pixels.
        return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        # Pillow would clip these to 255. Integers are 16-bit samples; floats have no agreed range.
        values = np.nan_to_num(np.asarray(picture, np.float32))
        peak = values.max() if picture.mode == "F" else 65535
        top = next(top for top in (1, 255, 65535, np.inf) if peak <= top)
        picture = Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        backed = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return Image.alpha_composite(backed, layer).convert("RGB")
    return picture.convert("RGB")
