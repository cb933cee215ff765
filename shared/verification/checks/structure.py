"""Whether every weight and every output has a counterpart."""

from collections.abc import Sequence

from shared.errors import InputError
from shared.models.pure import described
from shared.program.drawn_leaves import is_draw
from shared.report.result import NAMED, Check
from shared.verification.drawn import of_one_key
from shared.verification.ported import Ported
from shared.verification.programs import is_output
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
    notes = _draws_apart(ported, linen_left, nnx_left)
    for side, left, model in (("Linen", linen_left, ported.linen), ("NNX", nnx_left, ported.nnx)):
        paths = [path for path in left if not is_draw(path)]
        named = ", ".join(f"{path} {described(model.leaves[path])}" for path in paths[:NAMED])
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        if paths:
            notes.append(f"only in {side}: {named}{more}")
    notes += other_kinds(ported.entries, (ported.linen.leaves, ported.nnx.leaves))
    one, other = (
        {
            path: described(shape)
            for path, shape in zip(program.outputs, program.shapes, strict=True)
            if is_output(path)
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
    if notes:
        return Check("structure", "different", note="; ".join(notes))
    return Check("structure", "equal", note=_draws_paired(ported))


def _draws_apart(ported: Ported, linen_left: Sequence[str], nnx_left: Sequence[str]) -> list[str]:
    """What is said of random draws that have no counterpart."""
    sides = ("Linen", ported.linen, linen_left), ("NNX", ported.nnx, nnx_left)
    said = []
    for name, model, paths in sides:
        left = [described(model.leaves[path]) for path in paths if is_draw(path)]
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        said.append(f"{', '.join(left[:NAMED]) or 'none'}{more} in {name}")
    alone = any(is_draw(path) for path in (*linen_left, *nnx_left))
    if alone:
        return [f"random draws without a counterpart: {', '.join(said)}"]
    if found := of_one_key(ported):
        one, other, side = found
        shapes = [described(ported.linen.leaves[entry.linen.leaf]) for entry in (one, other)]
        name = "NNX" if side == "nnx" else "Linen"
        return [f"random draws of one key in {name} alone: {' and '.join(shapes)}"]
    return []


def _draws_paired(ported: Ported) -> str:
    count = sum(entry.is_draw for entry in ported.entries)
    if not count:
        return ""
    return f"{count} random draws paired" if count > 1 else "1 random draw paired"
