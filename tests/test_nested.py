"""What a layer holds by name goes through a lift as a tree: its keys are sorted."""

import jax.numpy as jnp
from flax import nnx

from nnx_impl.nested import NestedStack, Pair


def test_a_dict_of_modules_is_sorted_by_what_takes_it_for_a_tree():
    pair = Pair(5, rngs=nnx.Rngs(0))
    assert list(pair.blocks) == ["up", "down"]
    taken = []
    read = nnx.vmap(lambda pair, x: taken.extend(pair.blocks) or x, in_axes=(None, 0), graph=False)
    read(pair, jnp.ones((2, 5)))
    for again in (nnx.clone(pair), nnx.merge(*nnx.split(pair))):
        taken.extend(again.blocks)
    assert taken == ["down", "up"] * 3


def test_by_name_the_order_is_that_of_the_call():
    stack = NestedStack(1, 5, rngs=nnx.Rngs(0))
    first = nnx.clone(stack).layers
    x = jnp.ones(5)
    w, b = (first.blocks["up"].dense.kernel[0], first.blocks["up"].dense.bias[0])
    h = nnx.relu(x @ w + b)
    w, b = (first.blocks["down"].dense.kernel[0], first.blocks["down"].dense.bias[0])
    assert jnp.allclose(stack(x), nnx.relu(h @ w + b))
