"""Read by the kernel of each page: what `! command` prints, and how an error is shown."""

import os
import subprocess
from pathlib import Path

from IPython import get_ipython

ROOT = Path(__file__).parents[4]
CACHE = {
    "JAX_COMPILATION_CACHE_DIR": os.environ["COMPILED_BY_COMMANDS"],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def system(command: str) -> None:
    """Prints what a command does. One that neither succeeds nor finds a difference is an error."""
    env = os.environ | CACHE
    done = subprocess.run(command, shell=True, text=True, capture_output=True, env=env)
    print(done.stdout.replace(f"{ROOT}/", ""), end="")
    if done.returncode not in (0, 1):
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")


shell = get_ipython()
shell.system = system
shell.run_line_magic("xmode", "Minimal")
