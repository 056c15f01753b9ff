#![allow(clippy::unwrap_used)]

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).unwrap()
}

/// Connected at 0, with nothing to do and no look planned.
fn in_step() -> Cycle {
    let mut cycle = Cycle::new(Tuning::default());
    assert_eq!(cycle.next(0), Next::Connect);
    cycle.connected(0);
    cycle.check_at = Millis::MAX;
    assert_eq!(cycle.next(0), Next::Wait(None));
    cycle
}

#[test]
fn a_save_is_sent_after_a_moment_without_another() {
    let mut cycle = in_step();
    cycle.hint(path("a"), 100);
    assert_eq!(cycle.next(100), Next::Wait(Some(102)));
    cycle.hint(path("b"), 101);
    assert_eq!(cycle.next(102), Next::Wait(Some(103)));
    assert_eq!(cycle.next(103), Next::Paths([path("a"), path("b")].into()));
    assert_eq!(cycle.next(103), Next::Wait(None));
}

#[test]
fn saves_that_never_end_are_sent_all_the_same() {
    let mut cycle = in_step();
    for now in 100..112 {
        cycle.hint(path("a"), now);
        assert!(matches!(cycle.next(now), Next::Wait(Some(_))), "{now}");
    }
    cycle.hint(path("a"), 112);
    assert_eq!(cycle.next(112), Next::Paths([path("a")].into()));
}

#[test]
fn very_many_paths_are_the_whole_tree() {
    let mut cycle = in_step();
    for number in 0..=MANY {
        cycle.hint(path(&number.to_string()), 5);
    }
    assert_eq!(cycle.pending(), None);
    assert_eq!(cycle.next(500), Next::Tree);
}

#[test]
fn nothing_is_sent_while_git_is_at_work() {
    let mut cycle = in_step();
    cycle.git(true, false, None, 100);
    cycle.hint(path("a"), 100);
    assert!(matches!(cycle.next(10_000), Next::Wait(Some(_))));
    cycle.git(false, false, Some(Moved), 10_001);
    assert_eq!(cycle.next(10_002), Next::Wait(Some(10_041)));
    assert_eq!(cycle.next(10_041), Next::Tree, "as one batch");
    assert_eq!(cycle.next(10_041), Next::Wait(None));
}

#[test]
fn the_steps_of_a_rebase_are_one_batch() {
    let mut cycle = in_step();
    for step in 0..20 {
        let now = 1000 + step * 300;
        cycle.git(true, true, None, now);
        assert!(matches!(cycle.next(now), Next::Wait(_)));
        cycle.git(false, true, Some(Moved), now + 100);
        assert!(matches!(cycle.next(now + 290), Next::Wait(Some(_))), "between two steps");
    }
    // It stopped for somebody to resolve a conflict: edits go on.
    assert_eq!(cycle.next(9_000), Next::Tree);
    cycle.git(false, true, None, 9_100);
    cycle.hint(path("a"), 9_100);
    assert_eq!(cycle.next(9_102), Next::Paths([path("a")].into()));
}

#[test]
fn a_stale_lock_is_told_and_holds_nothing() {
    let mut cycle = in_step();
    cycle.git(true, false, None, 100);
    cycle.hint(path("a"), 100);
    assert_eq!(cycle.next(200), Next::Wait(Some(30_100)));
    assert!(cycle.is_held_by_git(30_099) && !cycle.has_stale_lock(30_099));
    cycle.git(true, false, None, 30_100);
    assert!(cycle.has_stale_lock(30_100) && !cycle.is_held_by_git(30_100));
    assert_eq!(cycle.next(30_100), Next::Paths([path("a")].into()));
}

