"""What the words of a command line mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from whimbrel.engine.errors import BadInput
from whimbrel.engine.policy import Objectives
from whimbrel.given import Allowed, address, check_text, destination, new_file, objectives, throttle
from whimbrel.qmp_driver.destination import Existing, FromSource


def test_objectives_are_in_plain_units() -> None:
    wanted = Objectives(downtime_s=0.3, deadline_s=120.0, bandwidth_bytes_per_s=125_000_000)
    assert objectives("300ms", "2m", "1Gbit/s") == wanted
    assert objectives("1", None, None) == Objectives(downtime_s=1.0)
    assert objectives(None, None, None) == Objectives(downtime_s=0.3), "what is held to where nobody asked"


@pytest.mark.parametrize(
    ("given", "field"),
    [(("x", None, None), "downtime"), (("1", "x", None), "deadline"), (("1", None, "x"), "bandwidth")],
)
def test_an_objective_that_cannot_be_read_is_named(given: tuple[str, str | None, str | None], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        objectives(*given)
    assert (caught.value.field, caught.value.given) == (field, "x")


def test_what_a_policy_may_do_is_added_to_what_it_may_already() -> None:
    nothing = objectives("300ms", None, None)
    assert nothing == Objectives(downtime_s=0.3)
    allowed = Allowed(throttle="90%", may_abort=True, may_pause=True, may_postcopy=True, abort_on_fault=True)
    everything = Objectives(
        downtime_s=0.3,
        greatest_throttle=0.9,
        may_abort=True,
        may_pause=True,
        may_postcopy=True,
        abort_on_fault=True,
    )
    assert objectives("300ms", None, None, allowed) == everything
    assert Allowed().of(everything) == everything, "what a file allows stays allowed"


@pytest.mark.parametrize(
    ("allowed", "stated"),
    [
        (Allowed(), False),
        (Allowed(abort_on_fault=True), False),
        (Allowed(throttle="0"), True),
        (Allowed(may_abort=True), True),
        (Allowed(may_pause=True), True),
        (Allowed(may_postcopy=True), True),
    ],
)
def test_what_a_plan_can_make_use_of_counts_as_stated(allowed: Allowed, stated: bool) -> None:
    assert allowed.stated is stated


@pytest.mark.parametrize(("text", "share"), [("0.9", 0.9), ("90%", 0.9), ("0", 0.0), ("99%", 0.99)])
def test_a_throttle_is_a_part(text: str, share: float) -> None:
    assert throttle(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "x", "1", "100%", "99.5%", "-1", "150%", "nan", "inf"])
def test_a_throttle_that_leaves_the_guest_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="a part from 0 to 99%") as caught:
        throttle(text)
    assert caught.value.field == "throttle"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/run/vm/qmp.sock", "/run/vm/qmp.sock"),
        ("qmp.sock", "qmp.sock"),
        ("dir:1/2:3", "dir:1/2:3"),
        ("name:with:colons", "name:with:colons"),
        ("host:4444", ("host", 4444)),
        ("[::1]:4444", ("::1", 4444)),
        ("::1:4444", ("::1", 4444)),
        ("host:²", "host:²"),
    ],
)
def test_an_address_is_a_path_or_a_host_and_port(text: str, meant: object) -> None:
    assert address("to", text) == meant


@pytest.mark.parametrize("text", ["", ":1", "[]:1", "host:0", "host:65536", "host:" + "9" * 5000, "a\0b"])
def test_an_address_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="a socket's path, or HOST:PORT"):
        address("to", text)


@given(st.text())
@example("٣:٣")
def test_any_text_is_an_address_or_bad_input(text: str) -> None:
    try:
        meant = address("to", text)
    except BadInput:
        return
    assert meant == text or (isinstance(meant, tuple) and bool(meant[0]) and 1 <= meant[1] <= 65535)


def test_a_destination_is_made_from_the_source_or_there_already() -> None:
    made = destination(None, "/opt/qemu", ["netdev=user,id=a=b"], True)
    assert isinstance(made, FromSource)
    there = destination("other:4444", None, None, False)
    assert isinstance(there, Existing)
    assert there.address == ("other", 4444)


@pytest.mark.parametrize(
    ("to", "binary", "replacements", "field"),
    [
        (None, None, ["netdev"], "replace"),
        (None, None, ["=x"], "replace"),
        ("q", None, ["a=b"], "replace"),
        ("q", "/opt/qemu", None, "destination-qemu"),
        ("", None, None, "to"),
    ],
)
def test_what_does_not_fit_a_destination_is_named(
    to: str | None, binary: str | None, replacements: list[str] | None, field: str
) -> None:
    """One that runs already takes neither a binary nor replacements: dropping them in silence would mislead."""
    with pytest.raises(BadInput) as caught:
        destination(to, binary, replacements, False)
    assert caught.value.field == field


def test_a_log_is_a_new_file(tmp_path: Path) -> None:
    """Whether it can be made is seen when it is made; a folder, a pipe or a device will never do."""
    assert new_file(None) is None
    assert new_file(tmp_path / "new") == tmp_path / "new"
    for wrong in (tmp_path, Path("/dev/null")):
        with pytest.raises(BadInput, match="log: "):
            new_file(wrong)


def test_bytes_that_are_no_text_are_refused() -> None:
    """Python hands such an argument over with a lone surrogate for each of its bytes."""
    check_text(["migrate", "größe", "", "🐦"])
    with pytest.raises(BadInput, match="text in UTF-8") as caught:
        check_text(["migrate", "a\udcffb"])
    assert caught.value.given == b"a\xffb"
