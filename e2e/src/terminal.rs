//! A terminal with a program at it: keys are typed, what is shown is a screen that can be read.

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take to be shown.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program at a terminal of its own.
pub struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Shown>,
    reader: JoinHandle<()>,
    before: String,
}

/// What the program has written so far.
struct Shown {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Starts a program at a terminal of so many rows and columns.
    pub fn new(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("make a terminal");
        unlockpt(&master).expect("make a terminal");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).expect("make a terminal");
        resize(&master, rows, columns);
        let before = mode(&master);
        let child = at_terminal(command, slave);
        let state = State { screen: vt100::Parser::new(some(rows), some(columns), 0), bytes: Vec::new() };
        let shown = Arc::new(Shown { state: Mutex::new(state), more: Condvar::new() });
        let keys = File::from(master);
        let reader = {
            let (mut screen, shown) = (keys.try_clone().expect("share the terminal"), shown.clone());
            std::thread::spawn(move || shown.read(&mut screen))
        };
        Self { child, keys, shown, reader, before }
    }

    /// Types this.
    pub fn type_keys(&mut self, keys: impl AsRef<[u8]>) {
        self.keys.write_all(keys.as_ref()).expect("type at the terminal");
    }

    /// Gives the terminal another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.shown.state.lock().expect("the reader lives").screen.screen_mut().set_size(some(rows), some(columns));
        resize(&self.keys, rows, columns);
    }

    /// Waits until these words are on the screen.
    #[track_caller]
    pub fn await_words(&self, words: &str) {
        self.await_screen(words, |screen| screen.contains(words));
    }

    /// Waits until the screen is like this, and returns it.
    #[track_caller]
    pub fn await_screen(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shown.state.lock().expect("the reader lives");
        loop {
            let screen = state.screen.screen().contents();
            if is_so(&screen) {
                return screen;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what:?} is not shown:\n{screen}");
            state = self.shown.more.wait_timeout(state, left).expect("the reader lives").0;
        }
    }

    /// Everything that was written to the terminal so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.shown.state.lock().expect("the reader lives").bytes.clone()
    }

    /// What the screen shows now.
    pub fn screen(&self) -> vt100::Screen {
        self.shown.state.lock().expect("the reader lives").screen.screen().clone()
    }

    /// The program's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the program a signal by number.
    pub fn signal(&self, number: i32) {
        let signal = rustix::process::Signal::from_named_raw(number).expect("a named signal");
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for the end of the program and asserts that the terminal is as it was before. Returns its exit code (128+N for
    /// a signal) and all that was shown.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        let status = self.child.wait().expect("wait for the program");
        assert_eq!(mode(&self.keys), self.before, "the terminal was not restored");
        self.reader.join().expect("read the terminal");
        let code = crate::program::code(status);
        (code, String::from_utf8_lossy(&self.shown.state.lock().expect("the reader lived").bytes).into_owned())
    }
}

impl Shown {
    /// Reads until nobody has the terminal's other side.
    fn read(&self, screen: &mut File) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut buffer) {
            let mut state = self.state.lock().expect("nobody panics with it");
            state.screen.process(&buffer[..length]);
            state.bytes.extend_from_slice(&buffer[..length]);
            self.more.notify_all();
        }
    }
}

/// Starts a program in a session of its own that the terminal controls.
fn at_terminal(command: &Command, slave: OwnedFd) -> Child {
    let mut at = Command::new("setsid");
    at.arg("--ctty").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => at.env(name, value),
            None => at.env_remove(name),
        };
    }
    let stream = || Stdio::from(slave.try_clone().expect("share the terminal"));
    at.stdin(stream()).stdout(stream()).stderr(stream());
    at.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"))
}

fn some(size: u16) -> NonZero<u16> {
    NonZero::new(size).expect("a screen has rows and columns")
}

fn resize(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("resize the terminal");
}

/// The terminal's mode as text; asked by its master's side it is that of the other.
fn mode(terminal: impl AsFd) -> String {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } =
        tcgetattr(terminal).expect("ask the terminal's mode");
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}")
}
