//! One process, and what it does by itself.

use super::locks::{Wanted, granted};
use quorate_core::consensus::{
    Command, Entry, Envelope, Group, Hints, Life, Message, Output, Replica, Role, Rules, Term,
};
use quorate_core::locks::{Answer, Client, LockId};
use quorate_core::{NodeId, WallTime};

/// The coarse clock.
pub(super) type Tick = u8;

/// 2020-01-01 in microseconds since 1970, from which tokens count.
const EPOCH_MICROS: u64 = 1_577_836_800_000_000;

/// The id of the process that was started as the n-th.
pub(super) fn node(number: u8) -> NodeId {
    let mut bytes = [0; 16];
    bytes[0] = number;
    NodeId::from_bytes(bytes)
}

/// Which process it was that was started.
pub(super) fn number_of(node: NodeId) -> u8 {
    node.to_bytes()[0]
}

/// A request for a token that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    request: u8,
    at: Tick,
}

/// A token that the process believes it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Belief {
    pub(super) group: Group,
    pub(super) token: u64,
    /// The tick at which it is over.
    pub(super) until: Tick,
    /// Whether it is the lock's; else it was drawn, and its group may grant any number of them.
    pub(super) exclusive: bool,
}

/// A token that a leader has answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub(super) token: u64,
    pub(super) to: Life,
    pub(super) request: u64,
}

/// What a process can do by itself. Peers, groups and messages are named by their numbers in the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// Reads a message that was sent to it at any time.
    Read(u32),
    Stand,
    /// Creates the group, with so many microseconds since 2020 on the wall clock.
    Found(u8),
    /// Stands for election; a leader steps down before.
    Campaign,
    Beat,
    Open,
    /// Asks the leader of a group for a token.
    Ask {
        leader: u32,
        request: u8,
    },
    Learn(u32),
    Fill(u32),
    Empty(u32),
    Abandon,
    /// Its client acts, and asks the leader of a group.
    Client {
        leader: u32,
        wanted: Wanted,
    },
    /// As a leader does what is due of locks.
    Due,
    /// The clock moves on to this tick.
    Wake(Tick),
}

/// What names in an [`Act`] stand for.
#[derive(Debug)]
pub(super) enum Target<'a> {
    None,
    Message(&'a Envelope),
    Leader(Group, Life, Term),
    Peer(Life),
}

/// What came of an act.
#[derive(Debug, Default)]
pub(super) struct Deed {
    pub(super) sends: Vec<Envelope>,
    pub(super) grants: Vec<Grant>,
    pub(super) founded: bool,
    /// Tokens of the lock that it believes in from here on.
    pub(super) began: Vec<u64>,
}

/// A process: its replica, its client, what it asked for and what it believes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) replica: Replica,
    pub(super) client: Client,
    /// The lock that its client waits for or holds.
    pub(super) lock: Option<LockId>,
    /// The leader that its client asked last.
    turned_to: Option<(Group, Term)>,
    asked: Vec<Asked>,
    pub(super) beliefs: Vec<Belief>,
}

impl Process {
    pub(super) fn new(rules: Rules, number: u8, eligible: bool) -> Self {
        let mut client = Client::default();
        client.adopt(rules.terms.max_ttl, rules.terms.drift_permille, false);
        Self {
            replica: Replica::new(rules, node(number), eligible),
            client,
            lock: None,
            turned_to: None,
            asked: Vec::new(),
            beliefs: Vec::new(),
        }
    }

    pub(super) fn life(&self) -> Life {
        self.replica.life()
    }

    pub(super) fn leads(&self) -> bool {
        self.replica.leadership().is_some()
    }

    /// Whether this process would grant a token, as far as it knows.
    pub(super) fn grants(&self) -> bool {
        self.leads() && self.replica.machine().is_some_and(|machine| machine.open)
    }

    /// Whether its client may ask this leader. It does not turn back to one of an earlier term: it would ask the same
    /// once more each time, without end.
    pub(super) fn may_turn_to(&self, leader: &Self) -> bool {
        let (group, term) = (leader.replica.group(), leader.replica.term());
        let stays = self.turned_to.filter(|&(before, _)| group == Some(before));
        leader.leads() && stays.is_none_or(|(_, before)| before <= term)
    }

    pub(super) fn beliefs(&self) -> &[Belief] {
        &self.beliefs
    }

