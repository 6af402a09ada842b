"""A manager that does nothing but have a guardian: ``guarded_manager.py LOG MODULES PAUSE_S ...``.

MODULES is a folder that comes first on its import path once the guardian itself was imported: a ``whimbrel`` in it is
what the guardian runs. It prints the guardian's pid, and does what is said on its standard input, a word a line.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from whimbrel.guardian import Guardian


def main(log: str, modules: str, pauses_s: tuple[float, ...]) -> None:
    """Start the guardian, then do as told until the input ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as programs have it that end with their reader
    sys.path.insert(0, modules)
    guardian = Guardian.start(log, pauses_s)
    print(guardian.pid, flush=True)
    for line in sys.stdin:
        match line.strip():
            case "farewell":
                guardian.farewell()
            case "abandon":
                guardian.abandon()
            case "fork":
                child = os.fork()
                if child == 0:
                    time.sleep(3600)  # until it is killed: it holds whatever a fork inherits
                print(child, flush=True)
            case other:
                raise ValueError(other)
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], tuple(map(float, sys.argv[3:])))
