//! The system calls of a server: what serving takes, and none besides. Whoever takes a server over finds no more than that.

use fcvm_sys::userfaultfd::REQUESTS;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Why the system calls of this process are not restricted.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// There is no filter for this processor.
    #[error("cannot make a filter of system calls")]
    Make(#[from] BackendError),
    /// The kernel did not take it.
    #[error("cannot restrict the system calls of this process")]
    Install(#[from] seccompiler::Error),
}

/// Calls that are made with any arguments.
const ANY: &[libc::c_long] = &[
    // Machines: their connections, events and pages.
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_fcntl,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_close,
    // Memory of its own.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads, and their end.
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // What the standard library asks for by the way.
    libc::SYS_prctl,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_writev,
];

/// Calls that are refused without harm: what wants them does with others.
const REFUSED: &[libc::c_long] = &[libc::SYS_clone3, libc::SYS_openat];

/// Restricts this process to the system calls of a server: any other one ends it. It has one thread.
pub fn confine() -> Result<(), FilterError> {
    let refused = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let refused = program(refused, (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs())))?;
    let allowed = program(allowed()?, (SeccompAction::KillProcess, SeccompAction::Allow))?;
    for filter in [refused, allowed] {
        seccompiler::apply_filter(&filter)?;
    }
    Ok(())
}

/// Makes a filter with what is done about other calls, and about these.
fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    (others, these): (SeccompAction, SeccompAction),
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    BpfProgram::try_from(SeccompFilter::new(rules, others, these, architecture)?)
}

fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let is = |argument, comparison, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)?;
        SeccompRule::new(vec![condition])
    };
    let any = ANY.iter().chain(REFUSED).map(|call| (*call, Vec::new()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = any.collect();
    let requests = REQUESTS.iter().map(|request| is(1, Eq, u64::from(*request)));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    let flag = |flag: i32| u64::from(flag.unsigned_abs());
    // Threads, no processes; memory that holds no code.
    rules.insert(libc::SYS_clone, vec![is(0, MaskedEq(flag(libc::CLONE_THREAD)), flag(libc::CLONE_THREAD))?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![is(2, MaskedEq(flag(libc::PROT_EXEC)), 0)?]);
    }
    Ok(rules)
}
