"""Each test is run once by what decides whether a change lands, or once more where it does more."""

import collections
import dataclasses
from types import SimpleNamespace

import conftest
import pytest

MARKS = {
    "of_every_run": [],
    "one_more": [pytest.mark.thorough],
    "of_xla": [pytest.mark.optimized],
    "one_more_of_xla": [pytest.mark.optimized, pytest.mark.thorough],
    "does_more": [],
}
EVERY_RUN, REST, REST_OF_XLA = (), ("thorough", "rest"), ("thorough", "rest", "optimized")


@dataclasses.dataclass(eq=False)
class Item:
    """A test without parameters, as pytest has collected it."""

    name: str
    obj = function = None

    @property
    def fixturenames(self):
        return ["pytestconfig"] if self.name == "does_more" else []

    def iter_markers(self, kind):
        return [each.mark for each in MARKS[self.name] if each.name == kind]

    def get_closest_marker(self, kind):
        return next(iter(self.iter_markers(kind)), None)


@dataclasses.dataclass(eq=False)
class Marked:
    """A test with a parameter, of which one in three is run."""

    function: str

    def get_closest_marker(self, kind):
        return SimpleNamespace(args=[3]) if kind == "one_in" else None


def selected(given, args=()):
    """The names of the tests that are run."""
    dropped = []
    config = SimpleNamespace(
        args=args,
        getoption=lambda option: option.removeprefix("--") in given,
        hook=SimpleNamespace(pytest_deselected=lambda items: dropped.extend(items)),
    )
    items = list(map(Item, MARKS))
    conftest.pytest_collection_modifyitems(config, items)
    if dropped:
        assert len(items) + len(dropped) == len(MARKS)
    return {item.name for item in items}


def test_what_lands_has_run_each_test():
    runs = [selected(given) for given in (EVERY_RUN, REST, REST_OF_XLA)]
    counts = collections.Counter(name for run in runs for name in run)
    assert counts == dict.fromkeys(MARKS, 1) | {"does_more": 2}


def test_what_claims_something_of_xla_is_run_alone():
    assert selected(REST_OF_XLA) == {"one_more_of_xla"}
    assert selected(["optimized"]) == {"of_xla"}


def test_all_are_run_where_it_is_asked_for_them():
    assert selected(["thorough"]) == selected([], ["tests/test_jit.py::test_init"]) == set(MARKS)


def test_one_in_three_is_run_without_thorough():
    items = [Marked(function) for function in ("a", "a", "b", "a", "a", "b")]
    kept = conftest.one_in(items)
    assert [kept[item] for item in items] == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("size", "is_first", "stays"), [(8, True, True), (9, True, False), (9, False, True)]
)
def test_what_is_compiled_is_forgotten_where_it_is_too_large(
    size, is_first, stays, tmp_path, monkeypatch
):
    (tmp_path / "program").write_bytes(bytes(size))
    monkeypatch.setattr(conftest, "MAX_COMPILED_BYTES", 8)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    if is_first:
        monkeypatch.delenv("PYTEST_XDIST_WORKER")
    cache = SimpleNamespace(mkdir=lambda name: tmp_path)
    conftest.pytest_sessionstart(SimpleNamespace(config=SimpleNamespace(cache=cache)))
    assert (tmp_path / "program").exists() == stays


def test_no_test_does_more_by_a_fixture_of_all(request):
    assert not conftest.does_more(request.node)
