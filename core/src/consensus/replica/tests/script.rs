//! The language of the traces.
//!
//! A trace is a text of commands, one a line. What a command brings about stands below it, indented: every message that
//! is sent (`+`), lost (`-`) or arrives (`a>b`), and what changes in whom. Lines that begin with `#` are for the reader.
//!
//! A process is called by a letter, its second life `a.1`, the group of its first founding `a/1`; `2:5` is the entry 5 of
//! term 2.
//!
//! | command | |
//! |---|---|
//! | `nodes 3 [surge S] [observers] [log L] [piece B]` | N processes; observers may ask, the log keeps L entries, snapshots travel in pieces of B bytes |
//! | `start d`, `observer o`, `crash a` | a new process, one without a vote, the end of one |
//! | `stand a`, `request a [b..]`, `retract a b`, `withdraw a`, `found a` | founding |
//! | `wall a MICROS` | the wall clock of `a`, in microseconds since 2020 |
//! | `busy b`, `fresh b`, `heard b`, `unheard b` | what `b`'s owner knows: takes part in foundings or not, has heard a leader or not |
//! | `precampaign a`, `campaign a`, `transfer a`, `stepdown a` | elections |
//! | `beat a`, `round a` | begin a quorum round; the newest that is complete |
//! | `propose a N`, `ask o a N` | an entry of the number N at leader `a`; `o` asks `a` for a token of its group (`a/1` if it has none) |
//! | `learner a d`, `unlearner a d`, `fill a d`, `empty a c` | seats, at leader `a` |
//! | `open a`, `close a`, `prolong a`, `opens a` | the gate |
//! | `abandon a` | the next life |
//! | `tick MS` | time passes, everywhere |
//! | `deliver [a>b] [*]`, `drop [a>b]`, `twice [a>b]` | what is under way (on one link) and, unless `*` or a link is given, all that follows from it; loses or doubles it. A number behind the link picks one message |
//! | `settle` | the same as `deliver`, told without the messages |
//! | `cut a..`, `heal` | everything that these send or are sent is lost |
//! | `forge a>b F S.. [term T] [base B]` | `a` sends `b` a group of the founder `F` with the seats `S`, as if it led it |
//! | `show a`, `log a`, `pending` | state |

use super::super::*;
use crate::consensus::codec::{kind_of, put_envelope, read_envelope};
use crate::consensus::seats::SeatChange;
use crate::locks::Terms;
use crate::time::{Duration, WallTime};
use crate::wire::MAX_FRAME_BODY;
use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write as _;

/// 2020-01-01 in microseconds since 1970.
const EPOCH_MICROS: u64 = 1_577_836_800_000_000;
/// More deliveries than any trace needs: something goes in circles.
const MAX_DELIVERIES: usize = 1000;

struct Host {
    replica: Replica,
    hints: Hints,
    wall: u64,
}

pub(super) struct World {
    now: Instant,
    rules: Rules,
    hosts: BTreeMap<char, Host>,
    cut: BTreeSet<char>,
    wire: VecDeque<Envelope>,
    /// Whether messages are left out of what is told.
    quiet: bool,
    out: String,
}

/// Runs a trace and returns it with what it brings about in place of what was there.
pub(super) fn run(text: &str) -> String {
    let mut world = World::new();
    let mut result = String::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            continue;
        }
        result.push_str(line);
        result.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            world.out.clear();
            world.command(line);
            result.push_str(&world.out);
        }
    }
    result
}

fn node(name: char) -> NodeId {
    NodeId::from_bytes([name as u8; 16])
}

fn name_of(id: NodeId) -> char {
    id.to_bytes()[0] as char
}

fn life(life: Life) -> String {
    match life.number {
        0 => name_of(life.node).to_string(),
        number => format!("{}.{number}", name_of(life.node)),
    }
}

fn group(group: Group) -> String {
    format!("{}/{}", life(group.founder), group.founding)
}

fn lives(lives: impl IntoIterator<Item = Life>) -> String {
    let names: Vec<String> = lives.into_iter().map(life).collect();
    names.join(" ")
}

fn at(position: Position) -> String {
    format!("{}:{}", position.term, position.index)
}

/// Large numbers as sums, so that a reader recognises them.
fn number(number: u64) -> String {
    match number {
        FLOOR_AHEAD.. => {
            let (times, rest) = (number / FLOOR_AHEAD, number % FLOOR_AHEAD);
            let times = if times == 1 {
                String::new()
            } else {
                format!("{times}*")
            };
            format!("{times}2^32+{rest}")
        }
        _ => number.to_string(),
    }
}

