//! States of the whole system, and what can happen in each.

mod describe;
mod script;

use super::config::{Config, Wall};
use super::history::{History, Spent, agree};
use super::locks::{Wanted, millis};
use super::pool::{Memo, Pool};
use super::process::{Act, Deed, Process, Target, Tick};
use quorate_core::Duration;
use quorate_core::consensus::{Envelope, Life, Message, Output, Rules};
use quorate_core::locks::Terms;

/// The most hosts that a config may have.
pub(super) const HOSTS: usize = 5;

/// One host: the process on it, and the messages that this process may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Host {
    process: u32,
    inbox: u32,
}

/// A state, each part by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    history: u32,
    hosts: [Host; HOSTS],
}

/// One step of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The process on a host acts.
    Act(usize, Act),
    /// The process on a host reads what a client asks, and may read it again.
    Copy(usize, u32),
    /// The process on a host ends, and another begins.
    Crash(usize),
    /// The clock moves on.
    Tick,
}

/// What an act comes to.
#[derive(Debug)]
struct Outcome {
    process: u32,
    /// A list of messages.
    sends: u32,
    deed: Deed,
}

fn sorted(mut messages: Vec<u32>) -> Vec<u32> {
    messages.sort_unstable();
    messages.dedup();
    messages
}

/// The list of no messages.
const NO_MESSAGES: u32 = 0;
/// An act that changes nothing.
const NOTHING: u32 = u32::MAX;

/// Everything that was seen in any state, and the functions between.
#[derive(Debug)]
pub(super) struct Space {
    config: Config,
    /// What the script used up.
    before: Spent,
    rules: Rules,
    histories: Pool<History>,
    processes: Pool<Process>,
    messages: Pool<Envelope>,
    /// Lists of messages, in order: what can be read, and what is sent at once. The first is empty.
    lists: Pool<Vec<u32>>,
    lives: Pool<Life>,
    outcomes: Vec<Outcome>,
    /// Process, act and clock to the outcome.
    acted: Memo<(u32, Act, Tick)>,
    /// History, outcome and what it costs to the history after it.
    recorded: Memo<(u32, u32)>,
    /// Process, inbox, and messages sent: to what may be read after that.
    received: Memo<(u32, u32, u32)>,
    /// Process, inbox and clock to what it says without being changed.
    echoed: Memo<(u32, u32, Tick)>,
    /// Process, inbox and clock to which messages change the process.
    told: Memo<(u32, u32, Tick)>,
    /// Process, inbox and clock to what is left to read.
    left: Memo<(u32, u32, Tick)>,
    /// Pairs of processes of which all holds that must.
    agreed: Memo<(u32, u32)>,
    /// Leaders and holders of whom the leader waits for as long as the holder believes.
    outlasted: Memo<(u32, u32)>,
}

/// What all members agree on.
pub(super) const fn rules(config: &Config) -> Rules {
    let max_ttl = millis(config.ttl);
    Rules {
        cluster_size: config.seats,
        surge: config.surge,
        allow_observers: config.observers > 0,
        grace: Duration::from_millis(max_ttl as u64 * (1000 + config.drift as u64) / 1000),
        log_limit: config.compact,
        snapshot_piece: 1024,
        terms: Terms {
            max_ttl,
            drift_permille: config.drift,
            waiter_ttl: millis(config.waiter_ttl),
            max_waiters: 8,
            max_locks: 8,
            max_bytes: 1024,
        },
    }
}

