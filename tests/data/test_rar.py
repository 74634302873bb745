import builtins
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from modalrec.data.archives import BadFile, open_archive
from modalrec.errors import DataError, UpstreamError
from tests.raw import picture, write_microlens

LIMIT = 1 << 20
FILES = {"a/1.jpg": b"one", "a/2.PNG": b"two" * 9, "notes.txt": b"no", "b/._1.jpg": b"no"}
FORMS = [4, 5]


def needs_libarchive() -> None:
    try:
        import libarchive  # noqa: F401
    except (ImportError, OSError, AttributeError, TypeError) as error:
        pytest.skip(f"no libarchive: {error}")


def old_rar(entries: dict[str, bytes], *, mode: int = 0o100644, size: int | None = None, packed: str = "") -> bytes:
    """An archive of the form before RAR 5, files stored as they are; one is said to be packed."""

    def block(kind: int, flags: int, body: bytes, data: bytes = b"") -> bytes:
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head + data

    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for name, content in entries.items():
        told = len(content) if size is None else size
        fields = (len(content), told, 3, zlib.crc32(content), 0, 20, 0x33 if name == packed else 0x30, len(name), mode)
        parts.append(block(0x74, 0x8000, struct.pack("<IIBIIBBHI", *fields) + name.encode(), content))
    return b"".join([*parts, block(0x7B, 0x4000, b"")])


def new_rar(entries: dict[str, bytes], *, mode: int = 0o100644, size: int | None = None, packed: str = "") -> bytes:
    """An archive of the form of RAR 5, files stored as they are; one is said to be packed."""

    def number(value: int) -> bytes:
        low = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
        return low + number(value >> 7) if value > 0x7F else low

    def block(*fields: int, more: bytes = b"", data: bytes = b"") -> bytes:
        body = b"".join(map(number, fields)) + more
        head = number(len(body)) + body
        return struct.pack("<I", zlib.crc32(head)) + head + data

    parts = [b"Rar!\x1a\x07\x01\x00", block(1, 0, 0)]
    for name, content in entries.items():
        told = len(content) if size is None else size
        method = number(3 << 7 if name == packed else 0)
        rest = struct.pack("<I", zlib.crc32(content)) + method + number(1) + number(len(name)) + name.encode()
        parts.append(block(2, 2, len(content), 4, told, mode, more=rest, data=content))
    return b"".join([*parts, block(5, 0, 0)])


def write_rar(path: Path, form: int, entries: dict[str, bytes], **settings: Any) -> Path:
    needs_libarchive()
    path.write_bytes((old_rar if form == 4 else new_rar)(entries, **settings))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_found_and_read_in_any_order(tmp_path, form):
    pictures = open_archive(write_rar(tmp_path / "x.rar", form, FILES))
    assert [pictures.find(key) for key in ("1", "2", "a/2", "notes", "._1")] == [
        "a/1.jpg",
        "a/2.PNG",
        "a/2.PNG",
        None,
        None,
    ]
    assert [pictures.read(name, LIMIT) for name in ("a/2.PNG", "a/1.jpg", "a/2.PNG")] == [
        b"two" * 9,
        b"one",
        b"two" * 9,
    ]
    with pytest.raises(BadFile, match="too many bytes"):
        pictures.read("a/2.PNG", 5)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["../1.jpg", "/etc/1.jpg", "a/../../1.jpg"])
def test_names_that_leave_the_folder_refuse_the_rar(tmp_path, form, name):
    with pytest.raises(DataError, match=r"x\.rar: entry .*its name leaves the folder"):
        open_archive(write_rar(tmp_path / "x.rar", form, {"1.jpg": b"one", name: b"two"}))


@pytest.mark.fault("archives")
@pytest.mark.parametrize("form", FORMS)
def test_a_rar_that_says_it_unpacks_to_far_too_much_is_refused(tmp_path, form):
    with pytest.raises(DataError, match=r"x\.rar: unpacks from [\d,]+ to 2,000,000,000 bytes"):
        open_archive(write_rar(tmp_path / "x.rar", form, {"1.jpg": b"one"}, size=2_000_000_000))


@pytest.mark.fault("archives")
def test_links_are_refused(tmp_path):
    with pytest.raises(DataError, match="is a link or a device"):
        open_archive(write_rar(tmp_path / "x.rar", 4, {"1.jpg": b"/etc/passwd"}, mode=0o120777))


@pytest.mark.fault("archives")
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_picture_is_bad_and_the_others_are_not(tmp_path, form):
    entries = {"1.jpg": b"one", "2.jpg": b"two!" * 9, "3.jpg": b"three"}
    pictures = open_archive(write_rar(tmp_path / "x.rar", form, entries, packed="2.jpg"))
    assert [pictures.read(name, LIMIT) for name in ("1.jpg", "3.jpg")] == [b"one", b"three"]
    with pytest.raises(BadFile, match="damaged in the rar"):
        pictures.read("2.jpg", LIMIT)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("form", FORMS)
def test_a_rar_that_is_cut_short_is_refused(tmp_path, form):
    path = write_rar(tmp_path / "x.rar", form, {f"{n}.jpg": b"content" * 40 for n in range(5)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"x\.rar: is no complete rar"):
        open_archive(path).read("4.jpg", LIMIT)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"#mtree\n./1.jpg type=file contents=/etc/passwd\n"])
def test_other_forms_are_not_let_in_under_its_name(tmp_path, content):
    (tmp_path / "x.rar").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.rar: is no rar"):
        open_archive(tmp_path / "x.rar")


def test_without_the_library_the_error_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "x.rar").write_bytes(old_rar(FILES))
    found = builtins.__import__

    def without(name, *rest):
        if name == "libarchive":
            raise OSError("cannot find it")
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UpstreamError, match=r"apt install libarchive13.*or unpack the rar"):
        open_archive(tmp_path / "x.rar")


def test_microlens_finds_its_pictures_in_a_rar(tmp_path):
    from modalrec.data.sources.microlens import MicroLens

    write_rar(write_microlens(tmp_path) / "item_images.rar", 5, {"item_images/1.jpg": picture()})
    source = MicroLens(MicroLens.Config(), tmp_path)
    rows = [row for batch in source.items() for row in batch.to_pylist()]
    assert [row["picture"] for row in rows] == [None, "item_images/1.jpg", None, None]
    archive = source.pictures()
    assert archive is not None
    assert archive.read("item_images/1.jpg", LIMIT) == picture()
