"""Every layer that Linen and NNX both have, compared: prints docs/stock_layers.md.

python -m benchmarks.stock_layers > docs/stock_layers.md
python -m benchmarks.stock_layers --only=Norm
"""

import argparse
import sys
import time

import jax

from benchmarks.stock import remedies, table
from benchmarks.stock.answers import answers
from benchmarks.stock.page import DTYPES, page


def answered(rows, only=""):
    """{row: {dtype: {question: answer}}} of the rows whose names hold `only`."""
    found = {}
    for row in rows:
        if only in row.name:
            started = time.perf_counter()
            found[row] = {dtype: answers(row, dtype) for dtype in DTYPES}
            print(f"{time.perf_counter() - started:6.1f} s  {row.name}", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="WORD", default="", help="rows of this name alone")
    words = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # bits are compared
    found = [answered(rows, words.only) for rows in (table.ROWS, remedies.ROWS)]
    print("\n".join(page(*found)))


if __name__ == "__main__":
    main()
