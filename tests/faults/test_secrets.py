"""Secrets: a sweep over everything that a chain of stages writes and says, and keys in configurations."""

import base64
import json
import os
import re
import urllib.parse
from pathlib import Path

import pytest

from modalrec import config as configs
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.s3 import Store
from modalrec.artifacts.store import delivered, localized
from modalrec.config import load_file, resolve
from modalrec.doctor import examine
from modalrec.encoders.openai import OpenAI, OpenAIConfig
from modalrec.errors import ConfigError, ModalrecError
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages.quantize import Config as Quantize
from modalrec.stages.tracking import find_experiment
from modalrec.testing.openai_server import Trouble, served
from pipelines.runner.compile import COMPILED
from tests.stages.trained import ingest

OPENAI = "sk-canary-5f8c1d2e9b7a4036"
HUGGING_FACE = "hf_canaryCanaryCanaryCanaryCanary01"
SETTINGS = {
    "embed_text": {"encoder": {"name": "openai", "model": "own", "dimensions": 16, "attempts": 1}},
    "quantize": {"quantizer": {"name": "rq_kmeans", "levels": 2, "codebook_size": 4}},
    "finetune": {
        "recommender": {"name": "encoder_decoder", "width": 8, "layers": 1, "heads": 2, "beam_size": 20, "history": 8},
        "training": {"epochs": 1},
    },
    "evaluate": {"list_length": 12, "cutoffs": [1, 5], "gallery_users": 2, "bootstrap_samples": 100},
}
EDGES = {
    "embed_text": ("dataset", "text_embeddings"),
    "quantize": ("embeddings", "codes"),
    "finetune": ("dataset", "codes", "model"),
    "evaluate": ("dataset", "codes", "model", "evaluation"),
}


def spellings(secret: str) -> set[bytes]:
    """A secret as it is, in base64 at each of three offsets, and in a URL."""
    inner = {base64.b64encode(b"-" * pad + secret.encode())[4:-4] for pad in range(3)}
    return {secret.encode(), urllib.parse.quote(secret, safe="").encode(), secret[4:].encode()} | inner


def leaks(contents: dict[str, bytes], secrets: list[str]) -> list[str]:
    """Where a secret stands, by name of the content."""
    forms = [form for secret in secrets for form in spellings(secret)]
    return [name for name, content in contents.items() if any(form in content for form in forms)]


def run_chain(folder: Path, place: str, url: str) -> None:
    """All stages from raw files to a report, each output in the bucket too, with checkpoints there."""
    ingest(folder)
    for stage, edges in EDGES.items():
        function, config_class = load_stage(stage)
        settings = json.loads(json.dumps(SETTINGS[stage]))
        if stage == "embed_text":
            settings["encoder"]["base_url"] = url
        given = {edge: folder / {"embeddings": "text_embeddings"}.get(edge, edge) for edge in edges}
        run = Run(stage, seed=1, device="cpu", checkpoints=f"{place}/checkpoints", checkpoint_seconds=0)
        function(**given, config=resolve(config_class, settings), run=run)
        with delivered(f"{place}/{edges[-1]}") as copy:
            copy.symlink_to(folder / edges[-1])
        with localized(f"{place}/{edges[-1]}"):
            pass


def everything(folder: Path, place: str, store: Store) -> dict[str, bytes]:
    """All files, all objects, and the compiled recipes."""
    files = [path for root in (folder, COMPILED) for path in root.rglob("*") if path.is_file()]
    found = {str(path): path.read_bytes() for path in files}
    return found | {name: store.get_bytes(f"{place}/{name}") for name in store.names(place)}


