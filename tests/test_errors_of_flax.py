"""An error of Flax's reaches the user whole, on one line, with what to do about it."""

import pytest

from shared.cli import main
from shared.errors import one_line

HEAD = """
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from shared import Pair

F = 4


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(F)(x)


class Base(nnx.Module):
    layer = staticmethod(lambda rngs: nnx.Linear(F, F, rngs=rngs))

    def __init__(self, rngs):
        self.layer = type(self).layer(rngs)

    def __call__(self, x):
        return self.layer(x)

"""
TAIL = """

PAIR = Pair(
    linen={linen}, nnx=lambda rngs: {nnx}(rngs), inputs=(jax.ShapeDtypeStruct((3, F), "float32"),)
)
"""
BUILT = "in Pair.nnx, called with nnx.Rngs"
CALLED = "in the call of NNX's model on (float32[3,4],)"
LINEN = "in Linen's init and call on (float32[3,4],)"
OPTIONS = (
    "Static attributes should not contain data values. Consider one of the following options: 1. "
    "If the attribute is meant to be static, remove the data values of type(s): Linear 2. If the "
    "attribute is meant to be data, wrap the value with nnx.data on assignment: _.blocks = "
    "nnx.data(...) 3. Alternatively, annotate the class attribute with nnx.data: class "
    "Port(Module): blocks: {kind} = nnx.data() 4. If the container is a list or dict, try using "
    "nnx.List(...) or nnx.Dict(...) instead. 5. Disable pytree for this class: class Port(Module, "
    "pytree=False)"
)
STATIC = (
    "ValueError: Found data on value of type '<class '{kind}'>' assigned to static attribute "
    "'blocks' of Pytree type '<class 'composed_lifts_pair.Port'>'. " + OPTIONS
)
NOT_GIVEN = (
    "ValueError: No `{name}` argument was provided to MultiHeadAttention as either a __call__ "
    "argument, class attribute, or nnx.flag"
)
SET_IT = (
    "set it where Pair.nnx builds the port, model.set_attributes({name}={value}) say, or hand it "
    "down from nnx_kwargs"
)
NOT_PASSED = 'ValueError: Parameter "{name}" must be passed to the constructor or at call time'
HAND_IT = (
    "hand it down from linen_kwargs, {{'{name}': True}} say, or set it where Pair.linen is built"
)
NOT_POSITIONS = "TypeError: keyword arguments could not be resolved to positions"
POSITIONAL = (
    "transforms of nnx map positional arguments only: pass it by position, with an entry in "
    "in_axes, or bind it with functools.partial"
)
NORM = "    layer = staticmethod(lambda rngs: nnx.BatchNorm(F, rngs=rngs))"
OF_EXAMPLE = "lambda m, x: m(x, use_running_average=False)"

