"""Conversions with what of a run of `train` stands beside its state."""

import dataclasses
import functools
import json
import os

from shared.checkpoint.conversion import Conversion
from shared.checkpoint.convert import convert as convert_arrays
from shared.errors import CorruptFileError, first_line

_RUN = os.path.join("run", "metadata")


def carried(name: str, data: bytes, conversion: Conversion) -> bytes:
    """The bytes of a file beside a converted state: of the record of a run those of the other API.

    Args:
      name: of the file, below the directory of the step.
      data: in the source.
      conversion: of the state.

    Raises:
      CorruptFileError: it is the record of a run, and damaged.
    """
    if name != _RUN:
        return data
    from shared.training.record import Record

    try:
        document = json.loads(data)
        if not isinstance(document, dict) or "impl" not in document:
            return data
        record = Record.from_json(document)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(
            f"{os.path.join(conversion.source.path, *conversion.source.form[:-1], name)} is "
            f"damaged: {first_line(error)}; take another copy of the checkpoint"
        ) from error
    leaves = {"/".join(map(str, path)): digest for path, digest in conversion.sha256.items()}
    made = dataclasses.replace(record, impl=conversion.to, leaves=leaves)
    return json.dumps(made.to_json()).encode()


convert = functools.partial(convert_arrays, carried=carried)
functools.update_wrapper(convert, convert_arrays)
