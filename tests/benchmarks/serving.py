"""`modalrec serve` under load: requests a second and the time of an answer, with and without batches.

The server is a process with one thread for the model. As many ask at a time as the table says, each again at once when
it has its answer, for some seconds after a warm-up. Models have drawn weights, on which speed does not depend, and
histories of 20 drawn items; k is 10. Who asks shares the machine with the server: an event loop with connections kept
open and the parser of the server's own HTTP library. CPU time is given of both sides, since it says more than the clock
where others work on the machine too.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import torch

from modalrec import plugins
from modalrec.artifacts.manifest import write_artifact
from modalrec.config import Config
from modalrec.recommenders import ItemSpace, save_recommender

HISTORY, K, POOL = 20, 10, 500
SETTINGS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("sasrec", {"width": 64}, 10_000),
    ("sasrec", {"width": 64}, 200_000),
    ("encoder_decoder", {"width": 64, "beam_size": 20}, 10_000),
)
"""Recommender, its settings, items."""
ASKING = (1, 16, 64)
HEAD = b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
CODEBOOK = 32
"""Three levels of it hold 32,768 semantic IDs."""


@dataclass
class Load:
    """What came of a load: seconds of each answer, and the CPU-seconds of an answer on both sides."""

    latencies: list[float]
    seconds: float
    server: float
    client: float

    def row(self) -> str:
        """A row of the table."""
        answered = len(self.latencies)
        p50, p99 = (1e3 * np.quantile(self.latencies, share) for share in (0.5, 0.99))
        cpu = " / ".join(f"{1e3 * spent / answered:.2f}" for spent in (self.server, self.client))
        return f"{answered / self.seconds:>10,.0f} {p50:>8.1f} {p99:>8.1f}   {cpu}"


class Asker(asyncio.Protocol):
    """One connection: asks, reads the answer, asks again."""

    def __init__(self, bodies: Sequence[bytes], until: float, latencies: list[float]) -> None:
        self.bodies, self.until, self.latencies = bodies, until, latencies
        self.done = asyncio.get_running_loop().create_future()
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        body = self.bodies[self.asked % len(self.bodies)]
        self.asked += 1
        self.parser = httptools.HttpResponseParser(self)
        self.begin = time.perf_counter()
        self.transport.write(HEAD % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() != 200:
            self.done.set_exception(RuntimeError(f"status {self.parser.get_status_code()}"))
            self.transport.close()
            return
        now = time.perf_counter()
        self.latencies.append(now - self.begin)
        if now < self.until:
            asyncio.get_running_loop().call_soon(self.ask)  # not inside the parser's own call
        else:
            self.transport.close()
            self.done.set_result(None)


async def ask(port: int, bodies: Sequence[bytes], n_asking: int, seconds: float) -> list[float]:
    """Asks for some seconds; the seconds of every answer."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    askers = [
        (
            await loop.create_connection(
                lambda row=row: Asker(bodies[row:] + bodies[:row], until, latencies), "127.0.0.1", port
            )
        )[1]
        for row in range(n_asking)
    ]
    await asyncio.gather(*(one.done for one in askers))
    return latencies


def load(server: subprocess.Popen[str], port: int, bodies: Sequence[bytes], n_asking: int, seconds: float) -> Load:
    """A warm-up, then the load."""
    asyncio.run(ask(port, bodies, n_asking, min(1.0, seconds)))
    server_before, client_before, begin = cpu(server.pid), time.process_time(), time.perf_counter()
    latencies = asyncio.run(ask(port, bodies, n_asking, seconds))
    spent = time.perf_counter() - begin
    return Load(latencies, spent, cpu(server.pid) - server_before, time.process_time() - client_before)


def cpu(pid: int) -> float:
    """CPU-seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def model(folder: Path, name: str, settings: dict[str, Any], n_items: int) -> Path:
    """A model with drawn weights, as `finetune` writes one."""
    torch.manual_seed(0)
    rows = np.arange(n_items)
    codes_NL = np.stack([rows // CODEBOOK**2, rows // CODEBOOK % CODEBOOK, rows % CODEBOOK, 0 * rows], 1).astype(
        np.int32
    )
    sizes = (CODEBOOK, CODEBOOK, CODEBOOK, 1)
    coded = (codes_NL, sizes) if name == "encoder_decoder" else (None, ())
    space = ItemSpace([f"i{row}" for row in rows], [f"Item number {row}" for row in rows], *coded)
    config = plugins.discover("recommenders")[name].Config(name=name, **settings)
    with write_artifact(folder, "model", stage="finetune", config=Config(), seed=0, inputs={}) as work:
        save_recommender(work.folder, plugins.create("recommenders", config, space).eval())
    return folder


def started(folder: Path, *settings: str) -> tuple[subprocess.Popen[str], int]:
    """A server that answers."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    words = [sys.executable, "-m", "modalrec", "serve", "--model", str(folder), "--port", str(port), "--device", "cpu"]
    server = subprocess.Popen([*words, *settings], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "Uvicorn running" in line:
            return server, port
    raise RuntimeError(f"the server ended with {server.wait()}")


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load lasts")
    given = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    print(f"histories of {HISTORY}, k {K}, {given.seconds:g} s each, one thread for the model")
    print("recommender         items batch asking requests/s  p50 ms   p99 ms   CPU-ms a request, server / asking")
    for name, settings, n_items in SETTINGS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = model(Path(scratch) / "model", name, settings, n_items)
            histories = rng.integers(0, n_items, (POOL, HISTORY))
            bodies = [json.dumps({"history": [f"i{item}" for item in row], "k": K}).encode() for row in histories]
            for max_batch in (1, 64):
                server, port = started(folder, "--set", f"max_batch={max_batch}")
                try:
                    for n_asking in ASKING:
                        row = load(server, port, bodies, n_asking, given.seconds).row()
                        print(f"{name:<17}{n_items:>8,} {max_batch:>5} {n_asking:>6} {row}", flush=True)
                finally:
                    server.send_signal(signal.SIGTERM)
                    server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
