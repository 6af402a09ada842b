"""``python -m whimbrel.sim.wire``: a simulated QEMU that takes QEMU's own command line."""

from __future__ import annotations

import os
import sys

from .loader import call_again

if __name__ == "__main__":
    call_again(sys.argv[1:], os.environ)
    from .program import main  # only here: what comes before it is done twice

    main(sys.argv[1:], os.environ)
