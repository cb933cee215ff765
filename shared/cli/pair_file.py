"""A user's `Pair`, from a file or a module. It is the user's own code and is executed."""

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from typing import Any

from shared.cli.remedies import remedy
from shared.errors import InputError, one_line, where_raised


def load_pair(place: str) -> Any:
    """The `Pair` at `place`: FILE.py:NAME or package.module:NAME.

    Raises:
      InputError: there is none there, or the file raises.
    """
    path, separator, name = place.rpartition(":")
    if not separator or not path or not name:
        raise InputError(f"--pair={place}: expected FILE.py:NAME or package.module:NAME")
    with users_code(f"--pair={place}"):
        module = _from_file(path) if path.endswith(".py") else _from_module(path)
    if not hasattr(module, name):
        names = [key for key in vars(module) if not key.startswith("_")]
        raise InputError(f"--pair={place}: {path} has no {name!r}; it has {', '.join(names[:12])}")
    from shared.models.pair import Pair

    pair = getattr(module, name)
    if not isinstance(pair, Pair):
        raise InputError(
            f"--pair={place}: {name} is a {type(pair).__name__}, expected a shared.Pair"
        )
    return pair


def _from_module(name: str) -> Any:
    # A command has not the folder that it is called in on its path, as `python -m` has.
    sys.path.append(os.getcwd())
    return importlib.import_module(name)


def _from_file(path: str) -> Any:
    if not os.path.isfile(path):
        raise InputError(f"--pair: {path} does not exist; name an existing .py file")
    spec = importlib.util.spec_from_file_location("composed_lifts_pair", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def users_code(what: str):
    """Runs the user's code: what it prints goes to stderr, what it raises becomes one line.

    Nothing is written beside the user's files.
    """
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except InputError as error:
        if str(error).startswith("--pair"):
            raise
        raise InputError(f"{what}: {error}") from error
    except Exception as error:
        if _is_ours(error):
            raise
        message = f"{type(error).__name__}: {one_line(error)}"
        told = where_raised(error)
        in_what = f", in {told}" if told else ""
        to_do = remedy(message + in_what)
        next_step = f"; {to_do}" if to_do else ""
        raise InputError(f"{what}: {_where(error)}{message}{in_what}{next_step}") from error
    finally:
        sys.dont_write_bytecode = before


def _is_ours(error: BaseException) -> bool:
    """Whether our code raised it: then it is our mistake, not one of the model."""
    from shared.program.source import Place

    if where_raised(error) and isinstance(error, TypeError) and "argument" in str(error):
        return False  # we called what cannot be called so
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return Place(frame.filename, frame.lineno or 0, frame.name).is_ours


def _where(error: BaseException) -> str:
    """The innermost line of the user's own files in the traceback of `error`."""
    from shared.program.source import Place

    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if Place(f.filename, f.lineno or 0, f.name).is_users]
    own = [frame for frame in users if "importlib" not in frame.filename]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}: " if own else ""
