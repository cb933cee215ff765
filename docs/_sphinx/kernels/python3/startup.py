"""Read by the kernel of each page: what `! command` prints, and how an error is shown."""

import subprocess
from pathlib import Path

from IPython import get_ipython

ROOT = Path(__file__).parents[4]


def system(command: str) -> None:
    """Prints what a command does. One that neither succeeds nor finds a difference is an error."""
    done = subprocess.run(command, shell=True, text=True, capture_output=True)
    print(done.stdout.replace(f"{ROOT}/", ""), end="")
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")


shell = get_ipython()
shell.system = system
shell.run_line_magic("xmode", "Minimal")
