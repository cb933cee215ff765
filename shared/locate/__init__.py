"""The first place where two programs part."""

from shared.locate.find import locate
from shared.locate.spot import Divergence, Spot
from shared.locate.values import SAME_OUTPUT

__all__ = ["SAME_OUTPUT", "Divergence", "Spot", "locate"]
