"""Whether XLA makes one program of two models: no time tells it as surely."""

from collections.abc import Mapping
from typing import Any

import jax

from shared.bench.compiled import read_compiled
from shared.models.subject import Runner


def same_as_first(
    runners: Mapping[str, Runner], kind: str, inputs: tuple, names: Mapping[str, str]
) -> dict[str, bool]:
    """{column: whether its optimised program is that of the first, operation by operation}.

    Args:
      runners: whose function of `kind` is compiled.
      names: {a leaf of NNX: the leaf of Linen that holds the same}.
    """
    found = {name: _fingerprint(runner, kind, inputs, names) for name, runner in runners.items()}
    first, *_ = found.values()
    return {name: fingerprint == first for name, fingerprint in list(found.items())[1:]}


def _fingerprint(runner: Runner, kind: str, inputs: tuple, names: Mapping[str, str]) -> str:
    leaves = [names.get(name, name) for name in runner.names]
    params = [name for name in leaves if name.startswith("params/")]

    def run(held: Any, *inputs: Any) -> Any:
        answer = runner.answer(kind, runner.functions[kind](held, *inputs))
        if kind == "forward":
            return answer
        value, gradient = answer
        # A dict, whose leaves are in the order of their names in each of the programs.
        return value, dict(zip(params, jax.tree.leaves(gradient), strict=True))

    program = jax.jit(run, keep_unused=True).lower(runner.held, *inputs).compile()
    given = [f"input {i}" for i, _ in enumerate(jax.tree.leaves(inputs))]
    return read_compiled(program, [*leaves, *given]).fingerprint
