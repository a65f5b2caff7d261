//! What Firecracker's exit codes mean: `FcExitCode` of its sources.

/// Returns the meaning of a code as a clause; none of 0 and of codes that say no more than that it failed.
pub(super) fn meaning(code: i32) -> Option<&'static str> {
    Some(match code {
        148 => "it made a system call that its seccomp filter forbids",
        149 => "memory that it maps is gone (SIGBUS): a file was cut short, or huge pages ran out",
        150 => "it used memory that it does not have (SIGSEGV)",
        151 => "a file that it writes reached the limit of its size (SIGXFSZ)",
        152 => "its configuration is wrong",
        153 => "its arguments are wrong",
        154 => "it reached the limit of its processor time (SIGXCPU)",
        155 => "nobody reads what it writes (SIGPIPE)",
        156 => "its terminal hung up (SIGHUP)",
        157 => "the processor does not know an instruction of it (SIGILL)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_signal_names_it_and_others_have_no_meaning_of_their_own() {
        assert!(meaning(148).unwrap().contains("seccomp"));
        assert!((149..=157).all(|code| meaning(code).is_some()));
        assert!([0, 1, 2, 158].iter().all(|code| meaning(*code).is_none()));
    }
}
