"""The writing half of the migration thread: pages into the stream, at the pace of processor, pipe and rate limit.

One *step* is what is written without a look at anything else. Its pages leave the bitmap when it begins; figures grow
with it (`Step`). Where the pipe is full the thread hangs in its write, so a step lasts as long as the pipe needs.
"""

from __future__ import annotations

from collections.abc import Callable

from whimbrel.sim.clock import MILLISECOND_NS, SECOND_NS, Timer
from whimbrel.sim.link.contract import Stream
from whimbrel.sim.memory.contract import PAGE_BYTES, PAGE_HEADER_BYTES, Memory, Sent

from .contract import Costs, Settings
from .own_time import Time
from .t_counters import Counters, number
from .t_figures import Step
from .t_rules import (
    COPY_FLUSH_BYTES,
    END_BYTES,
    FAR_NS,
    FLUSH_BYTES,
    LOOK_PAGES,
    SECTION_BYTES,
    WAKE_NS,
    WINDOW_MS,
    Rules,
)

FRAMING_BYTES = SECTION_BYTES + END_BYTES
WIRE_BYTES = PAGE_BYTES + PAGE_HEADER_BYTES
TURN_NS = 20_000
"""What a turn of the loop takes in which nothing is sent; an estimate, there so that time goes on."""
MAIN_ZERO, CHANNEL_ZERO = 0.32, 0.32
"""Parts of the time for a zero page where multifd's channels look for them: what the main thread still does, and what
n channels share. Fitted to the published rows of the series that moved it there: 9629 ms without, 6182, 4643 and
4143 ms with 1, 2 and 4 channels."""


