"""What to do about the errors of Flax that a team meets most while it migrates."""

import re

# What the message is, and what to do. In this order; the first that fits is said.
_REMEDIES = (
    (
        r"No module named 'shared\.\w+'|cannot import name '\w+' from 'shared'",
        "your package `shared` and that of composed-lifts have one name, and here it is ours: "
        "rename yours, or import it by the path of a folder above it",
    ),
    (
        r"Found (?:unexpected )?data on value of type .*'(?:list|tuple)'.* attribute '(\w+)'",
        r"keep the modules in nnx.List: self.\1 = nnx.List([...])",
    ),
    (
        r"Found (?:unexpected )?data on value of type .*'dict'.* attribute '(\w+)'",
        r"keep the modules in nnx.Dict: self.\1 = nnx.Dict({...})",
    ),
    (
        r"No `deterministic` argument was provided",
        "set it where Pair.nnx builds the port, model.set_attributes(deterministic=True) say, or "
        "hand it down from nnx_kwargs",
    ),
    (
        r"No `use_running_average` argument was provided",
        "set it where Pair.nnx builds the port, model.set_attributes(use_running_average=True) "
        "say, or hand it down from nnx_kwargs",
    ),
    (
        r"No `(\w+)` argument was provided",
        r"set it where Pair.nnx builds the port, model.set_attributes(\1=False) say, or hand it "
        r"down from nnx_kwargs",
    ),
    (
        r'Parameter "(\w+)" must be passed to the constructor or at call time',
        r"hand it down from linen_kwargs, {'\1': True} say, or set it where Pair.linen is built",
    ),
    (
        r"Autoregressive cache not initialized",
        "call init_cache of the layer, with the shape of its input, where Pair.nnx builds the port",
    ),
    (
        r"no `rngs` argument was provided to (\w+)",
        r"build it with rngs=rngs, or call it with deterministic=True",
    ),
    (
        r"\['(?:mean|var)'\].* got axis spec None but output was batched",
        "each example would leave statistics of its own: give nnx.BatchNorm and nnx.vmap the same "
        "axis_name, which averages them over the batch",
    ),
    (
        r"got axis spec None but output was batched",
        "each example would leave a value of its own in what all share: give it an axis in in_axes "
        "and out_axes, or take its mean over the batch",
    ),
    (
        r"Cannot mutate (\w+) from a different trace level",
        r"a transform of JAX does not see what it changes outside: use that of nnx, and hand it "
        r"the module as an argument; for statistics under nnx.vmap give both the same axis_name",
    ),
    (
        r"unbound axis name: (\w+)",
        r"call it under nnx.vmap(..., axis_name='\1'), or build the layer without axis_name",
    ),
    (
        r"keyword arguments could not be resolved to positions",
        "transforms of nnx map positional arguments only: pass it by position, with an entry in "
        "in_axes, or bind it with functools.partial",
    ),
    (
        r"different lengths of tuple at key path .* of length (\d+), .* of length (\d+)",
        r"a transform of nnx takes an entry of in_axes for each argument, keyword ones too: there "
        r"are \1 for \2",
    ),
    (
        r'needs PRNG for "(\w+)"',
        r"a transform of Linen's hands down what its split_rngs names: name '\1' there; further "
        r"streams of a call are named in the pair: Pair(streams=('\1',))",
    ),
    (
        r"No RngStream named '(\w+)' found in Rngs",
        r"build the port with the rngs that Pair.nnx is given: it has a stream for every name",
    ),
    (
        r"axis_size should be specified manually",
        "Linen's transforms map positional arguments only: pass them by position",
    ),
    (
        r", in [^;]* on \(.*(?:key<\w+>|uint32\[2\])",
        "there is a key among the inputs; where the model means an array, Pair.inputs may be a "
        "function of a key: lambda key: (jax.random.normal(key, shape),)",
    ),
)


def remedy(message: str) -> str:
    """What to do about an error that says `message`, on one line; "" if that is not known."""
    for pattern, words in _REMEDIES:
        if found := re.search(pattern, message):
            return found.expand(words)
    return ""
