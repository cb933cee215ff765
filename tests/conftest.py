"""Every test sees every case, at sizes that all differ: no axis passes for another."""

import gc
import itertools
import os
import shutil
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # results are compared bit for bit

import jax
import pytest
from helpers import each, small
from hypothesis import settings
from training_runs import TEXT, WORDS, report_of, train

from shared.cases import CASES
from shared.interface import load_implementation

# The older of XLA's two ways to emit kernels, in one piece, compiles a small program in half the
# time; less of LLVM's optimisation saves a fifth more. Without any, a function that is jitted with
# others would round otherwise than by itself, and some results are compared bit for bit. With
# --thorough or --optimized it compiles as it does for users; so it does with a JAX other than the
# one that is pinned, for XLA ends the process at a flag that it does not know.
JAX_OF_FLAGS = "0.10.2"
COMPILES_FAST = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)

# In the cache of pytest, which `pytest --cache-clear` removes.
COMPILED, MAX_COMPILED_BYTES = "compiled", 2**30


def pytest_addoption(parser):
    parser.addoption(
        "--thorough",
        action="store_true",
        help="run all tests: without it, one of each kind",
    )
    parser.addoption(
        "--rest",
        action="store_true",
        help="of --thorough, run what is left out without it, and what does more with it; but for "
        "what --rest --optimized runs",
    )
    parser.addoption(
        "--optimized",
        action="store_true",
        help="run what claims something of XLA's programs, compiled as they are for users",
    )


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "thorough(*ids): one more of a kind, or those parameters, run with --thorough"
    )
    config.addinivalue_line(
        "markers", "optimized: claims something of what XLA makes: run alone by --optimized"
    )
    config.addinivalue_line(
        "markers", "quick(*ids): the parameters that are run without --thorough"
    )
    config.addinivalue_line(
        "markers",
        "in_turn(name): without --thorough, its parameters are combined in turn, not each with "
        "each, until each is run, or each of the one that is named",
    )
    config.addinivalue_line(
        "markers", "one_in(n): without --thorough, the first of each n of its parameters is run"
    )
    rest, thorough = config.getoption("--rest"), config.getoption("--thorough")
    optimized = config.getoption("--optimized") or (thorough and not rest)
    config.option.thorough = thorough = thorough or rest
    settings.load_profile("thorough" if thorough else "quick")
    # Tracing makes many objects that stay: Python would look through them too often.
    gc.set_threshold(50_000, 20, 50)
    if jax.__version__ == JAX_OF_FLAGS and not optimized:
        # Before the first array, which has XLA read them; processes that are started inherit them.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {COMPILES_FAST}"


def pytest_sessionstart(session):
    """What one run has compiled the next one loads; what has grown too large is forgotten."""
    is_first = "PYTEST_XDIST_WORKER" not in os.environ
    compiled = session.config.cache.mkdir(COMPILED)
    if is_first and sum(file.stat().st_size for file in compiled.iterdir()) > MAX_COMPILED_BYTES:
        shutil.rmtree(compiled)


