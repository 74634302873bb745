"""One run at a time in a checkpoint folder: who comes second refuses, or takes over from one that has died.

A lease is a small file beside the checkpoints, `lease-NUMBER`, that only one run can create. Its holder renews it while
it works and deletes it at its end. One that is not renewed for `LEASE_SECONDS`, by this machine's clock alone, has lost
its holder; one of a process of this machine that is gone has too, at once. To take over is to create the next number.
"""

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from modalrec.artifacts.store import Location
from modalrec.errors import ModalrecError, UpstreamError
from modalrec.pids import start_time

LEASE_SECONDS = 60.0
RENEWALS = 4
"""How often a lease is renewed before it would expire."""
PREFIX = "lease-"
_HELD: set[str] = set()
"""Leases that this process holds; another that names it was left, since the store was away when it should have gone."""


class Lease:
    """The right to write checkpoints at a place.

    Args:
        location: Where the checkpoints are.
        place: How an error names it.
    """

    def __init__(self, location: Location, place: str) -> None:
        self.location, self.place = location, place
        self.name = ""
        self._said: dict[str, Any] = {**_who(os.getpid()), "id": uuid.uuid4().hex, "renewals": 0}
        self._ended = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Takes the lease, renews it until the block ends, and gives it back.

        Raises:
            UpstreamError: Another run holds it.
        """
        self._take()
        _HELD.add(self._said["id"])
        renewing = threading.Thread(target=self._renew, daemon=True)
        renewing.start()
        try:
            yield
        finally:
            _HELD.discard(self._said["id"])
            self._ended.set()
            renewing.join()
            with contextlib.suppress(ModalrecError):  # it expires by itself, and the run's own error counts
                if self._is_mine():
                    self.location.delete(self.name)

    def check(self) -> None:
        """Is called before anything is written.

        Raises:
            UpstreamError: Another run has taken over, since this one was not heard of for too long.
        """
        if not self._is_mine():
            raise UpstreamError(
                f"{self.place}: another run has taken over these checkpoints, since this one stood still for more than "
                f"{LEASE_SECONDS:g} s; let the other one go on"
            )

    def _take(self) -> None:
        taken = self._names()
        if taken:
            self._await_end(taken[-1])
        number = 1 + int(taken[-1].removeprefix(PREFIX)) if taken else 1
        self.name = f"{PREFIX}{number:06d}"
        if not self.location.create(self.name, self._content()):
            raise self._refused(self._read(self.name))
        for older in taken:
            self.location.delete(older)

    def _await_end(self, name: str) -> None:
        """Returns when the holder of a lease is gone for good."""
        first = self._read(name)
        if first.get("host") == self._said["host"]:
            runs = first.get("started") == start_time(int(first.get("pid", 0))) is not None
            if runs and (first["pid"] != os.getpid() or first.get("id") in _HELD):
                raise self._refused(first)
            return
        deadline = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(LEASE_SECONDS / RENEWALS / 2)
            now = self._read(name)
            if now and now != first:
                raise self._refused(now)
            if not now:
                return

    def _refused(self, holder: dict[str, Any]) -> UpstreamError:
        who = f"process {holder.get('pid', '?')} on {str(holder.get('host', '?')).partition(' ')[0]}"
        return UpstreamError(
            f"{self.place}: another run with the same configuration, inputs and seed is at work here ({who}); wait for "
            "it to end, stop it, or give another place for checkpoints"
        )

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / RENEWALS):
            with contextlib.suppress(ModalrecError, OSError):  # the next renewal may succeed; `check` tells if not
                if self._is_mine():
                    self._said["renewals"] += 1
                    self.location.put(self.name, self._content())

    def _is_mine(self) -> bool:
        return self._names()[-1:] == [self.name] and self._read(self.name).get("id") == self._said["id"]

    def _names(self) -> list[str]:
        return [name for name in self.location.names() if name.startswith(PREFIX)]

    def _read(self, name: str) -> dict[str, Any]:
        """What a lease says; nothing where it is gone or damaged."""
        try:
            found = json.loads(self.location.get(name) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _content(self) -> bytes:
        return json.dumps(self._said).encode()


def _who(pid: int) -> dict[str, Any]:
    """A process: its machine (and the space its number is of, since containers share names), number and start."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return {"host": f"{platform.node()} {space}", "pid": pid, "started": start_time(pid)}
