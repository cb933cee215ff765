"""The `composed-lifts` script, installed as the module `composed_lifts_main`."""

import sys


def main() -> int:
    """Runs the command line, or says which foreign package called `shared` is in the way."""
    import shared

    if getattr(shared, "PROJECT", None) != "composed-lifts":
        print(
            f"composed-lifts: error: needs its own package 'shared', but Python found another one "
            f"at {shared.__file__ or next(iter(shared.__path__))}; rename that one, or take its "
            f"parent folder off PYTHONPATH",
            file=sys.stderr,
        )
        return 2
    from shared.cli import main as run

    return run()
