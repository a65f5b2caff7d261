//! The tokens that a guest was given: each is good for a while.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// The most that are good at once. The oldest makes room: a guest that asks for more than it uses has nobody but itself to
/// lose.
const MOST: usize = 256;

/// The longest that one is good for, in seconds: six hours.
pub(super) const LONGEST: u64 = 21600;

#[derive(Debug, Default)]
pub(super) struct Tokens(VecDeque<(String, Instant)>);

impl Tokens {
    /// Makes a token that is good for so many seconds.
    pub(super) fn issue(&mut self, seconds: u64, now: Instant) -> io::Result<String> {
        let mut bytes = [0; 32];
        let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if count < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.retain(|(_, end)| *end > now);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((token.clone(), now + Duration::from_secs(seconds)));
        Ok(token)
    }

    pub(super) fn is_good(&self, token: &str, now: Instant) -> bool {
        self.0.iter().any(|(known, end)| known == token && *end > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_its_end_and_the_oldest_makes_room() {
        let (mut tokens, now) = (Tokens::default(), Instant::now());
        let first = tokens.issue(10, now).unwrap();
        assert!(tokens.is_good(&first, now + Duration::from_secs(9)));
        assert!(!tokens.is_good(&first, now + Duration::from_secs(10)));
        assert!(!tokens.is_good("", now));
        let all: Vec<String> = (0..MOST).map(|_| tokens.issue(10, now).unwrap()).collect();
        assert!(!tokens.is_good(&first, now));
        assert!(all.iter().all(|token| tokens.is_good(token, now)));
    }
}
