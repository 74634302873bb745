"""Large files from the web: fetched in one piece or several, checked, and in their place only when they are whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import urllib3
from pydantic import Field
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

import modalrec
from modalrec.artifacts.files import write_json
from modalrec.config import Config
from modalrec.data.public_sets import RemoteFile
from modalrec.errors import DataError, UpstreamError
from modalrec.run import Progress, Run

BLOCK = 1 << 20
PARTIAL, WHOLE = 206, 200
RANGE_REFUSED = 416
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
SPARE = 256 << 20
"""Bytes that a download leaves free on the disk."""


class FetchConfig(Config):
    """How files are fetched.

    Attributes:
        attempts: How often a file is asked for until the host answers.
        breaks: How often a body may break off; what came is kept.
        pause: Seconds of about the first pause; they double. A host that names a time is heard.
        seconds: Longest silence.
    """

    attempts: int = Field(5, ge=1)
    breaks: int = Field(20, ge=0)
    pause: float = Field(1.0, ge=0)
    seconds: float = Field(60, gt=0)


class _BrokenOff(Exception):
    """The body ended too soon; what came is kept."""


class Fetcher:
    """Fetches files into a folder; a second one goes on where the first was stopped.

    Args:
        config: Patience.
        run: Progress.
    """

    def __init__(self, config: FetchConfig, run: Run) -> None:
        self._config = config
        self._run = run
        retries = urllib3.Retry(
            total=config.attempts - 1,
            status_forcelist=TRANSIENT,
            backoff_factor=config.pause,
            backoff_jitter=config.pause / 2,
            respect_retry_after_header=True,
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(
            retries=retries,
            timeout=urllib3.Timeout(connect=min(15.0, config.seconds), read=config.seconds),
            headers={"User-Agent": f"modalrec/{modalrec.__version__}", "Accept-Encoding": "identity"},
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )

    def fetch(self, file: RemoteFile, folder: Path) -> bool:
        """Puts a file into the folder, checked; one that is there is checked alone.

        Returns:
            Whether anything was fetched.

        Raises:
            UpstreamError: The host cannot be reached, or does not have the file.
            DataError: The content is not what its publisher says, or the disk is too small.
        """
        folder.mkdir(parents=True, exist_ok=True)
        target, part = folder / file.name, folder / f"{file.name}.part"
        if target.exists():
            _check(target, file, "remove it, and start the same command again")
            return False
        retrying = Retrying(
            retry=retry_if_exception_type(_BrokenOff),
            stop=stop_after_attempt(self._config.breaks + 1),
            wait=wait_exponential(self._config.pause, max=60),
            reraise=True,
        )
        with self._run.progress(file.name) as progress:
            try:
                retrying(self._continue, file, part, progress)
            except (HTTPError, _BrokenOff) as error:
                raise _unreachable(file, folder, error) from None
        try:
            _check(part, file, "start the same command again; it begins anew")
        except DataError:
            _forget(part)
            raise
        os.replace(part, target)
        _forget(part)
        return True

    def _continue(self, file: RemoteFile, part: Path, progress: Progress) -> None:
        """Fetches what is missing; what came before counts only while the file is the same at its publisher's."""
        have, mark = _so_far(part)
        headers = {"Range": f"bytes={have}-", "If-Range": mark} if have else {}
        response = self._pool.request("GET", file.url, headers=headers, preload_content=False)
        try:
            if response.status == RANGE_REFUSED:
                _forget(part)
                raise _BrokenOff("what was here is longer than the file")
            if response.status not in (WHOLE, PARTIAL):
                raise _not_there(file, response.status)
            first = have if response.status == PARTIAL else 0
            if first and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                _forget(part)
                raise _BrokenOff("another range than was asked for")
            length = response.headers.get("Content-Length", "")
            total = first + int(length) if length.isdigit() else None
            _refuse_small_disk(part, total, first)
            if mark_now := _mark(response.headers):
                write_json(_note(part), {"mark": mark_now})
            progress.total = total
            progress.start_at(first)
            with part.open("ab" if first else "wb") as out:
                try:
                    for block in response.stream(BLOCK, decode_content=False):
                        out.write(block)
                        progress.advance(len(block))
                except HTTPError as error:
                    raise _BrokenOff(str(error)) from None
                finally:
                    out.flush()
                    os.fsync(out.fileno())
            if total is not None and part.stat().st_size != total:
                raise _BrokenOff(f"{part.stat().st_size:,} of {total:,} bytes came")
        finally:
            response.close()


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _so_far(part: Path) -> tuple[int, str]:
    """How much is here, and what tells whether it is still the same file; nothing where that cannot be told."""
    try:
        mark = str(json.loads(_note(part).read_bytes())["mark"])
        return part.stat().st_size, mark
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _mark(headers: Mapping[str, str]) -> str:
    """What If-Range takes: an entity tag that is no weak one, or a date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _check(path: Path, file: RemoteFile, step: str) -> None:
    if file.md5 is None:
        return
    digest = hashlib.md5(usedforsecurity=False)  # the publishers give no other
    with path.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != file.md5:
        raise DataError(f"{path}: its MD5 is {digest.hexdigest()}, its publisher says {file.md5}; {step}")


def _refuse_small_disk(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have + SPARE > free:
        raise DataError(
            f"{part.parent}: {free:,} bytes are free, and {total - have:,} are to come; free some space or choose "
            "another folder"
        )


def _not_there(file: RemoteFile, status: int) -> UpstreamError:
    return UpstreamError(
        f"{file.url}: HTTP {status}; its publisher may have moved it: look at the page of the data set, and put "
        f"{file.name} into the folder by hand"
    )


def _unreachable(file: RemoteFile, folder: Path, error: Exception) -> UpstreamError:
    reason = getattr(error, "reason", None) or error
    return UpstreamError(
        f"{urlsplit(file.url).netloc}: cannot be reached ({type(reason).__name__}: {str(reason)[:120]}); where this "
        f"machine is offline, fetch {file.url} elsewhere, put it into {folder}, and start the same command again"
    )
