//! Steps in words.

use super::super::locks::Wanted;
use super::super::process::{Act, message_name, name, node};
use super::{Space, State, Step};
use quorate_core::consensus::Life;
use std::fmt::Write as _;

impl Space {
    /// Writes a step for people.
    pub(in super::super) fn describe(&self, state: &State, step: Step) -> String {
        let who = |host| name(self.process(state, host).life());
        let peer = |life| name(*self.lives.get(life));
        match step {
            Step::Tick => format!("the clock reaches {}", self.histories.get(state.history).now + 1),
            Step::Crash(host) => {
                let mut text = format!("{} crashes", who(host));
                let next = node(self.histories.get(state.history).started);
                if !self.config.same_identity {
                    let _ = write!(text, "; {} starts in its place", name(Life::first(next)));
                }
                text
            }
            Step::Copy(host, message) => {
                let step = self.describe(state, Step::Act(host, Act::Read(message)));
                format!("{step}, of which a copy is under way")
            }
            Step::Act(host, act) => {
                let what = match act {
                    Act::Read(message) => {
                        let envelope = self.messages.get(message);
                        format!("reads from {}: {}", name(envelope.from), message_name(envelope))
                    }
                    Act::Stand => "stands as a founder".to_owned(),
                    Act::Found(_) => "creates a group".to_owned(),
                    Act::Campaign => "campaigns".to_owned(),
                    Act::Beat => "begins a round".to_owned(),
                    Act::Open => "appends Open".to_owned(),
                    Act::Ask { leader, request } => {
                        format!(
                            "asks {} for a token (#{request})",
                            name(self.processes.get(leader).life())
                        )
                    }
                    Act::Learn(life) => format!("takes {} as a learner", peer(life)),
                    Act::Fill(life) => format!("fills a seat with {}", peer(life)),
                    Act::Empty(life) => format!("empties the seat of {}", peer(life)),
                    Act::Client { leader, wanted } => {
                        let leader = name(self.processes.get(leader).life());
                        match wanted {
                            Wanted::Lock => format!("asks {leader} for the lock"),
                            Wanted::Same => format!("says to {leader} what is due"),
                            Wanted::Release => format!("gives the lock back to {leader}"),
                        }
                    }
                    Act::Due => "does what is due of locks".to_owned(),
                    Act::Abandon => "abandons its group".to_owned(),
                    Act::Wake(_) => "wakes".to_owned(),
                };
                format!("{} {what}", who(host))
            }
        }
    }
}
