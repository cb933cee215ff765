"""Where two programs of a pair part on a sample."""

from collections.abc import Sequence

from shared.program.graph import Value
from shared.report.result import Divergence
from shared.verification.limits import Limits
from shared.verification.locate import locate
from shared.verification.locate.result_types import computed_in_other_types
from shared.verification.outputs import values_of
from shared.verification.ported import Ported
from shared.verification.programs import Program

# Programs of more operations are not computed operation by operation where all samples are equal.
MAX_EVALUATED = 20_000

Programs = tuple[Program, Program]


def decides(ported: Ported) -> bool:
    """Whether float64 decides, and no limits."""
    return ported.limits == Limits() and not ported.is_narrow


def locate_in(
    ported: Ported,
    programs: Programs,
    settled: Sequence[Program] = (),
    stops: bool = False,
    sample: int = 0,
) -> Divergence | None:
    """Where two programs of a pair part on a sample; `settled` and `stops` as in `locate`."""
    outputs = outputs_of_both(ported, programs)
    numbers, without = ported.sample(sample), None
    if ported.is_narrow:
        # What is there without rounding is not to be looked for among what rounding does.
        exact = numbers._replace(casts=False)
        without = locate(ported, programs, exact, outputs, settled, stops)
        # Where one of both rounds more, constants do as well: that is no place of its own.
        if without and (ported.are_narrow or not without.is_near):
            return without
        graphs = programs[0].graph, programs[1].graph
        values = ported.values(0, graphs[0], exact), ported.values(1, graphs[1], exact)
        if without is None and (rounded := computed_in_other_types(graphs, values)):
            return rounded
    return locate(ported, programs, numbers, outputs, settled, stops) or without


def outputs_of_both(ported: Ported, programs: Programs) -> list[tuple[Value, Value]]:
    """(Linen's, NNX's) of the outputs that both programs compute for themselves."""
    return [(one, other) for one, other in _outputs(ported, programs) if one and other]


def have_to_be_moved(ported: Ported, programs: Programs) -> bool:
    """Whether outputs have to be moved, as weights are, to be compared."""
    return not all(one and other for one, other in _outputs(ported, programs))


def _outputs(ported: Ported, programs: Programs) -> list[tuple[Value | None, Value | None]]:
    pairs = ported.pair_outputs(*programs).pairs
    values = [values_of(p, pairs, side) for side, p in enumerate(programs)]
    return [(values[0][name], values[1][name]) for name in pairs]
