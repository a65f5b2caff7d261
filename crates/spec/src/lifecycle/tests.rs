use super::*;

const PHASES: [Phase; 7] =
    [Phase::Created, Phase::Starting, Phase::Running, Phase::Paused, Phase::Stopping, Phase::Restarting, Phase::Exited];

const EVENTS: [Event; 7] =
    [Event::Claimed, Event::Started, Event::Paused, Event::Resumed, Event::StopAsked, Event::Renewed, Event::Ended];

#[test]
fn the_table_of_phases() {
    use Phase::{Exited, Paused, Restarting, Running, Starting, Stopping};
    // Claimed, started, paused, resumed, stop asked, renewed, ended.
    let table = [
        [Some(Starting), None, None, None, None, None, None],
        [None, Some(Running), None, None, Some(Stopping), None, Some(Exited)],
        [None, None, Some(Paused), None, Some(Stopping), Some(Restarting), Some(Exited)],
        [None, None, None, Some(Running), Some(Stopping), Some(Restarting), Some(Exited)],
        [None, Some(Stopping), None, None, Some(Stopping), Some(Restarting), Some(Exited)],
        [None, Some(Running), None, None, Some(Stopping), Some(Restarting), Some(Exited)],
        [Some(Starting), None, None, None, None, None, None],
    ];
    for (phase, row) in PHASES.into_iter().zip(table) {
        for (event, expected) in EVENTS.into_iter().zip(row) {
            assert_eq!(phase.after(event), expected, "{phase:?} {event:?}");
        }
    }
}

#[test]
fn a_vm_is_owned_exactly_where_it_can_end() {
    for phase in PHASES {
        assert_eq!(phase.is_live(), phase.after(Event::Ended).is_some(), "{phase:?}");
    }
}

const SHORT: Duration = Duration::from_secs(1);

fn next(end: LifeEnd, asked: Asked, policy: &str) -> Next {
    after(end, asked, policy.parse().unwrap(), Retries::default(), SHORT)
}

#[test]
fn a_policy_decides_where_nothing_was_asked() {
    let retry = Next::Retry(Duration::from_millis(100));
    for (policy, well, ill) in [
        ("no", Next::End, Next::End),
        ("on-failure", Next::End, retry),
        ("on-failure:2", Next::End, retry),
        ("always", retry, retry),
        ("unless-stopped", retry, retry),
    ] {
        assert_eq!(next(LifeEnd::Exited(0), Asked::Nothing, policy), well, "{policy}");
        assert_eq!(next(LifeEnd::Exited(3), Asked::Nothing, policy), ill, "{policy}");
        assert_eq!(next(LifeEnd::Rebooted, Asked::Nothing, policy), Next::Renew, "{policy}");
    }
}

#[test]
fn what_was_asked_stands_over_the_policy_and_over_a_reboot() {
    for end in [LifeEnd::Exited(0), LifeEnd::Exited(1), LifeEnd::Rebooted] {
        for policy in ["no", "on-failure:1", "always", "unless-stopped"] {
            assert_eq!(next(end, Asked::Stop, policy), Next::End, "{end:?} {policy}");
            assert_eq!(next(end, Asked::Restart, policy), Next::Renew, "{end:?} {policy}");
        }
    }
}

#[test]
fn a_container_that_fails_again_and_again_is_restarted_so_often_and_ever_later() {
    let policy = "on-failure:12".parse().unwrap();
    let mut retries = Retries::default();
    let mut pauses = Vec::new();
    while let Next::Retry(pause) = after(LifeEnd::Exited(1), Asked::Nothing, policy, retries, SHORT) {
        pauses.push(pause.as_millis());
        retries = retries.after(SHORT);
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
}

#[test]
fn a_life_that_was_long_begins_the_pauses_anew_and_not_the_count() {
    let (policy, long) = ("on-failure:3".parse().unwrap(), Duration::from_secs(10));
    let retries = Retries::default().after(SHORT).after(SHORT);
    let next = after(LifeEnd::Exited(1), Asked::Nothing, policy, retries, long);
    assert_eq!(next, Next::Retry(Duration::from_millis(100)));
    let retries = retries.after(long);
    assert_eq!(retries, Retries { counted: 3, in_a_row: 1 });
    assert_eq!(after(LifeEnd::Exited(1), Asked::Nothing, policy, retries, long), Next::End);
}
