"""The object store: whole folders and small objects at `s3://bucket/key`, through the `minio` client.

What comes back is what was stored, or there is an error: every object carries its SHA-256 as user metadata, and length
and digest are compared after each upload and download. (A GET that answers 200 with an empty body is a known fault of
overloaded stores and proxies.)
"""

import hashlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import S3Error
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from modalrec.artifacts.faults import Damaged, ObjectMissing, explain, is_transient
from modalrec.artifacts.files import BLOCK, folder_in_place, sha256_file
from modalrec.artifacts.manifest import NAME as MANIFEST
from modalrec.artifacts.pace import steady
from modalrec.errors import ArtifactError, ConfigError

T = TypeVar("T")

SCHEME = "s3://"
VARIABLES = {
    "AWS_ENDPOINT_URL": "the store's address, such as https://s3.example.org or http://127.0.0.1:9000",
    "AWS_ACCESS_KEY_ID": "the name of the access key",
    "AWS_SECRET_ACCESS_KEY": "the secret of the access key",
}
DIGEST = "sha256"
LOST = "the store said that it took it, but does not have it"


class Store:
    """One S3 service and the keys to it. Safe to share between threads, not between processes.

    Args:
        endpoint: `http://host:port` or `https://host:port`.
        access_key: Name of the access key.
        secret_key: Its secret.
        region: Asked from the service when not given.
        attempts: How often a request is made before a transient fault becomes an error.
        connect_seconds: Longest wait for a connection.
        read_seconds: Longest silence of the service within one request, or time in which it only drips.
        backoff_seconds: About the first pause before another attempt; they double.

    Raises:
        ConfigError: The endpoint is no such address.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        region: str | None = None,
        *,
        attempts: int = 5,
        connect_seconds: float = 5,
        read_seconds: float = 60,
        backoff_seconds: float = 0.2,
    ) -> None:
        parts = urlsplit(endpoint)
        more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in ("http", "https") or not parts.hostname or more:
            raise ConfigError(
                f"AWS_ENDPOINT_URL={endpoint.partition('?')[0]!r}: write it as http://host:port or https://host:port"
            )
        self.endpoint = endpoint
        self._attempts = attempts
        self._read_seconds = read_seconds
        self._backoff_seconds = backoff_seconds
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            retries=False,  # tenacity retries here: urllib3 would not notice a damaged body
            maxsize=10,
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        self._client = Minio(
            parts.netloc, access_key, secret_key, secure=parts.scheme == "https", region=region, http_client=pool
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **limits: Any) -> "Store":
        """The store that the AWS_* variables name; `limits` are the class's keyword arguments.

        Raises:
            ConfigError: A variable is not set.
        """
        missing = [f"{name} ({meaning})" for name, meaning in VARIABLES.items() if not environ.get(name)]
        if missing:
            raise ConfigError(
                f"the object store is not configured: set {', '.join(missing)} in the environment. "
                "`python -m pipelines run` sets them for its own store; on a cluster they come from the pods' secret"
            )
        endpoint, access_key, secret_key = (environ[name] for name in VARIABLES)
        return cls(endpoint, access_key, secret_key, environ.get("AWS_REGION") or None, **limits)

    def check(self) -> None:
        """Makes one signed request.

        Raises:
            UpstreamError: The store does not answer or refuses the keys.
        """
        self._try(SCHEME, self._client.list_buckets)

    def ensure_bucket(self, uri: str) -> None:
        """Creates the bucket of a URI where there is none."""
        bucket, _ = split_uri(uri)

        def ensure() -> None:
            if not self._client.bucket_exists(bucket):
                self._client.make_bucket(bucket)

        self._try(uri, ensure)

    def exists(self, uri: str) -> bool:
        """Whether an object has exactly this URI."""
        bucket, key = split_object(uri)
        return self._try(uri, lambda: self._stat(bucket, key)) is not None

    def names(self, uri: str) -> list[str]:
        """The objects below a folder URI, as sorted paths relative to it."""
        bucket, key = split_uri(uri)
        prefix = f"{key}/" if key else ""
        objects = self._try(uri, lambda: list(self._client.list_objects(bucket, prefix, recursive=True)))
        found = [str(item.object_name) for item in objects]
        return sorted(name.removeprefix(prefix) for name in found if not name.endswith("/"))

    def put_bytes(self, uri: str, content: bytes) -> None:
        """Stores an object; a reader sees the old content or the new one."""
        digest = hashlib.sha256(content).hexdigest()
        self._put(uri, lambda: io.BytesIO(content), len(content), digest)

    def create_bytes(self, uri: str, content: bytes) -> bool:
        """Stores a small object where there is none; False where there is one. Of two at once, one succeeds."""
        bucket, key = split_object(uri)
        headers = {"If-None-Match": "*", f"x-amz-meta-{DIGEST}": hashlib.sha256(content).hexdigest()}

        def create() -> bool:
            try:
                self._client._put_object(bucket, key, content, headers)  # `put_object` takes no condition
            except S3Error as error:
                if error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
                    return False
                if error.code != "NotImplemented":
                    raise
                if self._stat(bucket, key) is not None:
                    return False
                # A store without conditions: of two at once the second overwrites, and the first sees that it did.
                del headers["If-None-Match"]
                self._client._put_object(bucket, key, content, headers)
            if self._stat(bucket, key) is None:
                raise Damaged(LOST)
            return True

        # A first attempt may have succeeded and only its answer been lost: then the object is this one.
        return self._try(uri, create) or self.get_bytes(uri) == content

    def get_bytes(self, uri: str) -> bytes:
        """Reads an object.

        Raises:
            ObjectMissing: There is none (an ArtifactError).
            UpstreamError: The store does not answer or does not deliver what was stored.
        """
        buffer = io.BytesIO()
        self._get(uri, buffer)
        return buffer.getvalue()

    def put_file(self, path: Path, uri: str) -> None:
        """Stores a file; large ones go in parts."""
        self._put(uri, lambda: path.open("rb"), path.stat().st_size, sha256_file(path))

    def get_file(self, uri: str, path: Path) -> None:
        """Downloads an object to a file, which appears when it is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                self._get(uri, file)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def put_folder(self, folder: Path, uri: str) -> None:
        """Makes a folder URI hold exactly the files of a local folder; `manifest.json` goes last.

        Raises:
            ArtifactError: The folder is missing or has no file.
        """
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        if not files:
            raise ArtifactError(f"{folder}: has no file to upload to {uri}; give the output folder of a stage")
        old = self.names(uri)
        if MANIFEST in old:
            self.delete(f"{uri.rstrip('/')}/{MANIFEST}")  # until the new one is there, a reader shall find none
        for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
            if name == MANIFEST:
                self._delete_names(uri, set(old) - set(files))
            self.put_file(files[name], f"{uri.rstrip('/')}/{name}")
        self._delete_names(uri, set(old) - set(files))

    def get_folder(self, uri: str, folder: Path) -> None:
        """Downloads all objects below a folder URI; the local folder appears when it is complete.

        Raises:
            ArtifactError: There are none, a key leads out of the folder, or the local folder is not empty.
        """
        names = self.names(uri)
        if not names:
            raise ObjectMissing(f"{uri}: nothing is stored there; check the URI, or run the stage that makes it")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ArtifactError(f"{folder}: exists and is not empty; remove it or name another folder")
        places = set(names)
        for name in names:
            path = PurePosixPath(name)
            escapes = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or str(path) != name
            if escapes or places & {str(parent) for parent in path.parents}:
                raise ArtifactError(
                    f"{uri}: the key {name!r} does not fit into a local folder; delete it and run the stage again"
                )
        with folder_in_place(folder) as building:
            for name in names:
                self.get_file(f"{uri.rstrip('/')}/{name}", building / name)

    def get(self, uri: str, path: Path) -> None:
        """Downloads an object to a file or, where no object has this URI, a folder."""
        if self.exists(uri):
            self.get_file(uri, path)
        else:
            self.get_folder(uri, path)

    def delete(self, uri: str) -> None:
        """Deletes an object; one that is not there is no error."""
        bucket, key = split_object(uri)
        self._try(uri, lambda: self._client.remove_object(bucket, key))

    def delete_folder(self, uri: str) -> None:
        """Deletes all objects below a folder URI, the manifest first."""
        self._delete_names(uri, set(self.names(uri)))

    def _delete_names(self, uri: str, names: set[str]) -> None:
        for name in sorted(names, key=lambda name: (name != MANIFEST, name)):
            self.delete(f"{uri.rstrip('/')}/{name}")

    def _put(self, uri: str, open_content: Callable[[], BinaryIO], size: int, digest: str) -> None:
        bucket, key = split_object(uri)

        def put() -> None:
            with open_content() as content:
                self._client.put_object(bucket, key, content, size, metadata={DIGEST: digest})
            stored = self._stat(bucket, key)
            if stored is None or stored.size != size or _digest_of(stored) != digest:
                raise Damaged(LOST)

        self._try(uri, put)

    def _get(self, uri: str, file: BinaryIO) -> None:
        bucket, key = split_object(uri)

        def get() -> None:
            file.seek(0)
            file.truncate()
            stored = self._look(bucket, key)
            response = self._client.get_object(bucket, key)
            digest, size = hashlib.sha256(), 0
            try:
                for block in steady(iter(lambda: response.read1(BLOCK), b""), self._read_seconds):
                    digest.update(block)
                    size += file.write(block)
            finally:
                response.close()
                response.release_conn()
            if size != stored.size:
                raise Damaged(f"{size} bytes came instead of {stored.size}")
            if _digest_of(stored) not in (None, digest.hexdigest()):
                raise Damaged("its SHA-256 is not the one noted when it was stored")

        self._try(uri, get)

    def _stat(self, bucket: str, key: str) -> Any:
        try:
            return self._look(bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise

    def _look(self, bucket: str, key: str) -> Any:
        stored = self._client.stat_object(bucket, key)
        if not stored.etag:  # which every object has, and no page of a proxy that answers instead
            raise Damaged("the answer is not a store's, it has no ETag")
        return stored

    def _try(self, uri: str, action: Callable[[], T]) -> T:
        retrying = Retrying(
            stop=stop_after_attempt(self._attempts),
            wait=wait_random_exponential(multiplier=self._backoff_seconds, max=3),
            retry=retry_if_exception(is_transient),
            reraise=True,
        )
        try:
            return retrying(action)
        except Exception as error:
            raise explain(error, uri, self.endpoint, self._attempts) from None


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI; the key is empty for a bare bucket.

    Raises:
        ConfigError: It is not such a URI.
    """
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not bucket:
        raise ConfigError(f"{uri!r}: not a store address; write it as s3://bucket/folder")
    return bucket, key.strip("/")


def split_object(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI that names an object.

    Raises:
        ConfigError: It is not such a URI.
    """
    bucket, key = split_uri(uri)
    if not key:
        raise ConfigError(f"{uri!r}: names a bucket only; write it as s3://bucket/folder/name")
    return bucket, key


def _digest_of(stored: Any) -> str | None:
    return (stored.metadata or {}).get(f"x-amz-meta-{DIGEST}")
