use super::*;
use crate::checkers::consensus::view::Entries;
use quorate_core::consensus::{Entry, Machine, Position};
use quorate_core::locks::Table;
use quorate_core::{Duration, NodeId};

/// What the tests of groups have in common: replicas that nobody runs, which say what a test wants.
pub(in crate::checkers::consensus) fn life(number: u8) -> Life {
    Life::first(NodeId::from_bytes([number; 16]))
}

pub(in crate::checkers::consensus) const RULES: Rules = Rules {
    best_effort: false,
    seats: 3,
    surge: 0,
    observers: false,
    max_ttl: Duration::from_secs(10),
    grace: Duration::from_secs(10),
};

/// A replica.
#[derive(Clone)]
pub(in crate::checkers::consensus) struct Fake {
    pub(in crate::checkers::consensus) key: Key,
    pub(in crate::checkers::consensus) found: Found,
    seats: Seats,
    machine: Machine,
    entries: Vec<Entry>,
}

impl Entries for Fake {
    fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.checked_sub(self.key.base.index + 1)?;
        self.entries.get(at as usize)
    }
}

impl Fake {
    /// The founder of a group of these seats, in term 1.
    pub(in crate::checkers::consensus) fn founder(number: u8, seats: &[u8], token_base: u64) -> Self {
        let seats = seats.iter().map(|&seat| life(seat)).collect();
        Self::of(life(number), seats, token_base)
    }

    pub(in crate::checkers::consensus) fn of(founder: Life, seats: Seats, token_base: u64) -> Self {
        let group = Group { founder, founding: 1 };
        let found = Found {
            group,
            seats,
            token_base,
        };
        let mut fake = Self {
            key: Key {
                life: founder,
                group: Some(group),
                part: Part::Leader,
                term: 1,
                vote: None,
                commit: 0,
                applied: 0,
                last: Position::default(),
                base: Position::default(),
                asked: false,
                floor: 0,
            },
            seats: found.seats.clone(),
            machine: Machine {
                found: found.clone(),
                seats: found.seats.clone(),
                open: false,
                decided: false,
                counter: token_base,
                table: Table::default(),
            },
            entries: Vec::new(),
            found,
        };
        let begins = Command::Found(fake.found.clone());
        fake.append(begins);
        fake
    }

    /// Another life that has stored what this one has.
    pub(in crate::checkers::consensus) fn follower(&self, number: u8) -> Self {
        self.followed_by(life(number))
    }

    pub(in crate::checkers::consensus) fn followed_by(&self, life: Life) -> Self {
        let mut fake = self.clone();
        (fake.key.life, fake.key.part, fake.key.vote) = (life, Part::Follower, None);
        fake
    }

    pub(in crate::checkers::consensus) fn append(&mut self, command: Command) {
        if let Command::Seat(change) = command {
            self.seats.apply(change);
        }
        let term = self.key.term;
        self.entries.push(Entry { term, command });
        self.key.last = Position {
            term,
            index: self.key.last.index + 1,
        };
    }

    /// Learns that all entries up to this one are decided.
    pub(in crate::checkers::consensus) fn commit(&mut self, index: Index) {
        for at in self.key.commit + 1..=index {
            let machine = &mut self.machine;
            match self.entries[at as usize - 1].command {
                Command::Open => (machine.open, machine.decided) = (true, true),
                Command::Close => (machine.open, machine.decided) = (false, true),
                Command::Seat(change) => machine.seats.apply(change),
                Command::Draw { .. } if machine.open => machine.counter += 1,
                _ => {}
            }
        }
        (self.key.commit, self.key.applied) = (index, index);
    }

    pub(in crate::checkers::consensus) fn votes(&mut self, term: Term, number: u8) {
        (self.key.term, self.key.vote, self.key.part) = (term, Some(life(number)), Part::Follower);
    }

    fn leads(&mut self, term: Term) {
        self.key.part = Part::Leader;
        self.key.vote = Some(self.key.life);
        self.key.term = term;
    }

