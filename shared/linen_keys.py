"""How Flax Linen derives the key of each random draw, written out once.

From a seed to the key of one draw:

1. `key = jax.random.key(seed)` is the key of the stream, here `params`.
2. Every lifted transform with `split_rngs={"params": True}`, outermost first, replaces it by
   `jax.random.split(key, size)[index]`: size N for a scan, B for a vmap. With `False` it stays.
3. Each draw folds in a hash of *where it is*: the names of the scopes from the root down to the
   module, then the number of the draw in that scope (`fold_in_path`).

Source: `make_rng`, `LazyRng` and `_fold_in_static` in `flax/core/scope.py`, `vmap` and `scan` in
`flax/core/lift.py` (flax 0.12.8). The tests hold these functions to Linen bit for bit.

Traps:

* The lifted transforms add no name to the path. A lifted class that stands alone is the root, so
  its `Dense` is at `("Dense_0",)`; inside a parent it is at `("VmapScanBlock_0", "Dense_0")`.
* The number of the draw is not 1. `nn.scan` traces its body twice (a first time to find which
  values do not change) and the scope goes on counting: see `draw_number`.
* Under `jax.disable_jit()` the body runs N times instead, the numbers run on through the layers,
  and Linen's params are others. This file does not follow it there.
* A draw that nobody uses still counts: a zero `bias` takes number 4 after the kernel's 3.
* `flax_fix_rng_separator` changes every hash.
* With `rbg` keys `jax.vmap` draws other bits than a loop over the same keys, so the transforms
  that draw must be nested as Linen nests them.
"""

import collections
import hashlib
from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp


def fold_in_path(key: jax.Array, *path: str | int) -> jax.Array:
    """The key of the draw at `path`: key () -> key ().

    Args:
      key: scalar key, already split by the lifted transforms around the draw.
      *path: names of the scopes from the root, then the number of the draw in the last one.
    """
    return jax.random.fold_in(key, jnp.uint32(path_hash(*path)))


def path_hash(*path: str | int) -> int:
    """The first 32 bits of the SHA-1 of `path`, as Linen writes it into bytes."""
    sha1 = hashlib.sha1()
    for item in path:
        if flax.config.flax_fix_rng_separator:
            sha1.update(b"\x00")
        if isinstance(item, str):
            sha1.update(item.encode())
        else:
            sha1.update(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    return int.from_bytes(sha1.digest()[:4], "big")


def draw_number(draw: int, draws_per_trace: int, num_scans: int) -> int:
    """Linen's number, from 1, of a draw in its scope.

    Each `nn.scan` around the scope doubles the number of times that its body is traced. The
    numbers run on through the traces and the last trace is the one that counts.

    Args:
      draw: which draw of the scope, from 1.
      draws_per_trace: how many draws the scope makes in one trace.
      num_scans: how many `nn.scan` are around it, with `check_constancy_invariants=True`.
    """
    num_traces = 2**num_scans
    return draws_per_trace * (num_traces - 1) + draw


def draw_words(draws: Sequence[str], num_scans: int) -> tuple[int, ...]:
    """The 32-bit word that each draw folds into its key.

    Args:
      draws: the scope of each draw, names joined by "/", in the order of the draws.
      num_scans: see `draw_number`.
    """
    draws_per_trace = collections.Counter(draws)
    drawn: collections.Counter[str] = collections.Counter()
    words = []
    for scope in draws:
        drawn[scope] += 1
        number = draw_number(drawn[scope], draws_per_trace[scope], num_scans)
        words.append(path_hash(*scope.split("/"), number))
    return tuple(words)
