//! A program under test: started, fed, and waited for with a bound.

use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

/// What a program did.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; 128+N for a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text without the last line feed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// Returns itself if the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Returns itself if the program failed with this code and said this.
    #[track_caller]
    pub fn failed(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        assert!(self.stderr.contains(words), "{words:?} is not in: {}", self.stderr);
        self
    }
}

/// A running program with its output being read.
#[derive(Debug)]
pub struct Started {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: JoinHandle<String>,
}

impl Started {
    /// Starts a program whose stdin is what `stdin` holds.
    pub fn new(mut command: Command, stdin: Vec<u8>) -> Self {
        let mut started = Self::with_stdout(&mut command);
        let pipe = started.child.stdout.take().expect("stdout is piped");
        started.stdout = Some(read_all(pipe));
        let mut input = started.child.stdin.take().expect("stdin is piped");
        // A program may end before it has read all; that is its own business.
        std::thread::spawn(move || drop(input.write_all(&stdin)));
        started
    }

    /// Starts a program whose output the caller reads from the returned pipe.
    pub fn streaming(mut command: Command) -> (Self, ChildStdout) {
        let mut started = Self::with_stdout(&mut command);
        let pipe = started.child.stdout.take().expect("stdout is piped");
        (started, pipe)
    }

    fn with_stdout(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let mut pipe = child.stderr.take().expect("stderr is piped");
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).expect("read stderr");
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, stdout: None, stderr }
    }

    /// The program's stdin, for writing while it runs.
    pub fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("stdin is piped and open")
    }

    /// The program's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by number.
    pub fn signal(&self, number: i32) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(number).expect("a named signal");
        rustix::process::kill_process(pid, signal).expect("the program runs");
    }

    /// Closes stdin and waits for the end.
    pub fn finish(mut self) -> Finished {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("wait for the program");
        let stdout = self.stdout.map_or_else(Vec::new, |reader| reader.join().expect("read stdout"));
        Finished { code: code(status), stdout, stderr: self.stderr.join().expect("read stderr") }
    }
}

fn read_all(mut pipe: ChildStdout) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("read stdout");
        bytes
    })
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
