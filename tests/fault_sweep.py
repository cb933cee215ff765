"""What is left of checkpoints after a fault at each call to the file system.

`python tests/fault_sweep.py` prints its table: of each kind of fault, a command is run with the
first call below the folder of its target or of its source failing, then with the second, to the
last.
After each: the source is as it was, the target is absent or complete (with --overwrite, old or new,
and the other one kept), the command has ended as it should and said so in one line, and run again
it succeeds and leaves nothing beside. A line that begins with `!` is a promise that was broken.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from fault_injection import ALL, INSIDE, KINDS, NAMES, Faults, environment
from fault_programs import PLANTED, PROGRAMS
from forked import in_child

# Of the others 4; 0 where what fails is no part of the checkpoint, as the removal of the lock.
CODES = {
    "kill -9": {-signal.SIGKILL},
    "SIGTERM": {0, 128 + signal.SIGTERM, -signal.SIGTERM},
    "Ctrl-C": {0, 128 + signal.SIGINT},
    "half of a read": {0},
    "half of a write": {0},
}
LINE = re.compile(r"composed-lifts: [^\n]+\n")


@dataclasses.dataclass
class Row:
    """What was found of one kind of fault: how many points, and what stood at the target."""

    points: int = 0
    new: int = 0
    other: int = 0
    lost: int = 0


class Case:
    """One command in a folder of its own, run with a fault and once more without."""

    def __init__(self, program, folder, overwrite, faults):
        self.program, self.overwrite, self.faults = program, overwrite, faults
        self.folder = os.path.realpath(folder)
        self.source = os.path.join(self.folder, "from", "source")
        self.targets = os.path.join(self.folder, "to")
        self.target = os.path.join(self.targets, "ck")
        for name in ("from", "to", "kept"):
            os.mkdir(os.path.join(self.folder, name))
        self.asked(lambda: self.program.make(self.source, 1))
        self.before = digest(os.path.dirname(self.source))
        self.old = ""
        if overwrite:
            self.asked(self._make_old)
            self.old = self.asked(lambda: self.program.identity(self.kept))
        # Those on names are as many in each run, so what gives the target its name is met.
        self.places = {
            "on a name": (self.targets, NAMES),
            "within a name": (self.targets, INSIDE),
            "of the source": (os.path.dirname(self.source), ALL),
        }
        self.calls = {}
        for place, (folder, depth) in self.places.items():
            self._start()
            with self.faults.at(folder, depth=depth):
                code, said = self.run()
            assert code == 0, said
            self.calls[place] = self.faults.count
        self.new = self.asked(lambda: self.program.identity(self.target))

    @property
    def kept(self):
        return os.path.join(self.folder, "kept", "ck")

    def _make_old(self):
        older = os.path.join(self.folder, "from_older")
        self.program.make(older, 2)
        self.program.run(older, self.kept, False)

    def _start(self):
        shutil.rmtree(self.targets)
        shutil.copytree(os.path.dirname(self.kept), self.targets)

    def run(self):
        """(exit code, what it says)."""
        return in_child(self._run, os.path.join(self.folder, "said"))

    def _run(self):
        return self.program.run(self.source, self.target, self.overwrite)

    def asked(self, call):
        """What a call gives in a process of its own: depth of libraries are not forked."""
        path = os.path.join(self.folder, "answer")

        def answer():
            Path(path).write_text(json.dumps(call()))
            return 0

        code, said = in_child(answer, os.path.join(self.folder, "said"))
        assert code == 0, said
        return json.loads(Path(path).read_text())

    def at(self, kind, place, number, row):
        """What is wrong after a fault; nothing if the command makes fewer calls this time."""
        self._start()
        folder, depth = self.places[place]
        with self.faults.at(folder, KINDS[kind], number, depth):
            code, said = self.run()
        self.calls[place] = max(self.calls[place], self.faults.count)
        if self.faults.count < number:
            return []
        found, again, then = self.asked(self._after)
        is_new = found.get("ck", "") == self.new
        lost = list(self._lost(found, then))
        row.points += 1
        row.new += is_new
        row.other += not is_new
        row.lost += bool(lost)
        return [
            *lost,
            *self._of_end(kind, code, said, is_new),
            *self._of_rerun(again, then, is_new),
        ]

    def _after(self):
        return self._survey(), self._rerun(), self._survey()

    def _survey(self):
        """{name: identity} of what stands beside the target, and of that."""
        found = {}
        for name in sorted(os.listdir(self.targets)):
            if not name.endswith((".manifest.json", ".lock")):
                try:
                    found[name] = self.program.identity(os.path.join(self.targets, name))
                except Exception as error:  # of a library, of what is half written
                    found[name] = f"damaged: {type(error).__name__}: {error}"
        return found

    def _rerun(self):
        try:
            return f"exit code {self._run()}"
        except Exception as error:
            return str(error)

    def _lost(self, found, then):
        if digest(os.path.dirname(self.source)) != self.before:
            yield "the source has changed"
        if found.get("ck", "") not in (self.new, self.old):
            yield f"at the target is {found.get('ck', 'nothing')}"
        if self.old and self.old not in (*found.values(), *then.values()):
            yield "the old one is gone"

    def _of_end(self, kind, code, said, is_new):
        if code not in CODES.get(kind, {0, 4}):
            yield f"exit code {code}: {said}"
        if code == 0 and not is_new:
            yield "exit code 0 without the new one at the target"
        lines = said.splitlines(keepends=True)
        if not all(map(LINE.fullmatch, lines)):
            yield f"says {said!r}"
        if sum("error: " in line for line in lines) != (code > 0):
            yield f"exit code {code} with {said!r}"

    def _of_rerun(self, again, then, was_new):
        is_refused = "is there already" in again or again == "exit code 4"
        if again != "exit code 0" and not (was_new and is_refused and not self.overwrite):
            yield f"run again: {again}"
        if then.get("ck") != self.new:
            yield f"run again, at the target is {then.get('ck', 'nothing')}"
        allowed = re.compile(r"ck(\.bak-[^.]+\.[^.]+Z)?(\.manifest\.json)?")
        for name in os.listdir(self.targets):
            if not allowed.fullmatch(name):
                yield f"run again, it leaves {name}"
        for name, identity in then.items():
            if identity not in (self.new, self.old):
                yield f"run again, {name} is {identity}"


def digest(folder):
    """Of all names and bytes below a folder."""
    hasher = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        hasher.update(os.fsencode(path))
        hasher.update(path.read_bytes() if path.is_file() else b"/")
    return hasher.hexdigest()


def main():
    programs = PROGRAMS | PLANTED
    words = parsed(programs)
    kinds = words.kinds or list(KINDS)
    faults, is_wrong = Faults(os.environ), False
    print("| command | fault | points | new at the target | as it was | lost data |")
    print("| :-- | :-- | --: | --: | --: | --: |", flush=True)
    for name, overwrite in itertools.product(words.commands or PROGRAMS, (False, True)):
        shown = f"{name} --overwrite" if overwrite else name
        with tempfile.TemporaryDirectory() as folder:
            case = Case(programs[name], folder, overwrite, faults)
            for kind in kinds:
                row = Row()
                for place, number in numbers(case, words.points, kinds.index(kind), len(kinds)):
                    for each in case.at(kind, place, number, row):
                        print(f"! {shown}: {kind} at call {number} {place}: {each}", flush=True)
                        is_wrong = True
                cells = (shown, kind, row.points, row.new, row.other, row.lost)
                print("|", " | ".join(map(str, cells)), "|", flush=True)
    return int(is_wrong)


def numbers(case, points, index, num_kinds):
    """(place, number) of the calls that fail: all there are, or so many of a case, shared."""
    if not points:
        for place in case.calls:
            # TensorStore makes more calls in one run than in another.
            number = 0
            while number < case.calls[place]:
                number += 1
                yield place, number
        return
    every = [(place, i + 1) for place, calls in case.calls.items() for i in range(calls)]
    for i in range(index, points, num_kinds):
        yield every[i * (len(every) - 1) // max(points - 1, 1)]


def parsed(programs):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--commands", nargs="*", choices=programs)
    parser.add_argument("--kinds", nargs="*", choices=KINDS)
    parser.add_argument("--points", type=int, default=0, help="of each command; 0: all there are")
    return parser.parse_args()


if __name__ == "__main__":
    if "FAULT_STATE" in os.environ:
        sys.exit(main())
    with tempfile.TemporaryDirectory() as made:
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment(made)).returncode)