# name: (class of the port or of the model, the line that raises, what is said of it)
ERRORS = {
    "a list": (
        "class Port(nnx.Module):\n    def __init__(self, rngs):",
        "        self.blocks = [nnx.Linear(F, F, rngs=rngs) for _ in range(3)]",
        f"{STATIC.format(kind='list')}, {BUILT}; "
        "keep the modules in nnx.List: self.blocks = nnx.List([...])",
    ),
    "a tuple": (
        "class Port(nnx.Module):\n    def __init__(self, rngs):",
        "        self.blocks = (nnx.Linear(F, F, rngs=rngs),)",
        f"{STATIC.format(kind='tuple')}, {BUILT}; "
        "keep the modules in nnx.List: self.blocks = nnx.List([...])",
    ),
    "a dict": (
        "class Port(nnx.Module):\n    def __init__(self, rngs):",
        '        self.blocks = {"up": nnx.Linear(F, F, rngs=rngs)}',
        f"{STATIC.format(kind='dict')}, {BUILT}; "
        "keep the modules in nnx.Dict: self.blocks = nnx.Dict({...})",
    ),
    "statistics under nnx.vmap": (
        f"class Port(Base):\n{NORM}\n\n    def __call__(self, x):",
        f"        return nnx.vmap({OF_EXAMPLE}, in_axes=(None, 0))(self.layer, x)",
        "ValueError: at vmap out_axes[0][0].states[0]['mean'].value, got axis spec None but output "
        f"was batched on axis 0, {CALLED}; each example would leave statistics of its own: give "
        "nnx.BatchNorm and nnx.vmap the same axis_name, which averages them over the batch",
    ),
    "another variable under nnx.vmap": (
        "class Port(Base):\n    layer = staticmethod(lambda rngs: nnx.Cache(jnp.zeros(F)))\n\n"
        "    def __call__(self, x):",
        "        return nnx.vmap(lambda c, x: c.set_value(x), in_axes=(None, 0))(self.layer, x)",
        "ValueError: at vmap out_axes[0][0].states[0].value, got axis spec None but output was "
        f"batched on axis 0, {CALLED}; each example would leave a value of its own in what all "
        "share: give it an axis in in_axes and out_axes, or take its mean over the batch",
    ),
    "statistics under jax.vmap": (
        f"class Port(Base):\n{NORM}\n\n    def __call__(self, x):",
        "        return jax.vmap(lambda x: self.layer(x, use_running_average=False))(x)",
        "TraceContextError: Cannot mutate BatchStat from a different trace level "
        "(https://flax.readthedocs.io/en/latest/api_reference/flax.errors.html"
        f"#flax.errors.TraceContextError), {CALLED}; a transform of JAX does not see what it "
        "changes outside: use that of nnx, and hand it the module as an argument; for statistics "
        "under nnx.vmap give both the same axis_name",
    ),
    "an axis that is not there": (
        "class Port(Base):\n"
        '    layer = staticmethod(lambda rngs: nnx.BatchNorm(F, axis_name="batch", rngs=rngs))\n\n'
        "    def __call__(self, x):",
        "        return self.layer(x, use_running_average=False)",
        "NameError: Found an unbound axis name: batch. To fix this, please call psum under "
        f"`jax.shard_map`, {CALLED}; call it under nnx.vmap(..., axis_name='batch'), or build the "
        "layer without axis_name",
    ),
    "decode": (
        "class Port(Base):\n"
        "    layer = staticmethod(lambda rngs: nnx.MultiHeadAttention(2, F, rngs=rngs))\n\n"
        "    def __call__(self, x):",
        "        return self.layer(x)",
        f"{NOT_GIVEN.format(name='decode')}, {CALLED}; {SET_IT.format(name='decode', value=False)}",
    ),
    "deterministic": (
        "class Port(Base):\n"
        "    layer = staticmethod(\n"
        "        lambda rngs: nnx.MultiHeadAttention(\n"
        "            2, F, dropout_rate=0.1, decode=False, rngs=rngs\n"
        "        )\n"
        "    )\n\n"
        "    def __call__(self, x):",
        "        return self.layer(x)",
        f"{NOT_GIVEN.format(name='deterministic')}, {CALLED}; "
        f"{SET_IT.format(name='deterministic', value=True)}",
    ),
    "use_running_average": (
        "class Port(Base):\n"
        "    layer = staticmethod(\n"
        "        lambda rngs: nnx.BatchNorm(F, use_running_average=None, rngs=rngs)\n"
        "    )\n\n"
        "    def __call__(self, x):",
        "        return self.layer(x)",
        "ValueError: No `use_running_average` argument was provided to BatchNorm. Consider one of "
        "the following options: 1. Pass `use_running_average` to the BatchNorm constructor: "
        "self.bn = nnx.BatchNorm(..., use_running_average=True/False) 2. Pass "
        "`use_running_average` to the BatchNorm __call__: self.bn(x, use_running_average="
        "True/False) 3. Use `nnx.view` to create a view of the model with a specific "
        "`use_running_average` value: model_view = nnx.view(model, use_running_average="
        f"True/False), {CALLED}; {SET_IT.format(name='use_running_average', value=True)}",
    ),
    "a cache that is not made": (
        "class Port(Base):\n"
        "    layer = staticmethod(\n"
        "        lambda rngs: nnx.MultiHeadAttention(2, F, decode=True, rngs=rngs)\n"
        "    )\n\n"
        "    def __call__(self, x):",
        "        return self.layer(x)",
        "ValueError: Autoregressive cache not initialized, call ``init_cache`` first, "
        f"{CALLED}; call init_cache of the layer, with the shape of its input, where Pair.nnx "
        "builds the port",
    ),
    "dropout without random state": (
        "class Port(Base):\n    layer = staticmethod(lambda rngs: nnx.Dropout(0.5))\n\n"
        "    def __call__(self, x):",
        "        return self.layer(x)",
        "ValueError: `deterministic` is False, but no `rngs` argument was provided to Dropout as "
        f"either a __call__ argument or class attribute, {CALLED}; build it with rngs=rngs, or "
        "call it with deterministic=True",
    ),
    "a keyword under nnx.vmap": (
        "def scaled(m, x, *, scale):\n    return m(x) * scale\n\n\n"
        "class Port(Base):\n    def __call__(self, x):",
        "        return nnx.vmap(scaled, in_axes=(None, 0))(self.layer, x, scale=2.0)",
        f"{NOT_POSITIONS}, {CALLED}; {POSITIONAL}",
    ),
    "a keyword under nnx.scan": (
        "def scaled(m, x, *, scale):\n    return m(x) * scale, None\n\n\n"
        "class Port(Base):\n"
        "    def __call__(self, x):\n"
        "        scan = nnx.scan(scaled, in_axes=(None, nnx.Carry), length=2)",
        "        return scan(self.layer, x, scale=2.0)[0]",
        f"{NOT_POSITIONS}, {CALLED}; {POSITIONAL}",
    ),
    "a keyword without an axis": (
        "def scaled(m, x, scale):\n    return m(x) * scale\n\n\n"
        "class Port(Base):\n    def __call__(self, x):",
        "        return nnx.vmap(scaled, in_axes=(None, 0))(self.layer, x, scale=2.0)",
        "ValueError: pytree structure error: different lengths of tuple at key path tree_map tree "
        "At that key path, the prefix pytree tree_map tree has a subtree of type tuple of length "
        f"2, but the full pytree has a subtree of the same type but of length 3, {CALLED}; a "
        "transform of nnx takes an entry of in_axes for each argument, keyword ones too: there "
        "are 2 for 3",
    ),
    "deterministic in Linen": (
        "class Port(nn.Module):\n    @nn.compact\n    def __call__(self, x):",
        "        return nn.Dropout(0.5)(x)",
        f"{NOT_PASSED.format(name='deterministic')}, {LINEN}; "
        f"{HAND_IT.format(name='deterministic')}",
    ),
    "use_running_average in Linen": (
        "class Port(nn.Module):\n    @nn.compact\n    def __call__(self, x):",
        "        return nn.BatchNorm()(x)",
        f"{NOT_PASSED.format(name='use_running_average')}, {LINEN}; "
        f"{HAND_IT.format(name='use_running_average')}",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_whole_line(name, tmp_path, capsys):
    before, line, said = ERRORS[name]
    is_linen = "nn.Module" in before and "nnx" not in before
    tail = TAIL.format(
        linen="Port()" if is_linen else "Model()", nnx="Base" if is_linen else "Port"
    )
    source = f"{HEAD}\n{before}\n{line}\n{tail}"
    path = tmp_path / "port.py"
    path.write_text(source)
    number = source[: source.rindex(line)].count("\n") + 1
    assert main(["verify", f"--pair={path}:PAIR"]) == 3
    assert capsys.readouterr().err == (
        f"composed-lifts: error: --pair={path}:PAIR: {path}:{number}: {line.strip()}: {said}\n"
    )


def test_what_jax_lists_is_cut_at_a_word():
    text = one_line(ValueError("first line:\n\n  " + "operation " * 200))
    assert text.startswith("first line: operation operation")
    assert text.endswith("operation ... (--verbose shows the rest)")
    assert len(text) < 1_050


# (what is put in front of the pair, the pair, what the line says, what is to be done).
OF_RANDOM_NUMBERS = {
    "a key where an array is meant": (
        "",
        "Model(), Base, (jax.random.key(0),)",
        "IndexError: tuple index out of range, in Linen's init and call on (key<fry>[],)",
        "there is a key among the inputs; where the model means an array, Pair.inputs may be a "
        "function of a key: lambda key: (jax.random.normal(key, shape),)",
    ),
    "keys where an array is meant": (
        "",
        "Model(), Base, (jax.random.split(jax.random.key(0), F),)",
        "in Linen's init and call on (key<fry>[4],)",
        "there is a key among the inputs",
    ),
    "a stream that a lift of Linen's does not hand down": (
        "class Lifted(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n"
        "        lifted = nn.vmap(Model, variable_axes={'params': None}, split_rngs={})\n"
        "        return lifted()(x)\n",
        'Lifted(), Base, (jax.ShapeDtypeStruct((3, F), "float32"),)',
        'InvalidRngError: Dense_0 needs PRNG for "params"',
        "name 'params' there; further streams of a call are named in the pair: "
        "Pair(streams=('params',))",
    ),
    "a stream that the port's Rngs lack": (
        "class Port(Base):\n"
        "    layer = staticmethod(lambda rngs: nnx.Dropout(0.5, rngs=nnx.Rngs(params=0)))\n",
        'Model(), Port, (jax.ShapeDtypeStruct((3, F), "float32"),)',
        "No RngStream named 'dropout' found in Rngs",
        "build the port with the rngs that Pair.nnx is given: it has a stream for every name",
    ),
}


@pytest.mark.parametrize("name", OF_RANDOM_NUMBERS)
def test_what_is_said_of_keys_and_streams(name, tmp_path, capsys):
    before, pair, said, to_do = OF_RANDOM_NUMBERS[name]
    linen, port, inputs = pair.split(", ", 2)
    path = tmp_path / "port.py"
    path.write_text(
        f"{HEAD}\n{before}\nPAIR = Pair({linen}, lambda rngs: {port}(rngs), {inputs})\n"
    )
    assert main(["verify", f"--pair={path}:PAIR"]) == 3
    line = capsys.readouterr().err
    assert (line.count("\n"), said in line, to_do in line) == (1, True, True), line


def test_a_stream_that_linen_looks_for_is_named_in_the_pair(tmp_path):
    source = """
class Looks(nn.Module):
    @nn.compact
    def __call__(self, x):
        if not self.has_rng("noise"):
            raise ValueError("needs noise")
        return nn.Dense(F)(x)

X = (jax.ShapeDtypeStruct((3, F), "float32"),)
PAIR = Pair(Looks(), lambda rngs: Base(rngs), X, streams=("noise",))
"""
    path = tmp_path / "port.py"
    path.write_text(HEAD + source)
    assert main(["verify", f"--pair={path}:PAIR"]) == 0


def test_a_package_of_our_name_is_said(tmp_path, capsys):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "util.py").write_text("")
    (tmp_path / "port.py").write_text("import shared.util\n")
    assert main(["verify", f"--pair={tmp_path / 'port.py'}:PAIR"]) == 3
    assert "your package `shared` and that of composed-lifts have one name" in (
        capsys.readouterr().err
    )


def test_a_class_in_the_place_of_a_module_is_said(tmp_path, capsys):
    source = HEAD + TAIL.format(linen="Model", nnx="Base")
    (tmp_path / "port.py").write_text(source)
    assert main(["verify", f"--pair={tmp_path / 'port.py'}:PAIR"]) == 3
    assert "received the class Model: write linen=Model(...)" in capsys.readouterr().err