class Writer:
    """One stream's writer.

    Attributes:
        step: what is on its way into the stream.
        slice_pages: how many pages a slice has, as of the last `write` in slices, if they are as large as the last.
        cut: the last `write` ended early, because it met zero pages, or smaller ones than expected.
        slept: the last `write` went on into the sleep of the rate limit.
        asleep_until_ns: the end of the last such sleep.
        broken: somebody knows that the stream is; the next write will find out.
        stream: it.
    """

    __slots__ = (
        "_allowance",
        "_blocked",
        "_broke",
        "_clock",
        "_closed",
        "_counters",
        "_fastest",
        "_flush_bytes",
        "_limit",
        "_meets_zero",
        "_memory",
        "_multifd",
        "_page_ns",
        "_shows_framing",
        "_size_bytes",
        "_then",
        "_timer",
        "_zero_ns",
        "asleep_until_ns",
        "broken",
        "cut",
        "slept",
        "slice_pages",
        "step",
        "stream",
    )

    def __init__(
        self,
        clock: Time,
        memory: Memory,
        stream: Stream,
        counters: Counters,
        rules: Rules,
        costs: Costs,
        settings: Settings,
        broke: Callable[[], None],
    ) -> None:
        """Ready to write, without a limit.

        Args:
            clock: the process's time.
            memory: pages come from here.
            stream: they go here.
            counters: count them.
            rules: of the version.
            costs: of the machine.
            settings: capabilities and channels are read once, here.
            broke: told when a write finds that the stream is broken.
        """
        self._clock = clock
        self._memory = memory
        self._counters = counters
        self._broke = broke
        self._shows_framing = rules.framing_counted
        self._limit = self._allowance = 0
        self._size_bytes = WIRE_BYTES
        self.slice_pages = 1
        self.asleep_until_ns = 0
        self._timer: Timer | None = None
        self._then: Callable[[], None] | None = None
        self._blocked: tuple[int, int, int | None, Callable[[], None]] | None = None
        self.step = Step()
        self.cut = self.slept = self.broken = self._closed = self._meets_zero = False
        capabilities = settings.capabilities
        self._multifd = bool(capabilities.get("multifd"))
        self._flush_bytes = 0
        if rules.counts_flushed and not self._multifd:
            self._flush_bytes = COPY_FLUSH_BYTES if capabilities.get("xbzrle") else FLUSH_BYTES
        self._page_ns = PAGE_BYTES / costs.cpu_bytes_per_s * SECOND_NS
        self._zero_ns = max(1.0, costs.zero_page_s * SECOND_NS)
        if self._multifd:
            channels = max(1, number(settings, "multifd-channels", 2))
            main_ns = self._zero_ns * MAIN_ZERO
            if rules.zero_in_channels and settings.parameters.get("zero-page-detection", "multifd") == "multifd":
                self._zero_ns = max(1.0, main_ns + self._zero_ns * CHANNEL_ZERO / channels)
            self._page_ns = max(self._page_ns / channels, main_ns)
        self._fastest = PAGE_BYTES * SECOND_NS / self._page_ns
        self.connect(stream)

    def connect(self, stream: Stream) -> None:
        """Write into this one from now on."""
        self.stream = stream
        stream.on_change(self._changed)

    def close(self) -> None:
        """Nothing is written any more."""
        self._closed = True
        self.cancel()

    # ---- the rate limit

    def set_limit(self, bytes_per_s: int) -> None:
        """Limit what a window may take, from now on; 0: nothing limits it."""
        self._limit = limit = bytes_per_s * WINDOW_MS // 1000
        if bytes_per_s and not limit:
            self._limit = limit = 1
        # It stops once it finds that it has gone beyond: after a page, or after a flush. What frames the slice comes
        # on top.
        if not self._flush_bytes:
            self._allowance = (limit // WIRE_BYTES + 1) * WIRE_BYTES + FRAMING_BYTES
        else:
            flushed = (limit // self._flush_bytes + 1) * self._flush_bytes
            self._allowance = -(-flushed // WIRE_BYTES) * WIRE_BYTES + FRAMING_BYTES

    @property
    def exhausted(self) -> bool:
        """Whether this window's allowance is used up."""
        if not self._limit:
            return False
        counters = self._counters
        used = counters.bytes - counters.window_bytes
        return used > self._limit or (used > 0 and self._allowance - used < WIRE_BYTES)

    def sleep(self, then: Callable[[], None]) -> None:
        """Sleep to the end of the window."""
        self.asleep_until_ns = self._wake_ns(self._clock.now_ns)
        self._set(self.asleep_until_ns, then)

    @property
    def is_held_back(self) -> bool:
        """Whether it is the rate limit that holds it, rather than the link."""
        rate = self.stream.rate_bytes_per_s(self._clock.now_ns)
        return bool(self._limit) and self._limit < rate * WINDOW_MS / 1000

    def _wake_ns(self, from_ns: int) -> int:
        rest_ms = self._counters.window_ms + WINDOW_MS - from_ns // MILLISECOND_NS
        return from_ns + max(0, rest_ms) * MILLISECOND_NS + WAKE_NS

    # ---- writing

    @property
    def in_flight(self) -> bool:
        """Whether a write is under way, or hangs."""
        return self._blocked is not None or (self._then is not None and self._clock.now_ns < self.step.end_ns)

    def write(
        self,
        until_ns: int,
        slices: int,
        most_pages: int | None,
        then: Callable[[], None],
        go_on: bool = False,
    ) -> int:
        """Write pages.

        Args:
            until_ns: for so long, about.
            slices: so many slices, whose ends QEMU looks for every `LOOK_PAGES` pages; 0: not in slices.
            most_pages: not more.
            then: called when all of it is in the stream, or at the end of the window if the rate limit is reached.
            go_on: it is the rest of a slice that was begun.

        Returns:
            Pages taken off the bitmap.
        """
        now_ns = self._clock.now_ns
        self.slept = self.cut = False
        if self._closed:
            return 0
        if self.broken or self.stream.broken:
            self._broke()
            return 0
        room = self.stream.room_bytes(now_ns, until_ns, self._fastest)
        if room < WIRE_BYTES:
            if self.stream.rate_bytes_per_s(now_ns) <= 0:
                self._blocked = (until_ns - now_ns, slices, most_pages, then)
                return 0
            room = WIRE_BYTES
        room = self._whole_slices(room, slices)
        if self._limit:
            counters = self._counters
            room = min(room, self._allowance - counters.bytes + counters.window_bytes)
        most = self._most_pages(until_ns - now_ns, room)
        sent = self._memory.send(now_ns, room, most if most_pages is None else min(most_pages, most))
        pages = sent.pages
        self.cut = pages == most and (sent.zero > 0 or room - sent.bytes >= WIRE_BYTES)
        self._meets_zero = sent.zero > 0
        if pages > sent.zero:
            self._size_bytes = max(1, min(WIRE_BYTES, -(-sent.bytes // (pages - sent.zero))))
        if go_on:
            framing = counted = 0
        else:
            framing, counted = FRAMING_BYTES, END_BYTES
        self._counters.add(sent, framing, counted, self._multifd)
        zero = sent.zero
        work_ns = int(zero * self._zero_ns + (pages - zero) * self._page_ns) or TURN_NS
        shown = sent.bytes + (framing if self._shows_framing else counted)
        self._put(now_ns, sent, sent.bytes + framing, work_ns, shown)
        end_ns = self.step.end_ns
        if self._limit and self.exhausted and end_ns < FAR_NS:
            wake_ns = self._wake_ns(end_ns)
            if wake_ns > end_ns + WAKE_NS:
                self.slept = True
                end_ns = self.asleep_until_ns = wake_ns
        self._set(end_ns, then)
        return pages

    def _whole_slices(self, room_bytes: int, slices: int) -> int:
        """Room for as much as is written until the look at the clock that ends each slice."""
        if not slices:
            return room_bytes
        looks = -(-(room_bytes // self._size_bytes // slices) // LOOK_PAGES)
        self.slice_pages = looks * LOOK_PAGES + 1
        return slices * self.slice_pages * self._size_bytes

    def _most_pages(self, span_ns: int, room_bytes: int) -> int:
        """How many pages there is time for.

        Zero pages take next to no room, so that time bounds them. Where the last step met none, only so many are taken
        as would fit if they were as large as those of the last step (differences, compressed ones), or that there is
        time to copy, if that is less: zero pages that follow a run of others begin when those are in the pipe, in a
        step of their own.
        """
        in_time = int(span_ns / self._zero_ns) + 1
        if self._meets_zero:
            return in_time
        copied = max(room_bytes // WIRE_BYTES, int(span_ns / self._page_ns))
        return min(in_time, max(1, min(copied, room_bytes // self._size_bytes)))

    def write_bytes(self, size_bytes: int, then: Callable[[], None]) -> None:
        """Write something that others count, or nothing: then, when all that was written is in the stream."""
        if self._closed:
            return
        if self.broken or self.stream.broken:
            self._broke()
            return
        self._put(self._clock.now_ns, None, size_bytes, 0, 0)
        self._set(self.step.end_ns, then)

    def cancel(self) -> None:
        """Let go of what is to come."""
        self._blocked = self._then = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _put(self, now_ns: int, sent: Sent | None, size_bytes: int, work_ns: int, shown_bytes: int) -> None:
        fastest = size_bytes * SECOND_NS / work_ns if work_ns else self._fastest
        end_ns = max(self.stream.push(now_ns, size_bytes, fastest), now_ns + work_ns)
        self.step.begin(sent, shown_bytes, size_bytes, end_ns)

    def _set(self, when_ns: int, then: Callable[[], None]) -> None:
        if self._closed:
            return
        self._then = then
        self._timer = self._clock.at(when_ns, self._due) if when_ns < FAR_NS else None

    def _due(self) -> None:
        self._timer = None
        then, self._then = self._then, None
        if then is not None:
            then()

    def _changed(self) -> None:
        """The link has changed under a write."""
        if not self.in_flight:
            return
        if self.stream.broken:
            self.cancel()
            self._broke()
            return
        now_ns = self._clock.now_ns
        if self._blocked is not None:
            if self._timer is None:
                # On the process's own time, which a frozen one does not have.
                self._timer = self._clock.after(0, self._try_again)
            return
        end_ns = max(now_ns, self.stream.push(now_ns, 0, self._fastest))
        if end_ns == self.step.end_ns or self._then is None:
            return
        then = self._then
        self.step.end_ns = end_ns
        self.cancel()
        self.slept = False
        self._set(end_ns, then)

    def _try_again(self) -> None:
        self._timer = None
        if self._blocked is not None:
            span_ns, slices, most_pages, then = self._blocked
            self._blocked = None
            self.write(self._clock.now_ns + span_ns, slices, most_pages, then)
