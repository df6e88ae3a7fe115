//! Completion tokens: a worker can complete only what it was given.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::{fmt_hex, parse_hex};
use crate::ids::StepId;

/// 16 random bytes of a submission that never leave the journal's control subject.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

/// Proof that a task was given: BLAKE3 keyed hash, cut to 16 bytes; its text is hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Secret {
    /// From bytes of a cryptographic random source.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The token of one attempt. The key is `derive_key(context, secret)`, the message
    /// `step, 0, item + 1 (u32, little endian; 0 without item), activation (u32), attempt (u32)`.
    pub fn token(&self, step: &StepId, item: Option<u32>, activation: u32, attempt: u32) -> Token {
        let key = blake3::derive_key("millstream 2026-11 completion token", &self.0);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(step.as_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(&item.map_or(0, |i| i.wrapping_add(1)).to_le_bytes());
        hasher.update(&activation.to_le_bytes());
        hasher.update(&attempt.to_le_bytes());
        let mut token = [0; 16];
        token.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Token(token)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

struct Hex<'a>(&'a [u8; 16]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(self.0, f)
    }
}

macro_rules! serde_as_hex {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&Hex(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                parse_hex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("expected 32 hexadecimal digits"))
            }
        }
    };
}

serde_as_hex!(Secret);
serde_as_hex!(Token);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_changes_the_token() {
        let secret = Secret::new([7; 16]);
        let step: StepId = "fetch".parse().expect("a name");
        let tokens = [
            secret.token(&step, None, 0, 1),
            secret.token(&step, Some(0), 0, 1),
            secret.token(&step, None, 1, 1),
            secret.token(&step, None, 0, 2),
            secret.token(&"fetch2".parse().expect("a name"), None, 0, 1),
            Secret::new([8; 16]).token(&step, None, 0, 1),
        ];
        for (i, a) in tokens.iter().enumerate() {
            assert!(tokens[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn the_token_is_a_fixed_format() {
        let step: StepId = "fetch".parse().expect("a name");
        let token = Secret::new([7; 16]).token(&step, Some(3), 1, 2);
        assert_eq!(token.to_string(), "d6b4fb34584aa8cbf00e3b0218f16ed6");
    }
}