    /// Acts, at a moment of this tick.
    pub(super) fn act(&mut self, now: Tick, act: Act, target: &Target<'_>) -> Deed {
        let at = self.leaders_clock(now);
        let mut out = Output::default();
        let mut deed = Deed::default();
        match (act, target) {
            (Act::Read(_), Target::Message(envelope)) => {
                // Whatever its owner may think: each empty log takes part in each founding, and nobody refuses a vote
                // because it hears a leader.
                let hints = Hints {
                    fresh: true,
                    leader_heard: false,
                };
                self.replica.receive(at, envelope, hints, &mut out);
                match envelope.message {
                    Message::Drawn { .. } => self.believe(&mut out),
                    Message::Answer(_) => self.take_answers(now, &mut out, &mut deed),
                    _ => {}
                }
            }
            (Act::Stand, _) => {
                self.replica.stand();
            }
            (Act::Found(micros), _) => {
                let wall = WallTime::from_unix_micros(EPOCH_MICROS + u64::from(micros));
                deed.founded = self.replica.found(at, wall, &mut out).is_ok();
            }
            (Act::Campaign, _) => {
                if self.leads() {
                    self.replica.step_down();
                }
                self.replica.campaign(at, &mut out);
            }
            (Act::Beat, _) => {
                self.replica.beat(at, &mut out);
            }
            (Act::Open, _) => {
                self.replica.open(at);
            }
            (Act::Ask { request, .. }, &Target::Leader(group, leader, _)) => {
                self.asked.push(Asked { request, at: now });
                self.replica.ask(group, leader, u64::from(request), &mut out);
            }
            (Act::Learn(_), &Target::Peer(peer)) => self.replica.add_learner(peer, &mut out),
            (Act::Fill(_), &Target::Peer(peer)) => {
                self.replica.fill_seat(peer);
            }
            (Act::Empty(_), &Target::Peer(peer)) => {
                self.replica.empty_seat(peer, &mut out);
            }
            (Act::Abandon, _) => {
                // SAFETY (abandon): beliefs end first.
                self.asked = Vec::new();
                self.beliefs.retain(|belief| belief.exclusive);
                self.end_life(now);
                self.replica.abandon();
            }
            (Act::Client { wanted, .. }, &Target::Leader(group, leader, term)) => {
                self.turned_to = Some((group, term));
                self.use_client(now, wanted, (group, leader), &mut out, &mut deed);
            }
            (Act::Due, _) => self.replica.locks_due(at, &mut out),
            (Act::Wake(tick), _) => {
                self.asked.retain(|asked| asked.at + 1 > tick);
                self.beliefs.retain(|belief| belief.until > tick);
            }
            _ => unreachable!("{act:?} has another kind of target"),
        }
        self.replica.flush(at, &mut out);
        deed.grants = grants(self.life(), &out);
        self.believe(&mut out);
        self.take_answers(now, &mut out, &mut deed);
        deed.sends = out.sends;
        deed
    }

    /// Takes answers to requests whose lease is not over. Removes them.
    fn believe(&mut self, out: &mut Output) {
        for drawn in out.drawn.drain(..) {
            let place = self
                .asked
                .iter()
                .position(|asked| u64::from(asked.request) == drawn.request);
            let Some(place) = place else { continue };
            let asked = self.asked.remove(place);
            self.beliefs.extend(drawn.token.map(|token| Belief {
                group: drawn.group,
                token,
                until: asked.at + 1,
                exclusive: false,
            }));
        }
    }

    /// Whether a message to this process can never again change anything, whatever happens. Such a message need not
    /// be remembered. Says `false` where that is not obvious.
    pub(super) fn is_done_with(&self, envelope: &Envelope) -> bool {
        let replica = &self.replica;
        let Envelope { group, from, .. } = *envelope;
        // A life is never in a second group, and never without one again.
        let elsewhere = replica.group().is_some_and(|mine| mine != group);
        match envelope.message {
            Message::FoundRequest => return replica.group().is_some() || !replica.is_eligible(),
            Message::FoundVote { .. } => {
                // Who stops to stand stands anew under another number.
                return match replica.founding().standing() {
                    Some((number, mut votes)) => number != group.founding || votes.any(|vote| vote == from),
                    None => true,
                };
            }
            Message::Draw { .. } | Message::Ask(_) => return elsewhere,
            Message::Answer(ref answer) => {
                return matches!(answer, Answer::Elsewhere | Answer::Revoked { .. });
            }
            Message::Drawn { request, .. } => {
                return self.asked.iter().all(|asked| u64::from(asked.request) != request);
            }
            _ => {}
        }
        if elsewhere || !replica.is_eligible() {
            return true;
        }
        let (Some(role), Some(term)) = (replica.role(), term_of(&envelope.message)) else {
            return false;
        };
        // Terms never fall, and nobody is a candidate or leader of the same term again.
        let past = term < replica.term();
        let present = term == replica.term();
        match envelope.message {
            Message::Vote { granted, .. } => match role {
                Role::Candidate { granted: by } => past || present && (!granted || by.contains(&from)),
                _ => past || present,
            },
            Message::AppendReply { .. } | Message::SnapshotReply { .. } => {
                past || present && !matches!(role, Role::Leader(_))
            }
            // The vote was sent when it was given.
            Message::RequestVote { .. } => present && replica.vote() == Some(from),
            _ => false,
        }
    }
}

