"""`python -m tests.benchmarks [NAME ...]`: runs the measurements of this folder that take minutes, or those named.

Each is a module with a `main`, run in a process of its own with one thread, so that none disturbs the next. Further
words after the name of one are its own options (`serving --seconds 10`).
"""

import argparse
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HOURS = {"ctr_quality", "mp4sr_quality", "quality", "rating_encoders", "rating_quality", "transfer"}
"""Run when they are named."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def names() -> list[str]:
    """The measurements there are."""
    return [info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]) if not info.name.startswith("_")]


def parse(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """What is asked for, and the options of the one measurement that is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *names()], metavar="NAME", help=", ".join(names()))
    parser.add_argument(
        "--gru4rec-official", metavar="DIR", help="your checkout of hidasib/GRU4Rec_PyTorch_Official, for gru4rec"
    )
    parser.add_argument("--peers", metavar="DIR", help="your venv with RecBole and RecTools, for sequential")
    parser.add_argument("--faiss", metavar="DIR", help="your venv with faiss-cpu, for retrieval")
    parser.add_argument("--fuxictr", metavar="DIR", help="your venv with fuxictr 2.3.7, for ctr and ctr_quality")
    given, options = parser.parse_known_args(argv)
    if options and len(given.names) != 1:
        parser.error(f"{' '.join(options)}: options are those of one measurement, which is named before them")
    return given, options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs them one after the other; the exit code is the number of those that failed."""
    given, options = parse(argv)
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    for name in ("gru4rec_official", "peers", "faiss", "fuxictr"):
        if folder := getattr(given, name):
            environment[name.upper()] = str(Path(folder).resolve())
    failed = 0
    for name in given.names or [name for name in names() if name not in HOURS]:
        print(f"\n== {name}", flush=True)
        code = f"from tests.benchmarks.{name} import main; main({options})"
        failed += subprocess.run([sys.executable, "-c", code], env=environment).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
