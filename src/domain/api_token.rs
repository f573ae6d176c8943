//! Tokens of the API: their form, their scope and their recognition.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Beginning of every token, by which scanners recognise a leaked one.
const PREFIX: &str = "mqg_";

/// Longest name of a token.
const MAX_NAME_CHARS: usize = 64;

named_enum! {
    /// The permissions of a token. Each scope includes the previous ones.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum TokenScope {
        /// Reads everything but secrets.
        Read = "read",
        /// Also replays, discards, retries, cancels, enables, disables, publishes and tests.
        Operate = "operate",
        /// Also edits flows, brokers and tokens.
        Admin = "admin",
    }
}

impl TokenScope {
    /// Whether it permits operations that need `needed`.
    #[must_use]
    pub fn allows(self, needed: Self) -> bool {
        self >= needed
    }
}

/// The SHA-256 hash of a token. A token has 256 random bits, so a slow hash would add nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Parses hexadecimal digits.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The hash as hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> String {
        let mut digits = String::with_capacity(64);
        for byte in self.0 {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
        }
        digits
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The token of these random bytes.
#[must_use]
pub fn token_of(random: &[u8; 32]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random))
}

/// Checks the name of a new token.
pub fn check_token_name(name: &str) -> Result<(), Problem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    // Clients take a path of dots alone for another one.
    let has_more_than_dots = name.chars().any(|c| c != '.');
    if has_more_than_dots && name.chars().count() <= MAX_NAME_CHARS && name.chars().all(is_plain) {
        return Ok(());
    }
    let remedy = format!("give 1 to {MAX_NAME_CHARS} letters, digits, dots, hyphens and underscores");
    Err(Problem::error("name", format!("{name:?} is no name of a token"), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_lesser_ones() {
        use TokenScope::{Admin, Operate, Read};
        assert!(Admin.allows(Operate) && Operate.allows(Read) && Read.allows(Read));
        assert!(!Read.allows(Operate) && !Operate.allows(Admin));
        assert_eq!(TokenScope::from_name("operate"), Some(Operate));
        assert_eq!(TokenScope::from_name("Operate"), None);
    }

    #[test]
    fn tokens_have_all_random_bits() {
        let token = token_of(&[255; 32]);
        assert_eq!(token, format!("mqg_{}8", "_".repeat(42)));
        assert_ne!(token_of(&[0; 32]), token);
    }

    #[test]
    fn hashes_survive_the_table() {
        let hash = TokenHash::of_token("abc");
        assert_eq!(hash.digits(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(TokenHash::parse(&hash.digits()).is_some_and(|parsed| parsed.matches(&hash)));
        assert!(!TokenHash::of_token("abd").matches(&hash));
        for wrong in ["", "ba78", &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(TokenHash::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_plain() {
        for name in ["ci", "grafana-1.prod_2", &"a".repeat(64)] {
            assert!(check_token_name(name).is_ok(), "{name}");
        }
        for name in ["", "a b", "é", "a/b", "a\n", &"a".repeat(65)] {
            assert!(check_token_name(name).is_err(), "{name}");
        }
    }
}