impl Process {
    /// Whether a message that changes nothing now, and was answered, may be forgotten.
    ///
    /// Mostly it never matters again. Left out are only late refusals: a request of a term that is over is refused
    /// once, not again in each later term; and that a log does not match is forgotten when it is known to match.
    pub(super) fn has_heard(&self, envelope: &Envelope) -> bool {
        let replica = &self.replica;
        if let Message::Answer(_) = envelope.message {
            // A promise that is no longer than what is believed, or of which nobody knows anything.
            return true;
        }
        if replica.group() != Some(envelope.group) {
            return false;
        }
        match &envelope.message {
            Message::RequestVote { .. } => true,
            Message::Append {
                term, prev, entries, ..
            } => *term < replica.term() || prev.index + entries.len() as u64 <= replica.last().index,
            Message::Snapshot { term, last, .. } => *term < replica.term() || last.index <= replica.commit(),
            Message::AppendReply { index, matched, .. } => {
                let progress = replica
                    .leadership()
                    .and_then(|leadership| leadership.peer(envelope.from));
                let seated = replica.seats().is_some_and(|seats| seats.contains(envelope.from));
                progress.is_some_and(|progress| {
                    *index <= progress.matched() && (!matched || seated || progress.is_caught_up())
                })
            }
            _ => false,
        }
    }
}

/// Tokens that this life answers with, to others and to itself.
fn grants(me: Life, out: &Output) -> Vec<Grant> {
    let others = out.sends.iter().filter_map(|envelope| match envelope.message {
        Message::Drawn {
            request,
            token: Some(token),
        } => Some(Grant {
            token,
            to: envelope.to,
            request,
        }),
        Message::Answer(ref answer) => granted(answer).map(|(token, request)| Grant {
            token,
            to: envelope.to,
            request,
        }),
        _ => None,
    });
    let own = out.drawn.iter().filter_map(|drawn| {
        drawn.token.map(|token| Grant {
            token,
            to: me,
            request: drawn.request,
        })
    });
    let locks = out.answers.iter().filter_map(|(_, answer)| granted(answer));
    let locks = locks.map(|(token, request)| Grant {
        token,
        to: me,
        request,
    });
    others.chain(own).chain(locks).collect()
}

/// The term that a message inside a group speaks of.
fn term_of(message: &Message) -> Option<Term> {
    match *message {
        Message::RequestVote { term, .. }
        | Message::Vote { term, .. }
        | Message::Append { term, .. }
        | Message::AppendReply { term, .. }
        | Message::Snapshot { term, .. }
        | Message::SnapshotReply { term, .. } => Some(term),
        _ => None,
    }
}

/// Writes a life for people: the process as a letter, in the order in which they start.
pub(super) fn name(life: Life) -> String {
    let letter = char::from(b'a' + number_of(life.node) % 26);
    match life.number {
        0 => letter.to_string(),
        number => format!("{letter}.{number}"),
    }
}

/// Writes a group for people.
pub(super) fn group_name(group: Group) -> String {
    format!("group {}/{}", name(group.founder), group.founding)
}

/// Writes an entry for people.
pub(super) fn entry_name(entry: &Entry) -> String {
    let what = match &entry.command {
        Command::Found(found) => {
            let seats: Vec<_> = found.seats.iter().map(name).collect();
            format!("Found[{}]", seats.join(" "))
        }
        Command::Noop => "Noop".to_owned(),
        Command::Seat(quorate_core::consensus::SeatChange::Fill(life)) => format!("Fill[{}]", name(*life)),
        Command::Seat(quorate_core::consensus::SeatChange::Empty(life)) => format!("Empty[{}]", name(*life)),
        Command::Open => "Open".to_owned(),
        Command::Close => "Close".to_owned(),
        Command::Draw { to, request } => format!("Draw[{} #{request}]", name(*to)),
        Command::Lock(change) => format!("{change:?}"),
    };
    format!("{what}@{}", entry.term)
}

/// Writes a message for people.
pub(super) fn message_name(envelope: &Envelope) -> String {
    let what = match &envelope.message {
        Message::Append {
            term,
            prev,
            entries,
            commit,
            round,
        } => {
            let entries: Vec<_> = entries.iter().map(entry_name).collect();
            format!(
                "Append of term {term}, round {round}, commit {commit}, after {}@{}: [{}]",
                prev.index,
                prev.term,
                entries.join(", ")
            )
        }
        Message::AppendReply {
            term,
            index,
            matched,
            round,
            virgin,
        } => {
            let fits = if *matched { "matches to" } else { "no match, last" };
            let virgin = if *virgin { ", virgin" } else { "" };
            format!("AppendReply of term {term}, round {round}: {fits} {index}{virgin}")
        }
        other => format!("{other:?}"),
    };
    format!("{} ({})", what, group_name(envelope.group))
}
