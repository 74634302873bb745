import io
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from modalrec.data import archives
from modalrec.data.archives import BadFile, is_inside, open_archive
from modalrec.data.images import decode
from modalrec.errors import DataError
from tests.raw import picture, write_zip

LIMIT = 1 << 20


@pytest.fixture(params=["folder", "zip"])
def archive(request, tmp_path: Path) -> Path:
    """Three pictures, two of them of one name, and what is no picture."""
    files = {"a/1.jpg": b"one", "a/2.PNG": b"two", "b/2.jpg": b"three", "notes.txt": b"no", "b/._2.jpg": b"no"}
    if request.param == "zip":
        return write_zip(tmp_path / "pictures.zip", files)
    for name, content in files.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "pictures"


@pytest.mark.parametrize("key", ["a/1.jpg", "a/1", "1.jpg", "1"])
def test_a_picture_is_found_by_its_name_or_a_part_of_it(archive, key):
    pictures = open_archive(archive)
    assert pictures.find(key) == "a/1.jpg"
    assert pictures.read("a/1.jpg", LIMIT) == b"one"


def test_only_pictures_are_found(archive):
    pictures = open_archive(archive)
    assert [pictures.find(key) for key in ("notes", "notes.txt", "3", "._2.jpg", "../a/1.jpg")] == [None] * 5


def test_a_name_that_may_be_two_pictures_is_refused(archive):
    pictures = open_archive(archive)
    with pytest.raises(DataError, match=r"'2' may be 'a/2.PNG' or 'b/2.jpg'; write the full name"):
        pictures.find("2")
    assert pictures.find("b/2") == "b/2.jpg"
    assert pictures.find("2.jpg") == "b/2.jpg"


@pytest.mark.fault("archives")
def test_too_long_and_empty_files_are_bad(archive):
    with pytest.raises(BadFile, match="too many bytes"):
        open_archive(archive).read("a/1.jpg", 2)


@pytest.mark.fault("archives")
def test_no_more_of_a_long_file_is_read_than_the_limit(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.bmp").write_bytes(bytes(20 << 20))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(tmp_path / "pictures" / "1.bmp", "1.bmp")
    for path in (tmp_path / "pictures", tmp_path / "x.zip"):
        pictures = open_archive(path)
        tracemalloc.start()
        with pytest.raises(BadFile, match="too many bytes"):
            pictures.read("1.bmp", LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * LIMIT


@pytest.mark.fault("archives")
def test_an_empty_entry_is_bad(tmp_path):
    with pytest.raises(BadFile, match="empty file"):
        open_archive(write_zip(tmp_path / "x.zip", {"1.jpg": b""})).read("1.jpg", LIMIT)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "a/../../out.jpg", "..\\out.jpg", "C:\\out.jpg"])
def test_a_zip_that_leaves_its_folder_is_refused_whole(tmp_path, name):
    path = write_zip(tmp_path / "x.zip", {"1.jpg": picture(), name: picture()})
    with pytest.raises(DataError, match="its name leaves the folder") as caught:
        open_archive(path)
    assert repr(name) in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.zip"]


@pytest.mark.fault("archives")
def test_all_bad_entries_are_in_one_error(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"../1.jpg": b"1", "/2.jpg": b"2", "3.jpg": b"3"})
    with pytest.raises(DataError, match=r"(?s)'\.\./1\.jpg'.*'/2\.jpg'"):
        open_archive(path)


@pytest.mark.fault("archives")
def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("1.jpg")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match=r"entry '1\.jpg': is a symbolic link"):
        open_archive(tmp_path / "x.zip")


@pytest.mark.fault("archives")
def test_a_link_out_of_a_folder_is_refused(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(picture())
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match=r"1\.jpg: is a link that leaves the folder"):
        open_archive(tmp_path / "pictures")


@pytest.mark.fault("archives")
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"1.png": bytes(50 << 20)})
    assert path.stat().st_size < 1 << 17
    with pytest.raises(DataError, match=r"entry '1\.png': unpacks from [\d,]+ to 52,428,800 bytes"):
        open_archive(path)


@pytest.mark.fault("archives")
def test_an_entry_that_lies_about_its_size_is_bad_and_not_unpacked(tmp_path):
    raw = bytearray(write_zip(tmp_path / "x.zip", {"1.png": bytes(50 << 20)}).read_bytes())
    place = raw.index(b"PK\x01\x02")
    raw[place + 24 : place + 28] = struct.pack("<I", 100)
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(BadFile):
        open_archive(tmp_path / "x.zip").read("1.png", LIMIT)


