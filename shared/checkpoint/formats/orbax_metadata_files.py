"""The files beside the arrays of an Orbax checkpoint, written: they say what the arrays are."""

import base64
import json
import os
import time
from typing import Any

from shared.checkpoint.formats.orbax_metadata import DICT, KINDS, SEQUENCE
from shared.checkpoint.formats.orbax_names import chunks_of, name_of
from shared.checkpoint.stored import Leaf, Leaves

_HANDLER = "orbax.checkpoint._src.handlers.standard_checkpoint_handler.StandardCheckpointHandler"
# Where a leaf is put that is loaded without saying where.
_SHARDING = json.dumps({"sharding_type": "SingleDeviceSharding", "device_str": "cpu:0"})
_VALUE_TYPES = {kind: name for name, kind in KINDS.items()} | {"key": "jax.Array"}


def write_metadata(target: str, leaves: Leaves, started: int) -> None:
    """The files beside the database, of which `_METADATA` says what the leaves are."""
    on_device = {path: leaf for path, leaf in leaves.items() if leaf.kind in ("array", "key")}
    shardings = {
        base64.urlsafe_b64encode(name_of(path).encode()).decode(): _SHARDING for path in on_device
    }
    arrays = [_array_metadata(name_of(path), leaf) for path, leaf in on_device.items()]
    os.mkdir(os.path.join(target, "array_metadatas"))
    contents = {
        "array_metadatas/process_0": {"array_metadatas": arrays},
        "_sharding": shardings,
        "_METADATA": _tree_metadata(leaves),
        "_CHECKPOINT_METADATA": {
            "item_handlers": _HANDLER,
            "metrics": {},
            "performance_metrics": {},
            "init_timestamp_nsecs": started,
            "commit_timestamp_nsecs": time.time_ns(),
            "custom_metadata": {},
        },
    }
    for name, content in contents.items():
        with open(os.path.join(target, name), "w", encoding="utf-8") as file:
            file.write(json.dumps(content))  # `dump` takes ten times as long


def _tree_metadata(leaves: Leaves) -> dict[str, Any]:
    return {
        "tree_metadata": {
            str(tuple(map(str, path))): {
                "key_metadata": [
                    {"key": str(key), "key_type": SEQUENCE if isinstance(key, int) else DICT}
                    for key in path
                ],
                "value_metadata": _value_metadata(leaf),
            }
            for path, leaf in leaves.items()
        },
        "use_ocdbt": True,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }


def _value_metadata(leaf: Leaf) -> dict[str, Any]:
    if leaf.kind == "empty":
        return {"value_type": leaf.empty, "skip_deserialize": True}
    found = {"value_type": _VALUE_TYPES[leaf.kind], "skip_deserialize": False}
    if leaf.kind in ("array", "key"):
        found["write_shape"] = leaf.shape
    return found


def _array_metadata(name: str, leaf: Leaf) -> dict[str, Any]:
    return {
        "array_metadata": {
            "param_name": name,
            "write_shape": leaf.shape,
            "chunk_shape": chunks_of(leaf),
            "ext_metadata": {"random_key_impl": leaf.key_impl} if leaf.kind == "key" else None,
        }
    }
