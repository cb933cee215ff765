"""Trees of numbers of any dtype, shape and memory layout, and what a reader should make of them."""

import hypothesis.strategies as st
import jax
import numpy as np
from hypothesis.extra import numpy as hnp

from shared.checkpoint.formats.contents import DTYPES
from shared.checkpoint.stored import Leaf, nothing


def in_memory(tree, prefix=()):
    """The leaves of dicts in dicts by their paths: what is known of each, and its numbers."""
    leaves = {}
    for name, value in tree.items():
        path = (*prefix, name)
        if isinstance(value, dict) and value:
            leaves |= in_memory(value, path)
        elif value is None or isinstance(value, dict):
            empty = "None" if value is None else "Dict"
            leaves[path] = nothing(empty), None
        else:
            array = np.asarray(value)
            leaves[path] = Leaf(array.shape, array.dtype, kind_of(value)), array
    return leaves


def kind_of(value):
    if isinstance(value, np.generic):
        return "numpy"
    return "array" if isinstance(value, np.ndarray | jax.Array) else "scalar"


def same_leaves(reader, expected):
    """Stops unless a reader has the leaves that are expected, in order and bit for bit."""
    assert list(reader.leaves) == list(expected)
    for path, (leaf, array) in expected.items():
        assert reader.leaves[path] == leaf, path
        if leaf.kind != "empty":
            received = reader.read(path)
            assert received.flags.c_contiguous, path
            assert (received.shape, received.dtype) == (leaf.shape, leaf.dtype), path
            assert received.tobytes() == array.tobytes(), path


@st.composite
def arrays(draw, names=tuple(DTYPES)):
    """An array of any dtype whose bits are any, so NaNs of all kinds too."""
    dtype = DTYPES[draw(st.sampled_from(names))]
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    seed = draw(st.integers(0, 2**32 - 1))
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * dtype.itemsize)
    if dtype == np.bool_:
        raw = bytes(byte % 2 for byte in raw)
    if dtype.name in ("int2", "uint2", "int4", "uint4"):
        return np.zeros(shape, np.int8).astype(dtype)
    return np.frombuffer(raw, dtype).reshape(shape)


LAYOUTS = {
    "C": lambda x: x,
    "F": lambda x: x.copy(order="F"),
    "transposed": lambda x: np.ascontiguousarray(x.T).T if x.ndim else x,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1] if x.ndim else x,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")) if x.dtype.kind in "iufc" else x,
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}
layouts = st.sampled_from(sorted(LAYOUTS)).map(LAYOUTS.__getitem__)
numbers = arrays()
leaf_names = st.one_of(
    st.sampled_from(["value", "params", "0", "10", "", "a.b", "a/b", "~", "ünï", "a b"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
).filter(lambda name: name != ".." and not name.startswith("/"))
