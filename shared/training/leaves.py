"""The leaves of a state: their paths, and their bytes."""

from typing import Any

import jax
import numpy as np

from shared.files import digest


def leaves_of(tree: Any) -> dict[str, Any]:
    """{path: leaf} of a pytree, as Orbax names them: `opt_state/1/0/mu/embed/embedding`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_of(path): leaf for path, leaf in leaves}


def path_of(path: Any) -> str:
    """A path of JAX in one word."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def as_stored(leaf: Any) -> Any:
    """Shape and dtype of a leaf on disk: of a typed key those of its numbers."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf


def sha256_of(leaf: jax.Array) -> str:
    """The SHA-256 of the bytes of a leaf, of a typed key those of its numbers."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return digest.sha256_of(np.asarray(leaf))
