//! Says what inotify says: `inotifyd PATH…`. A line for each event, in their order: the path that is watched, the name in
//! it, what happened; of a move also a number that both of its lines have.
//!
//! Tests build it with rustc alone, for the guest. A line `ready` says that all paths are watched.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io::{BufWriter, Write};

const NONBLOCK: c_int = 0;
const ALL: u32 = 0xfff & !ACCESS & !CLOSE_NOWRITE;
const ACCESS: u32 = 0x1;
const CLOSE_NOWRITE: u32 = 0x10;
const ISDIR: u32 = 0x4000_0000;
const NAMES: [(u32, &str); 13] = [
    (0x2, "modify"),
    (0x4, "attrib"),
    (0x8, "close-write"),
    (0x20, "open"),
    (0x40, "moved-from"),
    (0x80, "moved-to"),
    (0x100, "create"),
    (0x200, "delete"),
    (0x400, "delete-self"),
    (0x800, "move-self"),
    (0x2000, "unmount"),
    (0x4000, "overflow"),
    (0x8000, "ignored"),
];

unsafe extern "C" {
    fn inotify_init1(flags: c_int) -> c_int;
    fn inotify_add_watch(inotify: c_int, path: *const c_char, mask: u32) -> c_int;
    fn read(file: c_int, bytes: *mut c_void, length: usize) -> isize;
}

fn main() {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    // SAFETY: it takes a number.
    let inotify = unsafe { inotify_init1(NONBLOCK) };
    let mut watches = Vec::new();
    for path in &paths {
        let text = CString::new(path.as_str()).expect("a path");
        // SAFETY: the text lives through the call and ends with a zero.
        let watch = unsafe { inotify_add_watch(inotify, text.as_ptr(), ALL) };
        assert!(watch >= 0, "{path}: {}", std::io::Error::last_os_error());
        watches.push((watch, path));
    }
    // What was read at once is written at once, or the kernel would have more than this can write.
    let mut out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
    writeln!(out, "ready").expect("write");
    out.flush().expect("write");
    let mut room = [0_u8; 65536];
    loop {
        // SAFETY: there is room for as much as is asked for.
        let length = unsafe { read(inotify, room.as_mut_ptr().cast(), room.len()) };
        let mut rest = &room[..usize::try_from(length).expect("read events")];
        while rest.len() >= 16 {
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("four bytes"));
            let (watch, mask, cookie, size) = (word(0) as c_int, word(4), word(8), word(12) as usize);
            let name: Vec<u8> = rest[16..16 + size].iter().copied().take_while(|byte| *byte != 0).collect();
            let path = watches.iter().find(|(known, _)| *known == watch).map_or("?", |(_, path)| path.as_str());
            let mut line = format!("{path} {}", String::from_utf8_lossy(&name));
            for (_, what) in NAMES.iter().filter(|(bit, _)| mask & bit != 0) {
                line = format!("{line} {what}");
            }
            if mask & ISDIR != 0 {
                line += " dir";
            }
            if cookie != 0 {
                line = format!("{line} {cookie}");
            }
            writeln!(out, "{line}").expect("write");
            rest = &rest[16 + size..];
        }
        out.flush().expect("write");
    }
}
