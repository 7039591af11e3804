//! What the channels hold.

use super::{MAX_LOST_NOTES, Messaging, RING};
use crate::usage::Usage;

macro_rules! held {
    ($($field:ident)+) => {
        /// What one channel holds.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Held {
            $(pub(super) $field: usize,)+
        }

        impl Held {
            /// Takes the larger of each.
            fn grow(&mut self, other: &Self) {
                $(self.$field = self.$field.max(other.$field);)+
            }
        }
    };
}

held! {
    inbox_messages inbox_bytes reassembly_pieces reassembly_bytes received_requests
    waiting waiting_bytes under_way open_requests replies reply_bytes
}

impl Messaging {
    pub(crate) fn usage(&self, usage: &mut Usage) {
        let limits = &self.limits;
        let mut worst = Held::default();
        let mut reassembly = 0_usize;
        for peer in self.peers.values() {
            let mut held = Held::default();
            peer.receiver.count(&mut held);
            peer.sender.count(&mut held);
            reassembly += held.reassembly_bytes;
            worst.grow(&held);
        }
        let most = limits.window_bytes + 2 * limits.max_message;
        usage.row("channels", self.peers.len(), limits.peers);
        usage.row(
            "worst inbox messages",
            worst.inbox_messages,
            limits.queue_messages,
        );
        usage.row("worst inbox bytes", worst.inbox_bytes, limits.window_bytes);
        usage.row("worst reassembly pieces", worst.reassembly_pieces, 2 * RING);
        usage.row("worst reassembly bytes", worst.reassembly_bytes, most);
        usage.row("reassembly bytes", reassembly, most.saturating_mul(limits.peers));
        usage.row(
            "worst received requests",
            worst.received_requests,
            limits.open_requests,
        );
        // What was under way starts again when the peer has lost its memory.
        usage.row(
            "worst send queue",
            worst.waiting,
            limits.send_queue + limits.window_messages,
        );
        let bytes = limits.send_queue_bytes.saturating_add(limits.window_bytes);
        usage.row("worst send queue bytes", worst.waiting_bytes, bytes);
        usage.row(
            "worst messages under way",
            worst.under_way,
            limits.window_messages,
        );
        usage.row("worst open requests", worst.open_requests, limits.open_requests);
        usage.row(
            "worst replies",
            worst.replies,
            limits.reply_messages + MAX_LOST_NOTES,
        );
        usage.row("worst reply bytes", worst.reply_bytes, limits.reply_bytes);
        let orphan_bytes = self.orphans.iter().map(|message| message.payload.len()).sum();
        usage.row("orphaned messages", self.orphans.len(), limits.queue_messages);
        usage.row("orphaned bytes", orphan_bytes, limits.window_bytes);
    }
}