    pub(in crate::checkers::consensus) fn view(&self) -> View<'_> {
        View {
            key: self.key,
            group: self.found.group,
            found: &self.found,
            seats: &self.seats,
            machine: &self.machine,
            log: self,
        }
    }
}

/// A group, and what was seen of each life in it.
pub(in crate::checkers::consensus) struct Watch {
    pub(in crate::checkers::consensus) ledger: Ledger,
    before: BTreeMap<Life, Key>,
    pub(in crate::checkers::consensus) now: Instant,
}

impl Watch {
    pub(in crate::checkers::consensus) fn new(founder: &Fake, rules: Rules, now: Instant) -> Self {
        Self {
            ledger: Ledger::new(&founder.view(), rules, now).unwrap(),
            before: BTreeMap::new(),
            now,
        }
    }

    pub(in crate::checkers::consensus) fn look(&mut self, fake: &Fake) -> Result<Shown, String> {
        let fresh = Key {
            group: None,
            part: Part::None,
            term: 0,
            vote: None,
            commit: 0,
            applied: 0,
            last: Position::default(),
            base: Position::default(),
            ..fake.key
        };
        let before = self.before.insert(fake.key.life, fake.key).unwrap_or(fresh);
        let at = Moment {
            now: self.now,
            local: self.now,
        };
        self.ledger.look(at, &before, &fake.view())
    }

    fn shows(&mut self, fakes: &[&Fake]) {
        for fake in fakes {
            self.look(fake).unwrap();
        }
    }

    #[track_caller]
    fn objects(&mut self, fake: &Fake, what: &str) {
        let objection = self.look(fake).expect_err("it must object");
        assert!(objection.contains(what), "{objection}");
    }
}

const fn at(secs: u64) -> Instant {
    Instant::from_millis(secs * 1_000)
}

/// A group of three that all have stored and know as founded: the replicas, leader first.
fn founded(rules: Rules) -> (Watch, [Fake; 3]) {
    let mut a = Fake::founder(1, &[1, 2, 3], 100);
    let (mut b, mut c) = (a.follower(2), a.follower(3));
    let mut watch = Watch::new(&a, rules, at(1));
    watch.shows(&[&a, &b, &c]);
    for fake in [&mut a, &mut b, &mut c] {
        fake.commit(1);
        watch.look(fake).unwrap();
    }
    (watch, [a, b, c])
}

fn draw(number: u8) -> Command {
    Command::Draw {
        to: life(number),
        request: 1,
    }
}

#[test]
fn a_group_that_keeps_to_the_rules_is_left_alone() {
    let (mut watch, [mut a, _, mut c]) = founded(RULES);
    // The grace is skipped; tokens follow.
    a.append(Command::Open);
    a.append(draw(3));
    let shown = watch.look(&a).unwrap();
    let skipped = Rare::Opened {
        skipped: true,
        again: false,
    };
    assert_eq!(shown.rare, [skipped]);
    let mut b = a.follower(2);
    watch.look(&b).unwrap();
    a.commit(3);
    let shown = watch.look(&a).unwrap();
    let grant = Grant {
        to: life(3),
        token: 101,
        index: 3,
    };
    assert!(shown.decided && shown.grants == [grant] && watch.ledger.grant(101) == Some(&grant));
    assert_eq!(watch.ledger.tokens, Some((101, 101)));
    // The leader is gone: another one, by its own vote and the third one's.
    b.leads(2);
    c.votes(2, 2);
    watch.look(&c).unwrap();
    b.append(Command::Noop);
    assert_eq!(watch.look(&b).unwrap().rare, [Rare::Elected]);
    c = b.follower(3);
    c.votes(2, 2);
    watch.look(&c).unwrap();
    b.commit(4);
    watch.look(&b).unwrap();
    // It takes the first one's seat, and gives it to a new process.
    b.append(Command::Seat(SeatChange::Empty(life(1))));
    assert_eq!(watch.look(&b).unwrap().rare, [Rare::SeatEmptied]);
    c = b.follower(3);
    c.votes(2, 2);
    watch.look(&c).unwrap();
    b.commit(5);
    b.append(Command::Seat(SeatChange::Fill(life(4))));
    assert_eq!(watch.look(&b).unwrap().filled, [life(4)]);
}

