"""Members of an ensemble and experts of a mixture: vmapped on one side, a list on the other."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from shared import Pair
from tests.ports import ensemble, experts


class ListedLayers(ensemble.One):
    """A member with its layers in a list."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.steps = nnx.List([ensemble.Step(rngs) for _ in range(ensemble.N)])

    def __call__(self, x):
        h = nnx.tanh(self.embed(x))
        for step in self.steps:
            h = step(h)
        return self.logits(h)


class ListedMembers(nnx.Module):
    def __init__(self, member, rngs):
        self.ones = nnx.List([member(rngs) for _ in range(ensemble.M)])

    def __call__(self, x, order=1):
        votes = jnp.stack([one(x) for one in self.ones[::order]])
        votes = nnx.log_softmax(votes, axis=-1)
        return jnp.mean(votes, axis=0), jnp.var(votes, axis=0)


class Votes(ListedMembers):
    """Returns what each member says."""

    def __call__(self, x, order=1):
        return jnp.stack([one(x) for one in self.ones[::order]])


class ListedExperts(experts.Sparse):
    order = 1

    def __init__(self, rngs):
        super().__init__(rngs)
        self.pool = nnx.List([experts.FeedForward(rngs) for _ in range(experts.E)])

    def __call__(self, x):
        weights = nnx.softmax(self.choose(x), axis=-1)
        lowest = jax.lax.top_k(weights, 2)[0][..., -1:]
        weights = jnp.where(weights >= lowest, weights, 0.0)
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        mixed = jnp.zeros_like(x)
        for i in range(experts.E)[:: self.order]:
            mixed = mixed + weights[..., i : i + 1] * self.pool[i](x)
        return mixed


class ListedPort(experts.Port):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.sparse = ListedExperts(rngs)


class LoopedMixture(nn.Module):
    """Linen's side with the experts in a loop, each under a name of its own."""

    @nn.compact
    def __call__(self, x):
        gate = nn.softmax(nn.Dense(experts.E, use_bias=False, name="router")(x), axis=-1)
        least = jax.lax.top_k(gate, 2)[0][..., -1:]
        gate = jnp.where(gate >= least, gate, 0.0)
        gate = gate / jnp.sum(gate, axis=-1, keepdims=True)
        parts = [experts.Expert(name=f"expert_{i}")(x) for i in range(experts.E)]
        return sum(gate[..., i : i + 1] * part for i, part in enumerate(parts))


class LoopedModel(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + 0.5 * LoopedMixture()(nn.LayerNorm()(x))
        return nn.Dense(3)(nn.LayerNorm()(x))


class AllVotes(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.vmap(
            ensemble.Member,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=ensemble.M,
        )(name="members")(x)


LISTED_MEMBERS = dataclasses.replace(
    ensemble.PAIR, nnx=lambda rngs: ListedMembers(ensemble.One, rngs)
)
LISTED_LAYERS = dataclasses.replace(
    ensemble.PAIR, nnx=lambda rngs: ListedMembers(ListedLayers, rngs)
)
BACKWARDS = Pair(
    linen=AllVotes(),
    nnx=lambda rngs: Votes(ListedLayers, rngs),
    inputs=ensemble.PAIR.inputs,
    nnx_kwargs={"order": -1},
)
LISTED_EXPERTS = dataclasses.replace(experts.PAIR, nnx=lambda rngs: ListedPort(rngs))
STACKED_EXPERTS = dataclasses.replace(experts.PAIR, linen=LoopedModel())