impl Space {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            before: Spent::default(),
            rules: rules(config),
            histories: Pool::default(),
            processes: Pool::default(),
            messages: Pool::default(),
            lists: Pool::default(),
            lives: Pool::default(),
            outcomes: Vec::new(),
            acted: Memo::default(),
            recorded: Memo::default(),
            received: Memo::default(),
            echoed: Memo::default(),
            told: Memo::default(),
            left: Memo::default(),
            agreed: Memo::default(),
            outlasted: Memo::default(),
        }
    }

    /// The number of hosts; the last ones are for observers.
    fn hosts(&self) -> usize {
        usize::from(self.config.seats + self.config.surge + self.config.observers)
    }

    fn is_eligible(&self, host: usize) -> bool {
        host < usize::from(self.config.seats + self.config.surge)
    }

    /// Fresh processes everywhere, and nothing sent.
    pub(super) fn beginning(&mut self) -> State {
        let history = self.histories.number(History::new(self.hosts() as u8));
        let nothing = self.lists.number(Vec::new());
        let mut hosts = [Host {
            process: NOTHING,
            inbox: NOTHING,
        }; HOSTS];
        for (number, host) in (0..self.hosts()).zip(&mut hosts) {
            let process = Process::new(self.rules, number as u8, self.is_eligible(number));
            *host = Host {
                process: self.processes.number(process),
                inbox: nothing,
            };
        }
        State { history, hosts }
    }

    fn wall(&self, state: &State) -> u8 {
        match self.config.wall {
            Wall::Rises => self.histories.get(state.history).foundings() + 1,
            Wall::Stands => 1,
        }
    }

    fn process(&self, state: &State, host: usize) -> &Process {
        self.processes.get(state.hosts[host].process)
    }

    /// Lists what may happen next. Some of it may change nothing.
    pub(super) fn steps(&mut self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        let history = self.histories.get(state.history);
        let (now, spent, before) = (history.now, history.spent, self.before);
        let Config {
            ticks,
            terms,
            rounds,
            founders,
            candidates,
            crashers,
            askers,
            ..
        } = self.config;
        let may_stand = spent.stands - before.stands < self.config.stands;
        let may_crash = spent.crashes - before.crashes < self.config.crashes;
        let may_abandon = spent.abandons - before.abandons < self.config.abandons;
        let may_draw = spent.draws - before.draws < self.config.draws;
        let may_change = spent.changes - before.changes < self.config.changes;
        let may_lock = spent.locks - before.locks < self.config.locks;
        let may_release = spent.releases - before.releases < self.config.releases;
        let may_copy = spent.copies - before.copies < self.config.copies;
        let owners = self.config.owners;
        let wall = self.wall(state);
        for host in 0..self.hosts() {
            let telling = match self.config.plain {
                true => state.hosts[host].inbox,
                false => self.telling(state.hosts[host], now),
            };
            let mut push = |act| steps.push(Step::Act(host, act));
            for &message in self.lists.get(telling) {
                push(Act::Read(message));
            }
            if may_copy {
                let asks = self.lists.get(telling).iter().copied();
                let asks =
                    asks.filter(|&message| matches!(self.messages.get(message).message, Message::Ask(_)));
                steps.extend(asks.map(|message| Step::Copy(host, message)));
            }
            let mut push = |act| steps.push(Step::Act(host, act));
            let process = self.process(state, host);
            let replica = &process.replica;
            if self.is_eligible(host) {
                if replica.group().is_none() {
                    if may_stand && founders.contains(&host) {
                        push(Act::Stand);
                    }
                    if replica.founding().standing().is_some() {
                        push(Act::Found(wall));
                    }
                } else {
                    if replica.term() < terms && candidates.contains(&host) {
                        push(Act::Campaign);
                    }
                    if may_abandon {
                        push(Act::Abandon);
                    }
                }
            }
            if let Some(leadership) = replica.leadership() {
                if leadership.round() < rounds {
                    push(Act::Beat);
                }
                push(Act::Open);
                if process.locks_are_due(now) {
                    push(Act::Due);
                }
            }
            let leads = process.leads();
            if leads && may_change {
                let seats: Vec<Life> = replica
                    .seats()
                    .into_iter()
                    .flat_map(|seats| seats.iter())
                    .collect();
                let me = replica.life();
                let known = |life| {
                    replica
                        .leadership()
                        .is_some_and(|leadership| leadership.peer(life).is_some())
                };
                let living: Vec<Life> = (0..self.hosts())
                    .filter(|&other| self.is_eligible(other))
                    .map(|other| self.process(state, other).life())
                    .filter(|&life| life != me && !known(life))
                    .collect();
                let learners: Vec<Life> = self
                    .process(state, host)
                    .replica
                    .leadership()
                    .into_iter()
                    .flat_map(|leadership| leadership.peers())
                    .map(|(life, _)| life)
                    .filter(|life| !seats.contains(life))
                    .collect();
                steps.extend(
                    living
                        .into_iter()
                        .map(|life| Step::Act(host, Act::Learn(self.lives.number(life)))),
                );
                steps.extend(
                    learners
                        .into_iter()
                        .map(|life| Step::Act(host, Act::Fill(self.lives.number(life)))),
                );
                let others = seats.into_iter().filter(|&life| life != me);
                steps.extend(others.map(|life| Step::Act(host, Act::Empty(self.lives.number(life)))));
            }
            if may_draw && askers.contains(&host) {
                for leader in (0..self.hosts()).filter(|&other| self.process(state, other).grants()) {
                    steps.push(Step::Act(
                        host,
                        Act::Ask {
                            leader: state.hosts[leader].process,
                            request: spent.draws,
                        },
                    ));
                }
            }
            let process = self.process(state, host);
            let (uses, idle) = (process.uses_locks(), process.lock.is_none());
            let acts = [
                (Wanted::Lock, may_lock && idle && owners.contains(&host)),
                (Wanted::Same, uses),
                (Wanted::Release, may_release && !idle),
            ];
            let leads = |&other: &usize| process.may_turn_to(self.process(state, other));
            for leader in (0..self.hosts()).filter(leads) {
                let leader = state.hosts[leader].process;
                let acts = acts.iter().filter(|&&(_, may)| may);
                steps.extend(acts.map(|&(wanted, _)| Step::Act(host, Act::Client { leader, wanted })));
            }
            if may_crash && crashers.contains(&host) && self.is_eligible(host) {
                steps.push(Step::Crash(host));
            }
        }
        if now < ticks {
            steps.push(Step::Tick);
        }
    }

    /// Takes a step. `None` if it changes nothing, or leads out of the bounds.
    ///
    /// # Errors
    /// What must hold and does not.
    pub(super) fn take(&mut self, state: &State, step: Step) -> Result<Option<State>, String> {
        let mut next = *state;
        match step {
            Step::Act(..) | Step::Copy(..) => {
                let (host, act) = match step {
                    Step::Copy(host, message) => (host, Act::Read(message)),
                    Step::Act(host, act) => (host, act),
                    Step::Crash(_) | Step::Tick => return Ok(None),
                };
                let now = self.histories.get(state.history).now;
                let number = self.act(state.hosts[host].process, act, now);
                if number == NOTHING {
                    return Ok(None);
                }
                let outcome = &self.outcomes[number as usize];
                let replica = &self.processes.get(outcome.process).replica;
                if replica.term() > self.config.terms || replica.last().index > self.config.log {
                    return Ok(None);
                }
                next.hosts[host].process = outcome.process;
                next.history = self.record(state.history, number, act)?;
                match step {
                    Step::Act(_, Act::Read(message)) => {
                        self.consume(&mut next.hosts[host].inbox, message);
                    }
                    Step::Copy(..) => {
                        let mut history = self.histories.get(next.history).clone();
                        history.spent.copies += 1;
                        next.history = self.histories.number(history);
                    }
                    _ => {}
                }
                let sends = self.outcomes[number as usize].sends;
                self.send(&mut next, sends);
                if matches!(act, Act::Stand | Act::Abandon) {
                    self.remind(&mut next);
                }
            }
            Step::Crash(host) => {
                let mut history = self.histories.get(state.history).clone();
                let mut number = history.started;
                history.started += 1;
                history.spent.crashes += 1;
                if self.config.same_identity {
                    number = super::process::number_of(self.process(state, host).life().node);
                } else {
                    next.hosts[host].inbox = self.lists.number(Vec::new());
                }
                let process = Process::new(self.rules, number, true);
                next.hosts[host].process = self.processes.number(process);
                next.history = self.histories.number(history);
                self.remind(&mut next);
            }
            Step::Tick => {
                let mut history = self.histories.get(state.history).clone();
                history.now += 1;
                let tick = history.now;
                next.history = self.histories.number(history);
                for host in 0..self.hosts() {
                    let number = self.act(state.hosts[host].process, Act::Wake(tick), tick);
                    if number != NOTHING {
                        next.hosts[host].process = self.outcomes[number as usize].process;
                    }
                }
                self.send(&mut next, NO_MESSAGES);
            }
        }
        if !self.config.plain {
            self.echo(state, &mut next);
        }
        if next == *state {
            return Ok(None);
        }
        self.check(state, &next)?;
        Ok(Some(next))
    }

    /// What an act of a process comes to.
    fn act(&mut self, process: u32, act: Act, now: Tick) -> u32 {
        let key = (process, act, now);
        if let Some(number) = self.acted.get(&key) {
            return number;
        }
        let before = self.processes.get(process);
        let target = match act {
            Act::Read(message) => Target::Message(self.messages.get(message)),
            Act::Ask { leader, .. } | Act::Client { leader, .. } => {
                let leader = &self.processes.get(leader).replica;
                leader.group().map_or(Target::None, |group| {
                    Target::Leader(group, leader.life(), leader.term())
                })
            }
            Act::Learn(life) | Act::Fill(life) | Act::Empty(life) => Target::Peer(*self.lives.get(life)),
            _ => Target::None,
        };
        let mut after = before.clone();
        let deed = after.act(now, act, &target);
        let number = if after == *before && deed.sends.is_empty() && deed.grants.is_empty() {
            NOTHING
        } else {
            let sends = deed
                .sends
                .iter()
                .map(|message| self.messages.number(message.clone()));
            let sends = sorted(sends.collect());
            let outcome = Outcome {
                process: self.processes.number(after),
                sends: self.lists.number(sends),
                deed,
            };
            self.outcomes.push(outcome);
            self.outcomes.len() as u32 - 1
        };
        self.acted.put(key, number);
        number
    }

    /// Adds an outcome to the history.
    fn record(&mut self, history: u32, outcome: u32, act: Act) -> Result<u32, String> {
        if let Some(number) = self.recorded.get(&(history, outcome)) {
            return Ok(number);
        }
        let Outcome { process, deed, .. } = &self.outcomes[outcome as usize];
        let mut after = self.histories.get(history).clone();
        match act {
            Act::Stand => after.spent.stands += 1,
            Act::Ask { .. } => after.spent.draws += 1,
            Act::Fill(_) | Act::Empty(_) => after.spent.changes += 1,
            Act::Abandon => after.spent.abandons += 1,
            Act::Client { wanted, .. } => match wanted {
                Wanted::Lock => after.spent.locks += 1,
                Wanted::Release => after.spent.releases += 1,
                Wanted::Same => {}
            },
            _ => {}
        }
        after.record(self.processes.get(*process), deed)?;
        let number = self.histories.number(after);
        self.recorded.put((history, outcome), number);
        Ok(number)
    }

    /// Puts messages where their addressees may read them. To a life that has ended they say nothing; and what can
    /// never matter again is forgotten.
    fn send(&mut self, state: &mut State, sends: u32) {
        for host in &mut state.hosts[..self.hosts()] {
            host.inbox = self.receive(*host, sends);
        }
    }

    /// What the process on a host may read after messages were sent.
    fn receive(&mut self, host: Host, sends: u32) -> u32 {
        let Host { process, inbox } = host;
        let key = (process, inbox, sends);
        if let Some(number) = self.received.get(&key) {
            return number;
        }
        let me = self.processes.get(process);
        let may_matter = |&message: &u32| {
            let envelope = self.messages.get(message);
            let begins = matches!(
                envelope.message,
                Message::Append { .. } | Message::Snapshot { .. }
            );
            let done =
                me.is_done_with(envelope) && !(begins && self.config.second_groups) && !self.config.plain;
            self.is_for(envelope.to, me.life()) && !done
        };
        let (old, new) = (self.lists.get(inbox), self.lists.get(sends));
        let kept = old.iter().chain(new).copied().filter(may_matter).collect();
        let number = self.lists.number(sorted(kept));
        self.received.put(key, number);
        number
    }

    /// Takes away a request for a token that was read. Read again it would draw another one: who asks twice is told
    /// apart only by the lock table. What clients ask and are answered is taken away as well: a leader keeps each
    /// renewal that it reads, so that without a bound on copies there would be no end.
    fn consume(&mut self, inbox: &mut u32, message: u32) {
        if let Message::Draw { .. } | Message::Ask(_) | Message::Answer(_) =
            self.messages.get(message).message
        {
            let messages = self.lists.get(*inbox).iter().copied();
            let rest = messages.filter(|&other| other != message).collect();
            *inbox = self.lists.number(rest);
        }
    }

    fn is_for(&self, to: Life, life: Life) -> bool {
        to == life || self.config.answers_for_earlier && to.node == life.node
    }

    /// Lets everybody read what changes nothing about itself, and answer. That adds something to read for others and
    /// takes nothing away: whatever could happen without the answers can still happen with them.
    fn echo(&mut self, before: &State, state: &mut State) {
        // Whoever is as before has said before what it says.
        let mut said = *before;
        let now = self.histories.get(state.history).now;
        while let Some(at) = (0..self.hosts()).find(|&at| state.hosts[at] != said.hosts[at]) {
            let mut sends = self.answers(state.hosts[at], now);
            if said.hosts[at].process == state.hosts[at].process {
                // Only what it has not said before: else two would remind each other for ever of what both forget.
                let old = self.answers(said.hosts[at], now);
                let (old, mut new) = (self.lists.get(old), self.lists.get(sends).clone());
                new.retain(|message| !old.contains(message));
                sends = self.lists.number(new);
            }
            state.hosts[at].inbox = self.unheard(state.hosts[at], now);
            said.hosts[at] = state.hosts[at];
            self.send(state, sends);
        }
    }

    /// What may be read once the process has answered what does not change it.
    fn unheard(&mut self, host: Host, now: Tick) -> u32 {
        let Host { process, inbox } = host;
        let key = (process, inbox, now);
        if let Some(number) = self.left.get(&key) {
            return number;
        }
        let telling = self.telling(host, now);
        let me = self.processes.get(process);
        let telling = self.lists.get(telling);
        let left = self.lists.get(inbox).iter().copied();
        let left =
            left.filter(|message| telling.contains(message) || !me.has_heard(self.messages.get(*message)));
        let left = left.collect();
        let number = self.lists.number(left);
        self.left.put(key, number);
        number
    }

    /// Which messages change a process that reads them.
    fn telling(&mut self, host: Host, now: Tick) -> u32 {
        let Host { process, inbox } = host;
        let key = (process, inbox, now);
        if let Some(number) = self.told.get(&key) {
            return number;
        }
        let mut telling = self.lists.get(inbox).clone();
        telling.retain(|&message| {
            let number = self.act(process, Act::Read(message), now);
            let outcome = self.outcomes.get(number as usize);
            outcome.is_some_and(|outcome| outcome.process != process || !outcome.deed.grants.is_empty())
        });
        let number = self.lists.number(telling);
        self.told.put(key, number);
        number
    }

    /// What a process says to messages that do not change it.
    fn answers(&mut self, host: Host, now: Tick) -> u32 {
        let Host { process, inbox } = host;
        let key = (process, inbox, now);
        if let Some(number) = self.echoed.get(&key) {
            return number;
        }
        let mut answers = Vec::new();
        for message in self.lists.get(inbox).clone() {
            let number = self.act(process, Act::Read(message), now);
            if let Some(outcome) = self.outcomes.get(number as usize)
                && outcome.process == process
                && outcome.deed.grants.is_empty()
            {
                answers.extend_from_slice(self.lists.get(outcome.sends));
            }
        }
        let number = self.lists.number(sorted(answers));
        self.echoed.put(key, number);
        number
    }

    /// Lets founders ask everybody. They do so again and again; that those who could be asked were asked adds
    /// something to read and takes nothing away.
    fn remind(&mut self, state: &mut State) {
        let mut out = Output::default();
        for host in 0..self.hosts() {
            for other in 0..self.hosts() {
                let to = self.process(state, other).life();
                self.process(state, host).replica.request_founding(to, &mut out);
            }
        }
        let sends = out
            .sends
            .into_iter()
            .map(|envelope| self.messages.number(envelope));
        let sends = sorted(sends.collect());
        let sends = self.lists.number(sends);
        self.send(state, sends);
    }

    /// Checks what must hold between processes.
    fn check(&mut self, before: &State, state: &State) -> Result<(), String> {
        let same = |host: usize| state.hosts[host].process == before.hosts[host].process;
        for a in 0..self.hosts() {
            for b in (a + 1..self.hosts()).filter(|&b| !(same(a) && same(b))) {
                let pair = (state.hosts[a].process, state.hosts[b].process);
                if self.agreed.get(&pair).is_none() {
                    agree(self.processes.get(pair.0), self.processes.get(pair.1))?;
                    self.agreed.put(pair, 0);
                }
            }
        }
        self.newest_leaders_outlast(state)
    }

    /// A holder's belief lies inside the deadline of the leader of the newest term that serves.
    fn newest_leaders_outlast(&mut self, state: &State) -> Result<(), String> {
        for host in 0..self.hosts() {
            let Some(group) = self.process(state, host).believed_group() else {
                continue;
            };
            let leaders = (0..self.hosts()).filter(|&other| self.process(state, other).serves(group));
            let Some(leader) = leaders.max_by_key(|&other| self.process(state, other).replica.term()) else {
                continue;
            };
            let pair = (state.hosts[leader].process, state.hosts[host].process);
            if self.outlasted.get(&pair).is_none() {
                self.processes.get(pair.0).outlasts(self.processes.get(pair.1))?;
                self.outlasted.put(pair, 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Space {
    /// What is not a message.
    pub(super) fn picture(&self, state: &State) -> String {
        let processes: Vec<_> = (0..self.hosts()).map(|host| self.process(state, host)).collect();
        format!("{:?} {processes:?}", self.histories.get(state.history))
    }
}