@pytest.mark.fault("archives")
def test_an_encrypted_entry_is_refused(tmp_path):
    raw = bytearray(write_zip(tmp_path / "x.zip", {"1.jpg": picture()}).read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(magic) + place] |= 1
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(DataError, match=r"entry '1\.jpg': is encrypted"):
        open_archive(tmp_path / "x.zip")


@pytest.mark.fault("archives")
@pytest.mark.parametrize("keep", [0, 10, 300])
def test_a_cut_zip_is_refused(tmp_path, keep):
    path = write_zip(tmp_path / "x.zip", {"1.jpg": picture()})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="is not a complete zip"):
        open_archive(path)


@pytest.mark.fault("archives")
def test_a_damaged_entry_is_bad_and_the_others_are_read(tmp_path):
    good, hurt = picture(), picture((50, 50))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1.jpg", hurt)
        archive.writestr("2.jpg", good)
    raw = bytearray(buffer.getvalue())
    raw[raw.index(hurt) + 200] ^= 0xFF
    (tmp_path / "x.zip").write_bytes(raw)
    pictures = open_archive(tmp_path / "x.zip")
    with pytest.raises(BadFile, match="damaged in the zip"):
        pictures.read("1.jpg", LIMIT)
    assert pictures.read("2.jpg", LIMIT) == good


@pytest.mark.fault("archives")
def test_what_is_neither_folder_nor_zip_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder, zip or rar"):
        open_archive(tmp_path / "gone.zip")


@pytest.mark.fault("archives")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_device_in_a_zip_is_refused(tmp_path, kind):
    device = zipfile.ZipInfo("1.jpg")
    device.create_system = 3
    device.external_attr = (kind | 0o666) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(device, picture())
    with pytest.raises(DataError, match=r"entry '1\.jpg': is a pipe, a socket or a device"):
        open_archive(tmp_path / "x.zip")


@pytest.mark.fault("archives")
def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "1.jpg")
    with pytest.raises(DataError, match=r"1\.jpg: is a pipe, a socket or a device.*Put plain files there"):
        open_archive(tmp_path)


@pytest.mark.fault("archives")
def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 1000)
    path = write_zip(tmp_path / "x.zip", {f"{number}.jpg": b"" for number in range(1001)})
    with pytest.raises(DataError, match=r"x\.zip: has 1,001 entries, more than 1,000\. Nothing was read"):
        open_archive(path)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("inner", ["inner.zip", "inner.jpg"])
def test_an_archive_in_an_archive_is_never_opened(tmp_path, inner):
    nested = write_zip(tmp_path / "nested.zip", {"../1.jpg": picture()}).read_bytes()
    pictures = open_archive(write_zip(tmp_path / "x.zip", {inner: nested, "2.jpg": picture()}))
    assert pictures.find("1.jpg") is None
    if inner.endswith(".jpg"):
        with pytest.raises(BadFile, match="no picture of a known format"):
            decode(pictures.read(inner, LIMIT), 10**6, 64)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("name", ["1.jpg", "../1.jpg", "/1.jpg"])
def test_a_tar_is_refused_whatever_it_holds_and_however_it_is_called(tmp_path, mode, name):
    for suffix in ("tar", "zip", "rar"):
        path = tmp_path / f"x.{suffix}"
        with tarfile.open(path, mode) as tar:
            entry = tarfile.TarInfo(name)
            entry.size = 5
            tar.addfile(entry, io.BytesIO(b"hello"))
        with pytest.raises(DataError, match=r"is not a complete zip|is no rar"):
            open_archive(path)
        path.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.guard("archives")
@pytest.mark.parametrize(
    ("guard", "gone", "check"),
    [
        ("is_inside", lambda name: True, test_all_bad_entries_are_in_one_error),
        ("MAX_RATIO", 1 << 40, test_a_bomb_is_refused_before_it_is_unpacked),
        ("_fault", lambda entry: "", test_a_link_in_a_zip_is_refused),
        ("_fault", lambda entry: "", test_an_encrypted_entry_is_refused),
        ("checked", lambda content, max_bytes: content, test_an_empty_entry_is_bad),
    ],
    ids=["names", "ratio", "links", "encryption", "empty"],
)
def test_each_guard_is_needed(tmp_path, monkeypatch, guard, gone, check):
    monkeypatch.setattr(archives, guard, gone)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check(tmp_path)


@pytest.mark.parametrize(("name", "inside"), [("a/b.jpg", True), ("..a.jpg", True), ("a/..", False), ("\\a", False)])
def test_names_that_leave_the_folder_are_known(name, inside):
    assert is_inside(name) is inside