fn command(command: &Command) -> String {
    match command {
        Command::Found(found) => format!(
            "Found({} seats {} base {})",
            group(found.group),
            lives(found.seats.iter()),
            number(found.token_base)
        ),
        Command::Noop => "Noop".into(),
        Command::Seat(SeatChange::Fill(who)) => format!("Fill({})", life(*who)),
        Command::Seat(SeatChange::Empty(who)) => format!("Empty({})", life(*who)),
        Command::Lock(change) => format!("{change:?}"),
        Command::Open => "Open".into(),
        Command::Close => "Close".into(),
        Command::Draw { to, request } => format!("Draw({} #{request})", life(*to)),
    }
}

const fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn name(message: &Message) -> &'static str {
    match message {
        Message::FoundRequest => "FoundRequest",
        Message::FoundVote { .. } => "FoundVote",
        Message::PreVote { .. } => "PreVote",
        Message::PreVoteReply { .. } => "PreVoteReply",
        Message::RequestVote { .. } => "RequestVote",
        Message::Vote { .. } => "Vote",
        Message::Append { .. } => "Append",
        Message::AppendReply { .. } => "AppendReply",
        Message::Snapshot { .. } => "Snapshot",
        Message::SnapshotReply { .. } => "SnapshotReply",
        Message::Ask(_) => "Ask",
        Message::Answer(_) => "Answer",
        Message::Draw { .. } => "Draw",
        Message::Drawn { .. } => "Drawn",
        Message::TimeoutNow { .. } => "TimeoutNow",
    }
}

fn message(message: &Message) -> String {
    let text = match message {
        Message::FoundRequest => String::new(),
        Message::FoundVote { floor } => format!("floor {}", number(*floor)),
        Message::PreVote { term, last } | Message::RequestVote { term, last } => {
            format!("term {term} last {}", at(*last))
        }
        Message::PreVoteReply { term, granted } | Message::Vote { term, granted } => {
            format!("term {term} {}", yes(*granted))
        }
        Message::Append {
            term,
            prev,
            entries,
            commit,
            round,
        } => {
            let mut text = format!("term {term} commit {commit} round {round} after {}", at(*prev));
            for (index, entry) in (prev.index + 1..).zip(entries) {
                let _ = write!(text, ", {}:{index} {}", entry.term, command(&entry.command));
            }
            text
        }
        Message::AppendReply {
            term,
            index,
            matched,
            round,
            virgin,
        } => {
            let matched = if *matched { "matched" } else { "try after" };
            let virgin = if *virgin { " virgin" } else { "" };
            format!("term {term} {matched} {index} round {round}{virgin}")
        }
        Message::Snapshot {
            term,
            last,
            offset,
            total,
            data,
            round,
        } => {
            let end = *offset as usize + data.len();
            format!(
                "term {term} last {} bytes {offset}..{end} of {total} round {round}",
                at(*last)
            )
        }
        Message::SnapshotReply {
            term,
            last,
            received,
            round,
        } => format!("term {term} last {} has {received} round {round}", at(*last)),
        Message::Ask(ask) => format!("{ask:?}"),
        Message::Answer(answer) => format!("{answer:?}"),
        Message::Draw { request } => format!("#{request}"),
        Message::Drawn { request, token } => match token {
            Some(token) => format!("#{request} token {}", number(*token)),
            None => format!("#{request} denied"),
        },
        Message::TimeoutNow { term } => format!("term {term}"),
    };
    format!("{} {text}", name(message)).trim_end().to_owned()
}

fn link(envelope: &Envelope) -> String {
    format!("{}>{}", life(envelope.from), life(envelope.to))
}

fn sent(envelope: &Envelope) -> String {
    format!(
        "{} [{}] {}",
        link(envelope),
        group(envelope.group),
        message(&envelope.message)
    )
}

