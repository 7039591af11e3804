//! What happened, in words: a short label for the picture, and the particulars.

use super::{Class, Life};
use crate::fault::Host;
use crate::observe::Command;
use crate::world::NodeIndex;
use bytes::Bytes;
use quorate_core::{
    Config, Event, LeaveReason, LockError, LockEvent, LockId, LockRequest, Member, MemberState, Message,
    NodeId, Role, Target,
};

/// Longer texts are cut.
const MAX_TEXT: usize = 400;
/// So much of a payload is shown.
const SHOWN_BYTES: usize = 32;

/// Cuts a text that is too long to be read.
pub(super) fn short(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

/// Returns what the process that started on a host after `before` others is called: `2a`, `2b`, ..., `2z`, `2.27`.
pub(super) fn label(host: Host, before: usize) -> String {
    match u8::try_from(before) {
        Ok(n @ 0..26) => format!("{}{}", host.0, char::from(b'a' + n)),
        _ => format!("{}.{}", host.0, before + 1),
    }
}

pub(super) fn started(node: NodeIndex, life: &Life, config: &Config) -> String {
    let role = match config.role {
        Role::Voter => "voter",
        Role::Observer => "observer",
    };
    let stranger = if life.member {
        ""
    } else {
        ", not meant to be a member"
    };
    format!(
        "process {} on host {}, {role}{stranger}; id {}, address {}, cluster '{}', cluster_size {}",
        node.0, life.host.0, life.id, life.addr, config.cluster_name, config.cluster_size,
    )
}

fn payload(bytes: &Bytes) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let more = if bytes.len() > shown.len() { "…" } else { "" };
    format!("{} bytes \"{}{more}\"", bytes.len(), shown.escape_ascii())
}

fn member(member: &Member) -> String {
    let state = match member.state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
    };
    let role = match member.role {
        Role::Voter => "voter",
        Role::Observer => "observer",
    };
    format!(
        "{role}, {state}, incarnation {}, address {}, id {}, name '{}', metadata {}",
        member.incarnation,
        member.addr,
        member.id,
        member.name,
        payload(&member.metadata),
    )
}

/// Returns what an event is about, a label, and the particulars. `name` gives what to call a process.
pub(super) fn event(event: &Event, name: impl Fn(NodeId) -> String) -> (Class, String, String) {
    // Without a target it never got as far as having any.
    let target = |to: Option<NodeId>| to.map_or_else(String::new, |to| format!(" to {}", name(to)));
    match event {
        Event::MemberJoined(who) => (Class::Joined, format!("+{}", name(who.id)), member(who)),
        Event::MemberUpdated(who) => (Class::Joined, format!("~{}", name(who.id)), member(who)),
        Event::MemberLeft { member: who, reason } => {
            let why = match reason {
                LeaveReason::Left => "left",
                LeaveReason::Failed => "failed",
                LeaveReason::Replaced => "replaced",
                LeaveReason::Quarantined => "quarantined",
            };
            (Class::Left, format!("−{} {why}", name(who.id)), member(who))
        }
        Event::QuorumChanged { has_quorum, present } => {
            let what = if *has_quorum { "quorum" } else { "no quorum" };
            let detail = format!("{present} live voters known");
            (Class::Quorum, format!("{what} ({present})"), detail)
        }
        Event::Ready => (Class::Process, "ready".into(), "all seeds were tried".into()),
        Event::LeaveDone => (Class::Process, "has left".into(), String::new()),
        Event::SendDone { id, to, result } => match result {
            Ok(()) => (Class::Outcome, format!("sent{}", target(*to)), format!("{id:?}")),
            Err(error) => {
                let detail = format!("{id:?}: {error}");
                (Class::Failure, format!("not sent{}", target(*to)), detail)
            }
        },
        Event::Reply {
            id,
            from,
            payload: bytes,
        } => {
            let detail = format!("{id:?}: {}", payload(bytes));
            (Class::Outcome, format!("reply of {}", name(*from)), detail)
        }
        Event::RequestFailed { id, to, error } => {
            let detail = format!("{id:?}: {error}");
            (Class::Failure, format!("request{} failed", target(*to)), detail)
        }
        Event::SendFinished(id) => (Class::Outcome, "send finished".into(), format!("{id:?}")),
        Event::RequestDone(id) => (Class::Outcome, "request done".into(), format!("{id:?}")),
        Event::ResolveFailed { host } => (Class::Trouble, "name not resolved".into(), host.clone()),
        Event::Quarantined { id, addr, reasons } => {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            let detail = format!("{id} at {addr}: {}", reasons.join("; "));
            (Class::Trouble, format!("quarantines {}", name(*id)), detail)
        }
        Event::QuarantineEnded { id } => (
            Class::Trouble,
            format!("quarantine of {} ended", name(*id)),
            id.to_string(),
        ),
        Event::UnknownKey { addr, key } => {
            (Class::Trouble, "unknown key".into(), format!("{key:?} at {addr}"))
        }
        Event::Rejected { addr, reason } => {
            (Class::Trouble, "rejected".into(), format!("{reason:?} by {addr}"))
        }
        other => consensus_event(other, name),
    }
}

