"""``python -m whimbrel``: the command line, without its being on the path."""

from __future__ import annotations

from whimbrel.cli import main

if __name__ == "__main__":
    main()
