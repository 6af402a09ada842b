"""What QEMU answers when it refuses, in its words."""

from __future__ import annotations

GENERIC = "GenericError"
NO_COMMAND = "CommandNotFound"
NO_DEVICE = "DeviceNotFound"


class Refusal(Exception):
    """A command that is refused.

    Attributes:
        description: QEMU's sentence.
        error_class: one of QEMU's few classes.
    """

    def __init__(self, description: str, error_class: str = GENERIC) -> None:
        """Take QEMU's sentence and the class of the error."""
        super().__init__(description)
        self.description = description
        self.error_class = error_class


def missing(name: str) -> Refusal:
    """An argument that has to be there is not."""
    return Refusal(f"Parameter '{name}' is missing")


def unexpected(name: str) -> Refusal:
    """There is no such argument."""
    return Refusal(f"Parameter '{name}' is unexpected")


def wrong_type(name: str, expected: str) -> Refusal:
    """An argument of another JSON type."""
    return Refusal(f"Invalid parameter type for '{name}', expected: {expected}")


def wrong_value(name: str, value: object) -> Refusal:
    """A word that is none of those of its enumeration."""
    return Refusal(f"Parameter '{name}' does not accept value '{value}'")


def in_progress() -> Refusal:
    """A migration is under way."""
    return Refusal("There's a migration process in progress")
