"""`composed-lifts bench`: what the move to NNX costs, and which form of the call to use."""

from typing import TYPE_CHECKING

from absl import flags

from shared.cases import Case
from shared.cli.names import define_name
from shared.cli.sizes import case_from_flags, define_case_flags
from shared.errors import UsageError
from shared.interface import IMPLEMENTATIONS

if TYPE_CHECKING:
    from shared.models.pure_pair import PurePair

SUMMARY = "Measure both implementations of --case=NAME, or of your own --pair=FILE.py:NAME."
WRITABLE = (".html", ".png", ".json")


def define_flags(values: flags.FlagValues) -> None:
    define_case_flags(values, num_layers=12, features=256, batch_size=32)
    flags.DEFINE_string(
        "pair",
        None,
        "A shared.Pair: FILE.py:NAME or package.module:NAME. The file is executed.",
        flag_values=values,
    )
    flags.DEFINE_boolean("quick", False, "A rough answer in less than a minute.", values)
    flags.DEFINE_string(
        "report",
        None,
        "Where to write the report as well: FILE.html, FILE.png or FILE.json.",
        flag_values=values,
    )
    define_name("format", "text", ("text", "json"), "What is printed: text, json.", values)


def run(values: flags.FlagValues) -> int:
    if values.pair is not None:
        given = [name for name in _OF_CASES if values[name].present]
        if given:
            raise UsageError(f"--{given[0]} is of a case: with --pair the pair says its sizes")
    case = case_from_flags(values)
    if case.params_of is not None:
        raise UsageError(f"--case={case.name} cannot be initialised: there is nothing to time")

    if values.pair is None and not case.batch_size:
        raise UsageError("--batch_size=0 leaves nothing to time; expected at least 1")

    from shared.files import Writer

    writer = None
    if values.report is not None:
        writer = Writer(values.report, writable=WRITABLE, flag="--report")

    from shared.bench.pipeline import FULL, NUM_STEPS, QUICK, bench
    from shared.cli.pair_file import load_pair, users_code
    from shared.cli.progress import progress_bar
    from shared.cli.start import check_jax
    from shared.models.pure_pair import pure_case, pure_pair
    from shared.models.subject import subject_of_case, subject_of_pair
    from shared.report.bench import bench_json, print_bench, write_bench
    from shared.report.document import print_json
    from shared.report.result import DifferentError

    check_jax()
    budget = QUICK if values.quick else FULL
    with progress_bar("bench", NUM_STEPS) as progress:
        if values.pair is None:
            names, commands = names_of_leaves(pure_case(case)), _of_case(case)
            found = bench(subject_of_case(case), budget, progress, names, commands)
        else:
            pair = load_pair(values.pair)
            with users_code(f"--pair={values.pair}"):
                names, notes = None, []
                try:
                    names = names_of_leaves(pure_pair(pair))
                except DifferentError as error:
                    notes.append(f"the programs are not compared: {error}")
                subject, commands = subject_of_pair(values.pair, pair), _of_pair(values.pair)
                found = bench(subject, budget, progress, names, commands, notes)
    document = bench_json(found)
    if values.format == "json":
        print_json(document)
    else:
        print_bench(found)
    if writer:
        write_bench(found, document, writer)
    return 0


def names_of_leaves(pair: "PurePair") -> dict[str, str]:
    """{a leaf of NNX: the leaf of Linen that holds the same}, of those that are one to one."""
    from shared.verification.pipeline import find_weight_map

    rows = find_weight_map(pair).rows()
    return {row["nnx"]: row["linen"] for row in rows if row["transform"] == "identity"}


def _of_case(case: Case) -> dict[str, list[str]]:
    """{implementation: the words after `python` that run it}."""
    sizes = [f"--{name}={getattr(case, name)}" for name in _OF_CASES[1:]]
    words = ["-m", "shared", "forward", f"--case={case.name}", *sizes]
    return {name: [*words, f"--impl={name}"] for name in IMPLEMENTATIONS}


def _of_pair(place: str) -> dict[str, list[str]]:
    return {name: ["-m", "shared.cli.first_result", name, place] for name in IMPLEMENTATIONS}


_OF_CASES = ("case", "num_layers", "features", "batch_size")
