"""From the start of a process to the first result, each time in a process of its own."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.errors import InputError

_ROOT = Path(__file__).parents[2]


def first_results(commands: Mapping[str, Sequence[str]], times: int) -> dict[str, list[float]]:
    """{column: seconds of its process, `times` times in turns}. A first time, which fills the
    file cache, is left out.

    Args:
      commands: {column: the words after `python`}.
      times: how often each runs.

    Raises:
      InputError: one of them fails.
    """
    names, order = list(commands), random.Random(0)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1 + times):
        order.shuffle(names)
        for name in names:
            seconds = _seconds(commands[name])
            if turn:
                found[name].append(seconds)
    return {name: found[name] for name in commands}


def _seconds(words: Sequence[str]) -> float:
    # Our packages are found, and none of the same name in the working directory.
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # What this process holds of an accelerator leaves too little for one that takes all at once.
    env = {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-P", *words]
    started = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    seconds = time.perf_counter() - started
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise InputError(f"{' '.join(words)}, in a process of its own: {said[-1]}")
    return seconds
