"""``calc-dirty-rate``: what QEMU measures by sampling pages, from what the guest's memory is expected to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from random import Random
from typing import Protocol, runtime_checkable

from whimbrel.sim import seeds

from . import errors
from .contract import QmpMessage, Version
from .errors import Refusal
from .host import Host

MIB = 1 << 20
SECOND_NS = 1_000_000_000
SIGSEGV = 11
DEFAULT_SAMPLES = 512
"""Of each GiB (``DIRTYRATE_DEFAULT_SAMPLE_PAGES``, dirtyrate.h)."""
MANY_SAMPLES = 20_000
"""From so many on their number is drawn from the normal law: the difference is far below one in a thousand."""


@runtime_checkable
class Expecting(Protocol):
    """A memory that knows how many bytes its guest will have dirtied, each page once, in a window."""

    def expected_bytes(self, now_ns: int, window_s: float) -> float:
        """Distinct bytes dirtied in a window of this length, seconds, from this time of the world on."""
        ...


class DirtyRate:
    """The one measurement that a process can have at a time."""

    def __init__(self, host: Host, crash: Callable[[int], None]) -> None:
        """Take the process, and how it dies of a signal."""
        self._host = host
        self._crash = crash
        self._status = "unstarted"
        self._mode = "page-sampling"
        self._start_s = 0
        self._calc_time = 0
        self._unit = "second"
        self._sample_pages = 0
        self._rate_mib_per_s = 0
        self._chance = seeds.stream(host.seed, "pages that calc-dirty-rate looks at")

    def measure(self, arguments: Mapping[str, object]) -> None:
        """``calc-dirty-rate``.

        Raises:
            Refusal: out of range, under way already, or of a mode that this machine has not.
        """
        old = self._host.version is Version.V7_2
        if self._status == "measuring":
            raise Refusal("the dirty rate is already being measured.")
        calc_time, unit = int(str(arguments["calc-time"])), str(arguments.get("calc-time-unit", "second"))
        milliseconds = calc_time if unit == "millisecond" else calc_time * 1000
        if old and not 1 <= calc_time <= 60:
            raise Refusal("calc-time is out of range[1, 60].")
        if not old and not 50 <= milliseconds <= 60_000:
            raise Refusal("Calculation time is out of range [50ms, 60000ms].")
        mode = str(arguments.get("mode", "page-sampling"))
        pages = arguments.get("sample-pages")
        if pages is not None:
            if mode != "page-sampling":
                raise Refusal("sample-pages is used only in page-sampling mode")
            if not 128 <= int(str(pages)) <= 16384:
                raise Refusal("sample-pages is out of range[128, 16384].")
        self._check_mode(mode)
        if old and mode != "page-sampling":
            self._crash(SIGSEGV)  # QEMU 7.2 without KVM: there is no dirty log of the kernel's to ask for
            return
        self._mode, self._calc_time, self._unit = mode, calc_time, unit
        self._sample_pages = int(str(pages)) if pages is not None else 0
        if not self._sample_pages and mode == "page-sampling":
            self._sample_pages = DEFAULT_SAMPLES
        self._start_s = self._host.time.now_ns // SECOND_NS
        self._status = "measuring"
        window_ns = milliseconds * SECOND_NS // 1000
        self._rate_mib_per_s = self._rate(milliseconds)
        self._host.time.after(window_ns, self._measured)

    def describe(self, unit: str = "second") -> QmpMessage:
        """``query-dirty-rate``."""
        old = self._host.version is Version.V7_2
        milliseconds = self._calc_time if self._unit == "millisecond" else self._calc_time * 1000
        answer: QmpMessage = {
            "status": self._status,
            "sample-pages": self._sample_pages,
            "mode": self._mode,
            "start-time": self._start_s,
            "calc-time": milliseconds if unit == "millisecond" else milliseconds // 1000,
        }
        if not old:
            answer["calc-time-unit"] = unit
        if self._status == "measured":
            answer["dirty-rate"] = self._rate_mib_per_s
        return answer

    def _check_mode(self, mode: str) -> None:
        ring = self._host.machine.dirty_ring
        if self._host.version is Version.V7_2:
            return
        if mode == "dirty-ring" and not ring:
            raise errors.Refusal("mode dirty-ring is not enabled, use other method instead.")
        if mode == "dirty-bitmap" and ring:
            raise errors.Refusal("mode dirty-bitmap is not enabled, use other method instead.")

    def _rate(self, milliseconds: int) -> int:
        """What it will come to, MiB/s: of the pages of a sample, drawn with replacement, those that changed."""
        memory, machine = self._host.memory, self._host.machine
        if self._mode == "dirty-bitmap" and not machine.accelerator.startswith("kvm"):
            return 0
        if self._host.run_state != "running" or not isinstance(memory, Expecting):
            return 0
        expected_bytes = memory.expected_bytes(self._host.time.now_ns, milliseconds / 1000)
        if not self._sample_pages:
            return int(expected_bytes * 1000 / milliseconds / MIB)
        samples = max(1, machine.ram_bytes * self._sample_pages >> 30)
        changed = binomial(self._chance, samples, expected_bytes / machine.ram_bytes)
        # In this order, in whole numbers (``update_dirtyrate``, dirtyrate.c).
        return changed * (machine.ram_bytes // MIB) * 1000 // (samples * milliseconds)

    def _measured(self) -> None:
        self._status = "measured"


def binomial(random: Random, tries: int, probability: float) -> int:
    """How many of so many independent tries come off."""
    if tries < MANY_SAMPLES:
        return sum([random.random() < probability for _ in range(tries)])
    mean = tries * probability
    return min(tries, max(0, round(random.gauss(mean, sqrt(max(0.0, mean * (1 - probability)))))))
