"""Every error is one readable sentence made of the parts that are known."""

from __future__ import annotations

from whimbrel.engine.errors import (
    BadInput,
    Infeasible,
    MigrationCancelled,
    MigrationFailed,
    OutcomeUnknown,
    PreflightFailed,
    QemuRefused,
    WhimbrelError,
)


def test_the_parts_make_a_sentence() -> None:
    error = WhimbrelError("it broke", side="source", owner="limbo", advice="look at both")
    assert str(error) == "source: it broke (the guest belongs to: limbo); look at both"
    assert str(WhimbrelError("it broke")) == "it broke"


def test_bad_input_names_field_value_and_what_is_allowed() -> None:
    error = BadInput("downtime", "soon", "a time such as 300ms")
    assert str(error) == "downtime: 'soon' is not allowed; allowed: a time such as 300ms"
    assert isinstance(error, ValueError)


def test_the_rest_of_the_tree() -> None:
    assert "no" in str(QemuRefused("cont", "GenericError", "no", side="source"))
    assert "unknown" in str(OutcomeUnknown("cont", "connection lost"))
    assert PreflightFailed("x", ()).owner == "source"
    refusal = Infeasible("nothing can", plan="the plan", advice="allow more")
    assert (str(refusal), refusal.plan) == ("nothing can (the guest belongs to: source); allow more", "the plan")
    assert MigrationFailed("x", report=None, owner="limbo").owner == "limbo"
    assert MigrationCancelled("x", report=None, owner="source").owner == "source"