#[test]
fn a_beginning_has_enough_seats_and_not_too_many_and_a_founder() {
    let cases: [(&[u8], &str); 3] = [
        (&[1], "is founded with 1 seats: must be 2 to 3"),
        (&[1, 2, 3, 4], "is founded with 4 seats: must be 2 to 3"),
        (&[2, 3, 4], "the founder of the group"),
    ];
    for (seats, what) in cases {
        let founder = Fake::founder(1, seats, 100);
        let objection = Ledger::new(&founder.view(), RULES, at(1)).unwrap_err();
        assert!(objection.contains(what), "{objection}");
    }
    let founder = Fake::founder(1, &[1, 2, 3], 100);
    let objection = Ledger::new(&founder.follower(2).view(), RULES, at(1)).unwrap_err();
    assert!(objection.contains("never founded"), "{objection}");
    let (mut watch, [_, mut b, _]) = founded(RULES);
    b.found.token_base += 1;
    watch.objects(&b, "knows another beginning");
}

#[test]
fn two_leaders_in_one_term() {
    let (mut watch, [a, mut b, c]) = founded(RULES);
    b.key.part = Part::Leader;
    watch.objects(&b, "both lead the group");
    // A later term is another matter, with the votes for it.
    let (mut watch, [_, mut b, mut c2]) = founded(RULES);
    c2.votes(2, 2);
    watch.look(&c2).unwrap();
    b.leads(2);
    watch.look(&b).unwrap();
    let _ = (a, c);
}

#[test]
fn two_votes_in_one_term() {
    let (mut watch, [_, _, mut c]) = founded(RULES);
    c.votes(2, 2);
    watch.look(&c).unwrap();
    c.votes(2, 1);
    watch.objects(&c, "in which it has voted for");
}

#[test]
fn a_leader_without_votes_enough_or_a_seat() {
    let (mut watch, [_, mut b, _]) = founded(RULES);
    b.leads(2);
    watch.objects(&b, "by the votes of 1 seats: a quorum is 2");
    // A vote of a life without a seat counts for nothing.
    let (mut watch, [a, mut b, _]) = founded(RULES);
    let mut other = a.follower(4);
    other.votes(2, 2);
    watch.look(&other).unwrap();
    b.leads(2);
    watch.objects(&b, "by the votes of 1 seats: a quorum is 2");
    let (mut watch, [a, ..]) = founded(RULES);
    let mut other = a.follower(4);
    other.leads(2);
    watch.objects(&other, "without a seat");
    let mut other = a.follower(5);
    other.key.part = Part::Candidate;
    watch.objects(&other, "stands for election");
}

#[test]
fn a_leader_without_what_was_decided() {
    let (mut watch, [mut a, b, _]) = founded(RULES);
    a.append(Command::Noop);
    watch.look(&a).unwrap();
    let mut c = a.follower(3);
    watch.look(&c).unwrap();
    a.commit(2);
    watch.look(&a).unwrap();
    c.votes(2, 2);
    watch.look(&c).unwrap();
    let mut b2 = b.clone();
    b2.leads(2);
    watch.objects(&b2, "without entry 2 of term 1, which was decided");
}

