//! The resync marker: how two peers find the start of a fresh link in what an older life left behind.
//!
//! A virtio-serial port delivers the rest of the previous connection's bytes to the next one. So the peers exchange
//! random numbers and discard everything before their own:
//!
//! ```text
//! call     guest ─► host   magic (8)  guest's nonce (16)
//! answer   host ─► guest   magic (8)  guest's nonce (16)  host's nonce (16)
//! confirm  guest ─► host   magic (8)  host's nonce (16)
//! ```
//!
//! The stale bytes may hold calls of older lives: the host answers those too and the guest skips what does not carry
//! its own nonce. Both sides are machines over bytes with a memory of less than one marker. Who sends these bytes is
//! the `link` room's business.

/// Opens each marker. Its first byte occurs in no UTF-8 text, so that logs rarely look like it.
pub const MAGIC: [u8; 8] = *b"\xf5fcvm\r\n\x1a";

/// A random number that names one side of one link.
pub type Nonce = [u8; 16];

/// Bytes of a call or a confirmation.
pub const CALL: usize = MAGIC.len() + size_of::<Nonce>();
/// Bytes of an answer.
pub const ANSWER: usize = CALL + size_of::<Nonce>();

/// The guest's side: finds the host's answer.
#[derive(Debug)]
pub struct Calling {
    nonce: Nonce,
    scan: Scan<ANSWER>,
}

impl Calling {
    /// Starts with a fresh random number.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, scan: Scan::new() }
    }

    /// The call to send first.
    pub fn call(&self) -> [u8; CALL] {
        marker(&self.nonce)
    }

    /// Scans input; returns the confirmation to send once the answer was found. The host sends nothing between its
    /// answer and the confirmation, so what follows the answer is not kept.
    pub fn feed(&mut self, input: &[u8]) -> Option<[u8; CALL]> {
        let mut host = None;
        self.scan.feed(input, |answer, _| {
            let (guest, rest) = split(&answer[MAGIC.len()..]);
            let ours = guest == self.nonce;
            if ours {
                host = Some(split(rest).0);
            }
            ours
        });
        host.map(|nonce| marker(&nonce))
    }
}

/// The host's side: answers calls until one is confirmed.
#[derive(Debug)]
pub struct Answering {
    nonce: Nonce,
    scan: Scan<CALL>,
}

/// What the host is to do after some input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Read on.
    Nothing,
    /// Send this answer and read on.
    Call([u8; ANSWER]),
    /// The link is in step; the guest's first frame starts at this index of the input.
    Confirmation(usize),
}

impl Answering {
    /// Starts with a fresh random number.
    pub fn new(nonce: Nonce) -> Self {
        Self { nonce, scan: Scan::new() }
    }

    /// Scans input. Of several calls in it only the last is answered: the guest is silent after its call, so the
    /// others are stale.
    pub fn feed(&mut self, input: &[u8]) -> Heard {
        let mut heard = Heard::Nothing;
        self.scan.feed(input, |call, end| {
            let (nonce, _) = split(&call[MAGIC.len()..]);
            let confirmed = nonce == self.nonce;
            heard = if confirmed { Heard::Confirmation(end) } else { Heard::Call(answer(&nonce, &self.nonce)) };
            confirmed
        });
        heard
    }
}

fn marker(nonce: &Nonce) -> [u8; CALL] {
    let mut bytes = [0; CALL];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(nonce);
    bytes
}

fn answer(guest: &Nonce, host: &Nonce) -> [u8; ANSWER] {
    let mut bytes = [0; ANSWER];
    bytes[..CALL].copy_from_slice(&marker(guest));
    bytes[CALL..].copy_from_slice(host);
    bytes
}

fn split(bytes: &[u8]) -> (Nonce, &[u8]) {
    let (nonce, rest) = bytes.split_first_chunk().expect("a marker is long enough for its nonces");
    (*nonce, rest)
}

/// Finds every run of `N` bytes that starts with the magic, overlapping ones too, in input of any pieces.
#[derive(Debug)]
struct Scan<const N: usize> {
    /// The last bytes of the input so far, fewer than `N`.
    tail: Vec<u8>,
}

