"""Both models of a pair as their users call them: what `bench` times."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shared.batch import seeded_inputs
from shared.cases import Case
from shared.errors import during, one_line
from shared.interface import activation_of, load_implementation
from shared.models.forms import changed
from shared.models.gradients import NOT_DIFFERENTIABLE
from shared.models.memory import bytes_of, check_memory
from shared.models.nnx import leaf_names
from shared.models.pair import Pair
from shared.trees import flatten, unflatten

# An array, so that it is an argument of what is compiled: XLA could fold a number into the weights.
SEED = np.uint32(0)
# So small that many steps leave the weights about as they are.
LEARNING_RATE = 1e-9


@dataclasses.dataclass(frozen=True)
class Subject:
    """Two models and one call of each.

    Attributes:
      name: of the case, or the place of the pair.
      inputs: arrays and keys.
      linen_init: (seed) -> variables, which `jax.jit` takes.
      linen_call: (variables, *inputs) -> (outputs, updates), the same.
      nnx_init: (seed) -> module, with its variables.
      nnx_call: (module, *inputs) -> outputs, of a module that keeps what the call changes.
      case: the built-in case, where it is one.
    """

    name: str
    inputs: tuple
    linen_init: Callable[[Any], Any]
    linen_call: Callable[..., Any]
    nnx_init: Callable[[Any], Any]
    nnx_call: Callable[..., Any]
    case: Case | None = None


@dataclasses.dataclass(frozen=True)
class Runner:
    """One way to run a model, as functions of what it holds and the inputs.

    Attributes:
      init: (seed) -> weights, which `jax.jit` takes; None where they are those of another.
      held: the weights, as the functions take them.
      functions: {kind: (held, *inputs) -> arrays}: "forward"; "gradient", the sum of all outputs
        and its gradient by the params; "nothing", which takes the same for next to nothing.
      names: of the leaves of what is held.
      answer: (kind, what its function returns) -> the outputs of the call, or the sum of them and
        the gradient, without what the call has changed.
    """

    init: Callable[[Any], Any] | None
    held: Any
    functions: Mapping[str, Callable[..., Any]]
    names: Sequence[str]
    answer: Callable[[str, Any], Any]


def linen_runner(subject: Subject) -> Runner:
    """Linen: variables in nested dicts."""

    def gradient(variables, *inputs):
        def loss(params):
            return total(subject.linen_call({**variables, "params": params}, *inputs)[0])

        return jax.value_and_grad(loss)(variables.get("params", {}))

    functions = {"forward": subject.linen_call, "gradient": gradient, "nothing": nothing}
    variables = jax.jit(subject.linen_init)(SEED)
    return Runner(
        subject.linen_init,
        variables,
        functions,
        jax.tree.leaves(unflatten({path: path for path in flatten(variables)})),
        lambda kind, returned: returned[0] if kind == "forward" else returned,
    )


def nnx_runner(subject: Subject) -> Runner:
    """NNX: the flat leaves of a module that is split once."""

    def init(seed):
        return nnx_weights(subject, seed)

    graphdef, _ = nnx.split(nnx.eval_shape(lambda: subject.nnx_init(SEED)))
    state = jax.jit(init)(SEED)
    leaves, tree = jax.tree.flatten(state)

    def of_leaves(call: Callable[..., Any], is_forward: bool) -> Callable[..., Any]:
        def run(leaves, *inputs):
            module = nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))
            outputs = call(module, *inputs)
            # A gradient as flat as the weights: what makes a State of it is a form's own cost.
            return (outputs, changed(module)) if is_forward else flat(outputs)

        return run

    def flat(outputs: Any) -> Any:
        if not isinstance(outputs, tuple):
            return outputs
        value, gradient = outputs
        return value, tuple(jax.tree.leaves(gradient))

    calls = of_module(subject)
    functions = {kind: of_leaves(call, kind == "forward") for kind, call in calls.items()}
    return Runner(
        init,
        tuple(leaves),
        functions,
        leaf_names(state),
        lambda kind, returned: returned[0] if kind == "forward" else returned,
    )


def nnx_weights(subject: Subject, seed: Any) -> Any:
    """The variables that the NNX module of a seed starts with."""
    return nnx.split(subject.nnx_init(seed))[1]


RUNNERS = {"linen": linen_runner, "nnx": nnx_runner}


def of_module(subject: Subject) -> dict[str, Callable[..., Any]]:
    """The functions of a `Runner`, of an NNX module and the inputs."""

    def gradient(module, *inputs):
        graphdef, params, rest = nnx.split(module, nnx.Param, ...)

        def loss(params):
            # Variables of this trace: what the call changes is written into them.
            return total(subject.nnx_call(nnx.merge(graphdef, params, rest, copy=True), *inputs))

        return jax.value_and_grad(loss)(params)

    return {"forward": subject.nnx_call, "gradient": gradient, "nothing": nothing}


def training_step(runner: Runner) -> Callable[..., Any]:
    """(held, *inputs) -> (the sum of all outputs, held after a step of gradient descent)."""
    is_param = [name.startswith("params/") for name in runner.names]

    def step(held, *inputs):
        value, gradient = runner.functions["gradient"](held, *inputs)
        leaves, tree = jax.tree.flatten(held)
        of_params = iter(jax.tree.leaves(gradient))
        new = [
            x - LEARNING_RATE * next(of_params) if mine else x
            for x, mine in zip(leaves, is_param, strict=True)
        ]
        return value, jax.tree.unflatten(tree, new)

    return step


def no_gradient(runner: Runner, inputs: tuple) -> str | None:
    """Why JAX has no gradient of a model; None where it has one."""
    if not any(name.startswith("params/") for name in runner.names):
        return "the model has no params"
    returned = jax.eval_shape(runner.functions["forward"], runner.held, *inputs)
    outputs = jax.tree.leaves(runner.answer("forward", returned))
    if not any(jnp.issubdtype(x.dtype, jnp.floating) for x in outputs):
        return "no output is floating"
    try:
        jax.eval_shape(runner.functions["gradient"], runner.held, *inputs)
    except NOT_DIFFERENTIABLE as error:
        return one_line(error)
    return None


def nothing(held: Any, *inputs: Any) -> jax.Array:
    """A call that needs all that is held, and does next to nothing with it."""
    leaves = [x for x in jax.tree.leaves(held) if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum((x.reshape(-1)[:1].sum().astype(jnp.float32) for x in leaves), jnp.zeros(()))


def total(outputs: Any) -> jax.Array:
    """The sum of all floating outputs: one number to differentiate."""
    leaves = [x for x in jax.tree.leaves(outputs) if jnp.issubdtype(x.dtype, jnp.floating)]
    return sum((jnp.sum(x.astype(jnp.float32)) for x in leaves), jnp.zeros(()))


def subject_of_case(case: Case) -> Subject:
    """The two implementations of `case`."""
    linen, nnx_impl = load_implementation("linen"), load_implementation("nnx")

    def linen_call(variables, *inputs):
        outputs, updates = linen.call(case, variables, *inputs)
        return activation_of(outputs), updates

    def nnx_call(module, *inputs):
        return activation_of(nnx_impl.call(case, module, *inputs))

    return Subject(
        case.name,
        jax.tree.map(_on_device, seeded_inputs(case, int(SEED))),
        lambda seed: linen.init(case.params_case, seed),
        linen_call,
        lambda seed: nnx_impl.build(case.params_case, nnx.Rngs(jax.random.key(seed))),  # type: ignore[attr-defined]
        nnx_call,
        case,
    )


def subject_of_pair(name: str, pair: Pair) -> Subject:
    """A user's pair, called as the pair says."""
    streams = ("params", "dropout", *pair.streams)
    keys = {name: jax.random.key(i) for i, name in enumerate(streams)}
    call = pair.linen_call or (lambda module, *args: module(*args, **pair.linen_kwargs))
    port_call = pair.nnx_call or (lambda module, *args: module(*args, **pair.nnx_kwargs))
    inputs = _made(pair.inputs, int(SEED))

    def linen_init(seed):
        return pair.linen.init({**keys, "params": jax.random.key(seed)}, *inputs, method=call)

    def linen_call(variables, *args):
        mutable = [kind for kind in variables if kind != "params"]
        return pair.linen.apply(variables, *args, method=call, mutable=mutable, rngs=keys)

    def nnx_init(seed):
        own = {name: 2 + i for i, name in enumerate(pair.streams)}
        return pair.nnx(nnx.Rngs(jax.random.key(seed), dropout=1, **own))

    return Subject(name, inputs, linen_init, linen_call, nnx_init, port_call)


def _made(inputs: Callable[[jax.Array], tuple] | tuple, seed: int) -> tuple:
    """Arrays: those that a pair gives, or standard normal ones of the shapes that it gives."""
    if callable(inputs):
        with during("Pair.inputs, called with a key"):
            return inputs(jax.random.key(seed))
    check_memory("the inputs", bytes_of(inputs))
    rng = np.random.default_rng(seed)

    def made(x: Any) -> Any:
        if not isinstance(x, jax.ShapeDtypeStruct):
            return _on_device(x)
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(rng.standard_normal(x.shape) if floating else np.zeros(x.shape), x.dtype)

    return jax.tree.map(made, inputs)


def _on_device(x: Any) -> jax.Array:
    return x if isinstance(x, jax.Array) else jnp.asarray(x)
