//! `cp`.

use clap::Args;

/// `cp`.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// In the container, let its user own what comes; if not, who owns it here
    #[arg(
        short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true",
        default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set
    )]
    pub(crate) archive: bool,
    /// Let a directory take the place of a file, and a file that of a directory
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// VM:PATH, a path here, or - for a tar stream, which may be compressed: gzip, zstd, bzip2, xz
    pub(crate) source: String,
    /// The same
    #[arg(allow_hyphen_values = true)]
    pub(crate) target: String,
}

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In a VM: its name and a path.
    Vm(String, String),
    /// Here.
    Host(String),
    /// Standard input or output.
    Stream,
}

impl End {
    /// Reads an end as podman does: what begins like a path, or has no colon, is one.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((vm, path)) if !vm.is_empty() && !text.starts_with(['.', '/']) => {
                Self::Vm(vm.to_owned(), path.to_owned())
            }
            _ => Self::Host(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart_as_podman_tells_them() {
        let vm = |vm: &str, path: &str| End::Vm(vm.into(), path.into());
        for (text, end) in [
            ("box:/etc/passwd", vm("box", "/etc/passwd")),
            ("box:a:b", vm("box", "a:b")),
            ("box:", vm("box", "")),
            ("-", End::Stream),
            ("./a:b", End::Host("./a:b".into())),
            ("/a:b", End::Host("/a:b".into())),
            ("file", End::Host("file".into())),
            (":x", End::Host(":x".into())),
        ] {
            assert_eq!(End::parse(text), end, "{text}");
        }
    }
}
