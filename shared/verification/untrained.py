"""What the port keeps as a constant, in a plain array say, where Linen has a variable."""

import dataclasses
from collections.abc import Collection

from shared.models.pure_pair import PurePair
from shared.verification.programs import program
from shared.weights.find import find


def with_untrained(pure: PurePair, linen_left: Collection[str]) -> PurePair | None:
    """`pure` with that among the port's weights. None if there is no such thing.

    Args:
      pure: the pair.
      linen_left: Linen's paths of weights that have no counterpart.
    """
    if not linen_left or pure.port_with is None:
        return None
    port = pure.port_with(lambda path: True)
    more = port.leaves.keys() - pure.nnx.leaves.keys()
    if not more:
        return None
    linen, nnx = (program(m.apply, m, pure.inputs).graph for m in (pure.linen, port))
    found = find(linen, nnx, pure.linen.leaves, port.leaves, pure.weight_map)
    meant = {
        entry.nnx.leaf
        for entry in found.entries
        if entry.linen.leaf in linen_left and entry.nnx.leaf in more
    }
    if not meant:
        return None
    return dataclasses.replace(pure, nnx=pure.port_with(lambda path: path in meant))