fn consensus_event(event: &Event, name: impl Fn(NodeId) -> String) -> (Class, String, String) {
    match event {
        Event::LeaderChanged { leader, term } => {
            let leader =
                leader.map_or_else(|| "no leader".into(), |leader| format!("leader {}", name(leader)));
            (Class::Quorum, leader, format!("term {term}"))
        }
        Event::GroupAbandoned { group, reason } => (
            Class::Quorum,
            "abandons".into(),
            format!("the group {group}: {reason:?}"),
        ),
        Event::ConflictDetected { ours, theirs } => {
            (Class::Trouble, "conflict".into(), format!("{ours} and {theirs}"))
        }
        Event::FoundingRefused { reason } => (Class::Trouble, "must not found".into(), format!("{reason:?}")),
        Event::TokenDrawn {
            id,
            token,
            group,
            until,
        } => {
            let detail = format!("{id:?} of the group {group}, until {until:?}");
            (Class::Outcome, format!("token {token}"), detail)
        }
        Event::Lock(event) => lock_event(event),
        Event::TokenFailed { id, error } => (Class::Failure, "no token".into(), format!("{id:?}: {error}")),
        other => (Class::Trouble, "event".into(), format!("{other:?}")),
    }
}

/// Returns a label and the particulars of a message that an application took.
pub(super) fn message(message: &Message, name: impl Fn(NodeId) -> String) -> (String, String) {
    let what = if message.reply_to.is_some() {
        "request"
    } else {
        "message"
    };
    (
        format!("{what} of {}", name(message.from)),
        payload(&message.payload),
    )
}

