"""Locks on image files, as the QEMUs of one host see them: whoever may write holds the lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .errors import Refusal


@dataclass(slots=True)
class Images:
    """Who holds which file's lock.

    Locks bind only where QEMU has them, on local files; what else two QEMUs may write to at once, nobody sees.
    """

    _holders: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, pid: int, files: Iterable[str]) -> None:
        """Take the locks of files for writing; all of them or none.

        Args:
            pid: who takes them.
            files: paths.

        Raises:
            Refusal: another process has one of them.
        """
        wanted = list(files)
        if any(self._holders.get(file, pid) != pid for file in wanted):
            raise Refusal('Failed to get "write" lock')
        for file in wanted:
            self._holders[file] = pid

    def held_by_other(self, pid: int, files: Iterable[str]) -> str | None:
        """The first of the files whose lock another process has."""
        return next((file for file in files if self._holders.get(file, pid) != pid), None)

    def drop(self, pid: int) -> None:
        """A process lets all of its locks go, or has ended."""
        self._holders = {file: holder for file, holder in self._holders.items() if holder != pid}
