"""What XLA makes: the same program of Linen, of NNX and of plain JAX, byte for byte of memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_identical, each, linen_to_nnx, random_inputs, random_variables, small
from jax import lax

from shared.bench.compiled import fingerprint, read_compiled
from shared.bench.hlo_text import optimised_text, parse_line
from shared.bench.pure_jax import FORWARD, NOT_IN_PLAIN_JAX, pure
from shared.cases import CASES
from shared.interface import activation_of
from shared.trees import flatten, unflatten

pytestmark = pytest.mark.optimized

# Of one fingerprint, and yet of other bytes.
OTHER_BYTES = {
    ("decode", "gradient"): "the loop back has the cache behind the params in Linen, before them "
    "in NNX: XLA packs temporary arrays in the order of what a loop carries",
}


def compiled(function, *args):
    """The program of a function that may not use all its arguments."""
    return jax.jit(function, keep_unused=True).lower(*args).compile()


def of_sum(forward, is_param=(True, True)):
    """The gradient of the sum of the activation by the leaves that are params."""

    def gradient(leaves, *inputs):
        def loss(params):
            params = iter(params)
            given = zip(is_param, leaves, strict=True)
            return forward(tuple(next(params) if is_ else x for is_, x in given), *inputs).sum()

        return jax.grad(loss)([x for is_, x in zip(is_param, leaves, strict=True) if is_])

    return gradient


class Twins:
    """A case by each of the three: functions of the same arrays in the same order."""

    def __init__(self, linen, nnx, case):
        variables, self.inputs = random_variables(case), random_inputs(case)
        leaves_of, forward = pure(case)
        self.leaves = leaves_of(variables)
        paths = leaves_of(unflatten({path: path for path in flatten(variables)}))
        self.roles = (*paths, *(row.name for row in case.inputs))
        is_param = [path.startswith("params/") for path in paths]

        def by(implementation, move=lambda variables: variables):
            def of(leaves, *inputs):
                given = move(unflatten(dict(zip(paths, leaves, strict=True))))
                return activation_of(implementation.apply(case, given, *inputs)[0])

            return of

        forward = {
            "linen": by(linen),
            "nnx": by(nnx, lambda variables: linen_to_nnx(case, variables)),
            "pure": forward,
        }
        gradient = {name: of_sum(each, is_param) for name, each in forward.items()}
        self.functions = {"forward": forward}
        if not case.no_gradient:
            self.functions["gradient"] = gradient

    def programs(self, kind):
        args = (self.leaves, *self.inputs)
        return {name: compiled(each, *args) for name, each in self.functions[kind].items()}


@pytest.mark.quick("shared", "while_loop")
@pytest.mark.parametrize("case", each(case for case in CASES.values() if case.name in FORWARD))
def test_the_three_are_one_program(linen, nnx, case):
    case = small(case)
    twins = Twins(linen, nnx, case)
    for kind in twins.functions:
        programs = twins.programs(kind)
        made = [read_compiled(program, twins.roles) for program in programs.values()]
        assert len({each.fingerprint for each in made}) == 1, kind
        assert len({each.flops for each in made}) == 1, kind
        is_other = len({each[1:4] for each in made}) > 1
        assert is_other == ((case.name, kind) in OTHER_BYTES), (kind, made)
        results = {name: each(twins.leaves, *twins.inputs) for name, each in programs.items()}
        assert_identical(results["linen"], results["nnx"], kind)
        assert_identical(results["linen"], results["pure"], kind)


def test_each_case_is_in_plain_jax_or_its_reason_is_known():
    assert FORWARD.keys() | NOT_IN_PLAIN_JAX.keys() == CASES.keys()
    assert not FORWARD.keys() & NOT_IN_PLAIN_JAX.keys()
    assert all(pure(CASES[name]) is None for name in NOT_IN_PLAIN_JAX)


def test_leaves_are_in_the_order_of_numbers():
    layers = {f"layers_{i}": {"kernel": i} for i in range(12)}
    assert pure(CASES["layer_list"]).leaves({"params": layers}) == tuple(range(12))


def test_a_planted_difference_is_seen():
    case = small(CASES["remat"])
    leaves, (x,) = pure(case).leaves(random_variables(case)), random_inputs(case)
    forward, without_remat = pure(case).forward, pure(small(CASES["shared"])).forward
    roles = ("bias", "kernel", "x")

    def made(function, *args):
        return read_compiled(compiled(function, *args), roles[-len(jax.tree.leaves(args)) :])

    right, backward = made(forward, leaves, x), made(of_sum(forward), leaves, x)
    transposed = made(lambda leaves, x: forward((leaves[0], leaves[1].mT), x), leaves, x)
    kept = made(of_sum(without_remat), leaves, x)
    returned = made(lambda leaves, x: (forward(leaves, x), leaves), leaves, x)
    inside = made(lambda x: forward(leaves, x), x)
    assert len({each.fingerprint for each in (right, transposed, returned, inside)}) == 4
    assert kept.fingerprint != backward.fingerprint
    assert kept.temp_bytes > backward.temp_bytes
    assert returned.output_bytes - right.output_bytes >= sum(leaf.nbytes for leaf in leaves)
    assert right.argument_bytes - inside.argument_bytes == sum(leaf.nbytes for leaf in leaves)


# A stack, (3, 5) and (3, 5, 5), of a batch (4, 5): no axis passes for another.
RNG = np.random.default_rng(0)
LEAVES = tuple(RNG.standard_normal(shape, np.float32) for shape in ((3, 5), (3, 5, 5)))
X = RNG.standard_normal((4, 5), np.float32)


def layer(x, bias, kernel):
    return jax.nn.relu(x @ kernel + bias)


def stack(layer=layer, last=3, **options):
    """vmap(scan) of a layer of (x, bias, kernel)."""

    def forward(leaves, x_batch):
        layers = [leaf[:last] for leaf in leaves]
        return jax.vmap(
            lambda x: lax.scan(lambda x, own: (layer(x, *own), None), x, layers, **options)[0]
        )(x_batch)

    return forward


def scan_of_batch(leaves, x_batch):
    return lax.scan(lambda x, own: (layer(x, *own), None), x_batch, leaves)[0]


def other_order(leaves, x_batch):
    def step(x, own):
        return layer(x, own["b"], own["a"]), None

    return jax.vmap(lambda x: lax.scan(step, x, {"a": leaves[1], "b": leaves[0]})[0])(x_batch)


def named(a, b, c):
    with jax.named_scope("elsewhere"):
        return layer(a, b, c)


def dead(x, bias, kernel):
    jnp.sin(x @ kernel.T)
    return layer(x, bias, kernel)


POSITIVES = {
    "rename": stack(lambda a, b, c: layer(a, b, c)),
    "swap add": stack(lambda x, bias, kernel: jax.nn.relu(bias + x @ kernel)),
    "reorder xs": other_order,
    "extra jit": stack(jax.jit(layer)),
    "dead code": stack(dead),
    "scan(batched)": scan_of_batch,
    "named_scope": stack(named),
}


def loop(layer):
    """A loop, where XLA sees what is computed anew: in a scan it makes one program of both."""

    def forward(leaves, x_batch):
        for own in zip(*leaves, strict=True):
            x_batch = layer(x_batch, *own)
        return x_batch

    return forward


def tanh(x, bias, kernel):
    return jnp.tanh(x @ kernel + bias)


NEGATIVES = {
    "tanh": stack(tanh),
    "sign of bias": stack(lambda x, bias, kernel: layer(x, -bias, kernel)),
    "transposed": stack(lambda x, bias, kernel: layer(x, bias, kernel.T)),
    "reverse": stack(reverse=True),
    "unroll": stack(unroll=3),
    "constant": stack(lambda x, bias, kernel: layer(x, bias + 0.5, kernel)),
    "maximum of 0.1": stack(lambda x, bias, kernel: jnp.maximum(x @ kernel + bias, 0.1)),
    "precision": stack(
        lambda x, bias, kernel: jax.nn.relu(jnp.dot(x, kernel, precision="highest") + bias)
    ),
    "N - 1": stack(last=2),
    "swapped gradients": lambda *args: of_sum(stack())(*args)[::-1],
    "residual": stack(lambda x, bias, kernel: x + layer(x, bias, kernel)),
    "remat": of_sum(stack(jax.checkpoint(layer, prevent_cse=False))),
    "prevent_cse": of_sum(loop(jax.checkpoint(tanh))),
}
# What those are compared with that are not compared with the stack.
BASES = {
    "swapped gradients": of_sum(stack()),
    "remat": of_sum(stack()),
    "prevent_cse": of_sum(loop(jax.checkpoint(tanh, prevent_cse=False))),
}


@functools.cache
def of_stack(function):
    return read_compiled(compiled(function, LEAVES, X), ("bias", "kernel", "x"))


REFERENCE = stack(), of_sum(stack())


@pytest.mark.parametrize("change", POSITIVES)
def test_a_change_without_a_meaning_is_not_seen(change):
    for reference, wrap in zip(REFERENCE, (lambda function: function, of_sum), strict=True):
        assert of_stack(wrap(POSITIVES[change])) == of_stack(reference)


@pytest.mark.parametrize("change", NEGATIVES)
def test_a_change_with_a_meaning_is_seen(change):
    base = BASES.get(change, REFERENCE[0])
    assert of_stack(NEGATIVES[change]).fingerprint != of_stack(base).fingerprint


def test_a_remat_in_a_scan_needs_no_barrier():
    layers = jax.checkpoint(tanh), jax.checkpoint(tanh, prevent_cse=False)
    assert len({of_stack(of_sum(stack(each))) for each in layers}) == 1


def test_numbers_of_large_constants_are_seen():
    text = [
        optimised_text(compiled(lambda x, kernel=kernel: x @ kernel, X))
        for kernel in (LEAVES[1][0], LEAVES[1][1])
    ]
    assert "{...}" not in text[0]
    assert fingerprint(text[0], ("x",)) != fingerprint(text[1], ("x",))


def test_branches_take_their_operands_in_any_order():
    def first(leaves, x):
        return lax.cond(x[0, 0] > 0, lambda x, b: x + b[0], lambda x, b: x * b[1], x, leaves[0])

    def other(leaves, x):
        return lax.cond(x[0, 0] > 0, lambda b, x: b[0] + x, lambda b, x: x * b[1], leaves[0], x)

    def swapped(leaves, x):
        return lax.cond(x[0, 0] > 0, lambda b, x: x * b[1], lambda b, x: b[0] + x, leaves[0], x)

    assert of_stack(first).fingerprint == of_stack(other).fingerprint
    assert of_stack(first).fingerprint != of_stack(swapped).fingerprint


def test_roles_are_asked_for():
    program = compiled(stack(), LEAVES, X)
    swapped = read_compiled(program, ("x", "kernel", "bias"))
    assert swapped.fingerprint != of_stack(REFERENCE[0]).fingerprint
    with pytest.raises(ValueError, match=r"expected 3, .* received 2; jit it with keep_unused"):
        read_compiled(program, ("bias", "kernel"))


LOOP = """HloModule jit_f, is_scheduled=true

