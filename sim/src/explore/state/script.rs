//! What happens before a search.

use super::super::config::Beginning;
use super::super::locks::Wanted;
use super::super::process::Act;
use super::{HOSTS, NO_MESSAGES, Space, State, Step};
use std::array;
use std::collections::BTreeSet;

impl Space {
    /// What a config's script leads to, and the steps that it takes.
    ///
    /// # Errors
    /// What must hold and does not: without a rule, a script may be enough.
    pub(in super::super) fn scripted(&mut self, trace: &mut Vec<String>) -> Result<State, String> {
        let mut state = self.beginning();
        for &part in self.config.script {
            match part {
                Beginning::Settle => {
                    self.settle(&mut state, &array::from_fn::<_, HOSTS, _>(|host| host), trace)?
                }
                Beginning::Between(one, other) => self.settle(&mut state, &[one, other], trace)?,
                _ => {
                    let step = self.step_of(&state, part);
                    let goes_on = self.follow(&mut state, step, trace)?;
                    assert!(goes_on, "the script of {} stops at: {trace:#?}", self.config.name);
                }
            }
        }
        self.before = self.histories.get(state.history).spent;
        Ok(state)
    }

    fn step_of(&mut self, state: &State, part: Beginning) -> Step {
        let life = |other| self.process(state, other).life();
        match part {
            Beginning::Stand(host) => Step::Act(host, Act::Stand),
            Beginning::Found(host) => Step::Act(host, Act::Found(self.wall(state))),
            Beginning::Settle | Beginning::Between(..) => unreachable!("not a single step"),
            Beginning::Beat(host) => Step::Act(host, Act::Beat),
            Beginning::Open(host) => Step::Act(host, Act::Open),
            Beginning::Crash(host) => Step::Crash(host),
            Beginning::Tick => Step::Tick,
            Beginning::Ask(host, leader) => {
                let request = self.histories.get(state.history).spent.draws;
                let leader = state.hosts[leader].process;
                Step::Act(host, Act::Ask { leader, request })
            }
            Beginning::Lock(host, leader) => {
                let (leader, wanted) = (state.hosts[leader].process, Wanted::Lock);
                Step::Act(host, Act::Client { leader, wanted })
            }
            Beginning::Release(host, leader) => {
                let (leader, wanted) = (state.hosts[leader].process, Wanted::Release);
                Step::Act(host, Act::Client { leader, wanted })
            }
            Beginning::Campaign(host) => Step::Act(host, Act::Campaign),
            Beginning::Due(host) => Step::Act(host, Act::Due),
            Beginning::Empty(host, other) => {
                let life = life(other);
                Step::Act(host, Act::Empty(self.lives.number(life)))
            }
            Beginning::Learn(host, other) => {
                let life = life(other);
                Step::Act(host, Act::Learn(self.lives.number(life)))
            }
        }
    }

    /// Takes a step of the script. Returns whether it changes anything.
    fn follow(&mut self, state: &mut State, step: Step, trace: &mut Vec<String>) -> Result<bool, String> {
        let before = *state;
        let next = self
            .take(state, step)
            .inspect_err(|_| trace.push(self.describe(&before, step)))?;
        if let Some(next) = next {
            trace.push(self.describe(&before, step));
            *state = next;
        }
        Ok(next.is_some())
    }

    /// Lets everything be read once that was sent to some hosts, and forgets what was sent to any.
    fn settle(
        &mut self,
        state: &mut State,
        readers: &[usize],
        trace: &mut Vec<String>,
    ) -> Result<(), String> {
        let mut read = BTreeSet::new();
        loop {
            let mut hosts = (0..self.hosts()).filter(|host| readers.contains(host));
            let unread = hosts.find_map(|host| {
                let messages = self.lists.get(state.hosts[host].inbox);
                let first = messages.iter().find(|&&message| !read.contains(&message));
                first.map(|&message| (host, message))
            });
            let Some((host, message)) = unread else { break };
            read.insert(message);
            let step = Step::Act(host, Act::Read(message));
            self.follow(state, step, trace)?;
        }
        for host in 0..self.hosts() {
            state.hosts[host].inbox = NO_MESSAGES;
        }
        Ok(())
    }
}
