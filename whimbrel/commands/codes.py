"""What the exit code of a command says."""

from __future__ import annotations

from whimbrel.engine.report import CompletedReport

OK, FAILED, BAD_INPUT, NOT_BEGUN, CANCELLED, UNSETTLED = 0, 1, 2, 3, 4, 5

EPILOG = """\b
Exit codes:
  0  done
  1  failed: the message says where the guest is
  2  bad input
  3  not begun: refused by the preflight, nothing can meet the objectives, or
     a side could not be reached or prepared
  4  cancelled
  5  who owns the guest could not be settled: whimbrel resolve LOG
"""


def exit_code(report: CompletedReport) -> int:
    """The exit code that tells how a migration ended."""
    if report.outcome == "completed":
        return OK
    untouched = report.outcome == "cancelled" and all(each.stage == 1 for each in report.stages)
    if report.owner == "limbo" or (report.guest in ("held", "unconfirmed") and not untouched):
        return UNSETTLED
    return CANCELLED if report.outcome == "cancelled" else FAILED
