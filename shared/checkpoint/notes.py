"""What a user is to know of a conversion before it is made."""

from collections.abc import Iterator, Sequence

from shared.checkpoint.conversion import Conversion
from shared.checkpoint.integrity.manifest import path_for
from shared.checkpoint.integrity.verified import KEEP_KINDS
from shared.checkpoint.naming import split, written
from shared.checkpoint.options import Options
from shared.checkpoint.tree.kinds import SOWN
from shared.checkpoint.tree.roles import AUX, LINEN, NNX, Names, names_of

# Collections that the names of their variables tell, or that are carried along.
NAMED = {"params", "batch_stats", "cache", *SOWN}


def notes_on(conversion: Conversion, target: str, options: Options) -> Iterator[str]:
    """Each in one line.

    Args:
      conversion: that is planned.
      target: where it is going to be.
      options: what is to be made.
    """
    if conversion.manifest is None:
        yield (
            f"{conversion.source.path} has no manifest: whether its bytes are those written is not "
            f"known"
        )
    if conversion.source.items:
        yield (
            f"{conversion.source.path}: the items {', '.join(conversion.source.items)} become one: "
            f"{target} holds the whole state in one tree"
        )
    aux = AUX[conversion.to]
    carried = [path for path in conversion.plan if path[0] == aux]
    if carried:
        yield (
            f"{target}: `{aux}` holds {_count(carried)} that the other API has no place for "
            f"({written(carried[0])}); they come back; PyTreeRestore(partial_restore=True) leaves "
            f"them out"
        )
    if conversion.to == NNX and conversion.roles.optimizer and conversion.roles.step is None:
        yield (
            f"{target}: has no optimizer/step, for no step was saved: "
            f"`del state['optimizer']['step']` before you restore into it"
        )
    tops = {path[0] for path in conversion.roles.optimizer.values() if "opt_state" not in path}
    if conversion.to == NNX and tops:
        yield (
            f"{conversion.source.path}: `{tops.pop()}` holds moments of params and is taken for "
            f"the optimizer's state"
        )
    if conversion.to == LINEN and conversion.by == "rule" and conversion.roles.optimizer:
        yield (
            f"{target}: NNX stores nothing of what optax keeps empty, and a TrainState has a place "
            f"for it: --pair with the optimizer (Pair(optimizer=...)) writes all places"
        )
    unnamed = {names[0] for names in conversion.roles.variables} - NAMED
    if conversion.to == NNX and conversion.by == "rule" and unnamed:
        yield (
            f"{target}: NNX stores of no variable its collection: {', '.join(sorted(unnamed))} is "
            f"known of the manifest alone, or of --pair on the way back"
        )
    keys = sum(leaf.kind == "key" for leaf in conversion.leaves.values())
    if keys and options.format not in KEEP_KINDS:
        yield (
            f"{keys} PRNG keys are plain numbers in {options.format}: their implementation "
            f"stands in {path_for(target)} alone, keep it"
        )
    made = {names_of(path) for path in conversion.plan}
    lacking = [
        name for name in options.random if not any(_ends(path, split(name)) for path in made)
    ]
    if conversion.to == NNX and lacking:
        yield (
            f"{target}: has no random state, which the port keeps and Linen does not "
            f"({_count(lacking)}, {lacking[0]}): restore nnx.state(module, nnx.Not(nnx.RngState))"
        )


def _ends(path: Names, names: Names) -> bool:
    """Whether a path ends in names, whatever `nnx.State` puts after them."""
    return names in (path[-len(names) :], path[-len(names) - 1 : -1])


def _count(leaves: Sequence) -> str:
    return f"{len(leaves)} {'leaf' if len(leaves) == 1 else 'leaves'}"
