"""The first place where two programs part."""

from shared.verification.locate.find import locate
from shared.verification.locate.layers import layers_exchanged
from shared.verification.locate.not_finite import not_finite
from shared.verification.locate.spot import drawn_at, use_of
from shared.verification.locate.values import SAME_OUTPUT

__all__ = ["SAME_OUTPUT", "drawn_at", "layers_exchanged", "locate", "not_finite", "use_of"]
