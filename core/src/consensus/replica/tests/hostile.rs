//! Members that say anything at all: nothing they send makes a replica panic or outgrow its bounds.

use super::super::*;
use super::units::{HINTS, NOW, life, replica};
use crate::consensus::seats::SeatChange;
use alloc::collections::VecDeque;
use core::cell::Cell;
use quickcheck::quickcheck;

/// A group of three, of which `names[0]` leads, after some entries; the last one is a learner.
fn group() -> Vec<Replica> {
    let mut all: Vec<Replica> = (1..=4).map(|name| replica(name, 3)).collect();
    let mut out = Output::default();
    all[0].stand();
    for name in 2..=3 {
        all[0].request_founding(life(name), &mut out);
    }
    settle(&mut all, &mut out);
    all[0].found(NOW, crate::WallTime::default(), &mut out).unwrap();
    settle(&mut all, &mut out);
    assert!(all[0].open(NOW));
    settle(&mut all, &mut out);
    for request in 0..4 {
        let group = all[0].group().unwrap();
        all[0].ask(group, life(1), request, &mut out);
        settle(&mut all, &mut out);
    }
    all[0].add_learner(life(4), &mut out);
    settle(&mut all, &mut out);
    assert!(all[3].log().is_some_and(|log| log.snapshot().is_some()));
    all
}

fn settle(all: &mut [Replica], out: &mut Output) {
    let mut under_way = VecDeque::new();
    loop {
        all.iter_mut().for_each(|replica| replica.flush(NOW, out));
        under_way.extend(out.sends.drain(..));
        let Some(envelope) = under_way.pop_front() else {
            return;
        };
        if let Some(to) = all.iter_mut().find(|replica| replica.life() == envelope.to) {
            to.receive(NOW, &envelope, HINTS, out);
        }
    }
}

/// Everything that the owner of a replica might do.
fn decide(replica: &mut Replica, choice: u8, out: &mut Output) {
    let others = [life(1), life(2), life(3), life(4), life(9)];
    let other = others[usize::from(choice / 16) % others.len()];
    match choice % 16 {
        0 => replica.pre_campaign(NOW, out),
        1 | 2 => replica.campaign(NOW, out),
        3 | 4 => drop(replica.beat(NOW, out)),
        5 => drop(replica.propose(Command::Noop)),
        6 => drop(replica.propose(Command::Seat(SeatChange::Empty(other)))),
        7 => replica.add_learner(other, out),
        8 => drop(replica.fill_seat(other)),
        9 => drop(replica.empty_seat(other, out)),
        10 => {
            let seats: Vec<Life> = replica.seats().into_iter().flat_map(Seats::iter).collect();
            let _ = replica.transfer(&seats, out);
        }
        11 => drop(replica.close(NOW)),
        12 => drop(replica.open(Instant::FAR_FUTURE)),
        13 => {
            replica.abandon();
            assert!(replica.stand());
        }
        14 => drop(replica.found(NOW, crate::WallTime::default(), out)),
        _ => drop((replica.completed_round(), replica.opens_at(), replica.floor())),
    }
}

std::thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

fn anything_goes(start: u8, script: Vec<(Envelope, u8)>) -> bool {
    let mut all = group();
    let index = usize::from(start) % all.len();
    let (of_group, mut replica) = (all[0].group().unwrap(), all.swap_remove(index));
    for (mut envelope, choice) in script {
        envelope.to = replica.life();
        if choice % 4 > 0 {
            envelope.group = replica.group().unwrap_or(of_group);
            // In a term that means something to it, and from somebody whom it knows.
            envelope.from = life(1 + choice % 5);
        }
        let before = replica.clone();
        let mut out = Output::default();
        replica.receive(NOW, &envelope, HINTS, &mut out);
        TAKEN.set(TAKEN.get() + usize::from(replica != before || !out.sends.is_empty()));
        decide(&mut replica, choice, &mut out);
        replica.flush(NOW, &mut out);
        for sent in &out.sends {
            let mut body = Vec::new();
            crate::consensus::codec::put_envelope(&mut body, sent);
            if body.len() > crate::wire::MAX_FRAME_BODY {
                return false;
            }
        }
    }
    true
}

#[test]
fn nothing_from_the_network_makes_a_replica_panic() {
    quickcheck::QuickCheck::new()
        .tests(2000)
        .quickcheck(anything_goes as fn(u8, Vec<(Envelope, u8)>) -> bool);
    // Else it would have been dropped at the door.
    assert!(TAKEN.get() > 10_000, "only {} messages did anything", TAKEN.get());
}

quickcheck! {
    /// Whatever bytes a learner is sent as a snapshot, it takes them only if they are one of its group.
    fn a_snapshot_of_any_bytes(data: Vec<u8>, damage: Option<(usize, u8)>, last: (u64, u64)) -> bool {
        let all = group();
        let (leader, mut learner) = (&all[0], replica(5, 3));
        let honest = leader.log().unwrap().snapshot().unwrap().data.clone();
        let data = match damage {
            None => data,
            Some((place, value)) => {
                let mut damaged = honest.to_vec();
                let place = place % damaged.len();
                damaged[place] = value;
                damaged
            }
        };
        let envelope = Envelope {
            group: leader.group().unwrap(),
            from: leader.life(),
            to: learner.life(),
            message: Message::Snapshot {
                term: 1,
                last: Position { term: last.0 >> 2, index: last.1 >> 2 },
                offset: 0,
                total: data.len() as u32,
                data: data.into(),
                round: 1,
            },
        };
        let mut out = Output::default();
        learner.receive(NOW, &envelope, HINTS, &mut out);
        learner.campaign(NOW, &mut out);
        learner.beat(NOW, &mut out);
        learner.machine().is_none_or(|machine| {
            machine.found.group == leader.group().unwrap()
                && machine.seats.len() <= 15
                && machine.found.is_valid(learner.rules())
        })
    }
}

#[test]
fn the_grace_is_waited_for_where_somebody_has_asked_for_a_lock() {
    for asked in [false, true] {
        let mut all: Vec<Replica> = (1..=3).map(|name| replica(name, 3)).collect();
        let mut out = Output::default();
        if asked {
            let gone = Group {
                founder: life(9),
                founding: 1,
            };
            let ask = crate::locks::Ask::Release { tokens: [1].into() };
            all[2].ask_locks(NOW, gone, life(9), ask, &mut out);
        }
        all[0].stand();
        for name in 2..=3 {
            all[0].request_founding(life(name), &mut out);
        }
        settle(&mut all, &mut out);
        all[0].found(NOW, crate::WallTime::default(), &mut out).unwrap();
        settle(&mut all, &mut out);
        assert_eq!(all[0].opens_at() == Some(Instant::ZERO), !asked);
    }
}
