"""One float array from a .npy, .npz or .csv file, and one array into a .npy or .csv file.

What a file says of itself is compared with its size before memory is taken, and nothing in it is
ever executed: pickled objects are refused.
"""

from shared.files.read import LoadedArray, read_array
from shared.files.write import Writer

__all__ = ["LoadedArray", "Writer", "read_array"]