#[test]
fn logs_that_do_not_match() {
    let (mut watch, [mut a, mut b, _]) = founded(RULES);
    a.append(Command::Noop);
    watch.look(&a).unwrap();
    b.append(draw(2));
    watch.objects(&b, "elsewhere");
    // The same entry after another one.
    let (mut watch, [mut a, mut b, _]) = founded(RULES);
    a.append(Command::Noop);
    (a.key.term, a.key.part) = (3, Part::Follower);
    a.append(Command::Noop);
    watch.look(&a).unwrap();
    b.key.term = 2;
    b.append(Command::Noop);
    b.key.term = 3;
    b.append(Command::Noop);
    watch.objects(&b, "after term 2 in the log");
    let (mut watch, [mut a, ..]) = founded(RULES);
    let again = Command::Found(a.found.clone());
    a.append(again);
    watch.objects(&a, "entry 2 of");
    let (mut watch, [_, mut b, _]) = founded(RULES);
    b.key.term = 3;
    b.append(Command::Noop);
    b.entries[1].term = 4;
    b.key.last.term = 4;
    watch.objects(&b, "are out of order at entry 2");
}

#[test]
fn decided_by_too_few() {
    let (mut watch, [mut a, ..]) = founded(RULES);
    a.append(Command::Noop);
    a.commit(2);
    watch.objects(&a, "is decided by 1 seats: a quorum is 2");
    // A life without a seat does not count.
    let (mut watch, [mut a, ..]) = founded(RULES);
    a.append(Command::Noop);
    watch.shows(&[&a, &a.follower(4)]);
    a.commit(2);
    watch.objects(&a, "is decided by 1 seats: a quorum is 2");
    // With a surge it takes more for the beginning.
    let mut a = Fake::founder(1, &[1, 2, 3], 100);
    let mut watch = Watch::new(&a, Rules { surge: 1, ..RULES }, at(1));
    watch.shows(&[&a, &a.follower(2)]);
    a.commit(1);
    watch.objects(&a, "by 2 of the lives that it names: it takes 3");
}

#[test]
fn a_seat_that_was_taken_since_counted_when_the_entry_was_decided() {
    let (mut watch, [mut a, ..]) = founded(RULES);
    a.append(Command::Noop);
    watch.shows(&[&a, &a.follower(2)]);
    // Decided and emptied in one input.
    a.commit(2);
    a.append(Command::Seat(SeatChange::Empty(life(2))));
    watch.look(&a).unwrap();
}

#[test]
fn decided_differently() {
    let (mut watch, [mut a, mut b, mut c]) = founded(RULES);
    a.append(Command::Noop);
    watch.shows(&[&a, &a.follower(2)]);
    a.commit(2);
    watch.look(&a).unwrap();
    c.key.term = 2;
    c.append(Command::Noop);
    c.commit(2);
    watch.objects(&c, "takes that of term 2 for decided");
    b.key.commit = 7;
    watch.objects(&b, "has only");
    // A snapshot of what nobody decided.
    let (mut watch, [_, mut b, _]) = founded(RULES);
    let last = Position { term: 1, index: 9 };
    (b.key.base, b.key.last, b.key.commit, b.key.applied) = (last, last, 9, 9);
    b.entries.clear();
    watch.objects(&b, "which was never decided");
}

#[test]
fn a_state_that_does_not_follow_from_the_log() {
    type Spoil = fn(&mut Machine);
    let spoilers: [Spoil; 4] = [
        |machine| machine.open = false,
        |machine| machine.decided = false,
        |machine| machine.counter = 100,
        |machine| machine.seats = Seats::default(),
    ];
    for spoil in spoilers {
        let (mut watch, [mut a, ..]) = founded(RULES);
        a.append(Command::Open);
        a.append(draw(1));
        watch.shows(&[&a, &a.follower(2)]);
        a.commit(3);
        spoil(&mut a.machine);
        watch.objects(&a, "does not follow from the log");
    }
    let (mut watch, [_, mut b, _]) = founded(RULES);
    b.key.applied = 2;
    watch.objects(&b, "which is not decided");
}

