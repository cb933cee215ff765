"""What the two implementations have in common: cases, interface, weights, command line.

Nothing here knows a Linen or an NNX module class, and importing it imports no JAX.
"""

# The implementations look for this mark: other projects have a package called `shared` too.
PROJECT = "composed-lifts"
