import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modalrec.data import images
from modalrec.data.archives import BadFile
from modalrec.data.images import ImageWriter, decode, encode, load_images, open_image, read_image_bytes
from modalrec.errors import ArtifactError
from tests.raw import picture

LIMITS = {"max_pixels": 1_000_000, "max_side": 64}


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def middle(image: Image.Image) -> tuple[int, ...]:
    return image.getpixel((image.width // 2, image.height // 2))


def png_header(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_known_format_becomes_small_rgb(kind):
    image = decode(picture((200, 100), (200, 30, 30), kind), **LIMITS)
    assert (image.mode, image.size) == ("RGB", (64, 32))
    assert np.abs(np.array(middle(image)) - (200, 30, 30)).max() < 12


def test_small_pictures_stay_as_they_are():
    assert decode(picture((20, 30)), **LIMITS).size == (20, 30)


@pytest.mark.fault("images")
@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
        (Image.new("L", (8, 8), 120), "PNG", (120, 120, 120)),
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("P", (8, 8), 0), "GIF", (0, 0, 0)),
        (Image.new("RGBA", (8, 8), (0, 0, 255, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (0, 0, 255, 128)), "PNG", (127, 127, 255)),
        (Image.new("LA", (8, 8), (0, 0)), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((8, 8), 32768, np.uint16)), "PNG", (127, 127, 127)),
        (Image.fromarray(np.full((8, 8), 32768, np.uint16)), "TIFF", (127, 127, 127)),
        (Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF", (127, 127, 127)),
        (Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF", (0, 0, 0)),
    ],
    ids=["cmyk", "grey", "bitmap", "palette", "clear", "half", "grey-clear", "png16", "tiff16", "float", "nan"],
)
def test_unusual_modes_are_converted_properly(image, kind, expected):
    result = decode(saved(image, kind), **LIMITS)
    assert result.mode == "RGB"
    assert np.abs(np.array(middle(result)) - expected).max() <= 3


@pytest.mark.fault("images")
def test_a_palette_picture_with_a_clear_colour_lies_on_white():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert middle(decode(saved(image, "PNG", transparency=0), **LIMITS)) == (255, 255, 255)


@pytest.mark.fault("images")
def test_a_picture_turned_by_exif_is_set_upright():
    image = Image.new("RGB", (40, 20), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    result = decode(saved(image, "JPEG", exif=exif, quality=95), **LIMITS)
    assert result.size == (20, 40)
    assert result.getpixel((10, 5))[0] > 200
    assert result.getpixel((10, 35))[0] < 50


@pytest.mark.fault("images")
def test_unreadable_exif_does_no_harm():
    assert decode(saved(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff"), **LIMITS).size == (
        8,
        8,
    )


@pytest.mark.fault("images")
def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for kind in ("GIF", "WEBP"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        red, green, blue = middle(decode(content, **LIMITS))
        assert red > 230
        assert max(green, blue) < 30


@pytest.mark.fault("images")
@pytest.mark.parametrize("size", [(1001, 1000), (20_000, 20_000), (2_000_000, 2_000_000)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    content = png_header(*size, zlib.compress(bytes(1 << 20)))
    tracemalloc.start()
    with pytest.raises(BadFile, match="too many pixels"):
        decode(content, **LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.fault("images")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_cut_pictures_are_bad(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8))
    content = saved(noise, kind)
    for keep in (len(content) // 2, 30):
        with pytest.raises(BadFile):
            decode(content[:keep], **LIMITS)


@pytest.mark.fault("images")
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", bytes(1000), b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_picture_is_bad(content):
    with pytest.raises(BadFile, match="no picture of a known format"):
        decode(content, **LIMITS)


@pytest.mark.fault("images")
def test_formats_outside_of_the_list_are_refused_though_pillow_reads_them():
    with pytest.raises(BadFile, match="no picture of a known format"):
        decode(saved(Image.new("RGB", (8, 8)), "PPM"), **LIMITS)


@pytest.mark.fault("images")
def test_flipped_bytes_never_raise_anything_else(record_property):
    rng, mutated = np.random.default_rng(1), 0
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"):
        content = np.frombuffer(picture((30, 30), kind=kind), np.uint8)
        for _ in range(150):
            hurt = content.copy()
            hurt[rng.integers(0, len(hurt), 4)] = rng.integers(0, 256, 4)
            mutated += 1
            try:
                assert decode(hurt.tobytes(), **LIMITS).mode == "RGB"
            except BadFile:
                continue
    record_property("cases", mutated)


@pytest.mark.fault("images")
@pytest.mark.parametrize("suffix", ["jpg", "png", "svg", "heic"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "SVG"])
def test_the_content_counts_and_not_the_suffix(kind, suffix, tmp_path):
    """An SVG may hold scripts and links: none is a picture here."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>'
    path = tmp_path / f"1.{suffix}"
    path.write_bytes(svg if kind == "SVG" else picture((20, 30), kind=kind))
    if kind == "SVG":
        with pytest.raises(BadFile, match="no picture of a known format"):
            decode(path.read_bytes(), **LIMITS)
    else:
        assert decode(path.read_bytes(), **LIMITS).size == (20, 30)


@pytest.mark.guard("images")
@pytest.mark.parametrize(
    ("guard", "gone", "check"),
    [
        ("FORMATS", None, test_formats_outside_of_the_list_are_refused_though_pillow_reads_them),
        ("BadFile", ValueError, lambda: test_what_is_no_picture_is_bad(b"<html>404</html>")),
    ],
    ids=["formats", "one error"],
)
def test_each_guard_is_needed(monkeypatch, guard, gone, check):
    monkeypatch.setattr(images, guard, gone)
    with pytest.raises((pytest.fail.Exception, ValueError)):
        check()


def write(folder: Path, items: list[int], part_bytes: int) -> dict[int, bytes]:
    contents = {item: encode(Image.new("RGB", (10, 12), (item % 256, 0, 0)), 85) for item in items}
    with ImageWriter(folder, part_bytes) as writer:
        for item, content in contents.items():
            writer.add(item, content, (10, 12))
    return contents


def test_pictures_are_read_back_in_order_and_at_random(tmp_path):
    contents = write(tmp_path, list(range(0, 2000, 2)), part_bytes=200_000)
    assert len(list((tmp_path / "images").iterdir())) > 1
    read = [
        (item, image) for items, images in load_images(tmp_path, 100) for item, image in zip(items, images, strict=True)
    ]
    assert read == list(contents.items())
    assert all(len(items) <= 100 for items, _ in load_images(tmp_path, 100))
    assert read_image_bytes(tmp_path, [1500, 4, 3, 1500]) == {4: contents[4], 1500: contents[1500]}
    assert open_image(contents[200]).size == (10, 12)


def test_a_dataset_without_pictures_has_none(tmp_path):
    write(tmp_path, [], part_bytes=1)
    assert list(load_images(tmp_path)) == []
    assert read_image_bytes(tmp_path, [1]) == {}


def test_a_damaged_part_is_named(tmp_path):
    write(tmp_path, [1], part_bytes=1)
    path = tmp_path / "images" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"part-00000\.parquet: cannot be read"):
        list(load_images(tmp_path))
