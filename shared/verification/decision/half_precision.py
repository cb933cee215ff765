"""What half precision does to two programs, and what is left without it."""

from shared.program.source import users_place
from shared.report.result import Check, Divergence
from shared.verification.decision.places import MAX_EVALUATED, Programs, outputs_of_both
from shared.verification.limits import Limits
from shared.verification.locate import locate
from shared.verification.locate.rounding import Rounding, in_other_precision, rounding
from shared.verification.outputs import values_of
from shared.verification.ported import Ported


def parts_without_rounding(ported: Ported, check: Check) -> Divergence | None:
    """Where two programs in half precision part without rounding, and not by that of a constant."""
    for number, programs in enumerate(_behind(ported, check)):
        settled = ported.programs if number else ()
        numbers = ported.sample(check.sample)._replace(casts=False)
        outputs = outputs_of_both(ported, programs)
        place = locate(ported, programs, numbers, outputs, settled)
        if place is not None:
            explained = not place.is_another_function and (
                place.is_near or _round(ported, programs, check).explains
            )
            return None if explained else place
    return None


def rounding_of(ported: Ported, check: Check) -> Rounding | None:
    """What half precision alone does to what a check compares; None where there is more to it."""
    compared = _behind(ported, check)
    if not compared:
        return None
    found = _round(ported, compared[-1], check)
    return found if found.explains else None


def remark_of_precision(ported: Ported) -> str:
    """What NNX computes in another precision than Linen, if it does."""
    linen, nnx = (program.graph for program in ported.programs)
    if not ported.is_narrow or max(len(graph.nodes) for graph in (linen, nnx)) > MAX_EVALUATED:
        return ""
    exact = ported.sample(0)._replace(casts=False)
    values = ported.values(0, linen, exact), ported.values(1, nnx, exact)
    found = in_other_precision(linen, values[0], nnx, values[1])
    if found is None:
        return ""
    one, other = (node.avals[0].dtype for node in found)
    place = users_place(found[1].stack)
    where = f": {place}" if place else ""
    return f"NNX computes {found[1].op} in {other}, Linen in {one}{where}"


def _round(ported: Ported, programs: Programs, check: Check) -> Rounding:
    pairs = ported.pair_outputs(*programs).pairs
    values = values_of(programs[0], pairs, 0), values_of(programs[1], pairs, 1)
    outputs = {
        name: (one, other)
        for name in pairs
        if (one := values[0][name]) and (other := values[1][name])
    }
    return rounding(*programs, ported.sample(check.sample), outputs)


def _behind(ported: Ported, check: Check) -> list[Programs]:
    """The programs behind a check, forward first; none where half precision is not in question."""
    if ported.limits != Limits() or not ported.are_narrow:
        return []
    programs = [ported.programs]
    if check.name == "gradients":
        programs.append(ported.backward)
    sizes = [len(p.graph.nodes) for both in programs for p in both]
    return programs if max(sizes) <= MAX_EVALUATED else []
