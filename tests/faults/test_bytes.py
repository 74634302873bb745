"""Any bytes as a manifest, a configuration or weights: one clear error, in under 2 s and 1 GiB, never a traceback."""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modalrec.artifacts import manifest, read_manifest, write_artifact
from modalrec.config import Config, load_file, resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.quantizers import load_quantizer
from modalrec.recommenders import load_recommender, save_recommender
from modalrec.recommenders.sasrec import SASRec, SASRecConfig
from modalrec.stages.quantize import Config as Quantize
from modalrec.testing.recommenders import item_space

SECONDS, ROOM = 2.0, 1 << 30
EXAMPLES = 300
"""Of each of three kinds of bytes, for each of three readers."""

PIECES = [
    *(b"\x00", b"\xff" * 8, b"[" * 5000, b"{", b"}", b'"', b"'", b"9" * 5000, b"-", b"1e999", b"NaN", b"null", b"\n"),
    *(b"&a [*a,*a]", b"!!python/object/apply:os.system [true]", b"2001-99-99", b"\xed\xa0\x80", b"\\ud800", b"0x"),
    *(b"?", b"<<: {}", b": ", b"- ", b"\xef\xbb\xbf", b"%YAML 9.9\n---\n", b"true", b"&a", b"*a", b"|\n", b".inf"),
]
"""What has broken readers of JSON, YAML and safetensors before."""


@pytest.fixture(autouse=True)
def one_gib() -> Iterator[None]:
    """No more memory than 1 GiB above what the process has: more ends in a MemoryError."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class Reader:
    """One reader, with a folder that it can read and the file that is to be replaced.

    Attributes:
        read: Reads the folder; raises `error` where it cannot.
        path: The file.
        valid: What it holds.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.read, self.path, self.error = getattr(self, f"_{name}")(folder)
        self.valid = self.path.read_bytes()
        self.read()

    def check(self, content: bytes) -> None:
        """Reads other bytes: well, or with its one error, which is short and names the file or its folder."""
        self.path.write_bytes(content)
        begin = time.process_time()
        try:
            self.read()
        except self.error as error:
            assert str(self.path.parent) in str(error)  # noqa: PT017
            assert "Traceback" not in str(error)  # noqa: PT017
        assert time.process_time() - begin < SECONDS

    def _manifest(self, folder: Path) -> tuple[Callable[[], Any], Path, type[Exception]]:
        config = Config()
        with write_artifact(folder / "codes", "codes", stage="quantize", config=config, seed=0, inputs={}) as work:
            (work.folder / "a").write_bytes(b"1")
        return lambda: read_manifest(folder / "codes", "codes"), folder / "codes" / "manifest.json", ArtifactError

    def _config(self, folder: Path) -> tuple[Callable[[], Any], Path, type[Exception]]:
        path = folder / "settings.yaml"
        path.write_text(
            yaml.safe_dump({"quantizer": {"name": "rqvae", "levels": 3}, "valid_share": 0.1, "form": "groups"})
        )

        def read() -> None:
            found = load_file(path)
            try:
                resolve(Quantize, found)
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None  # the settings are named, the file is the command's

        return read, path, ConfigError

    def _weights(self, folder: Path) -> tuple[Callable[[], Any], Path, type[Exception]]:
        torch.manual_seed(0)
        save_recommender(folder, SASRec(SASRecConfig(width=8, heads=2, layers=1), item_space(6, (6, 1, 1))))
        return lambda: load_recommender(folder), folder / "model.safetensors", ArtifactError


