"""Whether every weight and every output has a counterpart."""

from collections.abc import Sequence

from shared.errors import InputError
from shared.models.pure import described
from shared.report.result import NAMED, Check
from shared.verification.ported import Ported
from shared.weights.storage import other_kinds


def check_structure(
    ported: Ported,
    linen_left: Sequence[str] = (),
    nnx_left: Sequence[str] = (),
    meant: str = "",
) -> Check:
    """Whether every weight and every output has a counterpart.

    Args:
      ported: the pair.
      linen_left: paths of Linen's weights that have none; nnx_left: of those of NNX.
      meant: how the map that was found is not the one that is meant.
    """
    notes = []
    for side, paths, model in (("Linen", linen_left, ported.linen), ("NNX", nnx_left, ported.nnx)):
        named = ", ".join(f"{path} {described(model.leaves[path])}" for path in paths[:NAMED])
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        if paths:
            notes.append(f"only in {side}: {named}{more}")
    notes += other_kinds(ported.entries, (ported.linen.leaves, ported.nnx.leaves))
    one, other = (
        {
            path: described(shape)
            for path, shape in zip(program.outputs, program.shapes, strict=True)
            if path.startswith("output")
        }
        for program in (ported.linen_program, ported.nnx_program)
    )
    if not one and not other:
        raise InputError("neither model returns anything to compare; is a return missing?")
    for side, outputs in (("Linen", one), ("NNX", other)):
        if not outputs:
            notes.append(f"{side} returns nothing; is a return missing?")
    if one and other:
        notes += [
            f"{path}: {one.get(path, 'nothing')} in Linen, {other.get(path, 'nothing')} in NNX"
            for path in sorted(one.keys() | other.keys())
            if one.get(path) != other.get(path)
        ][:NAMED]
    if meant:
        notes.append(meant)
    return Check("structure", "different" if notes else "equal", note="; ".join(notes))
