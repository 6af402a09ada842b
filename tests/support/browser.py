"""A real browser without a window, cut off from any network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROGRAMS = ("chromium-headless-shell", "chromium", "google-chrome", "chrome")
PATIENCE_S = 60


def _browse(profile: Path, page: Path, *options: str) -> str:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    assert program is not None, f"no browser here, one of {', '.join(PROGRAMS)} (apt-get install {PROGRAMS[0]})"
    words = (
        program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
        # Whatever the page would fetch, it gets nothing.
        "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", *options, page.as_uri(),
    )  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout


def document(page: Path, profile: Path) -> str:
    """What a page has become when its scripts have run.

    Args:
        page: the file.
        profile: an empty folder for the browser's own things.
    """
    return _browse(profile, page, "--dump-dom")


def photograph(page: Path, profile: Path, picture: Path, *, width: int, height: int) -> None:
    """What a page looks like: its upper part, as a PNG of this size."""
    _browse(profile, page, f"--screenshot={picture}", f"--window-size={width},{height}")