#[test]
fn a_lost_connection_is_tried_again_ever_less_often() {
    let mut cycle = in_step();
    let mut now = 1_000;
    let mut waits = Vec::new();
    for _ in 0..10 {
        cycle.disconnected(now);
        let Next::Wait(Some(until)) = cycle.next(now) else { panic!("it waits") };
        waits.push(until - now);
        now = until;
        assert_eq!(cycle.next(now), Next::Connect);
    }
    assert_eq!(waits[..3], [100, 200, 400][..].to_vec()[..]);
    assert_eq!(waits.last(), Some(&5_000));
    cycle.connected(now);
    cycle.disconnected(now);
    assert_eq!(cycle.next(now), Next::Wait(Some(now + 100)), "a success forgets the failures");
}

#[test]
fn paused_and_halted_sessions_do_nothing_and_go_on_with_everything() {
    for stop in [Cycle::pause as fn(&mut Cycle), |cycle| cycle.halt(Halt::RootVanished)] {
        let mut cycle = in_step();
        stop(&mut cycle);
        cycle.hint(path("a"), 100);
        cycle.set_barrier(Waiting::Yes);
        assert_eq!(cycle.next(1_000_000), Next::Wait(None));
        cycle.set_barrier(Waiting::No);
        cycle.resume(1_000_000);
        assert_eq!(cycle.next(1_000_015), Next::Tree);
    }
}

#[test]
fn a_halt_of_the_guest_ends_with_the_guest_and_no_other_does() {
    for (halt, next) in [
        (Halt::GuestRefuses { why: "read-only".into() }, Next::Connect),
        (Halt::GuestDiskFull, Next::Connect),
        (Halt::RootVanished, Next::Wait(None)),
        (Halt::RootEmptied { files: 9 }, Next::Wait(None)),
    ] {
        let mut cycle = in_step();
        cycle.disconnected(50);
        cycle.halt(halt.clone());
        cycle.forget_refusal(100);
        assert_eq!(cycle.next(200), next, "{halt:?}");
    }
}

#[test]
fn a_barrier_looks_at_once_and_a_running_command_keeps_its_tree() {
    let mut cycle = in_step();
    cycle.set_barrier(Waiting::Yes);
    assert_eq!(cycle.next(50), Next::Tree);
    cycle.set_barrier(Waiting::No);
    cycle.hold();
    cycle.hold();
    cycle.hint(path("a"), 60);
    cycle.set_barrier(Waiting::Yes);
    assert_eq!(cycle.next(99_000), Next::Wait(None), "not even for another barrier");
    cycle.release();
    assert_eq!(cycle.next(99_000), Next::Wait(None));
    cycle.release();
    assert_eq!(cycle.next(99_000), Next::Tree);
}

#[test]
fn looks_that_nothing_asked_for_cost_a_fixed_share() {
    let mut cycle = in_step();
    cycle.looked(4, 1_000);
    assert_eq!(cycle.next(1_001), Next::Wait(Some(31_000)));
    cycle.looked(400, 1_000);
    assert_eq!(cycle.next(1_001), Next::Wait(Some(201_000)));
    assert_eq!(cycle.next(201_000), Next::Tree);
    cycle.set_polling(Polling::Yes, 201_500);
    assert_eq!(cycle.next(201_500), Next::Tree);
    cycle.looked(300, 300_000);
    cycle.checked(10, 300_000);
    assert_eq!(cycle.next(300_001), Next::Wait(Some(303_000)), "the check first");
    assert_eq!(cycle.next(303_000), Next::Check);
    cycle.checked(100, 303_000);
    assert_eq!(cycle.next(303_001), Next::Wait(Some(306_000)));
}

#[test]
fn a_tree_that_cannot_be_read_is_tried_again_later() {
    let mut cycle = in_step();
    cycle.hint_tree(0);
    assert_eq!(cycle.next(15), Next::Tree);
    cycle.failed(20);
    assert_eq!(cycle.next(21), Next::Wait(Some(120)));
    assert_eq!(cycle.next(120), Next::Tree);
    cycle.failed(120);
    assert_eq!(cycle.next(121), Next::Wait(Some(320)));
    cycle.resume(130);
    assert_eq!(cycle.next(145), Next::Tree, "somebody says it is fixed");
}
