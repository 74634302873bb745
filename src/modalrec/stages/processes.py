"""Running a stage in several processes of this machine, one a GPU, where its settings let them share the work."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from modalrec.config import Config, dump
from modalrec.run import Run
from modalrec.stages.tracking import tracked

PROCESSES = "MODALREC_PROCESSES"
"""How many processes there may be; one a GPU by default. A CPU can run several too, to try it out."""


def run_stage(stage: str, edges: Mapping[str, Path | None], config: Config, run: Run) -> dict[str, float]:
    """Runs a stage here, or under `torchrun` where more processes can train than one.

    The results do not depend on their number, see `training.groups`.

    Args:
        stage: The stage.
        edges: From edge to folder, inputs and outputs.
        config: The stage's configuration.
        run: The stage's run.

    Returns:
        The stage's numbers.

    Raises:
        SystemExit: A process failed; it has said why.
    """
    if not hasattr(config, "training"):
        return tracked(stage, edges, config, run)
    accumulate, available = config.training.accumulate, _available()
    count = usable(available, accumulate)
    if count < available:
        run.say(
            f"{count} of {available} GPUs trains what is trained by gradient: training.accumulate={accumulate} batches "
            f"a step are shared out evenly; set it to a multiple of {available}, or ask for fewer"
        )
    if count == 1:
        return tracked(stage, edges, config, run)
    run.say(f"{count} processes share the {accumulate} batches of each step")
    with tempfile.TemporaryDirectory(prefix="modalrec-") as folder:
        settings, numbers = Path(folder) / "config.json", Path(folder) / "metrics.json"
        settings.write_text(json.dumps(dump(config)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command += ["-m", "modalrec", stage, f"--config={settings}", f"--metrics={numbers}", f"--seed={run.seed}"]
        command += [f"--device={run.device}"] + ([f"--checkpoints={run.checkpoints}"] if run.checkpoints else [])
        command += [f"--{edge}={place}" for edge, place in edges.items() if place is not None]
        code = subprocess.run(command, check=False).returncode
        if code:
            sys.exit(code)
        found: dict[str, float] = json.loads(numbers.read_bytes())
        return found


def usable(devices: int, accumulate: int) -> int:
    """How many processes can share a step of so many batches out evenly, with a device each."""
    return max((size for size in range(1, max(devices, 1) + 1) if accumulate % size == 0), default=1)


def _available() -> int:
    if os.environ.get(PROCESSES):
        return int(os.environ[PROCESSES])
    import torch

    return torch.cuda.device_count()
