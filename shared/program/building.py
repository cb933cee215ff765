"""Makes a graph node by node, and leaves out of it what no output needs."""

from typing import Any

from shared.program.graph import Graph, Node, Value
from shared.program.source import Stack
from shared.program.view import View


class GraphBuilder:
    """Makes a graph node by node."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.views: dict[Node, View] = {}
        self._by_view: dict[View, Value] = {}
        self.feeds: dict[Node, Value] = {}

    def node(self, op, args, params, avals, stack=(), layer=(), primitive=None) -> Node:
        made = Node(len(self.nodes), op, tuple(args), params, tuple(avals), stack, layer, primitive)
        self.nodes.append(made)
        return made

    def start(self, op: str, aval: Any, **params: Any) -> Value:
        made = self.node(op, (), params, (aval,))
        if op == "leaf":
            self.views[made] = view = View(params["path"])
            self._by_view[view] = (made, 0)
        return made, 0

    def constant(self, value: Any, aval: Any, exact: Any = None, of: Node | None = None) -> Value:
        """A constant.

        Args:
          value: its value; aval: shape and dtype.
          exact: what it was before it was rounded, if that is known.
          of: the constant that it is a cast of.
        """
        more = {} if exact is None else {"exact": exact}
        more |= {} if of is None else {"of": of}
        return self.node("constant", (), {"value": value, **more}, (aval,)), 0

    def view(self, view: View, aval: Any, stack: Stack) -> Value:
        """The one node that holds `view`, of a leaf that has been started."""
        if view not in self._by_view:
            leaf = self._by_view[View(view.leaf)]
            made = self.node("view", [leaf], {"view": view}, (aval,), stack)
            self._by_view[view] = (made, 0)
            self.views[made] = view
        return self._by_view[view]

    def finish(self, outputs: list[Value]) -> Graph:
        """The graph of what `outputs` need."""
        return pruned(Graph(self.nodes, outputs, self.views, feeds=self.feeds), outputs)


def pruned(graph: Graph, outputs: list[Value]) -> Graph:
    """What `outputs` need of a graph, views in the order of their first use."""
    needed: set[Node] = set()
    fresh = [node for node, _ in outputs]
    while fresh:
        node = fresh.pop()
        if node not in needed:
            needed.add(node)
            fresh += [arg for arg, _ in node.args]
            if node in graph.feeds:
                fresh.append(graph.feeds[node][0])
    uses: dict[Node, int] = {}
    for node in graph.nodes:
        if node in needed and node.op != "view":
            for arg, _ in node.args:
                uses.setdefault(arg, len(uses))
    nodes = [node for node in graph.nodes if node in needed]
    for number, node in enumerate(nodes):
        node.number = number
    views = {node: view for node, view in graph.views.items() if node in uses}
    for node, _ in outputs:
        if node in graph.views:
            views.setdefault(node, graph.views[node])
    in_order = sorted(views, key=lambda node: uses.get(node, len(uses)))
    feeds = {node: value for node, value in graph.feeds.items() if node in needed}
    return Graph(nodes, outputs, {node: views[node] for node in in_order}, feeds=feeds)
