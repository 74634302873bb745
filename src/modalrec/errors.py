"""The errors a user can meet, each with an exit code and a message that ends in the next step."""

import errno
import os
import re
from collections.abc import Iterable

PASSWORD = re.compile(r"(?<=://)[^/\s]*@")


def without_passwords(text: str) -> str:
    """A text whose addresses name no user and no password: http://***@host."""
    return PASSWORD.sub("***@", text)


class ModalrecError(Exception):
    """Base of every error that is the user's to mend; the CLI prints it without a traceback, and without passwords."""

    exit_code = 1

    def __init__(self, *said: object) -> None:
        super().__init__(*(without_passwords(each) if isinstance(each, str) else each for each in said))


class ConfigError(ModalrecError):
    """A configuration is unknown, contradictory or out of range."""

    exit_code = 2


class DataError(ModalrecError):
    """The user's input files are malformed, empty or do not fit together."""

    exit_code = 3


class ArtifactError(ModalrecError):
    """An artifact folder is missing, damaged, of the wrong kind or of another version."""

    exit_code = 4


class UpstreamError(ModalrecError):
    """A service or a package that the stage depends on does not answer or is not installed."""

    exit_code = 5


class TrainingError(ModalrecError):
    """Training cannot go on, for example because the loss is not finite."""

    exit_code = 6


MACHINE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space there, or name another place"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "name a place that can be written"),
    errno.EMFILE: "allow more open files (`ulimit -n`)",
}
"""What to do about the system's refusals that no program can mend."""


def told(error: BaseException) -> ModalrecError | None:
    """The error that a user is told: one of ours as it is, a refusal of the machine in words; None for all others."""
    if isinstance(error, ModalrecError):
        return error
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return UpstreamError(f"there is no folder for temporary files ({error}); set TMPDIR to one that can be written")
    if not isinstance(error, OSError) and "os error" not in str(error):
        return None
    # Writers in other languages give the number in their text alone.
    found = re.search(r"(?:errno|os error) (\d+)", str(error), re.IGNORECASE)
    number = getattr(error, "errno", None) or (int(found[1]) if found else 0)
    if number not in MACHINE:
        return None
    place = getattr(error, "filename", None)
    return UpstreamError(f"{f'{place}: ' if place else ''}{os.strerror(number)}; {MACHINE[number]}, then run again")


class Problems:
    """Collects every problem of one input, to raise them in one error.

    Example:
        >>> problems = Problems("ratings.csv")
        >>> problems.add("line 7", "rating 'five' is not a number")
        >>> len(problems)
        1
    """

    shown = 20

    def __init__(self, name: object, error: type[ModalrecError] = DataError) -> None:
        self.name = str(name)
        self.error = error
        self._found: list[str] = []
        self._count = 0

    def add(self, where: str, what: str) -> None:
        """Notes one problem; `where` is a line, row or field."""
        self._count += 1
        if len(self._found) < self.shown:
            self._found.append(f"{where}: {what}" if where else what)

    def extend(self, where: Iterable[str], what: str) -> None:
        """Notes the same problem at several places."""
        for place in where:
            self.add(place, what)

    def __len__(self) -> int:
        return self._count

    def raise_if_any(self, next_step: str) -> None:
        """Raises one error with all problems, or returns where there are none."""
        if not self._count:
            return
        lines = list(self._found)
        if self._count > len(lines):
            lines.append(f"... and {self._count - len(lines)} more")
        body = lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)
        raise self.error(f"{self.name}: {body}{'. ' if len(lines) == 1 else chr(10)}{next_step}")
