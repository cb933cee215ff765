"""The command line: one file per command, and the only place that reads flags."""

from shared.cli.command import main

__all__ = ["main"]
