"""What the migration thread needs of a guest's memory, whatever the model behind it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

PAGE_BYTES = 4096
PAGE_HEADER_BYTES = 8
"""On the wire a page has a header of 8 bytes (address and flags; QEMU's ``ram.c``)."""
ZERO_PAGE_BYTES = 9
"""A zero page is its header and one byte."""
CHUNK_PAGES = 1 << 18
"""Pages whose log KVM clears at once (``x-clear-bitmap-shift`` 18, QEMU's default): 1 GiB."""


class Sent(NamedTuple):
    """Pages that were taken off the migration's bitmap and went over, or are on their way.

    Attributes:
        normal: pages in full.
        zero: pages that are all zero.
        delta: pages sent as their difference (XBZRLE).
        unchanged: pages that XBZRLE found to be as they were: nothing is sent.
        misses: pages that XBZRLE looked for in vain.
        overflows: pages whose difference was larger than themselves, so sent in full (they count as normal, too).
        delta_bytes: what the differences came to, headers included.
        bytes: on the wire, all in all, headers included.
    """

    normal: int = 0
    zero: int = 0
    delta: int = 0
    unchanged: int = 0
    misses: int = 0
    overflows: int = 0
    delta_bytes: int = 0
    bytes: int = 0

    @property
    def pages(self) -> int:
        """All pages that were dealt with."""
        return self.normal + self.zero + self.delta + self.unchanged


class Memory(Protocol):
    """RAM with whoever writes to it, the dirty log and the migration's bitmap.

    Every call has the time, nanoseconds of the world's clock, and times never go back. A guest that runs writes;
    while it is halted nothing does, except devices whose transfers are under way (none are modelled while halted).
    """

    @property
    def total_pages(self) -> int:
        """All RAM blocks, in pages of `PAGE_BYTES`."""
        ...

    # ---- the guest's life

    def run(self, now_ns: int) -> None:
        """The vCPUs run from here on."""
        ...

    def halt(self, now_ns: int) -> None:
        """The vCPUs stand still from here on."""
        ...

    def throttle(self, now_ns: int, fraction: float) -> None:
        """Each vCPU is asleep for this part of its time (auto-converge), 0 to 0.99."""
        ...

    def throttle_from_outside(self, now_ns: int, fraction: float) -> None:
        """This part of its time, 0 to 0.99, is taken from each vCPU's thread from outside of QEMU.

        Together with `throttle` the larger of the two is felt (`whimbrel.sim.guests.life.Life.taken`).
        """
        ...

    def limit(self, now_ns: int, bytes_per_s: float | None) -> None:
        """The most that each vCPU may dirty (dirty limit); ``None``: no limit."""
        ...

    def vcpu_s(self, now_ns: int) -> tuple[float, ...]:
        """How long each vCPU's thread has run so far, seconds."""
        ...

    def count_work(self, now_ns: int) -> None:
        """Count the guest's work from here on; before the first call it counts since the guest began."""
        ...

    def done_work(self, now_ns: int) -> float:
        """The part of its time since then that the guest had for its work, 0 to 1.

        Whatever has it stand still or go slowly counts as lost: a throttle, a limit, its stop, a page that is missing
        (`whimbrel.sim.guests.life.Life.done_work`).
        """
        ...

    @property
    def most_slowed(self) -> float:
        """The most of their time that was ever taken from the vCPUs, by whatever means, 0 to 1."""
        ...

    # ---- the migration

    def begin(self, now_ns: int) -> None:
        """Logging begins; every page is in the bitmap."""
        ...

    def end(self, now_ns: int) -> None:
        """Logging ends: the migration is over, however."""
        ...

    @property
    def remaining_pages(self) -> int:
        """Pages in the bitmap."""
        ...

    def sync(self, now_ns: int) -> int:
        """Merge the dirty log into the bitmap.

        Returns:
            The pages that were newly marked: those written since the log last spoke of them and not in the bitmap
            already. This is what QEMU counts as dirtied in the period.
        """
        ...

    @property
    def logged_pages(self) -> int:
        """Pages that the dirty log held at the last sync, whether they were in the bitmap already or not."""
        ...

    def send(self, now_ns: int, most_bytes: int, most_pages: int | None = None) -> Sent:
        """Take the next pages off the bitmap, in the order in which QEMU sends them, from where it stands, wrapping.

        Args:
            now_ns: when they are read.
            most_bytes: stop before the bytes on the wire would be more than this; a zero page costs its bytes, too.
                If at least one page remains and even that one does not fit, one is sent all the same.
            most_pages: stop after so many.
        """
        ...

    def cache(self, size_bytes: int | None) -> None:
        """The XBZRLE cache has this size from here on (it is emptied where it shrinks); ``None``: no XBZRLE."""
        ...

    def compress(self, active: bool) -> None:
        """Whether pages in full are compressed from here on, each to its writer's share of a page."""
        ...

    # ---- post-copy

    def arrive(self, now_ns: int) -> None:
        """The guest is about to run on the destination: pages in the bitmap are missing there, all others whole."""
        ...

    def fault(self, now_ns: int) -> int | None:
        """When the running guest will next touch a page that is missing, nanoseconds from now; ``None``: never.

        It stands still from that moment; `serve` gives it the page.
        """
        ...

    def serve(self, now_ns: int) -> Sent:
        """Send the page that the guest waits for, out of turn; once it has arrived the caller says `run`."""
        ...
