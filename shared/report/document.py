"""What every document of a command has: its schema, the versions, how it is printed."""

import json
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

SCHEMA_VERSION = 1


def versions() -> dict[str, str]:
    """The versions and the platform that the numbers were made with."""
    names = ("composed-lifts", "jax", "jaxlib", "flax", "numpy")
    found = {name.replace("-", "_"): metadata.version(name) for name in names}
    return found | {"python": sys.version.split()[0], "platform": jax.default_backend()}


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    print(json.dumps(document, allow_nan=False))


def measured(number: float | None) -> str:
    """A measured number in short; nothing where none was measured."""
    return "" if number is None else f"{number:.3g}"
