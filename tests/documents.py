"""The pages of documentation, and what their links, anchors and commands are checked for without running a stage."""

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from modalrec.cli.app import app as modalrec
from modalrec.cli.stages import resolve_config
from modalrec.errors import ModalrecError
from modalrec.stages import STAGES
from pipelines.__main__ import app as pipelines
from tests.benchmarks.__main__ import names as measurements
from tests.benchmarks.__main__ import parse
from tests.conftest import ROOT

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for an option that does not exist; it has no public name."""
OFFLINE = ("config", "plugins", "presets", "schemas", "gru4rec-parameters")
"""Commands of modalrec that need no artifact, and are run."""
INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?(?:make|modalrec|pytest|python -m) [^`]+)`(?!`)")

ELSEWHERE = re.compile(r"needs?\s+(?:a|that)\s+cluster|no\s+test\s+runs", re.IGNORECASE)
"""How the paragraph before a block says that its commands are for a cluster."""
UNRUN = re.compile(r"\s#.*\bneeds (?:the network|root|a cluster|a GPU)\b")
"""How the comment of one command says why no test runs it."""


def pages() -> list[Path]:
    """Every page that is checked in or about to be, relative to the root."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return sorted(Path(path) for path in found if (ROOT / path).exists())


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere inside the repository."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text() if path else text)):
            dead.append(link)
    return dead


def commands(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Each command of a page, whether it is a line of a block, and whether that is said to be run by no test."""
    prose, *blocks = re.split(r"^```", text, flags=re.MULTILINE)  # in turn: a block, then the prose after it
    for block, after in zip(blocks[::2], blocks[1::2], strict=True):
        cluster = bool(ELSEWHERE.search(prose.strip().rpartition("\n\n")[2]))
        yield from ((span, False, False) for span in _spans(prose))
        language, _, lines = block.partition("\n")
        for line in lines.replace("\\\n", " ").splitlines():
            if language != "sh" and not re.match(r"(\.venv/bin/|make |kubectl |kfp )", line):
                continue
            elsewhere = cluster or bool(UNRUN.search(line))
            if line := re.sub(r"(^|\s)#.*", "", line).strip():
                yield from ((part, True, elsewhere) for part in re.split(r"\s+&&\s+", line))
        prose = after
    yield from ((span, False, False) for span in _spans(prose))


def _spans(prose: str) -> Iterator[str]:
    return (" ".join(span.split()) for span in INLINE.findall(prose))


def problem(command: str, *, whole: bool = True, cluster: bool = False, folder: Path = ROOT) -> str:
    """What is wrong with a command, or nothing; `folder` receives what a command writes by `>`."""
    words, _, output = re.sub(r"\$\([^)]*\)", "VALUE", command).partition(" > ")
    try:
        match _known(words):
            case ["make", *rest]:
                return _make(rest, folder)
            case ["modalrec", *rest]:
                return _modalrec(rest, whole, folder, output)
            case ["torchrun", *rest] if rest[rest.index("-m") + 1] == "modalrec":
                return _modalrec(rest[rest.index("-m") + 2 :], whole, folder, output)
            case ["python", "-m", "pipelines", *rest]:
                return _pipelines(rest, whole, cluster)
            case ["python", "-m", module, *rest] if module.startswith("tests.benchmarks"):
                return _benchmarks(module.removeprefix("tests.benchmarks").lstrip("."), rest)
            case ["python", "-m", module, *_]:
                place = ROOT / module.replace(".", "/")
                found = place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()
                return "" if found else f"no module {module}"
            case ["pytest", *paths]:
                missing = [path for path in paths if path[0] != "-" and not (ROOT / path.partition("::")[0]).exists()]
                return f"nothing at {missing}" if missing else ""
    except typer.BadParameter as error:
        missing_only = "Missing" in error.format_message() and not whole
        return "" if missing_only else error.format_message()
    except UsageError as error:
        return str(error.format_message())
    except ModalrecError as error:
        return str(error)
    return "" if cluster else "no test knows this command; a block for a cluster says so in the paragraph before it"


def _known(words: str) -> list[str]:
    """The words of a command without variables before it, and without `.venv/bin/`; none where the shell does more."""
    try:
        found = shlex.split(words)
    except ValueError:
        return []
    while found and re.match(r"[A-Z_0-9]+=", found[0]):
        del found[0]
    return [found[0].removeprefix(".venv/bin/"), *found[1:]] if found else []


def _make(words: list[str], folder: Path) -> str:
    # In prose a target may be followed by variables alone: `make bench [PEERS=DIR]`.
    variables = set(re.findall(r"^([A-Z_0-9]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    if unknown := {word.partition("=")[0] for word in words if "=" in word} - variables:
        return f"the Makefile has no {', '.join(sorted(unknown))}"
    shown = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode:
        return shown.stderr.strip()
    lines = [line for line in shown.stdout.splitlines() if re.match(r"\.venv/bin/python -m (?!pip |venv )", line)]
    return "\n".join(filter(None, (problem(line, folder=folder) for line in lines)))


def _modalrec(words: list[str], whole: bool, folder: Path, output: str) -> str:
    group: Any = typer.main.get_command(modalrec)
    context = group.make_context("modalrec", [*words], resilient_parsing=not words)
    name, command, rest = group.resolve_command(context, [*words])
    while hasattr(command, "resolve_command"):
        _, command, rest = command.resolve_command(command.make_context(name, [*rest], parent=context), rest)
    given = command.make_context(name, [*rest], parent=context).params
    if name in STAGES:
        file = folder / given["config"] if given["config"] else None
        resolve_config(
            name, given["preset"], str(file) if file else None, given["set"], given.get("allow_pickle", False)
        )
    if name in OFFLINE and whole:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            group(words, standalone_mode=False)
        if output:
            (folder / output.strip()).write_text(printed.getvalue())
    return ""


def _pipelines(words: list[str], whole: bool, cluster: bool) -> str:
    """Parses a command of `pipelines`; `run` goes as far as the check of the recipe's arguments."""
    if words[0] == "submit" and whole and not cluster:
        return "say in the paragraph before the block that it needs a cluster"
    group: Any = typer.main.get_command(pipelines)
    if words[0] == "run" and whole:
        with mock.patch("pipelines.runner.local.LocalRun"):
            group(words, standalone_mode=False)
        return ""
    context = group.make_context("pipelines", [*words])
    name, command, rest = group.resolve_command(context, [*words])
    recipe = command.make_context(name, [*rest], parent=context).params["recipe"]
    if recipe and not (ROOT / "pipelines" / f"{recipe}.py").is_file():
        return f"no recipe {recipe}"
    return ""


def _benchmarks(module: str, words: list[str]) -> str:
    if module and module not in measurements():
        return f"no measurement {module}"
    named, options = [module], words
    if not module:
        shown = io.StringIO()
        try:
            with contextlib.redirect_stderr(shown):
                given, options = parse(words)
        except SystemExit:
            return shown.getvalue()
        named = given.names
    text = "".join((ROOT / "tests" / "benchmarks" / f"{name}.py").read_text() for name in named)
    unknown = [word for word in options if word.startswith("--") and f'"{word}"' not in text]
    return f"{', '.join(named)}: no {' '.join(unknown)}" if unknown else ""
