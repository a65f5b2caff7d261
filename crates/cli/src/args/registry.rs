//! Where an image is fetched from, for the verbs that may fetch one, and for which machine.

use crate::error::Failure;
use clap::Args;
use fcvm_image::{Platform, PullOptions, Tls};
use std::path::PathBuf;

/// `--authfile` and `--tls-verify`.
#[derive(Debug, Default, Args)]
pub(crate) struct RegistryArgs {
    /// The only file in which a password for the registry is looked for
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Whether the registry must prove who it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
}

impl RegistryArgs {
    /// Changes what was asked for, and leaves the rest.
    pub(crate) fn apply(&self, options: &mut PullOptions) -> Result<(), Failure> {
        options.tls = match self.tls_verify {
            None => Tls::Configured,
            Some(true) => Tls::Verify,
            Some(false) => Tls::Insecure,
        };
        if let Some(file) = &self.authfile {
            let missing = |error| Failure::new(format!("read --authfile {}: {error}", file.display()));
            std::fs::metadata(file).map_err(missing)?;
            options.registries.auth_files = vec![file.clone()];
        }
        Ok(())
    }
}

/// `--platform` and the flags of the registry, of a verb that runs what it fetches.
#[derive(Debug, Default, Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// OS/ARCHITECTURE[/VARIANT] of the image: only what this host runs by itself
    #[arg(long)]
    platform: Option<String>,
}

impl SourceArgs {
    /// Changes what was asked for, and leaves the rest. The guest's processor is the host's.
    pub(crate) fn apply(&self, options: &mut PullOptions) -> Result<(), Failure> {
        self.registry.apply(options)?;
        let Some(text) = &self.platform else { return Ok(()) };
        let (host, wanted): (_, Platform) = (Platform::host(), text.parse().map_err(Failure::new)?);
        if (&wanted.os, &wanted.architecture) != (&host.os, &host.architecture) {
            return Err(Failure::new(format!(
                "--platform {wanted}: a VM has its host's processor, and this host runs {host}"
            )));
        }
        options.platform = wanted;
        Ok(())
    }
}
