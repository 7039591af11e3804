//! What happens before a search.

use super::super::config::Beginning;
use super::super::process::Act;
use super::{NO_MESSAGES, Space, State, Step};
use std::collections::BTreeSet;

impl Space {
    /// What a config's script leads to, and the steps that it takes.
    pub(in super::super) fn scripted(&mut self) -> (State, Vec<String>) {
        let mut state = self.beginning();
        let mut trace = Vec::new();
        for &part in self.config.script {
            match part {
                Beginning::Settle => self.settle(&mut state, &mut trace),
                _ => {
                    let step = self.step_of(&state, part);
                    self.must(&mut state, step, &mut trace);
                }
            }
        }
        self.before = self.histories.get(state.history).spent;
        (state, trace)
    }

    fn step_of(&mut self, state: &State, part: Beginning) -> Step {
        let life = |other| self.process(state, other).life();
        match part {
            Beginning::Stand(host) => Step::Act(host, Act::Stand),
            Beginning::Found(host) => Step::Act(host, Act::Found(self.wall(state))),
            Beginning::Settle => unreachable!("not a single step"),
            Beginning::Beat(host) => Step::Act(host, Act::Beat),
            Beginning::Open(host) => Step::Act(host, Act::Open),
            Beginning::Crash(host) => Step::Crash(host),
            Beginning::Tick => Step::Tick,
            Beginning::Ask(host, leader) => {
                let request = self.histories.get(state.history).spent.draws;
                let leader = state.hosts[leader].process;
                Step::Act(host, Act::Ask { leader, request })
            }
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

    fn must(&mut self, state: &mut State, step: Step, trace: &mut Vec<String>) {
        trace.push(self.describe(state, step));
        match self.take(state, step) {
            Ok(Some(next)) => *state = next,
            Ok(None) => panic!("the script of {} stops at: {trace:#?}", self.config.name),
            Err(error) => panic!(
                "the script of {} already finds: {error}: {trace:#?}",
                self.config.name
            ),
        }
    }

    /// Lets everything be read once that was sent, and forgets it.
    fn settle(&mut self, state: &mut State, trace: &mut Vec<String>) {
        let mut read = BTreeSet::new();
        loop {
            let unread = (0..self.hosts()).find_map(|host| {
                let messages = self.lists.get(state.hosts[host].inbox);
                let first = messages.iter().find(|&&message| !read.contains(&message));
                first.map(|&message| (host, message))
            });
            let Some((host, message)) = unread else { break };
            read.insert(message);
            let step = Step::Act(host, Act::Read(message));
            if let Ok(Some(_)) = self.take(state, step) {
                self.must(state, step, trace);
            }
        }
        for host in 0..self.hosts() {
            state.hosts[host].inbox = NO_MESSAGES;
        }
    }
}
