"""`python -m shared`: the same as `composed-lifts`."""

import sys

from shared.cli import main

sys.exit(main())
