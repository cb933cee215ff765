"""A run in several processes: the flags that connect them, and what is said when one is lost."""

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from absl import flags

from shared.cli.exit_codes import guarded
from shared.errors import ConnectionFailedError, UsageError, one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# The words of `jax.distributed.initialize`.
_ADDRESS = ("coordinator_address", "num_processes", "process_id")
# How a worker ends that was told of a loss before JAX could abort it.
_LOST = 128 + signal.SIGABRT
# In the log of a worker: that all processes came.
_CONNECTED = b"composed-lifts: connected\n"


class Processes(NamedTuple):
    """What `jax.distributed.initialize` is called with."""

    coordinator_address: str
    num_processes: int
    process_id: int
    initialization_timeout: int
    heartbeat_timeout_seconds: int


def define_process_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "HOST:PORT of process 0, of a run in several processes.",
        flag_values=values,
    )
    for name, text, least in (
        ("num_processes", "In how many processes a run is; each is started by itself.", 1),
        ("process_id", "Which of them this is, from 0. Process 0 prints.", 0),
    ):
        flags.DEFINE_integer(name, None, text, lower_bound=least, flag_values=values)
    for name, default, text in (
        ("initialization_timeout", 300, "Seconds in which all processes have to come."),
        ("heartbeat_timeout_seconds", 100, "Seconds after which a silent process is lost."),
    ):
        flags.DEFINE_integer(name, default, text, lower_bound=1, flag_values=values)


def processes_from_flags(values: flags.FlagValues) -> Processes | None:
    """The processes of a run, this one among them; None where it is alone.

    Raises:
      UsageError: a flag is missing or does not fit the others.
    """
    given = [name for name in _ADDRESS if values[name].value is not None]
    if not given:
        return None
    missing = [f"--{name}" for name in _ADDRESS if name not in given]
    if missing:
        needed = ", ".join(f"--{name}" for name in _ADDRESS)
        raise UsageError(
            f"--{given[0]} without {' and '.join(missing)}; several processes take all of {needed}"
        )
    if values.mesh is None:
        raise UsageError("--num_processes without --mesh; say how the devices of all are used")
    if values.process_id >= values.num_processes:
        raise UsageError(
            f"--process_id={values.process_id}: expected less than "
            f"--num_processes={values.num_processes}, for they are counted from 0"
        )
    if not re.fullmatch(r"\S+:\d{1,5}", values.coordinator_address):
        raise UsageError(
            f"--coordinator_address={values.coordinator_address}: expected HOST:PORT, as "
            f"127.0.0.1:4711"
        )
    given_all: list[Any] = [values[name].value for name in Processes._fields]
    return Processes(*given_all)


def connect(processes: Processes) -> None:
    """Waits until all processes have come. JAX must not have looked for its devices before.

    Raises:
      ConnectionFailedError: process 0 cannot wait for them at the address.
    """
    import jax

    try:
        jax.distributed.initialize(**processes._asdict())
    except jax.errors.JaxRuntimeError as error:
        raise ConnectionFailedError(
            f"--coordinator_address={processes.coordinator_address}: {one_line(error)}; choose an "
            f"address of process 0 and a port that is free there"
        ) from error
    os.write(2, _CONNECTED)


def check_same(*given: "ReadableBuffer") -> None:
    """Stops where the processes were not given the same bytes.

    Raises:
      UsageError: they were not.
    """
    import numpy as np
    from jax.experimental import multihost_utils

    digests = [hashlib.sha256(each).digest() for each in given]
    of_each = multihost_utils.process_allgather(np.frombuffer(b"".join(digests), np.uint8))
    if (of_each != of_each[0]).any():
        raise UsageError(
            "the processes of this run were started with other flags or texts; start all with the "
            "same but for --process_id"
        )


def in_worker(call: Callable[[], int], processes: Processes, verbose: bool) -> int:
    """Runs `call` in a process of its own, and returns its exit code.

    JAX aborts a process whose peer is lost, with a stack of C++, which nobody can catch in there;
    and the library of collectives prints to stdout. So what is not printed by Python goes to a
    log, which `verbose` shows.

    Args:
      call: the run, which connects to the other processes.
      processes: which are to come.

    Raises:
      ConnectionFailedError: another process did not come, or is gone.
    """
    with tempfile.TemporaryFile() as log:
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=_work, args=(call, log, verbose))
        worker.start()
        try:
            worker.join()
        finally:
            worker.kill()
        log.seek(0)
        said = log.read()
    if verbose:
        sys.stderr.write(said.decode(errors="backslashreplace"))
    code = worker.exitcode or 0
    if code in (_LOST, -signal.SIGABRT):
        raise ConnectionFailedError(_lost(processes, _CONNECTED in said))
    return code if code >= 0 else 128 - code


def _lost(processes: Processes, came: bool) -> str:
    if came:
        return (
            "another process of this run is gone, and no step can be made without it; see what it "
            "has printed, then start all of them again"
        )
    return (
        f"--coordinator_address={processes.coordinator_address}: of {processes.num_processes} "
        f"processes not all came in {processes.initialization_timeout} s; start each with the "
        f"same address and its own --process_id, or raise --initialization_timeout"
    )


def _work(call: Callable[[], int], log: IO[bytes], verbose: bool) -> None:

    # The parent is who is interrupted, and what is killed: this process goes with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        own = os.dup(stream.fileno())
        os.dup2(log.fileno(), stream.fileno())
        kept = open(own, "w", 1, stream.encoding, stream.errors)  # noqa: SIM115
        setattr(sys, name, kept)
    sys.exit(guarded(lambda: _ended(call), verbose))


def _ended(call: Callable[[], int]) -> int:
    """The exit code of `call`, after which all processes have ended what they did together."""
    import jax

    try:
        code = call()
    except jax.errors.JaxRuntimeError as error:
        if "Gloo" not in str(error):
            raise
        sys.exit(_LOST)
    jax.distributed.shutdown()
    return code


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
