"""Runs the commands of the pages, each in a fork of one process that has imported JAX and Flax.

Their imports are half of the time of a short command. What is ours a command imports itself, as it
does for a reader. No device is touched before the fork: each command has its own.
"""

import importlib
import json
import os
import signal
import socket
import sys

IMPORTED = ("flax.linen", "flax.nnx", "optax", "orbax.checkpoint", "rich.console", "scipy.special")


def next_client(server: socket.socket) -> socket.socket:
    """A connection, in a process of its own; the server ends with the one that has started it."""
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        if not os.fork():
            return client
        client.close()
    sys.exit()


def run(client: socket.socket) -> int:
    """Takes its files and, as JSON, words, folder and environment; tells it the exit code."""
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    with client.makefile("rb") as sent:
        command = json.load(sent)
    if process := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        client.sendall(str(code).encode())
        return 0
    client.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.argv = ["composed-lifts", *command["words"]]
    from composed_lifts_main import main

    return main()


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        server.settimeout(1)
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for its clients
        client = next_client(server)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.exit(run(client))
