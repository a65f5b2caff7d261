//! Diagnostics on standard error, for those who set `FCVM_LOG`.

use tracing_subscriber::EnvFilter;

/// Starts them if they were asked for; nothing is set up otherwise, since most commands are over in milliseconds.
pub(crate) fn start() {
    let Ok(filter) = std::env::var("FCVM_LOG") else { return };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
