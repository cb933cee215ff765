"""The first place where two programs part."""

from shared.locate.explain import layers_exchanged
from shared.locate.find import locate
from shared.locate.not_finite import first_not_finite
from shared.locate.spot import Divergence, Spot, use_of
from shared.locate.values import SAME_OUTPUT

__all__ = [
    "SAME_OUTPUT",
    "Divergence",
    "Spot",
    "first_not_finite",
    "layers_exchanged",
    "locate",
    "use_of",
]
