"""A pipeline of three fast steps, each of which notes in a journal that it ran."""

import sys
from pathlib import Path
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Input, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecDataset, ModalrecEvaluation
from components.stage import stage


@stage
def make(journal: str, settings: dict, dataset: Output[ModalrecDataset]) -> NamedTuple("Made", [("count", int)]):
    """Write two files.

    Args:
        journal: File that notes which step ran.
        settings: Anything.
        dataset: Two files.

    Returns:
        count: How many files.
    """
    from collections import namedtuple
    from pathlib import Path

    with open(journal, "a") as file:
        file.write(f"make {settings}\n")
    for name in ("a.txt", "deep/b.txt"):
        path = Path(dataset.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return namedtuple("Made", ["count"])(2)


@stage
def double(journal: str, trouble: str, dataset: Input[ModalrecDataset], codes: Output[ModalrecCodes]) -> None:
    """Write every file twice.

    Args:
        journal: File that notes which step ran.
        trouble: File that makes the step fail or wait, where it exists.
        dataset: Files.
        codes: The same files, doubled.
    """
    import os
    import sys
    import time
    from pathlib import Path

    with open(journal, "a") as file:
        file.write(f"double {os.getpid()} {type(dataset).__name__} {dataset.path}\n")
    print("[double] copying", file=sys.stderr, flush=True)
    print("chatter that belongs in the log")
    what = Path(trouble).read_text() if Path(trouble).exists() else ""
    if what == "wait":
        time.sleep(60)
    if what == "fail":
        print("error: b.txt: row 7 is not a number; mend it", file=sys.stderr)
        sys.exit(3)
    if what == "crash":
        raise ZeroDivisionError("a bug")
    for path in Path(dataset.path).rglob("*.txt"):
        target = Path(codes.path) / path.relative_to(dataset.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(2 * path.read_text())


@stage
def judge(
    journal: str,
    count: int,
    codes: Input[ModalrecCodes],
    evaluation: Output[ModalrecEvaluation],
    metrics: Output[Metrics],
    report: Output[HTML],
) -> None:
    """Count letters.

    Args:
        journal: File that notes which step ran.
        count: How many files to expect.
        codes: Files.
        evaluation: What would be sent to a challenge.
        metrics: How many letters.
        report: The same, as HTML.
    """
    from pathlib import Path

    from components.execute import log_metrics

    with open(journal, "a") as file:
        file.write("judge\n")
    texts = [path.read_text() for path in sorted(Path(codes.path).rglob("*.txt"))]
    assert len(texts) == count
    log_metrics(metrics, {"recall_10": float(sum(map(len, texts))), "popularity_recall_10": 0.5})
    Path(evaluation.path).mkdir(parents=True)
    (Path(evaluation.path) / "prediction.csv").write_text("ID,Task1&2\n0,.5\n")
    Path(report.path).write_text("<p>" + " ".join(texts) + "</p>")


@dsl.pipeline(name="toy")
def pipeline(journal: str, trouble: str, settings: dict = {}, again: bool = False) -> None:  # noqa: B006
    made = make(journal=journal, settings=settings)
    # As the trainings do on a cluster; a local run must not repeat a step that failed.
    doubled = double(journal=journal, trouble=trouble, dataset=made.outputs["dataset"]).set_retry(2)
    with dsl.If(again == True):  # noqa: E712
        twice = double(journal=journal, trouble=trouble, dataset=made.outputs["dataset"])
        judge(journal=journal, count=made.outputs["count"], codes=twice.outputs["codes"])
    with dsl.Else():
        judge(journal=journal, count=made.outputs["count"], codes=doubled.outputs["codes"])


if __name__ == "__main__":
    from pipelines.runner.local import LocalRun

    folder = Path(sys.argv[1])
    arguments = {"journal": str(folder / "journal"), "trouble": str(folder / "trouble")}
    LocalRun("toy", pipeline, arguments, folder / "out").run()