%sum.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%body (arg: (s32[], f32[4]{0}, /*index=2*/f32[4]{0})) -> (s32[], f32[4]{0}, f32[4]{0}) {
  %arg = (s32[], f32[4]{0}, /*index=2*/f32[4]{0}) parameter(0)
  %one = s32[] constant(1)
  %i = s32[] get-tuple-element(%arg), index=0
  %x = f32[4]{0} get-tuple-element(%arg), index=1
  %y = f32[4]{0} get-tuple-element(%arg), index=2
  %next = s32[] add(%i, %one)
  %z = f32[4]{0} subtract(%x, %y)
  ROOT %out = (s32[], f32[4]{0}, f32[4]{0}) tuple(%next, %z, %y)
}

%condition (arg: (s32[], f32[4]{0}, f32[4]{0})) -> pred[] {
  %arg.2 = (s32[], f32[4]{0}, f32[4]{0}) parameter(0)
  %three = s32[] constant(3)
  %j = s32[] get-tuple-element(%arg.2), index=0
  ROOT %lt = pred[] compare(%j, %three), direction=LT
}

ENTRY %main (p: f32[4], q: f32[4]) -> f32[] {
  %p = f32[4]{0} parameter(0), metadata={op_name="p" stack_frame_id=1}
  %q = f32[4]{0} parameter(1)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4]{0}, f32[4]{0}) tuple(%zero, %p, %q)
  %loop = (s32[], f32[4]{0}, f32[4]{0}) while(%start), condition=%condition, body=%body
  %last = f32[4]{0} get-tuple-element(%loop), index=1
  %none = f32[] constant(0)
  ROOT %reduce = f32[] reduce(%last, %none), dimensions={0}, to_apply=%sum.1
}
"""


def changed(*pairs):
    text = LOOP
    for before, after in pairs:
        assert before in text
        text = text.replace(before, after)
    return fingerprint(text, ("p", "q"))


@pytest.mark.parametrize(
    "pairs",
    [
        [('metadata={op_name="p" stack_frame_id=1}', 'backend_config={"a":"b, (c"}')],
        [("%last", "%first"), ("%sum.1", "%add")],
        [("add(%a, %b)", "add(%b, %a)")],
        # The carries in another order.
        [
            ("%x = f32[4]{0} get-tuple-element(%arg), index=1", "%x = f32[4]{0} LEFT"),
            ("%arg), index=2", "%arg), index=1"),
            ("LEFT", "get-tuple-element(%arg), index=2"),
            ("tuple(%next, %z, %y)", "tuple(%next, %y, %z)"),
            ("tuple(%zero, %p, %q)", "tuple(%zero, %q, %p)"),
            ("(%loop), index=1", "(%loop), index=2"),
        ],
    ],
)
def test_text_that_says_the_same(pairs):
    assert changed(*pairs) == changed()


@pytest.mark.parametrize(
    "pair",
    [
        ("dimensions={0}", 'dimensions={0}, unknown={a="},("}'),
        ("ROOT %add.1 = f32[] add", "ROOT %add.1 = f32[] multiply"),
        ("subtract(%x, %y)", "subtract(%y, %x)"),
        ("tuple(%zero, %p, %q)", "tuple(%zero, %q, %p)"),
        ("(%loop), index=1", "(%loop), index=2"),
        ("constant(3)", "constant(4)"),
        ("constant(1)", "constant(2)"),
        ("direction=LT", "direction=LE"),
        ("f32[4]", "f32[5]"),
    ],
)
def test_text_that_says_something_else(pair):
    assert changed(pair) != changed()


def test_what_costs_much_is_counted():
    dot = "  %dot = f32[] dot(%p, %q), lhs_contracting_dims={0}, rhs_contracting_dims={0}\n"
    used = ("reduce(%last, %none)", "reduce(%last, %dot)")
    once = changed(("  %none = f32[] constant(0)\n", dot), used)
    twice = changed(("  %none = f32[] constant(0)\n", dot + dot.replace("%dot", "%again")), used)
    assert once != twice


def test_a_line_is_taken_apart():
    line = parse_line(
        '  ROOT %call.1 = (f32[4,5]{1,0}, s32[]) custom-call(%a, %b.2), custom_call_target="f(,",'
        " api_version=API_VERSION_FFI, operand_layout_constraints={f32[4]{0}, s32[]}"
    )
    assert (line.name, line.shape, line.op, line.operands, line.is_root) == (
        *("call.1", "(f32[4,5]{1,0}, s32[])", "custom-call", "%a, %b.2", True),
    )
    assert line.attributes == {
        "custom_call_target": '"f(,"',
        "api_version": "API_VERSION_FFI",
        "operand_layout_constraints": "{f32[4]{0}, s32[]}",
    }
