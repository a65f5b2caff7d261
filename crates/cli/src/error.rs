//! The one place where errors become exit codes, sentences and hints.

use std::process::ExitCode;

/// What ends a command before it did what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code: 125 for failures of ours, the container's own otherwise.
    code: u8,
    /// What is said on standard error; nothing if it is empty.
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure of ours with a sentence.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: 125, message: message.into(), hint: None }
    }

    /// A failure with an exit code of its own.
    pub(crate) fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// What was said by a process that failed in our place.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// The whole text for people.
    pub(crate) fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\nHint: {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// Says what happened and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            crate::ui::complain(&format!("Error: {}", self.text()));
        }
        ExitCode::from(self.code)
    }
}

impl From<fcvm_engine::Error> for Failure {
    fn from(error: fcvm_engine::Error) -> Self {
        use fcvm_engine::Error;
        let hint = match &error {
            Error::Artifacts(fcvm_artifacts::Error::NotSetUp) => Some("run `fcvm setup` first"),
            Error::Artifacts(fcvm_artifacts::Error::NoPodman) => Some("run `fcvm setup --with podman` first"),
            Error::Choice(fcvm_vmm::ChoiceError::NoQemu) => Some("`fcvm doctor` lists what is missing"),
            _ => None,
        };
        Self { code: error.exit_code(), message: chain(&error), hint: hint.map(str::to_owned) }
    }
}

macro_rules! ours {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Failure {
            fn from(error: $kind) -> Self {
                Self::new(chain(&error))
            }
        }
    )*};
}
ours!(fcvm_store::Error, fcvm_image::Error, fcvm_spec::Invalid, std::io::Error, serde_json::Error);

impl From<fcvm_artifacts::Error> for Failure {
    fn from(error: fcvm_artifacts::Error) -> Self {
        fcvm_engine::Error::from(error).into()
    }
}

/// An error and its causes in one line. A cause that its effect already tells is not told again.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
