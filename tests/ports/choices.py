"""What is decided in the call: one of two heads by the input, one of three by an index, a loop
that ends when it has converged.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair

F = 6


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, kind):
        x = nn.Dense(F, name="stem")(x)
        small, large = nn.Dense(F, name="small"), nn.Dense(F, name="large")
        experts = [nn.Dense(F, name=f"expert_{i}") for i in range(3)]
        if self.is_initializing():
            for layer in (small, large, *experts):
                layer(x)

        def if_small(_, x):
            y = small(x)
            return nn.tanh(y)

        def if_large(_, x):
            y = nn.silu(large(x))
            return 0.5 * y

        x = x + nn.cond(jnp.mean(jnp.abs(x)) < 100.0, if_small, if_large, self, x)

        def expert(i):
            def apply(_, x):
                y = experts[i](x)
                return (i + 1.0) * jnp.sin(y)

            return apply

        x = nn.switch(kind[0], [expert(i) for i in range(3)], self, x)
        return nn.relu(x)


class Port(nnx.Module):
    def __init__(self, rngs):
        self.enter = nnx.Linear(F, F, rngs=rngs)
        self.near = nnx.Linear(F, F, rngs=rngs)
        self.far = nnx.Linear(F, F, rngs=rngs)
        self.choices = nnx.List([nnx.Linear(F, F, rngs=rngs) for _ in range(3)])

    def __call__(self, x, kind):
        h = self.enter(x)

        def near(model, h):
            z = model.near(h)
            return nnx.tanh(z)

        def far(model, h):
            z = nnx.silu(model.far(h))
            return 0.5 * z

        h = h + nnx.cond(jnp.mean(jnp.abs(h)) < 100.0, near, far, self, h)

        def choice(i):
            def apply(model, h):
                z = model.choices[i](h)
                return (i + 1.0) * jnp.sin(z)

            return apply

        h = nnx.switch(kind[0], [choice(i) for i in range(3)], self, h)
        return nnx.relu(h)


class Settles(nn.Module):
    @nn.compact
    def __call__(self, x):
        step = nn.Dense(F, name="step")
        x = nn.Dense(F, name="stem")(x)
        if self.is_initializing():
            return step(x)

        def moves(_, state):
            count, _, change = state
            return (count < 20) & (change > 1e-3)

        def turn(_, state):
            count, h, _ = state
            new = nn.tanh(step(h))
            new = 0.9 * h + 0.1 * new
            return count + 1, new, jnp.max(jnp.abs(new - h))

        return nn.while_loop(moves, turn, self, (0, x, 1.0))[1]


class PortSettles(nnx.Module):
    def __init__(self, rngs):
        self.enter = nnx.Linear(F, F, rngs=rngs)
        self.again = nnx.Linear(F, F, rngs=rngs)

    def __call__(self, x):
        h = self.enter(x)

        def moves(state):
            _, count, _, change = state
            return (count < 20) & (change > 1e-3)

        def turn(state):
            model, count, h, _ = state
            new = nnx.tanh(model.again(h))
            new = 0.9 * h + 0.1 * new
            return model, count + 1, new, jnp.max(jnp.abs(new - h))

        return nnx.while_loop(moves, turn, (self, 0, h, 1.0))[2]


X = jax.ShapeDtypeStruct((3, F), "float32")
PAIR = Pair(Model(), lambda rngs: Port(rngs), (X, jax.ShapeDtypeStruct((1,), "int32")))
LOOP = Pair(Settles(), lambda rngs: PortSettles(rngs), (X,))
