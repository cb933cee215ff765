"""What is to be made of a checkpoint."""

import dataclasses
from collections.abc import Mapping

from shared.checkpoint.stored import Leaves
from shared.checkpoint.tree.layers import KEEP, Layout
from shared.checkpoint.tree.roles import LINEN, NNX
from shared.weights.weight_map import WeightMap

DIRECTIONS = {"linen_to_nnx": LINEN, "nnx_to_linen": NNX}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is to be made of a checkpoint.

    Attributes:
      direction: "auto", "linen_to_nnx" or "nnx_to_linen".
      weights: which variable is which; None for a map by rule.
      opt_state: what Linen's optimizer keeps, below `opt_state`; None if that is not known.
      random: the module paths of NNX's random state, where these are known.
      axis_names: {"linen" or "nnx": {name in the map: the name of each axis}}, where known.
      layout: of layers, of a map by rule.
      format: of the target, "orbax", "safetensors" or "msgpack".
      step: which one, where the source holds several.
      dtype: of arrays of a .npz whose dtype NumPy has lost, "bfloat16"; "" of none.
      rename: {path of a module of the source: the name that it is to have}.
      allow_extra: whether params that are in no entry of `weights` are carried along.
      overwrite: whether a checkpoint at the target is replaced; it is kept beside.
    """

    direction: str = "auto"
    weights: WeightMap | None = None
    opt_state: Leaves | None = None
    random: tuple[str, ...] = ()
    axis_names: Mapping[str, Mapping[str, tuple]] = dataclasses.field(default_factory=dict)
    layout: Layout = KEEP
    format: str = "orbax"
    step: int | None = None
    dtype: str = ""
    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    allow_extra: bool = False
    overwrite: bool = False


DEFAULT = Options()
