"""A benchmark on two CPU devices; prints the shapes of a batch's parts, and what is one program."""

import dataclasses
import sys

import jax

from shared.bench.pipeline import Budget, bench
from shared.cases import CASES
from shared.models.devices import spread
from shared.models.pure_pair import pure_case
from shared.models.subject import subject_of_case
from shared.verification.pipeline import find_weight_map


def main():
    jax.config.update("jax_num_cpu_devices", 2)
    case = dataclasses.replace(CASES["shared"], num_layers=3, features=5, batch_size=4)
    subject = subject_of_case(case)
    (x,) = spread(subject.inputs)
    sys.stdout.write(f"{sorted(shard.data.shape for shard in x.addressable_shards)}\n")
    names = {row["nnx"]: row["linen"] for row in find_weight_map(pure_case(case)).rows()}
    budget = Budget(0, 1, 0, forms=("forward", "nothing"), training=False)
    sys.stdout.write(f"{bench(subject, budget, names=names).same_program}\n")


if __name__ == "__main__":
    main()
