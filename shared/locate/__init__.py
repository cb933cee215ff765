"""The first place where two programs part."""

from shared.locate.explain import layers_exchanged
from shared.locate.find import locate
from shared.locate.not_finite import first_not_finite
from shared.locate.spot import Divergence, Spot, use_of
from shared.locate.values import SAME_OUTPUT, same_in_place

__all__ = [
    "SAME_OUTPUT",
    "Divergence",
    "Spot",
    "first_not_finite",
    "layers_exchanged",
    "locate",
    "same_in_place",
    "use_of",
]
