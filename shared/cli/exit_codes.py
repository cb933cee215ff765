"""What a command ends with: an exit code, and of an error one line."""

import os
import sys
import traceback
from collections.abc import Callable

from shared.errors import ComposedLiftsError, one_line, printable

PROG = "composed-lifts"
_OUT_OF_MEMORY = "out of memory; choose smaller sizes"


def guarded(call: Callable[[], int], verbose: bool) -> int:
    """The exit code of `call`; of what it raises a line, and with `verbose` the traceback."""
    try:
        code = call()
        sys.stdout.flush()  # a full disk is to be noticed here, not at exit
        return code
    except ComposedLiftsError as error:
        return _fail(str(error), error.exit_code, verbose)
    except MemoryError:
        return _fail(_OUT_OF_MEMORY, 4, verbose)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, verbose)
    except BrokenPipeError:
        # The reader of our output is gone, as `head` goes. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"the output cannot be written: {error.strerror or error}", 4, verbose)
    except Exception as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return _fail(_OUT_OF_MEMORY, 4, verbose)
        what = f"{type(error).__name__}: {one_line(error)}"
        return _fail(f"internal error: {what}; this is our bug, --verbose shows where", 70, verbose)


def _fail(message: str, exit_code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(f"{PROG}: error: {printable(message)}", file=sys.stderr)
    return exit_code
