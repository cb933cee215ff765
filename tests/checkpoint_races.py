"""Two processes publish one target at once: `python tests/checkpoint_races.py COMMAND ROUNDS`.

Prints of each round the two exit codes and what was said.
"""

import json
import os
import sys
import tempfile

from fault_programs import PROGRAMS
from forked import ended, in_child, started


def race(program, folder):
    """[number, exit code, output] of each, and what tells whether the target is whole."""
    source, target = os.path.join(folder, "source"), os.path.join(folder, "ck")
    assert in_child(lambda: program.make(source, 1) or 0, os.path.join(folder, "said"))[0] == 0
    gate, opens = os.pipe()

    def run():
        os.read(gate, 1)
        return program.run(source, target, False)

    files = [os.path.join(folder, f"said-{i}") for i in range(2)]
    children = [started(run, file) for file in files]
    os.write(opens, b"..")
    os.close(gate)
    os.close(opens)
    ends = [(child, *ended(child, file)) for child, file in zip(children, files, strict=True)]
    whole = in_child(lambda: program.identity(target) and 0, os.path.join(folder, "said"))
    left = sorted(set(os.listdir(folder)) - {"source", "said", "said-0", "said-1"})
    return {"ends": ends, "whole": whole, "left": left}


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(race(PROGRAMS[sys.argv[1]], folder)))
