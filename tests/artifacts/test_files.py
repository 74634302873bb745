import hashlib
import json
from pathlib import Path

import pytest

from modalrec.artifacts.files import folder_in_place, sha256_file, sha256_json, write_bytes, write_json


def test_digests(tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    assert sha256_json({"a": 1, "b": [1.5, None]}) == sha256_json(json.loads('{"b": [1.5, null], "a": 1}'))
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})
    with pytest.raises(ValueError, match="JSON compliant"):
        sha256_json(float("nan"))


@pytest.mark.fault("atomic")
def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "state.json"
    write_json(path, {"step": 1})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"{")
    assert json.loads(path.read_text()) == {"step": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["state.json"]


@pytest.mark.fault("atomic")
def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "codes"

    def write(text: str, fail: bool = False) -> None:
        with folder_in_place(target) as building:
            (building / "a").mkdir()
            (building / "a" / "b").write_text(text)
            assert not (target / "a").exists() or text == "2"
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("1", fail=True)
    assert list(tmp_path.iterdir()) == []
    target.mkdir()  # a launcher's empty folder is no obstacle
    write("1")
    assert (target / "a" / "b").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["codes"]
    with pytest.raises(OSError, match="not empty"):
        write("2")
    assert (target / "a" / "b").read_text() == "1"
