"""How much memory a file may ask for."""

MAX_BYTES = 4 * 2**30
MAX_CSV_BYTES = 2**28
MAX_NPZ_MEMBERS = 10_000
