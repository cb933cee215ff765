"""What XLA made of a jitted function: its graph as one hash, and its bytes."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from shared.bench.hlo_text import Instruction, elements, names, numbers, optimised_text, parse

# Their operands are sorted.
COMMUTATIVE = {"add", "multiply", "maximum", "minimum", "and", "or", "xor"}
# They say where a line is from, and how it is run; not what it computes.
SILENT = {"metadata", "backend_config", "frontend_attributes", "control-predecessors"}
# Attributes that hold what an instruction calls, in the order of its operands.
CALLED = ("to_apply", "calls", "true_computation", "false_computation", "branch_computations")
# What is counted: computed twice in the same way it is one value, and has the cost of two.
COSTLY = {"dot", "convolution", "custom-call", "sort", "fft", "cholesky", "triangular-solve"}
# Carries are told apart by what becomes of them in so many turns.
ROUNDS = 4


class Compiled(NamedTuple):
    """What XLA made of a function, on one backend in one version.

    Attributes:
      fingerprint: of the optimised program: equal for equal graphs, however they are named, fused
        and ordered. What a loop keeps, and what it computes anew, is in it.
      argument_bytes, output_bytes, temp_bytes: memory, as XLA has planned it.
      flops: as XLA counts, of a loop one turn: to be compared, not to be divided by a time.
    """

    fingerprint: str
    argument_bytes: int
    output_bytes: int
    temp_bytes: int
    flops: float


def read_compiled(program: jax.stages.Compiled, roles: Sequence[str]) -> Compiled:
    """What XLA made of a function.

    Args:
      program: `jax.jit(function, keep_unused=True).lower(...).compile()`. Without, arguments that
        are not used are none of the program's.
      roles: the name of each array among the arguments, the same in programs to be compared.

    Raises:
      ValueError: the program takes another number of arrays.
    """
    memory, costs = program.memory_analysis(), program.cost_analysis()
    assert memory is not None, "this backend does not say how much memory a program takes"
    return Compiled(
        fingerprint(optimised_text(program), roles),
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes,
        memory.temp_size_in_bytes,
        (costs or {}).get("flops", 0.0),
    )


def fingerprint(text: str, roles: Sequence[str]) -> str:
    """The hash of the graph of an HLO module: see `read_compiled`."""
    program = _Program(text)
    parameters = program.parameters(program.entry)
    if len(parameters) != len(roles):
        raise ValueError(
            f"roles: expected {len(parameters)}, one for each array that the program takes, "
            f"received {len(roles)}; jit it with keep_unused=True, and name them all"
        )
    arguments = tuple(
        _array("argument", role, shape=line.shape)
        for role, line in zip(roles, parameters, strict=True)
    )
    costly = sorted(
        (line.op, line.shape)
        for lines in program.computations.values()
        for line in lines
        if line.op in COSTLY
    )
    return _hash(program.run(program.entry, arguments), costly)


@dataclasses.dataclass(frozen=True)
class _Array:
    """A value of a program.

    Attributes:
      hash: of how it is computed.
      shape: as in `Instruction`.
      origin: (hash, shape) of the array that has the same elements in the same order.
    """

    hash: str
    shape: str
    origin: tuple[str, str]

    @property
    def sizes(self) -> list[int]:
        return _sizes(self.shape)

    def reshaped(self, shape: str) -> "_Array":
        """Also by several steps; back in its first shape it is what it was."""
        known, first = self.origin
        return _Array(known if shape == first else _hash(known, shape), shape, self.origin)


_Value = _Array | tuple[Any, ...]


class _Program:
    """A module, run on hashes in the place of numbers.

    Source: Merkle trees: a node is known by a hash of what it is and of the hashes of its children.
    """

    def __init__(self, text: str):
        self.computations, self.entry = parse(text)
        self.run = functools.cache(self._run)

    def parameters(self, name: str) -> list[Instruction]:
        found = [line for line in self.computations[name] if line.op == "parameter"]
        return sorted(found, key=lambda line: int(line.operands))

    def _run(self, name: str, arguments: tuple[_Value, ...]) -> _Value:
        """What a computation returns."""
        values: dict[str, _Value] = {}
        root = ""
        for line in self.computations[name]:
            if line.op == "parameter":
                values[line.name] = arguments[int(line.operands)]
            else:
                operands = [values[operand] for operand in names(line.operands)]
                values[line.name] = self._value(line, operands)
            root = line.name if line.is_root else root
        return values[root]

    def _value(self, line: Instruction, operands: list[_Value]) -> _Value:
        """What is called or fused is as if it stood here."""
        attributes = line.attributes
        match line.op, operands:
            case "call" | "fusion", _:
                return self.run(_called(line)[0], tuple(operands))
            case "tuple", _:
                return tuple(operands)
            case "get-tuple-element", [tuple(carries)]:
                return carries[int(attributes["index"])]
            case "while", [tuple(carries)]:
                return self._while(line, carries)
            case "conditional", [which, *given]:
                taken = zip(_called(line), given, strict=True)
                return _chosen(which, [self.run(name, (value,)) for name, value in taken])
            case "reshape" | "bitcast", [_Array() as array] if _is_reshape(line, array):
                return array.reshaped(line.shape)
            case "broadcast", [_Array() as array]:
                return _broadcast(line, array)
        known = {key: self._known(value) for key, value in attributes.items() if key not in SILENT}
        if line.op == "custom-call":  # what it computes may be said there alone
            known["backend_config"] = attributes.get("backend_config", "")
        hashes = [_hash(operand) for operand in operands]
        if line.op in COMMUTATIVE:
            hashes.sort()
        literal = "" if operands else line.operands
        how = line.op, literal, sorted(known.items()), hashes
        if line.shape.startswith("("):
            shapes = enumerate(elements(line.shape[1:-1]))
            return tuple(_array(how, number, shape=shape) for number, shape in shapes)
        return _array(how, shape=line.shape)

    def _while(self, line: Instruction, carries: tuple[_Value, ...]) -> _Value:
        """A loop: each carry is known by how it starts and goes on, and when the loop ends.

        Source: colour refinement, also known as the Weisfeiler-Leman algorithm.
        """
        ((condition,), (body,)) = (names(line.attributes[key]) for key in ("condition", "body"))
        colours = tuple(_coloured(carry, "carry") for carry in carries)
        for _ in range(ROUNDS):
            goes_on, turned = self.run(condition, (colours,)), self.run(body, (colours,))
            assert isinstance(turned, tuple)
            pairs = zip(colours, turned, strict=True)
            colours = tuple(_coloured(colour, after, goes_on) for colour, after in pairs)
        together = sorted(map(_hash, colours))
        return tuple(_coloured(colour, "while", together) for colour in colours)

    def _known(self, attribute: str) -> str:
        """An attribute; where it names a computation, as a reduction does, what that returns."""
        for name in names(attribute):
            if name in self.computations:
                shapes = enumerate(line.shape for line in self.parameters(name))
                arguments = tuple(_array(number, shape=shape) for number, shape in shapes)
                attribute = attribute.replace(f"%{name}", _hash(self.run(name, arguments)))
        return attribute


def _called(line: Instruction) -> list[str]:
    return [name for key in CALLED for name in names(line.attributes.get(key, ""))]


def _is_reshape(line: Instruction, array: _Array) -> bool:
    """Whether elements stay in order: a bitcast may also transpose, or read the bits otherwise."""
    shapes = [shape.replace("]", "[").split("[") for shape in (line.shape, array.shape)]
    (dtype, _, layout), (dtype_before, _, layout_before) = shapes
    in_order = all(
        axes == sorted(axes, reverse=True) for axes in map(numbers, (layout, layout_before))
    )
    return in_order and dtype == dtype_before


def _broadcast(line: Instruction, array: _Array) -> _Array:
    """An axis of one element is put in by a reshape, and is no part of what is repeated."""
    axes = zip(numbers(line.attributes.get("dimensions", "")), array.sizes, strict=True)
    kept = [(axis, size) for axis, size in axes if size > 1]
    if kept == [(axis, size) for axis, size in enumerate(_sizes(line.shape)) if size > 1]:
        return array.reshaped(line.shape)
    sizes = ",".join(str(size) for _, size in kept)
    layout = ",".join(map(str, reversed(range(len(kept)))))
    dtype = line.shape.partition("[")[0]
    squeezed = array.reshaped(f"{dtype}[{sizes}]" + f"{{{layout}}}" * bool(kept))
    return _array("broadcast", squeezed, [axis for axis, _ in kept], shape=line.shape)


def _sizes(shape: str) -> list[int]:
    return numbers(shape.partition("[")[2].partition("]")[0])


def _chosen(which: _Value, branches: list[_Value]) -> _Value:
    """What a conditional returns: of a tuple each element is chosen for itself."""
    first = branches[0]
    if isinstance(first, tuple):
        each = zip(*branches, strict=True)
        return tuple(_chosen(which, list(values)) for values in each)
    return _array("conditional", which, branches, shape=first.shape)


def _coloured(value: _Value, *what: Any) -> _Value:
    if isinstance(value, tuple):
        return tuple(_coloured(each, *what) for each in value)
    return _array(value, *what, shape=value.shape)


def _array(*how: Any, shape: str) -> _Array:
    made = _hash(how, shape)
    return _Array(made, shape, (made, shape))


def _hash(*what: Any) -> str:
    return hashlib.sha256(repr(_hashable(what)).encode()).hexdigest()


def _hashable(what: Any) -> Any:
    """An array as its hash: what it is a reshape of is in that."""
    if isinstance(what, _Array):
        return what.hash
    return tuple(map(_hashable, what)) if isinstance(what, list | tuple) else what
