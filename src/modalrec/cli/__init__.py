"""The command line: one command per stage, and commands that look at things."""

from modalrec.cli.app import main

__all__ = ["main"]
