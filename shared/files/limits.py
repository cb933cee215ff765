"""How much memory a file may ask for."""

MAX_BYTES = 4 * 2**30
MAX_CSV_BYTES = 2**28
MAX_NPZ_MEMBERS = 10_000
# Of one axis: (0, 10**11) is an array of no bytes, and no batch.
MAX_LENGTH = 2**31 - 1
MAX_AXES = 32
