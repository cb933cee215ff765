"""The table of bad inputs, each row with the tests that show what is answered.

`python tests/bad_input_rows.py` prints it, with `--tests` their names too. A test is of a row if
its name, or that of one of its parameters, begins with the number of the row; others are named
here.
"""

import ast
import re
import sys
from pathlib import Path

TESTS = Path(__file__).parent
OF_CONVERT = [
    "test_convert_refusals.py",
    "test_convert_bad_maps.py",
    "test_convert_bad_files.py",
    "test_convert_bad_places.py",
    "test_convert_kept.py",
]
ROWS = {
    # row: (what is wrong, further tests)
    1: ("a flag or a value is mistyped", ["test_bad_input.py::test_usage"]),
    2: (
        "a number is out of its range",
        ["test_bad_input.py::test_usage", "test_train_command.py::test_a_mistake_is_one_line"],
    ),
    3: ("a command is unknown", ["test_bad_input.py::test_usage"]),
    4: (
        "flags contradict each other",
        ["test_bad_input.py::test_contradictions_are_found_before_anything_is_done"],
    ),
    5: ("objects of Python", ["test_bad_input.py::test_input_file"]),
    6: ("text, nothing or a web page", ["test_bad_input.py::test_input_file"]),
    7: (
        "a header claims what cannot be",
        ["test_bad_input.py::test_input_file", "test_npz_checkpoints.py::test_a_hostile_file"],
    ),
    8: (
        "an archive is a bomb, or names files",
        [
            "test_bad_input.py::test_npz_that_unpacks_to_too_much",
            "test_bad_input.py::test_npz_with_one_name_twice",
            "test_npz_checkpoints.py::test_a_million_members_are_refused_before_they_are_listed",
        ],
    ),
    9: ("a file is truncated", ["test_bad_input.py::test_input_file"]),
    10: (
        "NaN or infinity in an input",
        ["test_cli.py::test_non_finite_values_are_text_in_json"],
    ),
    11: ("NaN or infinity in a checkpoint", []),
    12: ("whole numbers for a model of floats", ["test_bad_input.py::test_input_file"]),
    13: ("a dtype that is no number", ["test_bad_input.py::test_input_file"]),
    14: ("float64 without x64", []),
    15: (
        "a dtype that NumPy or a format has not",
        [
            "test_bad_input.py::test_input_file",
            "test_npz_checkpoints.py::test_a_dtype_that_numpy_forgets_is_to_be_said",
        ],
    ),
    16: (
        "another byte order or layout",
        [
            "test_npz_checkpoints.py::test_any_arrays_are_read",
            "test_safetensors.py::test_any_arrays_come_back",
        ],
    ),
    17: ("an array without numbers", ["test_cli.py::test_empty_batch"]),
    18: ("an input of another rank", ["test_bad_input.py::test_input_file"]),
    19: ("no tree of numbers", ["test_conversion_plan.py::test_a_tree_without_numbers_is_refused"]),
    20: ("a leaf is missing, or of another shape", []),
    21: ("a leaf is extra", []),
    22: ("a module has another name", []),
    23: ("two leaves would be one", []),
    24: ("a leaf has another dtype", []),
    25: (
        "square kernels or layers in the wrong place",
        [
            "test_convert_square_kernels.py::test_with_a_pair_the_map_comes_from_the_programs",
            "test_convert_square_kernels.py::"
            "test_a_map_that_is_wrong_is_shown_by_the_outputs_and_by_compare",
            "test_planted_mistakes.py::test_bug_is_found",
        ],
    ),
    26: ("ten layers and more", []),
    27: ("layers with a gap, or not alike", []),
    28: ("odd names", []),
    29: ("PRNG keys", []),
    30: (
        "the state of any optimizer",
        ["test_conversion_plan.py::test_there_and_back_by_rule_is_the_same"],
    ),
    31: (
        "shared variables, and of any kind",
        ["test_conversion_plan.py::test_random_state_is_carried_along_and_comes_back"],
    ),
    32: ("a source that is unfinished, or no checkpoint", []),
    33: (
        "a bit is flipped",
        ["test_compare.py::test_a_flipped_bit_is_found_by_the_manifest"],
    ),
    34: ("a file of Orbax is damaged or missing", []),
    35: ("a header of Orbax lies", []),
    36: (
        "a disk is full, or fails",
        [
            "test_convert_faults.py::test_after_a_fault_nothing_is_lost",
            "test_convert_faults.py::test_after_a_fault_at_any_call_nothing_is_lost",
        ],
    ),
    37: (
        "the process is killed",
        [
            "test_convert_faults.py::test_after_a_fault_nothing_is_lost",
            "test_convert_faults.py::test_a_signal_to_the_command_leaves_nothing",
            "test_convert_faults.py::test_of_a_command_that_is_killed_nothing_goes_on",
            "test_publish.py::test_what_was_begun_is_ended_wherever_it_was_killed",
        ],
    ),
    38: (
        "two write one target",
        [
            "test_convert_faults.py::test_of_two_processes_one_publishes",
            "test_publish.py::test_the_second_one_is_told_who_writes",
        ],
    ),
    39: ("something is at the target, or nothing can be", []),
    40: (
        "old and newer versions",
        [
            "test_old_checkpoints.py::test_every_leaf_is_as_it_was",
            "test_compatibility.py::test_what_an_old_version_has_written_goes_there_and_back",
            "test_orbax_checkpoints.py::test_every_form_is_read",
        ],
    ),
}


def of_row(row):
    """The tests of a row, FILE::NAME or FILE::NAME[parameter]."""
    own = [test for file in OF_CONVERT for number, test in numbered(file) if number == row]
    return [*own, *ROWS[row][1]]


def numbered(file):
    """(row, test) of all tests in a file that have a row, its parameters being keys of a table."""
    tree = ast.parse((TESTS / file).read_text())
    tables = {
        node.targets[0].id: [key.value for key in node.value.keys if _is_text(key)]
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
    }
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
            continue
        if found := re.match(r"test_(\d+)_", node.name):
            yield int(found[1]), f"{file}::{node.name}"
        for decorator in node.decorator_list:
            for name in ast.walk(decorator):
                for key in tables.get(getattr(name, "id", ""), ()):
                    if found := re.match(r"(\d+) ", key):
                        yield int(found[1]), f"{file}::{node.name}[{key}]"


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def main():
    print("| row | what is wrong | tests |")
    print("| --: | :-- | --: |")
    for row, (what, _) in ROWS.items():
        tests = of_row(row)
        print(f"| {row} | {what} | {len(tests)} |")
        if "--tests" in sys.argv:
            print("".join(f"  {test}\n" for test in tests), end="")


if __name__ == "__main__":
    main()
