"""``python -m whimbrel.sim``."""

import sys

from .swarm import main

if __name__ == "__main__":
    sys.exit(main())