/// What can be told of a replica.
fn state(replica: &Replica) -> Vec<(&'static str, String)> {
    let none = || "none".to_owned();
    let standing = replica.founding().standing();
    let role = match replica.role() {
        None => none(),
        Some(Role::Follower { leader: None }) => "follows nobody".into(),
        Some(Role::Follower { leader: Some(leader) }) => format!("follows {}", life(*leader)),
        Some(Role::PreCandidate { granted }) => format!("pre-candidate ({})", lives(granted.iter().copied())),
        Some(Role::Candidate { granted }) => format!("candidate ({})", lives(granted.iter().copied())),
        Some(Role::Leader(_)) => "leads".into(),
    };
    let log = replica.log();
    let gate = match replica.machine().and_then(Machine::gate) {
        None => "never opened",
        Some(true) => "open",
        Some(false) => "closed",
    };
    Vec::from([
        ("life", life(replica.life())),
        (
            "stands",
            standing.map_or_else(none, |(founding, votes)| {
                format!("{}/{founding} ({})", life(replica.life()), lives(votes))
            }),
        ),
        ("group", replica.group().map_or_else(none, group)),
        ("term", replica.term().to_string()),
        ("vote", replica.vote().map_or_else(none, life)),
        ("role", role),
        ("log", log.map_or_else(none, |log| at(log.last()))),
        (
            "snapshot",
            log.and_then(Log::snapshot).map_or_else(none, |snapshot| {
                let kept = log.map_or(0, Log::first_index);
                format!("{}, entries from {kept}", at(snapshot.last))
            }),
        ),
        ("commit", replica.commit().to_string()),
        (
            "seats",
            replica.seats().map_or_else(none, |seats| lives(seats.iter())),
        ),
        ("gate", gate.into()),
        ("floor", number(replica.floor())),
    ])
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::from_millis(1000),
            rules: Rules {
                cluster_size: 0,
                surge: 0,
                allow_observers: false,
                grace: Duration::from_secs(30),
                terms: Terms::default(),
                log_limit: 100,
                snapshot_piece: 1024,
            },
            hosts: BTreeMap::new(),
            cut: BTreeSet::new(),
            wire: VecDeque::new(),
            quiet: false,
            out: String::new(),
        }
    }

    fn say(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{:width$}{text}", "", width = 2 * depth);
    }

    fn host(&mut self, name: char) -> &mut Host {
        let host = self.hosts.get_mut(&name);
        host.unwrap_or_else(|| panic!("no process {name}"))
    }

    /// Returns the present life of a process; the first one, if it does not run.
    fn life_of(&self, name: char) -> Life {
        let host = self.hosts.get(&name);
        host.map_or_else(|| Life::first(node(name)), |host| host.replica.life())
    }

    fn start(&mut self, name: char, eligible: bool) {
        let host = Host {
            replica: Replica::new(self.rules, node(name), eligible),
            hints: Hints {
                fresh: true,
                leader_heard: false,
            },
            wall: 0,
        };
        assert!(self.hosts.insert(name, host).is_none(), "{name} runs already");
    }

    /// Lets a process do something, and tells what comes of it.
    fn act<T>(
        &mut self,
        name: char,
        depth: usize,
        f: impl FnOnce(&mut Replica, Instant, Hints, &mut Output) -> T,
    ) -> T {
        let now = self.now;
        let host = self.host(name);
        let before = state(&host.replica);
        let mut output = Output::default();
        let result = f(&mut host.replica, now, host.hints, &mut output);
        host.replica.flush(now, &mut output);
        let after = state(&host.replica);
        let changes: Vec<String> = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after)
            .map(|(_, (label, value))| match *label {
                "role" => value.clone(),
                label => format!("{label} {value}"),
            })
            .collect();
        if !changes.is_empty() {
            self.say(depth, &format!("{name}: {}", changes.join(", ")));
        }
        for drawn in output.drawn {
            let token = drawn
                .token
                .map_or("denied".into(), |token| format!("token {}", number(token)));
            let text = format!(
                "{name}: drew #{} of {}: {token}",
                drawn.request,
                group(drawn.group)
            );
            self.say(depth, &text);
        }
        for envelope in output.sends {
            self.send(&envelope, depth);
        }
        result
    }

    /// Puts a message on the wire, as bytes.
    fn send(&mut self, envelope: &Envelope, depth: usize) {
        let mut body = Vec::new();
        put_envelope(&mut body, envelope);
        assert!(
            body.len() <= MAX_FRAME_BODY,
            "{envelope:?} has {} bytes",
            body.len()
        );
        let kind = kind_of(&envelope.message);
        let read = read_envelope(envelope.from.node, envelope.to.node, kind, &body);
        let read = read.unwrap_or_else(|| panic!("{envelope:?} cannot be read"));
        assert_eq!(read, *envelope);
        let isolated = [read.from, read.to].map(|life| self.cut.contains(&name_of(life.node)));
        let lost = isolated.contains(&true);
        if !self.quiet {
            self.say(
                depth,
                &format!("{} {}", if lost { "-" } else { "+" }, sent(&read)),
            );
        }
        if !lost {
            self.wire.push_back(read);
        }
    }

    /// Takes what is under way on a link, or on all of them; of that only the `nth`, if it is given, from 1 on.
    fn take(&mut self, on: Option<(char, char)>, nth: Option<u64>) -> Vec<Envelope> {
        let mut count = 0;
        let chosen = |envelope: &Envelope| {
            let link = (name_of(envelope.from.node), name_of(envelope.to.node));
            let here = on.is_none_or(|on| on == link);
            count += u64::from(here);
            here && nth.is_none_or(|nth| nth == count)
        };
        let (taken, left): (Vec<_>, Vec<_>) = self.wire.drain(..).partition(chosen);
        self.wire = left.into();
        taken
    }

    fn deliver(&mut self, envelope: &Envelope) {
        let to = name_of(envelope.to.node);
        let text = format!("{} {}", link(envelope), name(&envelope.message));
        let alive = self.hosts.contains_key(&to);
        if !self.quiet {
            self.say(1, &if alive { text } else { format!("- {text}") });
        }
        if alive {
            let depth = if self.quiet { 1 } else { 2 };
            self.act(to, depth, |replica, now, hints, out| {
                replica.receive(now, envelope, hints, out)
            });
        }
    }

    fn deliver_all(&mut self) {
        let mut left = MAX_DELIVERIES;
        while let Some(envelope) = self.wire.pop_front() {
            left = left.checked_sub(1).expect("messages without end");
            self.deliver(&envelope);
        }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let names: Vec<char> = words[1..]
            .iter()
            .filter(|word| word.len() == 1 && word.starts_with(|c: char| c.is_ascii_lowercase()))
            .filter_map(|word| word.chars().next())
            .collect();
        let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let on = words.iter().find_map(|word| {
            let (from, to) = word.split_once('>')?;
            Some((from.parse().ok()?, to.parse().ok()?))
        });
        let option = |key: &str| {
            let place = words.iter().position(|&word| word == key)?;
            words.get(place + 1)?.parse::<usize>().ok()
        };
        match words[0] {
            "nodes" => {
                self.rules.cluster_size = numbers[0] as u8;
                self.rules.surge = option("surge").unwrap_or(0) as u8;
                self.rules.allow_observers = words.contains(&"observers");
                self.rules.log_limit = option("log").unwrap_or(self.rules.log_limit);
                self.rules.snapshot_piece = option("piece").unwrap_or(self.rules.snapshot_piece);
                ('a'..)
                    .take(numbers[0] as usize)
                    .for_each(|name| self.start(name, true));
            }
            "start" => self.start(names[0], true),
            "observer" => self.start(names[0], false),
            "crash" => assert!(self.hosts.remove(&names[0]).is_some()),
            "tick" => self.now += Duration::from_millis(numbers[0]),
            "wall" => self.host(names[0]).wall = numbers[0],
            "busy" => self.host(names[0]).hints.fresh = false,
            "fresh" => self.host(names[0]).hints.fresh = true,
            "heard" => self.host(names[0]).hints.leader_heard = true,
            "unheard" => self.host(names[0]).hints.leader_heard = false,
            "cut" => self.cut.extend(names),
            "heal" => self.cut.clear(),
            "settle" => {
                self.quiet = true;
                self.deliver_all();
                self.quiet = false;
            }
            "deliver" if on.is_none() && !words.contains(&"*") => self.deliver_all(),
            "deliver" => self
                .take(on, numbers.first().copied())
                .iter()
                .for_each(|envelope| self.deliver(envelope)),
            "drop" => {
                for envelope in self.take(on, numbers.first().copied()) {
                    self.say(1, &format!("- {} {}", link(&envelope), name(&envelope.message)));
                }
            }
            "twice" => {
                let taken = self.take(on, numbers.first().copied());
                let copies = taken
                    .into_iter()
                    .flat_map(|envelope| [envelope.clone(), envelope]);
                self.wire.extend(copies);
            }
            "forge" => {
                let founder = Life::first(node(names[0]));
                let group = Group { founder, founding: 1 };
                let found = Found {
                    group,
                    seats: names[1..].iter().map(|&name| self.life_of(name)).collect(),
                    token_base: option("base").unwrap_or(0) as u64,
                };
                let (from, to) = on.expect("from whom to whom");
                let envelope = Envelope {
                    group,
                    from: self.host(from).replica.life(),
                    to: self.host(to).replica.life(),
                    message: Message::Append {
                        term: option("term").unwrap_or(1) as u64,
                        prev: Position::default(),
                        entries: Vec::from([Entry {
                            term: 1,
                            command: Command::Found(found),
                        }]),
                        commit: 0,
                        round: 1,
                    },
                };
                self.send(&envelope, 1);
            }
            "pending" => {
                let texts: Vec<String> = self.wire.iter().map(sent).collect();
                texts.iter().for_each(|text| self.say(1, text));
            }
            "show" => {
                let fields = state(&self.host(names[0]).replica);
                fields
                    .iter()
                    .for_each(|(label, value)| self.say(1, &format!("{label}: {value}")));
            }
            "log" => {
                let entries: Vec<String> = self.host(names[0]).replica.log().map_or_else(Vec::new, |log| {
                    let show = |(index, entry): (Index, &Entry)| {
                        format!("{}:{index} {}", entry.term, command(&entry.command))
                    };
                    log.iter().map(show).collect()
                });
                entries.iter().for_each(|text| self.say(1, text));
            }
            _ => {
                let answer = self.decide(words[0], &names, &numbers);
                if let Some(answer) = answer {
                    self.say(1, &answer);
                }
            }
        }
    }

    /// What the owner of a replica decides. Returns what it is told, if that is not plain from what changes.
    fn decide(&mut self, verb: &str, names: &[char], numbers: &[u64]) -> Option<String> {
        let me = names[0];
        let other = names.get(1).map(|&name| self.life_of(name));
        let others: Vec<Life> = match other {
            Some(_) => names[1..].iter().map(|&name| self.life_of(name)).collect(),
            None => {
                let others = self.hosts.values().map(|host| host.replica.life());
                others.filter(|other| other.node != node(me)).collect()
            }
        };
        let wall = WallTime::from_unix_micros(EPOCH_MICROS + self.host(me).wall);
        let group_of_other = other.map(|founder| {
            let host = self.hosts.get(&name_of(founder.node));
            let own = host.and_then(|host| host.replica.group());
            own.unwrap_or(Group { founder, founding: 1 })
        });
        let asked = |done: bool| (!done).then(|| "no".to_owned());
        self.act(me, 1, |replica, now, _, out| match verb {
            "stand" => asked(replica.stand()),
            "request" => {
                others
                    .iter()
                    .for_each(|&other| replica.request_founding(other, out));
                None
            }
            "retract" => {
                replica.retract(other?);
                None
            }
            "withdraw" => {
                replica.withdraw();
                None
            }
            "found" => match replica.found(now, wall, out) {
                Ok(_) => None,
                Err(error) => Some(format!("{error:?}")),
            },
            "precampaign" => {
                replica.pre_campaign(now, out);
                None
            }
            "campaign" => {
                replica.campaign(now, out);
                None
            }
            "transfer" => {
                let seats: Vec<Life> = replica.seats().into_iter().flat_map(Seats::iter).collect();
                asked(replica.transfer(&seats, out).is_some())
            }
            "stepdown" => {
                replica.step_down();
                None
            }
            "beat" => asked(replica.beat(now, out) > 0),
            "round" => Some(replica.completed_round().to_string()),
            "propose" => {
                let command = Command::Draw {
                    to: replica.life(),
                    request: numbers[0],
                };
                asked(replica.propose(command).is_some())
            }
            "ask" => {
                replica.ask(group_of_other?, other?, numbers[0], out);
                None
            }
            "learner" => {
                replica.add_learner(other?, out);
                None
            }
            "unlearner" => {
                replica.remove_learner(other?);
                None
            }
            "fill" => asked(replica.fill_seat(other?)),
            "empty" => asked(replica.empty_seat(other?, out)),
            "open" => asked(replica.open(now)),
            "close" => asked(replica.close(now)),
            "prolong" => {
                replica.prolong_close(now);
                None
            }
            "opens" => Some(match replica.opens_at() {
                None => "never".to_owned(),
                Some(at) if at <= now => "now".to_owned(),
                Some(at) => format!("in {} ms", (at - now).as_millis()),
            }),
            "abandon" => {
                replica.abandon();
                None
            }
            _ => panic!("no such command: {verb}"),
        })
    }
}