def pytest_sessionfinish():
    """Pytest collects five times when it ends: of what one collection has left it finds nothing."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config, items):
    """Leaves out what is one more of a kind, unless it is named, and counts it as deselected."""
    rest, optimized = config.getoption("--rest"), config.getoption("--optimized")
    is_whole = config.getoption("--thorough") and not rest
    if is_whole or any("::" in word for word in config.args):
        return
    combined = in_turn(items) | one_in(items)
    left = [item for item in items if is_one_more(item) or combined.get(item) is False]
    kept = [item for item in items if item not in left]
    # Where all of a test is left out, an id of its marker is none of its parameters.
    whole = {item.function for item in left if item.get_closest_marker("quick")}
    missing = whole - {item.function for item in kept}
    if missing and len(items) > len(missing):
        raise pytest.UsageError(f"no parameters of {missing} are run: see their mark `quick`")
    if rest:
        more = [item for item in kept if does_more(item)]
        kept, left = [*left, *more], [item for item in kept if item not in more]
    if rest or optimized:
        other = [item for item in kept if bool(item.get_closest_marker("optimized")) != optimized]
        kept, left = [item for item in kept if item not in other], [*left, *other]
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def is_one_more(item):
    """Whether a test is left out without --thorough."""
    marks = item.iter_markers("thorough")
    if any(not mark.args or item.callspec.id in mark.args for mark in marks):
        return True
    quick = item.get_closest_marker("quick")
    return bool(quick) and item.callspec.id not in quick.args


def does_more(item):
    """Whether a test is another one with --thorough: of more examples, or more checks."""
    return hasattr(item.obj, "hypothesis") or "pytestconfig" in item.fixturenames


def in_turn(items):
    """Of each test that is marked so, whether it is one of those that are run without --thorough.

    Of parameters of n and m values those are run that are met in max(n, m) steps through both, or
    in as many steps as the one that is named has values.
    """
    kept = {}
    for those in marked(items, "in_turn"):
        values = {name: [] for name in those[0].callspec.params}
        places = [tuple(place_in(values[name], item, name) for name in values) for item in those]
        sizes = {name: len(found) for name, found in values.items()}
        named = those[0].get_closest_marker("in_turn").args
        most = max(sizes[name] for name in named or sizes)
        steps = {tuple(i % size for size in sizes.values()) for i in range(most)}
        kept |= {item: place in steps for item, place in zip(those, places, strict=True)}
    return kept


def one_in(items):
    """Of each test that is marked so, whether it is one of those of each run."""
    return {
        item: i % item.get_closest_marker("one_in").args[0] == 0
        for those in marked(items, "one_in")
        for i, item in enumerate(those)
    }


def marked(items, mark):
    """The tests that have a mark, of each function a list."""
    of_function = {}
    for item in items:
        if item.get_closest_marker(mark):
            of_function.setdefault(item.function, []).append(item)
    return of_function.values()


def place_in(values, item, name):
    """Which of the values of a parameter an item has; one that is new is added.

    The `indices` of pytest 9 are other ones for each item.
    """
    value = item.callspec.params[name]
    for place, other in enumerate(values):
        if other is value:
            return place
    values.append(value)
    return len(values) - 1


for name, examples in (("quick", 2), ("thorough", 20)):
    settings.register_profile(
        name, deadline=None, derandomize=True, print_blob=True, max_examples=examples
    )


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(request):
    """Eager Linen compiles its program on every call: here each program is compiled once.

    Processes that are started load what has been compiled, too.
    """
    for name, value in {
        "jax_compilation_cache_dir": str(request.config.cache.mkdir(COMPILED)),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    # Of a program that another process is writing: see filterwarnings in pyproject.toml.
    os.environ["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache entry"


@pytest.fixture(autouse=True)
def room_for_programs():
    """Each compiled program is mapped into memory, and Linux lets a process have 65530 such maps.

    Beyond them XLA crashes: well before, the programs are forgotten (those on disk are kept).
    """
    yield
    if next(TESTS) % 20 == 0 and MAPS.exists() and MAPS.read_text().count("\n") > 40_000:
        jax.clear_caches()
        gc.collect()


MAPS, TESTS = Path("/proc/self/maps"), itertools.count(1)


@pytest.fixture(params=each(CASES.values()))
def case(request):
    return small(request.param)


@pytest.fixture(scope="session")
def linen():
    return load_implementation("linen")


@pytest.fixture(scope="session")
def nnx():
    return load_implementation("nnx")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="session")
def whole_run(text_file, tmp_path_factory):
    """A run of an implementation from start to end: (its directory, its lines, its report)."""
    found = {}

    def of(impl):
        if impl not in found:
            directory = tmp_path_factory.mktemp(impl) / "run"
            code, lines, error = train(directory, f"--impl={impl}", f"--text={text_file}", *WORDS)
            assert (code, error) == (0, "")
            found[impl] = directory, lines, report_of(directory)
        return found[impl]

    return of
