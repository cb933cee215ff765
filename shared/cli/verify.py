"""`composed-lifts verify`: proves a port equal, or shows the first line where it departs."""

import dataclasses
from typing import Any

from absl import flags

from shared.cases import CASES
from shared.cli.names import define_name
from shared.errors import UsageError

SUMMARY = "Prove --pair=FILE.py:NAME or --case=NAME|all equal, or name the line."
CHECKS = (
    *("structure", "programs", "forward", "updates", "gradients", "training"),
    *("training_mode", "initial", "metadata"),
)
_EXIT_CODES = {"identical": 0, "equal": 0, "close": 0, "different": 1, "undecided": 6}


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "pair",
        None,
        "A shared.Pair: FILE.py:NAME or package.module:NAME. The file is executed.",
        flag_values=values,
    )
    define_name("case", None, ("all", *CASES), f"A built-in case: all, {', '.join(CASES)}.", values)
    flags.DEFINE_list(
        "checks", list(CHECKS), f"What is checked, of {','.join(CHECKS)}.", flag_values=values
    )
    for name in ("rtol", "atol"):
        flags.DEFINE_float(
            name,
            None,
            "Limit of the difference, instead of the decision in float64.",
            lower_bound=0,
            flag_values=values,
        )
    flags.DEFINE_integer(
        "seed", 0, "Seed of weights and inputs.", lower_bound=0, flag_values=values
    )
    flags.DEFINE_integer(
        "samples", 3, "Sets of random weights and inputs.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_string(
        "report",
        None,
        "Where to write the full report: FILE.html or FILE.json.",
        flag_values=values,
    )
    define_name("format", "text", ("text", "json"), "What is printed: text, json.", values)


def run(values: flags.FlagValues) -> int:
    if (values.pair is None) == (values.case is None):
        raise UsageError("give one of --pair=FILE.py:NAME and --case=NAME")
    unknown = [name for name in values.checks if name not in CHECKS]
    if unknown:
        raise UsageError(f"--checks={','.join(unknown)}: expected some of {','.join(CHECKS)}")
    if values.report is not None and not values.report.endswith((".html", ".json")):
        raise UsageError(f"--report={values.report}: expected a name ending in .html or .json")

    from shared.cli.start import check_jax
    from shared.report.document import print_json
    from shared.report.verification import print_verification, verification_json, write_report

    check_jax()
    found = {name: _verify(name, values) for name in _subjects(values)}
    documents = [{"name": name, **verification_json(v)} for name, v in found.items()]
    document = documents[0] if len(documents) == 1 else {"results": documents}
    if values.report is not None:
        write_report(found, document, values.report)
    if values.format == "json":
        print_json(document)
    else:
        for name, verification in found.items():
            print_verification(name, verification, brief=len(found) > 1)
    return max((_EXIT_CODES[v.verdict] for v in found.values()), default=0)


def _subjects(values: flags.FlagValues) -> list[str]:
    if values.pair is not None:
        return [values.pair]
    return list(CASES) if values.case == "all" else [values.case]


def _verify(name: str, values: flags.FlagValues) -> Any:
    from shared.cli.pair_file import load_pair, users_code
    from shared.cli.progress import progress_bar
    from shared.models.pure_pair import pure_case, pure_pair
    from shared.verification.limits import Limits
    from shared.verification.pipeline import verify

    limits = Limits(values.rtol, values.atol)
    # Tracing and mapping come before the checks, of which "structure" is the mapping.
    with progress_bar(name, len(values.checks) + 1) as progress:
        if values.pair is None:
            pair = pure_case(
                dataclasses.replace(CASES[name], num_layers=3, features=5, batch_size=4)
            )
            return verify(pair, values.checks, limits, values.seed, values.samples, progress)
        loaded = load_pair(name)
        with users_code(f"--pair={name}"):
            pair = pure_pair(loaded)
            return verify(pair, values.checks, limits, values.seed, values.samples, progress)