#[test]
fn seats_change_one_at_a_time_and_in_a_term_that_has_decided_something() {
    let change = Command::Seat(SeatChange::Empty(life(3)));
    let (mut watch, [mut a, ..]) = founded(RULES);
    a.append(change.clone());
    a.append(Command::Seat(SeatChange::Fill(life(4))));
    watch.objects(&a, "while the change before, entry 2, is not decided");
    let (mut watch, [_, mut b, mut c]) = founded(RULES);
    c.votes(2, 2);
    watch.look(&c).unwrap();
    b.leads(2);
    b.append(Command::Noop);
    b.append(change.clone());
    watch.objects(&b, "before it has decided an entry of its own");
    let (mut watch, [mut a, ..]) = founded(RULES);
    a.append(Command::Seat(SeatChange::Fill(life(4))));
    watch.objects(&a, "so that 4 are filled: must be 2 to 3");
    let (mut watch, [mut a, ..]) = founded(RULES);
    a.append(change);
    watch.shows(&[&a, &a.follower(2)]);
    a.commit(2);
    a.append(Command::Seat(SeatChange::Empty(life(2))));
    watch.objects(&a, "so that 1 are filled: must be 2 to 3");
}

#[test]
fn a_group_opens_after_the_grace_or_where_it_may_be_skipped() {
    // Nobody skips it, and the time has passed.
    let surge = Rules { surge: 1, ..RULES };
    let (mut watch, [mut a, ..]) = founded(surge);
    watch.now = at(11);
    a.append(Command::Open);
    let opened = watch.look(&a).unwrap();
    assert_eq!(opened.opened, Some(at(1)));
    let cases = [
        (surge, "a surge is allowed for"),
        (
            Rules {
                observers: true,
                ..RULES
            },
            "observers may hold something",
        ),
    ];
    for (rules, why) in cases {
        let (mut watch, [mut a, ..]) = founded(rules);
        watch.now = at(10);
        a.append(Command::Open);
        watch.objects(&a, why);
    }
    // Named by two; stored by two of three; asked before.
    let mut a = Fake::founder(1, &[1, 2], 100);
    let mut watch = Watch::new(&a, RULES, at(1));
    watch.shows(&[&a, &a.follower(2)]);
    a.append(Command::Open);
    watch.objects(&a, "it names only 2 of 3 seats");
    let mut a = Fake::founder(1, &[1, 2, 3], 100);
    let mut watch = Watch::new(&a, RULES, at(1));
    watch.shows(&[&a, &a.follower(2)]);
    a.append(Command::Open);
    watch.objects(&a, "has not stored its beginning");
    let mut a = Fake::founder(1, &[1, 2, 3], 100);
    let mut watch = Watch::new(&a, RULES, at(1));
    let mut asker = a.follower(3);
    asker.key.asked = true;
    watch.shows(&[&a, &a.follower(2), &asker]);
    a.append(Command::Open);
    watch.objects(&a, "had asked for a token before");
}

#[test]
fn a_group_that_was_closed_waits_again_and_a_new_leader_from_the_start() {
    let closed = || {
        let (mut watch, [mut a, ..]) = founded(RULES);
        a.append(Command::Open);
        watch.now = at(20);
        a.append(Command::Close);
        let (b, c) = (a.follower(2), a.follower(3));
        watch.shows(&[&a, &b, &c]);
        (watch, [a, b, c])
    };
    let (mut watch, [mut a, ..]) = closed();
    watch.now = at(29);
    a.append(Command::Open);
    watch.objects(&a, "though it was closed");
    let (mut watch, [mut a, ..]) = closed();
    watch.now = at(30);
    a.append(Command::Open);
    watch.look(&a).unwrap();
    let (mut watch, [_, mut b, mut c]) = closed();
    watch.now = at(25);
    c.votes(2, 2);
    watch.look(&c).unwrap();
    b.leads(2);
    watch.look(&b).unwrap();
    watch.now = at(31);
    b.append(Command::Open);
    watch.objects(&b, "after 6.000 s in place of 10.000 s");
}
