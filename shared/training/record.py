"""What stands beside the state of a checkpoint: what the run depends on, what it has shown."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from shared.training.text import Text

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """A run up to a step.

    Attributes:
      impl: which implementation trains.
      config: every field of `Config`.
      text: {"path": of the file, absolute, or None, "sha256": of its characters and tokens}.
      versions: what it was made with.
      losses, validation: {step: loss}, up to this step.
      seconds: of all these steps.
      leaves: {path: SHA-256 of the bytes of a leaf of the state}; Orbax has no checksum of them.
    """

    impl: str
    config: Mapping[str, Any]
    text: Mapping[str, str | None]
    versions: Mapping[str, str]
    losses: Mapping[int, float] = dataclasses.field(default_factory=dict)
    validation: Mapping[int, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    leaves: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A document that says by its own SHA-256 that it is whole."""
        body = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        for name in _BY_STEP:
            body[name] = {str(step): loss for step, loss in body[name].items()}
        return {"sha256": _digest(body), **body}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Record":
        """The inverse of `to_json`.

        Raises:
          ValueError: it is not whole.
        """
        body = {name: value for name, value in document.items() if name != "sha256"}
        if document["sha256"] != _digest(body):
            raise ValueError("what the run depends on has another SHA-256 than when it was written")
        if body.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"it is of another schema than {SCHEMA_VERSION}")
        for name in _BY_STEP:
            body[name] = {int(step): loss for step, loss in body[name].items()}
        return cls(**body)


def record_of_text(path: str | None, text: Text) -> dict[str, str | None]:
    """What a record holds of a text and of the file that it is from, None where it is from none."""
    digest = hashlib.sha256(text.characters.encode("utf-8", "surrogatepass"))
    for tokens in (text.train, text.validation):
        digest.update(b"\0%d\0" % len(tokens))
        digest.update(tokens.tobytes())
    return {"path": path and os.path.abspath(path), "sha256": digest.hexdigest()}


_BY_STEP = ("losses", "validation")


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