/// Returns what a command is about, a label, and the particulars.
pub(super) fn command(command: &Command, name: impl Fn(NodeId) -> String) -> (Class, String, String) {
    let target = |to: &Target| match to {
        Target::Node(id) => name(*id),
        Target::All => "all".into(),
    };
    let said = |label: String, bytes: &Bytes, result: Result<String, String>| match result {
        Ok(id) => (Class::Message, label, format!("{id}: {}", payload(bytes))),
        Err(error) => (
            Class::Failure,
            format!("{label}: refused"),
            format!("{error}; {}", payload(bytes)),
        ),
    };
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match command {
        Command::Send {
            to, payload, result, ..
        } => {
            let result = result.map(|id| format!("{id:?}")).map_err(|error| text(&error));
            said(format!("send to {}", target(to)), payload, result)
        }
        Command::Request {
            to, payload, result, ..
        } => {
            let result = result.map(|id| format!("{id:?}")).map_err(|error| text(&error));
            said(format!("ask {}", target(to)), payload, result)
        }
        Command::Reply { to, payload, result } => {
            let result = result.map(|()| format!("{to:?}")).map_err(|error| text(&error));
            said("reply".into(), payload, result)
        }
        Command::Ignore(to) => (Class::Message, "ignore".into(), format!("{to:?}")),
        Command::CancelSend(id) => (Class::Message, "cancel".into(), format!("{id:?}")),
        Command::CancelRequest(id) => (Class::Message, "cancel".into(), format!("{id:?}")),
        Command::DrawToken { result: Ok(id) } => (Class::Message, "draws a token".into(), format!("{id:?}")),
        Command::DrawToken { result: Err(error) } => {
            (Class::Failure, "draws a token: refused".into(), text(error))
        }
        Command::Lock { request, result } => lock(request, result),
        Command::Unlock { id, result: Ok(()) } => (Class::Message, "unlocks".into(), format!("{id:?}")),
        Command::Unlock {
            id,
            result: Err(error),
        } => (
            Class::Failure,
            "unlocks: refused".into(),
            format!("{id:?}: {error}"),
        ),
        Command::SetLockTtl { id, ttl, result } => match result {
            Ok(()) => (
                Class::Message,
                "changes its ttl".into(),
                format!("{id:?}: {ttl:?}"),
            ),
            Err(error) => (
                Class::Failure,
                "changes its ttl: refused".into(),
                format!("{id:?}: {ttl:?}: {error}"),
            ),
        },
        Command::ListLocks { result } => query("lists locks".into(), result),
        Command::WatchLock { result } => query("watches a lock".into(), result),
        Command::RevokeLock {
            token,
            at_once,
            result,
        } => {
            let how = if *at_once { " at once" } else { "" };
            query(format!("takes token {token}{how}"), result)
        }
        Command::Leave => (
            Class::Process,
            "leaves".into(),
            "told to leave the cluster".into(),
        ),
    }
}

fn lock(request: &LockRequest, result: &Result<LockId, LockError>) -> (Class, String, String) {
    let LockRequest {
        key, units, capacity, ..
    } = request;
    let what = format!(
        "{units} of {capacity}, priority {}, wait {:?}, ttl {:?}",
        request.priority, request.wait, request.ttl
    );
    match result {
        Ok(id) => (
            Class::Message,
            format!("asks for {key}"),
            format!("{id:?}: {what}"),
        ),
        Err(error) => (
            Class::Failure,
            format!("asks for {key}: refused"),
            format!("{error}; {what}"),
        ),
    }
}

fn query(what: String, result: &Result<LockId, LockError>) -> (Class, String, String) {
    match result {
        Ok(id) => (Class::Message, what, format!("{id:?}")),
        Err(error) => (Class::Failure, format!("{what}: refused"), error.to_string()),
    }
}

fn lock_event(event: &LockEvent) -> (Class, String, String) {
    match event {
        LockEvent::Granted {
            id,
            key,
            token,
            until,
        } => (
            Class::Outcome,
            format!("holds {key}"),
            format!("{id:?}: token {token}, until {until:?}"),
        ),
        LockEvent::Renewed { id, until } => (
            Class::Outcome,
            "renewed".into(),
            format!("{id:?}: until {until:?}"),
        ),
        LockEvent::Failed { id, error } => (Class::Failure, "no lock".into(), format!("{id:?}: {error}")),
        LockEvent::AtRisk { id, until } => (
            Class::Trouble,
            "lock at risk".into(),
            format!("{id:?}: until {until:?}"),
        ),
        LockEvent::Lost { id, token, reason } => (
            Class::Failure,
            "lock lost".into(),
            format!("{id:?}: token {token}, {reason:?}"),
        ),
        LockEvent::Released { id } => (Class::Outcome, "released".into(), format!("{id:?}")),
        LockEvent::Listed { id, page } => (
            Class::Outcome,
            format!("{} holders and waiters", page.rows.len()),
            format!("{id:?}: more behind {:?}", page.next),
        ),
        LockEvent::Taken { id, taken } => {
            let what = if *taken { "lock taken" } else { "nobody had it" };
            (Class::Outcome, what.into(), format!("{id:?}"))
        }
        other => (Class::Trouble, "lock".into(), format!("{other:?}")),
    }
}
