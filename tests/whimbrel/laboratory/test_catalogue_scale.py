"""The rule by which settings are scaled."""

import pytest

from whimbrel.laboratory.catalogue_scale import KVM, LIMIT_ROUNDS, LINKS, MIB, Part, Size, Workload, goal, make, steady
from whimbrel.sim.scenario import Pattern, Writer

SIZE = Size(filled_bytes=60 * MIB, zero_bytes=4 * MIB, round_s=3.0)


def test_what_has_no_dimension_is_kept() -> None:
    part = Part(name="set", part=0.25, rate=1.5, cpu=0.3, pattern=Pattern.SWEEP, period=2.0, duty=0.5, shift=0.5)

    assert SIZE.bandwidth_bytes_per_s == 20 * MIB
    assert SIZE.writer(part) == Writer(
        name="set",
        size_bytes=15 * MIB,
        rate_bytes_per_s=30.0 * MIB,
        pattern=Pattern.SWEEP,
        period_s=6.0,
        duty=0.5,
        shift_s=1.5,
        cpu_share=0.3,
    )


def test_a_run_is_censored_after_ten_rounds_a_minute_or_what_is_said() -> None:
    assert SIZE.censored_s == LIMIT_ROUNDS * 3.0
    assert Size(round_s=9.0).censored_s == 60.0
    assert Size(limit_s=5.0).censored_s == 5.0


def test_a_curve_is_scaled_in_both_directions() -> None:
    guest = Workload(about="", curve=((0.1, 0.05), (1.0, 0.5)), size=SIZE).guest()

    assert [window_s for window_s, _ in guest.curve] == pytest.approx([0.3, 3.0])
    assert [dirtied for _, dirtied in guest.curve] == [3.0 * MIB, 30.0 * MIB]
    assert guest.zero_bytes == 4 * MIB
    assert guest.pages


def test_a_name_says_link_and_goal() -> None:
    workload = Workload(about="A guest.", parts=(Part(name="set", part=0.5, rate=0.5),), size=SIZE)

    case = make("web-7@noisy-soon", "published", workload, about="In a hurry.")

    assert (case.workload, case.link, case.family) == ("web-7", "noisy-soon", "published")
    assert case.about == "A guest. In a hurry."
    assert case.scenario.link.noise > 0
    assert case.scenario.objectives.deadline_s == 7.5
    assert case.scenario.qemu == KVM
    assert case.scenario.limit_s == 30.0


def test_a_link_of_any_other_name_is_steady_with_its_pipe() -> None:
    workload = Workload(about="", size=SIZE)

    assert make("idle@1g", "basic", workload).scenario.link == steady(SIZE)
    assert make("idle@1g", "basic", workload, pipe_s=0.1).scenario.link.pipe_bytes == 2 * MIB


def test_a_link_that_is_shared_leaves_the_migration_the_same_round() -> None:
    link = LINKS["shared"](SIZE)

    assert link.bandwidth_bytes_per_s / (1 + link.rivals) == SIZE.bandwidth_bytes_per_s


def test_links_change_within_the_migration_they_are_for() -> None:
    [(fades_s, half), (back_s, whole)] = LINKS["fading"](SIZE).steps
    [(stops_s, for_s)] = LINKS["outage"](SIZE).outages

    assert (half, whole) == (10.0 * MIB, 20.0 * MIB)
    assert 0 < fades_s < SIZE.round_s < back_s < SIZE.censored_s
    assert SIZE.round_s < stops_s < stops_s + for_s < SIZE.censored_s


@pytest.mark.parametrize(
    ("word", "throttle", "postcopy", "pause", "downtime_s", "deadline_s"),
    [
        ("", 0.99, True, True, 0.3, None),
        ("tight", 0.99, True, True, 0.06, None),
        ("soon", 0.99, True, True, 0.3, 7.5),
        ("precopy", 0.99, False, False, 0.3, None),
        ("gentle", 0.0, False, False, 0.3, None),
        ("pause", 0.0, False, True, 0.3, None),
    ],
)
def test_each_goal_allows_what_it_says(
    word: str, throttle: float, postcopy: bool, pause: bool, downtime_s: float, deadline_s: float | None
) -> None:
    wanted = goal(SIZE, word)

    assert wanted.greatest_throttle == throttle
    assert (wanted.may_postcopy, wanted.may_pause, wanted.may_abort) == (postcopy, pause, True)
    assert wanted.downtime_s == pytest.approx(downtime_s)
    assert wanted.deadline_s == deadline_s


def test_a_goal_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'hasty'"):
        goal(SIZE, "hasty")
