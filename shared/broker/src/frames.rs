//! How an answer of any size travels over core NATS: in numbered frames, each with a mark of what it is.
//!
//! ```text
//! one answer    alive  part part … last
//! a stream      alive  (part … item | alive)*  end
//! ```
//!
//! Frames of one answer come from one sender in one order, so a number that is not the next one means that frames
//! were lost. Whatever ends without `last` or `end` is no answer.

use async_nats::{HeaderMap, Message};
use bytes::{Bytes, BytesMut};

use crate::message::header_value;

/// Header of each frame: its number, from 0, and its mark.
const FRAME: &str = "Millstream-Frame";

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Of an item of which more is to come.
    Part,
    /// What is left of an item of a stream.
    Item,
    /// What is left of the only item.
    Last,
    /// The sender is at work.
    Alive,
    /// The stream is over.
    End,
    /// The sender gave up.
    Broken,
    /// Nobody read the question.
    Unheard,
}

impl Mark {
    const ALL: [Self; 7] = [Self::Part, Self::Item, Self::Last, Self::Alive, Self::End, Self::Broken, Self::Unheard];

    fn as_str(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::Item => "item",
            Self::Last => "last",
            Self::Alive => "alive",
            Self::End => "end",
            Self::Broken => "broken",
            Self::Unheard => "unheard",
        }
    }
}

/// The headers of a frame.
pub(crate) fn frame_headers(number: u64, mark: Mark) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(FRAME, format!("{number} {}", mark.as_str()).as_str());
    headers
}

/// Number and mark of a frame; `None` when the message is none.
pub(crate) fn frame_of(message: &Message) -> Option<(u64, Mark)> {
    let (number, mark) = header_value(message, FRAME)?.split_once(' ')?;
    let mark = Mark::ALL.into_iter().find(|known| known.as_str() == mark)?;
    Some((number.parse().ok()?, mark))
}

/// Puts an answer together again.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    next: u64,
    parts: BytesMut,
}

/// What a frame completes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    Nothing,
    Item(Bytes),
    /// The only item.
    Last(Bytes),
    End,
    /// Nobody read the question.
    Unheard,
    /// There will be no answer.
    Broken(&'static str),
}

impl Assembly {
    pub(crate) fn take(&mut self, number: u64, mark: Mark, payload: Bytes) -> Assembled {
        if number != self.next {
            return Assembled::Broken("a part of the answer was lost on the way");
        }
        self.next += 1;
        match mark {
            Mark::Part => {
                self.parts.extend_from_slice(&payload);
                Assembled::Nothing
            }
            Mark::Item => Assembled::Item(self.complete(payload)),
            Mark::Last => Assembled::Last(self.complete(payload)),
            Mark::Alive => Assembled::Nothing,
            Mark::End if self.parts.is_empty() => Assembled::End,
            Mark::End => Assembled::Broken("the answer ended within an item"),
            Mark::Broken => Assembled::Broken("the answer was broken off"),
            Mark::Unheard => Assembled::Unheard,
        }
    }

    fn complete(&mut self, payload: Bytes) -> Bytes {
        if self.parts.is_empty() {
            return payload;
        }
        self.parts.extend_from_slice(&payload);
        self.parts.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames `<number> <mark> <payload>`, and what each completes.
    fn check(frames: &[(u64, Mark, &'static str)], expected: &[Assembled]) {
        let mut assembly = Assembly::default();
        let assembled: Vec<_> = frames
            .iter()
            .map(|(number, mark, payload)| assembly.take(*number, *mark, Bytes::from_static(payload.as_bytes())))
            .collect();
        assert_eq!(assembled, expected);
    }

    #[test]
    fn items_are_put_together_from_their_parts() {
        check(
            &[
                (0, Mark::Alive, ""),
                (1, Mark::Part, "a"),
                (2, Mark::Part, "b"),
                (3, Mark::Item, "c"),
                (4, Mark::Alive, ""),
                (5, Mark::Item, "d"),
                (6, Mark::Item, ""),
                (7, Mark::End, ""),
            ],
            &[
                Assembled::Nothing,
                Assembled::Nothing,
                Assembled::Nothing,
                Assembled::Item("abc".into()),
                Assembled::Nothing,
                Assembled::Item("d".into()),
                Assembled::Item("".into()),
                Assembled::End,
            ],
        );
    }

    #[test]
    fn an_answer_of_which_a_frame_is_missing_is_none() {
        let lost = || Assembled::Broken("a part of the answer was lost on the way");
        check(&[(0, Mark::Part, "a"), (2, Mark::Last, "c")], &[Assembled::Nothing, lost()]);
        check(&[(1, Mark::Last, "b")], &[lost()]);
        check(&[(0, Mark::Part, "a"), (0, Mark::Last, "a")], &[Assembled::Nothing, lost()]);
        let within = Assembled::Broken("the answer ended within an item");
        check(&[(0, Mark::Part, "a"), (1, Mark::End, "")], &[Assembled::Nothing, within]);
    }

    #[test]
    fn frames_read_back() {
        for mark in Mark::ALL {
            let message = Message {
                subject: "s".into(),
                reply: None,
                payload: Bytes::new(),
                headers: Some(frame_headers(17, mark)),
                status: None,
                description: None,
                length: 0,
            };
            assert_eq!(frame_of(&message), Some((17, mark)));
        }
    }
}
