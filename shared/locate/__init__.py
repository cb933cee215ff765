"""The first place where two programs part."""

from shared.locate.explain import layers_exchanged
from shared.locate.find import locate
from shared.locate.spot import Divergence, Spot, use_of
from shared.locate.values import SAME_OUTPUT

__all__ = ["SAME_OUTPUT", "Divergence", "Spot", "layers_exchanged", "locate", "use_of"]
