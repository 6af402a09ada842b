"""Everything that Whimbrel raises, in one tree.

    WhimbrelError                 catch this one to catch them all
     +-- BadInput                 a value given by the user: names the field, what was given, what is allowed
     +-- CannotConnect            no session with a QEMU monitor came about; nothing was changed
     +-- QemuRefused              QEMU answered "no": its state is known and unchanged
     +-- OutcomeUnknown           the connection went, or the deadline passed, with the command in flight
     +-- PreparationFailed        the destination could not be made ready; the source was not touched
     +-- PreflightFailed          the inspection found what forbids the migration: carries every finding
     +-- Infeasible               nothing is likely enough to meet the objectives: carries the plan; nothing was begun
     +-- HookRefused              a hook of the caller's said no, hung or failed (`whimbrel.qmp_driver.hooks`)
     +-- LockRefused              the guest's lock was not moved: somebody else has it (`whimbrel.qmp_driver.locks`)
     +-- MigrationFailed          it ended badly; carries the report, which names the owner of the guest
     +-- MigrationCancelled       it was called off; carries the report

Each error is made of the same parts: what was being done, to which side, what QEMU said, who owns the
guest, and what to do next. ``str(error)`` puts the parts that are known into one or two sentences.
"""

from __future__ import annotations

from typing import Any


class WhimbrelError(Exception):
    """Root of the tree.

    Attributes:
        message: one sentence, without a full stop, saying what went wrong.
        side: ``"source"``, ``"destination"`` or ``None`` where it concerns neither or both.
        owner: who owns the guest now (``"source"``, ``"destination"``, ``"limbo"``), where that is known.
        advice: what to do next, one sentence without a full stop, or ``None``.
    """

    def __init__(
        self,
        message: str,
        *,
        side: str | None = None,
        owner: str | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.side = side
        self.owner = owner
        self.advice = advice

    def __str__(self) -> str:
        text = f"{self.side}: {self.message}" if self.side else self.message
        if self.owner:
            text += f" (the guest belongs to: {self.owner})"
        if self.advice:
            text += f"; {self.advice}"
        return text


class BadInput(WhimbrelError, ValueError):
    """A value given by the user cannot be used.

    Attributes:
        field: the name of the option or argument.
        given: what was given, as text.
        allowed: what would be accepted.
    """

    def __init__(self, field: str, given: object, allowed: str) -> None:
        super().__init__(f"{field}: {given!r} is not allowed; allowed: {allowed}")
        self.field = field
        self.given = given
        self.allowed = allowed


class CannotConnect(WhimbrelError):
    """No QMP session came about, or there is none any more: nothing was sent, so nothing was changed."""


class QemuRefused(WhimbrelError):
    """QEMU answered a command with an error; its state is known and the command changed nothing.

    Attributes:
        command: the QMP command.
        error_class: QEMU's class (``GenericError`` for nearly everything).
        description: QEMU's own words.
    """

    def __init__(self, command: str, error_class: str, description: str, *, side: str | None = None) -> None:
        super().__init__(f"QEMU refused {command}: {description}", side=side)
        self.command = command
        self.error_class = error_class
        self.description = description


class OutcomeUnknown(WhimbrelError):
    """The answer to a command never came: nobody may assume that it ran, or that it did not.

    Attributes:
        command: the QMP command that was in flight.
        because: ``"connection lost"`` or ``"no answer within N s"``.
    """

    def __init__(self, command: str, because: str, *, side: str | None = None) -> None:
        super().__init__(f"whether {command} was carried out is unknown: {because}", side=side)
        self.command = command
        self.because = because


class PreparationFailed(WhimbrelError):
    """The destination could not be started or made ready; the source was not touched."""


class PreflightFailed(WhimbrelError):
    """What the inspection found forbids this migration.

    Attributes:
        findings: every finding, the warnings too (``whimbrel.qmp_driver.findings.Finding``).
    """

    def __init__(self, message: str, findings: tuple[Any, ...]) -> None:
        super().__init__(message, owner="source")
        self.findings = findings


class Infeasible(WhimbrelError):
    """No way to move the guest is likely enough to meet what was asked for, so that nothing was begun.

    Attributes:
        plan: what was measured and predicted (``whimbrel.engine.plan.Plan``).
    """

    def __init__(self, message: str, *, plan: Any, advice: str | None = None) -> None:
        super().__init__(message, owner="source", advice=advice)
        self.plan = plan


class MigrationFailed(WhimbrelError):
    """The migration ended without moving the guest, or its end could not be settled.

    Attributes:
        report: the completed report (``whimbrel.engine.report.CompletedReport``).
    """

    def __init__(self, message: str, *, report: Any, owner: str, advice: str | None = None) -> None:
        super().__init__(message, owner=owner, advice=advice)
        self.report = report


class MigrationCancelled(WhimbrelError):
    """The migration was called off and the guest stays where it was.

    Attributes:
        report: the completed report (``whimbrel.engine.report.CompletedReport``).
    """

    def __init__(self, message: str, *, report: Any, owner: str) -> None:
        super().__init__(message, owner=owner)
        self.report = report
