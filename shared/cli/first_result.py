"""One model of a user's pair in a process of its own: its weights, and one call.

`python -m shared.cli.first_result linen|nnx FILE.py:NAME`: what `bench` times from the start of it.
"""

import sys


def main() -> None:
    impl, place = sys.argv[1:]

    import jax

    from shared.cli.pair_file import load_pair
    from shared.models.subject import RUNNERS, subject_of_pair

    subject = subject_of_pair(place, load_pair(place))
    runner = RUNNERS[impl](subject)
    jax.block_until_ready(jax.jit(runner.functions["forward"])(runner.held, *subject.inputs))


if __name__ == "__main__":
    main()
