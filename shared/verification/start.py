"""What a model starts with, from the program of its initialisers."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from shared.models.pure import PureModel, Sources
from shared.models.pure_pair import PurePair
from shared.program.canonical import Names
from shared.program.distribution import Source, Term, name_of
from shared.program.draws import Draws
from shared.program.evaluate import evaluate
from shared.program.graph import Node, needed_for
from shared.program.made_of import Terms
from shared.program.source import Place, Stack
from shared.program.trace import trace
from shared.program.view import View
from shared.report.result import Spot
from shared.verification.locate.spot import layers_of, operation_of
from shared.verification.locate.statement import loops_around
from shared.verification.same_distribution import Sampler
from shared.verification.sample import random_bits

# How often an initialiser that computes with arrays is run, for numbers to test; and of how many
# numbers at most.
MAX_DRAWN = 64
MAX_SIZE = 2**24


@functools.cache
def _plain_draws() -> tuple[Term, ...]:
    """What `jax.random` draws by itself: standard normal and uniform numbers."""
    terms = []
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        for draw in (jax.random.normal, jax.random.uniform):

            def one(leaves, inputs, draw=draw, dtype=dtype):
                return {"drawn": draw(jax.random.key(0), (2,), dtype)}

            draws = Draws(tuple)
            graph = draws.given(trace(one, {}, ())[0])
            terms.append(Terms(graph, draws.found).of(graph.outputs[0], ()))
    return tuple(terms)


class Start:
    """What a model starts with."""

    def __init__(self, model: PureModel, pure: PurePair) -> None:
        assert model.init is not None
        self._model = model
        self._inputs = lambda: jax.tree.leaves(pure.sample_inputs(0, {}))
        draws = Draws(self._inputs)
        graph, shapes = trace(model.init, {}, pure.inputs)
        self._graph = draws.given(graph)
        self._draws = draws.found
        # In the order of `jax.tree`.
        self._values = dict(zip(sorted(shapes), self._graph.outputs, strict=True))
        self._terms = Terms(self._graph, self._draws)

    def term(self, view: View) -> Term:
        """How what `view` takes of a weight is made."""
        return self._terms.of(self._values[view.leaf], tuple(sorted(view.index)))

    def is_too_large(self, view: View) -> bool:
        """Whether a weight is too large to be drawn, where its initialiser has to be run."""
        needed = needed_for(self._graph, self._values[view.leaf][0]).nodes
        return any(math.prod(aval.shape) > MAX_SIZE for node in needed for aval in node.avals)

    def sources(self, view: View) -> frozenset[Source]:
        """The keys that it is drawn of; where they are not known, its numbers stand for them."""
        term = self.term(view)
        if not any(each.kind == "whole" and each.place for each in term.all()):
            every = frozenset().union(*(bits.sources for bits in term.bits))
            return frozenset((key, (*place, *view.part)) for key, place in every)
        if not term.bits or self.is_too_large(view):
            return frozenset()
        return frozenset([(self._drawn(view, 0).tobytes(), ())])

    def sampler(self, view: View) -> Sampler:
        """What draws numbers of what `view` takes, up to `MAX_DRAWN` times; a constant, once."""

        def sample(count: int) -> np.ndarray:
            made = [self._drawn(view, 0)]
            while made[0].size * len(made) < count and len(made) < MAX_DRAWN:
                made.append(self._drawn(view, len(made)))
            return np.stack([x.reshape(-1) for x in made]) if count > 1 else np.stack(made)

        return sample

    def is_held_free(self, view: View) -> bool:
        """Whether a place is held free for what is loaded: with one number, or plain draws.

        By the user's own line, and not by an initialiser.
        """
        stack = self._values[view.leaf][0].stack
        if stack and not stack[0].is_users:
            return False
        term, names = self.term(view), Names()
        plain = {name_of(names, each) for each in _plain_draws()}
        return term.kind == "number" or name_of(names, term) in plain

    def spot(self, view: View) -> Spot | None:
        """The line that makes a weight."""
        stack = self._lines(view)
        return _spot(stack[0], self._values[view.leaf][0]) if stack else None

    def spot_of_several(self, view: View, other: View | None = None) -> Spot | None:
        """The line that makes several weights of the kind: a key for all, a loop, a transform.

        Args:
          view: one of these weights.
          other: another one.
        """
        stack = self._lines(view)
        place = next((place for place in stack if _KEYS.search(place.source)), None)
        if place is None and other is not None and stack[:1] != self._lines(other)[:1]:
            return self.spot(view)  # each is made by a line of its own
        place = place or next((place for place in stack if _makes_several(place)), None)
        return _spot(place, self._values[view.leaf][0]) if place else self.spot_of_stack(view)

    def spot_of_stack(self, view: View) -> Spot | None:
        """The line that makes a stack of weights by a transform."""
        lifted = self._sources.lifted.get(view.leaf)
        return _spot(lifted[0], self._values[view.leaf][0]) if lifted else self.spot(view)

    def spot_of_names(self, view: View) -> Spot | None:
        """The line that names the axes of a weight."""
        named = self._sources.named.get(view.leaf)
        return _spot(named[0], self._values[view.leaf][0]) if named else self.spot(view)

    def _lines(self, view: View) -> Stack:
        """The user's lines that make a weight, innermost first."""
        if stack := self._sources.of(view.leaf):
            return stack
        nodes = [self._values[view.leaf][0], *(each.node for each in self.term(view).all())]
        stacks = (tuple(place for place in node.stack if place.is_users) for node in nodes if node)
        return next((stack for stack in stacks if stack), ())

    @functools.cached_property
    def _sources(self) -> Sources:
        return self._model.sources() if self._model.sources else Sources({}, {}, {})

    def _drawn(self, view: View, seed: int) -> np.ndarray:
        value = self._values[view.leaf]
        rng = np.random.default_rng(seed)
        leaves = {path: random_bits(rng, draw.spec) for path, draw in self._draws.items()}
        values = evaluate(needed_for(self._graph, value[0]), leaves, self._inputs(), wide=False)
        return np.asarray(view.of(np.asarray(values[value[0]][value[1]])))


# What makes a key, and what makes several weights at once.
_KEYS = re.compile(r"\b(Rngs|random\.key|PRNGKey)\(")
_SEVERAL = re.compile(r"\b(vmap|scan|broadcast_to|for)\b")


def _makes_several(place: Place) -> bool:
    return bool(_SEVERAL.search(place.source) or loops_around(place))


def _spot(place: Place, node: Node) -> Spot:
    return Spot(place.file, place.line, place.source, operation_of(node), layers_of(node), "")
