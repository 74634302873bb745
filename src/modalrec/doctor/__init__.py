"""What `modalrec doctor` looks at: what a run needs, whether it is here, and how to get it."""

from modalrec.doctor.check import Check
from modalrec.doctor.installed import check_encoders, check_installed, check_packages
from modalrec.doctor.machine import check_machine
from modalrec.doctor.services import check_services

__all__ = ["Check", "examine", "render"]


def examine() -> list[Check]:
    """Looks at everything; takes a few seconds, since it loads the encoders' weights."""
    return check_packages() + check_installed() + check_encoders() + check_machine() + check_services()


def render(checks: list[Check]) -> str:
    """The checks as lines, each with its next step where there is one."""
    lines = []
    for check in checks:
        lines.append(f"{check.state:8}{check.name:22}{check.found}")
        if check.next_step:
            lines.append(f"{'':30}-> {check.next_step}")
    return "\n".join(lines)