def mutated(valid: bytes, seed: int) -> bytes:
    """Valid bytes with some cut out, doubled, flipped or replaced by pieces that are known for trouble."""
    rng, content = random.Random(seed), bytearray(valid)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(content) + 1) if rng.random() < 0.5 else rng.randrange(min(len(content), 400) + 1)
        span = rng.choice([0, 1, 1, 4, 30, len(content) // 2])
        new = rng.choice([b"", bytes([rng.randrange(256)]), rng.choice(PIECES), bytes(content[at : at + span]) * 2])
        content[at : at + span] = new
    return bytes(content)


def rebuilt(valid: bytes, value: Any, seed: int) -> bytes:
    """A valid JSON or YAML text, or safetensors header, in which a value somewhere is another."""
    rng = random.Random(seed)
    length = int.from_bytes(valid[:8], "little")
    header = valid[8 : 8 + length] if length < len(valid) else b""
    tree = json.loads(header) if header else yaml.safe_load(valid)
    node: Any = {"": tree}
    key: Any = ""
    while isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
        node = node[key]
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    node[key] = value
    if key == "":
        tree = value
    text = json.dumps(tree).encode()
    return len(text).to_bytes(8, "little") + text + valid[8 + length :] if header else text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NUMBERS = st.integers(0, 2**32)
KINDS: dict[str, st.SearchStrategy[Callable[[bytes], bytes]]] = {
    "any": st.binary(max_size=400).map(lambda content: lambda valid: content),
    "mutated": NUMBERS.map(lambda seed: lambda valid: mutated(valid, seed)),
    "rebuilt": st.tuples(VALUES, NUMBERS).map(lambda drawn: lambda valid: rebuilt(valid, *drawn)),
}


@pytest.mark.fault("bytes")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", ["manifest", "config", "weights"])
def test_any_bytes_are_read_or_refused(
    reader: str, kind: str, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    target = Reader(tmp_path, reader)
    seen = set()

    @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
    @given(make=KINDS[kind])
    def check(make: Callable[[bytes], bytes]) -> None:
        content = make(target.valid)
        seen.add(content)
        target.check(content)

    check()
    assert len(seen) > 0.5 * EXAMPLES
    record_property("cases", len(seen))


@pytest.mark.fault("bytes")
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: repr(piece[:12]))
@pytest.mark.parametrize("file", ["quantizer.json", "config.json"])
def test_known_trouble_in_the_configuration_beside_weights(file: str, piece: bytes, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(piece)
    with pytest.raises(ArtifactError, match=r"not a .* of this version"):
        (load_quantizer if file == "quantizer.json" else load_recommender)(tmp_path)


@pytest.mark.fault("bytes")
@pytest.mark.parametrize("piece", ["a{}: 1\n", "{{a{}: [1]}}\n", "x", "[", "- ", "a{}: &a{} b\n", '"', " "])
def test_ten_megabytes_of_settings_are_refused(piece: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("".join(piece.format(*2 * [number]) for number in range((10 << 20) // len(piece) + 1)))
    refused(path)


@pytest.mark.fault("bytes")
@pytest.mark.parametrize("place", ["/dev/zero", "/dev/urandom"])
def test_settings_without_end_are_refused(place: str) -> None:
    refused(Path(place))


def refused(path: Path) -> None:
    begin = time.process_time()
    with pytest.raises(ConfigError, match=f"{path}: has more than 262,144 bytes"):
        load_file(path)
    assert time.process_time() - begin < SECONDS


@pytest.mark.guard("bytes")
def test_without_its_limit_a_long_file_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("".join(f"a{number}: 1\n" for number in range(70_000)))
    monkeypatch.setattr("modalrec.config.MOST_BYTES", 1 << 24)
    begin = time.process_time()
    assert len(load_file(path)) == 70_000
    assert time.process_time() - begin > 0.5, "so many times as long for ten megabytes"


@pytest.mark.guard("bytes")
def test_without_its_guard_a_manifest_that_is_none_is_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(Exception):
        """Nothing raises it."""

    target = Reader(tmp_path, "manifest")
    for name in ("ValueError", "RecursionError", "ValidationError"):
        monkeypatch.setattr(manifest, name, Never, raising=False)
    for content in (b"{", b"[" * 100_000):
        with pytest.raises((ValueError, RecursionError)):
            target.check(content)


def test_the_memory_of_this_module_is_bounded() -> None:
    with pytest.raises((MemoryError, RuntimeError)):
        torch.zeros(ROOM // 2)
