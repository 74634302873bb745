"""A trial's command: the container's own, with parameters filled in and, on a laptop, other places for its edges."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modalrec.config import load_file, load_preset, merged, parse_assignments
from modalrec.errors import ConfigError
from modalrec.stages import STAGES

REFERENCE = "${{trialParameters.{}}}"
"""How a trial spec refers to a parameter."""

PLACEHOLDER = re.compile(r"\$\{trialParameters\.(.+?)\}")
METADATA = re.compile(r"\$\{trialSpec\.(Name|Namespace|Kind|APIVersion|Annotations\[.+\]|Labels\[.+\])\}")
"""What a trial parameter may refer to besides a parameter of the search."""

PROGRAM = "modalrec"

UNTOUCHED = re.compile(r"[\w@%+=:,./\[\]{}!-]+")
"""A word that a shell leaves as it is. Katib writes the command as one line, its words with spaces between them, for
`sh -c`: its collector reads what is redirected there (`wrapWorkerContainer` of Katib 0.19)."""


@dataclass(frozen=True)
class Template:
    """The trial spec and what fills it.

    Attributes:
        spec: The Job.
        container: Name of the container that trains.
        references: From trial parameter to what it refers to.
    """

    spec: Mapping[str, Any]
    container: str
    references: Mapping[str, str]

    @classmethod
    def read(cls, given: Any) -> "Template":
        """Of a template as Katib's model has it, checked before (`webhook`)."""
        references = {each.name: each.reference for each in given.trial_parameters}
        return cls(given.trial_spec, given.primary_container_name, references)

    def words(self) -> list[str]:
        """Program and arguments, unfilled.

        Raises:
            ConfigError: The spec has no container of that name, or it has no command.
        """
        pod = ((self.spec.get("spec") or {}).get("template") or {}).get("spec") or {}
        named = [each for each in pod.get("containers") or () if each.get("name") == self.container]
        if len(named) != 1:
            raise ConfigError(f"primaryContainerName: trialSpec has {len(named)} containers named {self.container!r}")
        if not named[0].get("command"):
            raise ConfigError(f"container {self.container}: has no command; a laptop does not know its image's")
        return [str(word) for word in (*named[0]["command"], *(named[0].get("args") or ()))]

    def unfilled(self) -> "Command":
        """The command with its references to parameters."""
        return Command(tuple(self.words()))

    def command(self, assignments: Mapping[str, str], trial: str) -> "Command":
        """The command of one trial.

        Args:
            assignments: From parameter of the search to its text.
            trial: The trial's name, for references to the trial itself.
        """
        facts = {"Name": trial, "Namespace": "default", "Kind": "Job", "APIVersion": "batch/v1"}
        values = {}
        for name, reference in self.references.items():
            about = METADATA.fullmatch(reference)
            values[name] = facts.get(about[1], "") if about else assignments[reference]
        return Command(tuple(PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in self.words()))


@dataclass(frozen=True)
class Command:
    """A command of `modalrec`, or any other program.

    Attributes:
        words: Program and arguments.
    """

    words: tuple[str, ...]

    @property
    def stage(self) -> str | None:
        """The stage that it runs, or None for another program."""
        if len(self.words) < 2 or self.words[0] != PROGRAM:
            return None
        name = self.words[1].replace("-", "_")
        return name if name in STAGES else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The edges that its stage writes."""
        return STAGES[self.stage].outputs if self.stage else ()

    def options(self) -> list[tuple[str, str]]:
        """Options and their values in order, underscores for hyphens; a flag's value is empty."""
        found: list[tuple[str, str]] = []
        words = list(self.words[2:])
        while words:
            word = words.pop(0)
            if not word.startswith("--"):
                continue
            name, equals, value = word[2:].partition("=")
            if not equals and words and not words[0].startswith("--"):
                value = words.pop(0)
            found.append((name.replace("-", "_"), value))
        return found

    def settings(self) -> dict[str, Any]:
        """What the command sets of its stage: the preset's part, the file's, and every `--set`."""
        given = self.options()
        presets = [load_preset(value).get(self.stage or "") or {} for name, value in given if name == "preset"]
        files = [load_file(Path(value)) for name, value in given if name == "config"]
        return merged(*presets, *files, parse_assignments(value for name, value in given if name == "set"))

    def with_places(self, places: Mapping[str, str]) -> "Command":
        """The same command with other values for some of its options, and with inputs that it leaves out.

        Args:
            places: From option to value.

        Raises:
            ConfigError: The command has no such option, and its stage no such input.
        """
        missing = sorted(places.keys() - {name for name, _ in self.options()})
        inputs = (*STAGES[self.stage].inputs, *STAGES[self.stage].optional) if self.stage else ()
        for name in missing:
            if name not in inputs:
                raise ConfigError(f"--{name}: the trial's command, {' '.join(self.words[:2])}, has no such option")
        words = list(self.words[:2])
        rest = list(self.words[2:])
        while rest:
            word = rest.pop(0)
            name, equals, _ = word.removeprefix("--").partition("=")
            place = places.get(name.replace("-", "_")) if word.startswith("--") else None
            if place is None:
                words.append(word)
                continue
            if not equals:
                rest.pop(0)
            words.append(f"--{name}={place}")
        return Command((*words, *(f"--{name}={places[name]}" for name in missing)))

    def adding(self, assignments: Sequence[str]) -> "Command":
        """The same command with further settings behind its own."""
        return Command((*self.words, *(f"--set={text}" for text in assignments)))
