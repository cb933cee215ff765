"""`composed-lifts layout`: the parameter trees of both implementations, side by side."""

from functools import partial

from absl import flags

from shared.cli.names import define_name
from shared.cli.sizes import case_from_flags, define_case_flags

SUMMARY = "Print the parameter trees of both implementations side by side."


def define_flags(values: flags.FlagValues) -> None:
    define_case_flags(values)
    define_name("format", "text", ("text", "json"), "What is printed: text, json.", values)


def run(values: flags.FlagValues) -> int:
    case = case_from_flags(values)

    import jax

    from shared.cli.forward import init_error
    from shared.cli.start import check_jax
    from shared.interface import IMPLEMENTATIONS, load_implementation
    from shared.report.document import print_json
    from shared.report.layout import LayoutReport
    from shared.report.params import params_rows

    check_jax()
    trees, init_errors = {}, {}
    for name in IMPLEMENTATIONS:
        implementation = load_implementation(name)
        variables = jax.eval_shape(partial(implementation.init, case.params_case, seed=0))
        trees[name] = params_rows(case, variables)
        if case.params_of is not None:
            init_errors[name] = init_error(implementation, case)
    report = LayoutReport(case, **trees, init_errors=init_errors)
    if values.format == "json":
        print_json(report.to_json())
    else:
        report.print_text()
    return 0