@pytest.fixture
def secrets(store_env: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those of the store and of two services, in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI)
    monkeypatch.setenv("HF_TOKEN", HUGGING_FACE)
    return [OPENAI, HUGGING_FACE, os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_ACCESS_KEY_ID"]]


@pytest.mark.fault("secrets")
def test_a_secret_is_in_nothing_that_is_written_or_said(
    secrets: list[str], store_env: EmbeddedStore, prefix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said = []
    with served(key=OPENAI) as server:
        run_chain(tmp_path / "run", prefix, server.url)
        assert server.keys == {f"Bearer {OPENAI}"}, "the key was used"
        monkeypatch.setenv("OPENAI_API_KEY", f"{OPENAI}x")
        troubles = [Trouble("status", status=403), Trouble("status", status=500)]
        for trouble in [None, *troubles]:
            server.troubles = [trouble] if trouble else []
            with pytest.raises(ModalrecError) as refused:
                run_chain(tmp_path / f"refused-{len(said)}", f"{prefix}/refused-{len(said)}", server.url)
            said.append(str(refused.value))
    for name, value in {"AWS_SECRET_ACCESS_KEY": secrets[2][::-1], "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        with pytest.raises(ModalrecError) as refused:
            Store.from_env({**store_env.env(), name: value}, attempts=1).get_bytes(f"{prefix}/x")
        said.append(str(refused.value))
    said += [str(check) for check in examine()]
    contents = everything(tmp_path, prefix, store_env.store())
    assert len(contents) > 50
    out, err = capfd.readouterr()
    told = {"output": out.encode(), "errors": err.encode(), "messages": "\n".join(said).encode()}
    assert leaks(contents | told, [*secrets, secrets[2][::-1]]) == []


PASSWORD = "canary-9d41f7"
ADDRESS = f"http://canary:{PASSWORD}@127.0.0.1:9"


def asked(variable: str) -> None:
    """Asks the service that a variable names, of which there is none."""
    if variable == "AWS_ENDPOINT_URL":
        Store.from_env(attempts=1).get_bytes("s3://bucket/x")
    elif variable == "MLFLOW_TRACKING_URI":
        find_experiment()
    else:
        texts = lambda: [["a text"]]  # noqa: E731
        config = OpenAIConfig(model="own", dimensions=16, attempts=1, timeout=1, base_url="http://127.0.0.1:9/v1")
        OpenAI(config, "cpu").expect(texts, Run("embed_text"))


@pytest.mark.fault("secrets")
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI", "HTTP_PROXY", "ALL_PROXY"])
def test_a_password_in_an_address_is_not_told(
    variable: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(variable, ADDRESS)
    with pytest.raises(ModalrecError) as refused:
        asked(variable)
    checks = [str(check) for check in examine()]
    told = {"message": str(refused.value), "checks": "\n".join(checks), "output": "".join(capfd.readouterr())}
    assert leaks({name: text.encode() for name, text in told.items()}, [PASSWORD]) == []


@pytest.mark.fault("secrets")
def test_an_address_with_a_query_is_refused_and_not_repeated() -> None:
    for url in (f"https://host/v1?key={PASSWORD}", f"https://user:{PASSWORD}@host/v1", f"ftp://{PASSWORD}"):
        with pytest.raises(ConfigError, match="base_url") as refused:
            resolve(load_stage("embed_text")[1], {"encoder": {"name": "openai", "base_url": url}})
        assert PASSWORD not in str(refused.value)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL") as refused:
        Store(f"http://127.0.0.1:9/?key={PASSWORD}", "a", "b")
    assert PASSWORD not in str(refused.value)


@pytest.mark.guard("secrets")
def test_without_its_guard_a_password_in_an_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalrec.errors.PASSWORD", re.compile("(?!)"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    with pytest.raises(ModalrecError, match=PASSWORD):
        find_experiment()


KEYS = {
    "OpenAI": OPENAI,
    "Hugging Face": HUGGING_FACE,
    "AWS": "AKIA" + "ABCDEFGHIJKLMNOP",
    "GitHub": "ghp_" + "a1" * 18,
    "GitHub, fine": "github_pat_" + "a1" * 18,
    "Google": "AIza" + "b2" * 17 + "c",
    "Slack": "xoxb-" + "1234567890-ab",
    "private": "-----BEGIN RSA PRIVATE KEY-----",
    "password": ADDRESS,
}


@pytest.mark.fault("secrets")
@pytest.mark.parametrize("place", ["value", "list", "name"])
@pytest.mark.parametrize("kind", KEYS)
def test_a_key_in_a_configuration_is_refused_and_not_repeated(kind: str, place: str, tmp_path: Path) -> None:
    given = {"value": KEYS[kind], "list": ["a", {"b": KEYS[kind]}], "name": {KEYS[kind]: 1}}[place]
    path = tmp_path / "settings.yaml"
    path.write_text(json.dumps({"split": given}))
    with pytest.raises(ConfigError, match=r"split.*: looks like a secret key.*environment variable") as refused:
        resolve(Quantize, load_file(path))
    assert KEYS[kind] not in str(refused.value)


@pytest.mark.guard("secrets")
def test_without_the_check_a_key_in_a_configuration_is_found_by_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "_secrets", lambda value, path: [])
    config = resolve(Quantize, {"split": OPENAI})
    contents = {"manifest.json": json.dumps(configs.dump(config)).encode()}
    assert leaks(contents, [OPENAI]) == ["manifest.json"]
    for form in spellings(HUGGING_FACE):
        assert leaks({"x": b"before " + form + b" behind"}, [HUGGING_FACE]) == ["x"]