impl<const N: usize> Scan<N> {
    fn new() -> Self {
        Self { tail: Vec::with_capacity(N) }
    }

    /// Calls `found` with each run and the index in `input` after it, until it returns true.
    fn feed(&mut self, input: &[u8], mut found: impl FnMut(&[u8], usize) -> bool) {
        let known = self.tail.len();
        let seam: Vec<u8> = self.tail.iter().chain(input.iter().take(N - 1)).copied().collect();
        for (start, run) in runs::<N>(&seam) {
            if start < known && found(run, start + N - known) {
                return;
            }
        }
        for (start, run) in runs::<N>(input) {
            if found(run, start + N) {
                return;
            }
        }
        self.keep(&seam, input);
    }

    fn keep(&mut self, seam: &[u8], input: &[u8]) {
        let source = if input.len() < N { seam } else { input };
        let tail = source[source.len().saturating_sub(N - 1)..].to_vec();
        self.tail = tail;
    }
}

fn runs<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes.windows(N).enumerate().filter(|(_, run)| run[0] == MAGIC[0] && run.starts_with(&MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Nonce = [1; 16];
    const HOST: Nonce = [2; 16];
    const OLD: Nonce = [3; 16];

    fn feed_all(host: &mut Answering, bytes: &[u8], piece: usize) -> Vec<Heard> {
        bytes.chunks(piece).map(|part| host.feed(part)).filter(|heard| *heard != Heard::Nothing).collect()
    }

    #[test]
    fn two_fresh_peers_meet() {
        let (mut guest, mut host) = (Calling::new(GUEST), Answering::new(HOST));
        let Heard::Call(answer) = host.feed(&guest.call()) else { panic!("no call heard") };
        let mut confirmation = guest.feed(&answer).expect("the answer carries the nonce").to_vec();
        let end = confirmation.len();
        confirmation.extend(b"frame");
        assert_eq!(host.feed(&confirmation), Heard::Confirmation(end));
    }

    #[test]
    fn stale_bytes_in_both_directions_are_skipped_in_pieces_of_any_size() {
        for piece in [1, 2, 7, 23, 24, 25, 39, 40, 41, 1000] {
            let (mut guest, mut host) = (Calling::new(GUEST), Answering::new(HOST));
            let stale = [b"old bytes \xf5fcvm".as_slice(), &marker(&OLD), &[0xf5; 70], &MAGIC[..5]].concat();
            let heard = feed_all(&mut host, &[&stale[..], &guest.call()].concat(), piece);
            let Some(Heard::Call(answer)) = heard.last() else { panic!("no call heard in pieces of {piece}") };
            let to_guest = [&stale[..], &super::answer(&OLD, &HOST), answer].concat();
            let found: Vec<_> = to_guest.chunks(piece).filter_map(|part| guest.feed(part)).collect();
            assert_eq!(found, [marker(&HOST)], "pieces of {piece}");
            let heard = feed_all(&mut host, &found[0], piece);
            assert!(matches!(heard[..], [Heard::Confirmation(_)]), "pieces of {piece}");
        }
    }

    #[test]
    fn a_call_that_overlaps_a_torn_one_is_heard() {
        let mut host = Answering::new(HOST);
        let torn = &marker(&OLD)[..15];
        assert_eq!(host.feed(&[torn, &marker(&GUEST)].concat()), Heard::Call(answer(&GUEST, &HOST)));
    }

    #[test]
    fn a_confirmation_of_an_older_life_is_not_taken() {
        let mut host = Answering::new(HOST);
        assert_eq!(host.feed(&marker(&OLD)), Heard::Call(answer(&OLD, &HOST)));
    }

    #[test]
    fn an_answer_to_another_guest_is_not_taken() {
        assert_eq!(Calling::new(GUEST).feed(&answer(&OLD, &HOST)), None);
    }

    #[test]
    fn the_memory_of_a_scan_is_less_than_a_marker() {
        let mut host = Answering::new(HOST);
        for _ in 0..100 {
            host.feed(&[0xf5; 5000]);
            assert!(host.scan.tail.len() < CALL);
        }
    }
}
