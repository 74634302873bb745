"""What one look found."""

from dataclasses import dataclass
from typing import Literal

from modalrec.errors import without_passwords


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: The thing.
        state: `ok`; `missing` for what a run on this machine needs, or what is set up and does not work; `off` for what
            only some runs need.
        found: What is there; never a secret.
        next_step: How to get it, where it is not there.
    """

    name: str
    state: Literal["ok", "missing", "off"]
    found: str
    next_step: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", without_passwords(self.found))
