//! What a read sees, and the removed messages that a read of the past still sees.

use std::collections::VecDeque;

use super::message::StoredMessage;

/// How many changes a server had made; later is larger. Not a time: it never goes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// What a read sees: messages stored up to one moment, without those removed up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub stored: Moment,
    pub removed: Moment,
}

impl View {
    /// Everything as it is.
    pub const CURRENT: Self = Self { stored: Moment(u64::MAX), removed: Moment(u64::MAX) };

    /// Everything as it was: what a follower that lags answers (reference, reliability F13).
    pub const fn as_of(moment: Moment) -> Self {
        Self { stored: moment, removed: moment }
    }

    /// All that is stored, and also what was removed after `moment`: an ack that is confirmed but not yet visible
    /// (DESIGN section 5).
    pub const fn removals_as_of(moment: Moment) -> Self {
        Self { stored: Moment(u64::MAX), removed: moment }
    }

    /// Whether a message that is stored is seen.
    pub(crate) fn sees(self, message: &StoredMessage) -> bool {
        message.stored <= self.stored
    }
}

/// The messages that were removed last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removed {
    messages: VecDeque<(Moment, StoredMessage)>,
    kept: usize,
}

impl Removed {
    pub(crate) fn new(kept: usize) -> Self {
        Self { messages: VecDeque::new(), kept }
    }

    pub(crate) fn keep(&mut self, at: Moment, message: StoredMessage) {
        if self.kept == 0 {
            return;
        }
        if self.messages.len() == self.kept {
            self.messages.pop_front();
        }
        self.messages.push_back((at, message));
    }

    /// Removed messages that a view still sees, in the order of their removal.
    pub(crate) fn seen(&self, view: View) -> impl Iterator<Item = &StoredMessage> {
        let late = self.messages.iter().rev().take_while(move |(at, _)| *at > view.removed);
        late.map(|(_, message)| message).filter(move |message| view.sees(message))
    }
}
