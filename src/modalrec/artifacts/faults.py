"""What can go wrong between here and an object store, sorted: what to try again, and what to tell the user."""

from xml.etree.ElementTree import ParseError

import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from modalrec.errors import ArtifactError, ConfigError, UpstreamError


class ObjectMissing(ArtifactError):
    """Nothing is stored under this URI."""


class Damaged(Exception):
    """An object arrived, but not as it was sent."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later: transport faults, 5xx, 429, damaged bodies."""
    if isinstance(error, MinioException):
        status = _status(error)
        return status >= 500 or status in (408, 429) or getattr(error, "code", "") in ("SlowDown", "RequestTimeout")
    return isinstance(error, Damaged | ParseError | urllib3.exceptions.HTTPError | ConnectionError | TimeoutError)


def explain(error: Exception, uri: str, endpoint: str, attempts: int) -> Exception:
    """The error that a user sees for a failed request; errors that are not the store's come back as they are."""
    if isinstance(error, Damaged | ParseError):
        return UpstreamError(
            f"{uri}: the store at {endpoint} damages this object, {attempts} attempts ({error}); delete it and run the "
            "stage that made it again; if others are damaged too, check the store and the proxies before it"
        )
    if isinstance(error, MinioException):
        return _refusal(error, uri, endpoint, attempts)
    if is_transient(error):
        return UpstreamError(
            f"{uri}: the store at {endpoint} does not answer, {attempts} attempts ({_reason(error)}); check "
            "AWS_ENDPOINT_URL and that the store runs (`modalrec doctor` tells), then start the same command again"
        )
    if isinstance(error, ValueError):  # the client's own check of bucket and key names
        return ConfigError(f"{uri}: {error}; choose another bucket or name")
    return error


def _refusal(error: MinioException, uri: str, endpoint: str, attempts: int) -> Exception:
    status = _status(error)
    code, message = getattr(error, "code", None), getattr(error, "message", None)
    said = f"HTTP {status}" + (f", {code}: {message}" if code else "")
    if code == "NoSuchBucket":
        return UpstreamError(f"{uri}: the store at {endpoint} has no such bucket; create it or check the name")
    if status == 404:
        return ObjectMissing(f"{uri}: nothing is stored there; check the URI, or run the stage that makes it")
    if status in (401, 403):
        return UpstreamError(
            f"{uri}: the store at {endpoint} refuses these keys ({said}); check AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, and that the key may read and write this bucket"
        )
    if is_transient(error):
        return UpstreamError(
            f"{uri}: the store at {endpoint} fails, {attempts} attempts ({said}); look at the store's log and its free "
            "disk space, then start the same command again"
        )
    if 300 <= status < 400:
        return UpstreamError(
            f"{uri}: the store at {endpoint} sends this bucket's requests elsewhere ({said}); set AWS_REGION to the "
            "bucket's region, and AWS_ENDPOINT_URL to the store's own address"
        )
    return UpstreamError(
        f"{uri}: the store at {endpoint} refuses the request ({said}); check the URI and the store's log"
    )


def _status(error: MinioException) -> int:
    if isinstance(error, S3Error):
        return int(getattr(error.response, "status", 0))
    if isinstance(error, ServerError):
        return int(error.status_code)
    # The client keeps this one private.
    return int(getattr(error, "_code", 0)) if isinstance(error, InvalidResponseError) else 0


def _reason(error: Exception) -> str:
    text = str(error).rsplit(": ", 1)[-1]
    return f"{type(error).__name__}: {text}"[:200]
