//! The command as a program: its papers, and what it says to bad input.

use std::path::Path;
use std::process::{Command, Output};

fn fcvm(args: &[&str]) -> (tempfile::TempDir, Output) {
    let dir = tempfile::tempdir().expect("make a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcvm"));
    let output = command
        .args(args)
        .env("FCVM_DATA_DIR", dir.path())
        .env("FCVM_AGENT_BIN", env!("CARGO_BIN_EXE_fcvm"))
        .env("FCVM_CONFIG", "/dev/null")
        .output()
        .expect("start fcvm");
    (dir, output)
}

#[test]
fn man_pages_and_completions_are_made() {
    let dir = tempfile::tempdir().unwrap();
    assert!(fcvm(&["man", dir.path().to_str().unwrap()]).1.status.success());
    assert!(dir.path().join("fcvm-run.1").is_file());
    for shell in ["bash", "zsh", "fish"] {
        assert!(!fcvm(&["completions", shell]).1.stdout.is_empty(), "{shell}");
    }
}

#[test]
fn the_page_about_podmans_flags_is_what_the_command_line_says() {
    let (_dir, output) = fcvm(&["flags"]);
    let page = String::from_utf8(output.stdout).unwrap();
    let kept = include_str!("../../../docs/podman.md");
    assert!(page == kept, "make it anew: cargo run -p fcvm-cli -- flags > docs/podman.md");
}

#[test]
fn bad_input_ends_with_podmans_code_and_one_sentence() {
    for (args, code) in [
        (&["run", "--no-such-flag", "img"][..], 125),
        (&["run"], 125),
        (&["run", "--firecracker", "/no/such/file", "img"], 125),
        (&["exec", "nobody"], 125),
        (&["exec", "nobody", "true"], 125),
        (&["rm", "nobody"], 1),
        (&["rm"], 125),
        (&["stop"], 125),
        (&["stop", "--all", "nobody"], 125),
        (&["stop", "--cidfile", "/no/such/file"], 125),
        (&["kill", "-s", "NOPE", "x"], 125),
        (&["ps", "--filter", "x=y"], 125),
        (&["ps", "--format", "{{.Nope"], 125),
        (&["logs", "nobody"], 125),
        (&["logs", "-f", "one", "two"], 125),
        (&["port", "nobody"], 125),
        (&["wait", "nobody"], 125),
        (&["images", "one", "two"], 125),
        (&["no-such-verb"], 125),
        (&["podman", "start", "x"], 125),
        (&["rmi", "nothing"], 1),
        (&["rmi"], 125),
    ] {
        let (_dir, output) = fcvm(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.starts_with("Error: ") && text.lines().count() == 1, "{args:?}: {text}");
    }
}

#[test]
fn what_is_gone_already_is_no_error_where_that_is_asked_for() {
    for args in
        [&["rm", "-f", "nobody"][..], &["rm", "-i", "nobody"], &["stop", "-i", "nobody"], &["rmi", "-i", "nothing"]]
    {
        let (_dir, output) = fcvm(args);
        assert!(output.status.success() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn inspect_shows_what_there_is_before_it_complains() {
    let (_dir, output) = fcvm(&["inspect", "nobody"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), b"[]\n".as_slice()));
}

#[test]
fn help_is_there_for_every_verb_in_podmans_place_too() {
    for args in
        [&["help"][..], &["help", "run"], &["help", "podman", "run"], &["podman", "help", "run"], &["run", "--help"]]
    {
        let (_dir, output) = fcvm(args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Usage: fcvm"), "{args:?}: {text}");
    }
}

#[test]
fn version_and_info_say_what_is_here() {
    let (_dir, output) = fcvm(&["version", "--format", "{{.Client.Version}}"]);
    assert_eq!(output.stdout, format!("{}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    let (dir, output) = fcvm(&["info", "--format", "json"]);
    let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(info["store"]["graphRoot"], dir.path().to_str().unwrap());
    assert_eq!(info["store"]["containerStore"]["number"], 0);
}

#[test]
fn a_host_that_was_not_set_up_is_told_what_to_do() {
    let (_dir, output) = fcvm(&["run", "--rm", "--pull=never", "localhost/x"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text.contains("fcvm setup"), "{text}");
}

#[test]
fn doctor_names_what_is_missing_and_fails() {
    let (_dir, output) = fcvm(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let set_up = findings.as_array().unwrap().iter().find(|finding| finding["what"] == "set-up").unwrap();
    assert_eq!((&set_up["status"], &set_up["mend"]), (&"missing".into(), &"fcvm setup".into()));
    assert_eq!(output.status.code(), Some(1));
    let (_dir, output) = fcvm(&["doctor", "--quiet"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("fcvm setup") && !text.lines().any(|line| line.starts_with("ok")), "{text}");
}

#[test]
fn a_missing_agent_is_told_by_what_needs_it_and_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let fcvm = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcvm"));
        command.env("FCVM_CONFIG", "/dev/null").env("FCVM_DATA_DIR", dir.path());
        command.args(args).env("FCVM_AGENT_BIN", "/no/such/agent").output().unwrap()
    };
    assert!(fcvm(&["ps"]).status.success());
    let output = fcvm(&["run", "img"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(125) && text.contains("/no/such/agent"), "{text}");
    assert!(String::from_utf8(fcvm(&["doctor"]).stdout).unwrap().contains("/no/such/agent"));
}

#[test]
fn settings_files_are_found_and_held_to_what_they_may_say() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("fcvm/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let fcvm = |config: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcvm"));
        command
            .args(["ps", "-q"])
            .env("XDG_CONFIG_HOME", home.path())
            .env("FCVM_AGENT_BIN", env!("CARGO_BIN_EXE_fcvm"));
        command.env_remove("FCVM_DATA_DIR").env_remove("FCVM_CONFIG");
        if let Some(config) = config {
            command.env("FCVM_CONFIG", config);
        }
        command.output().unwrap()
    };
    std::fs::write(&file, format!("data_dir = {:?}\n", home.path().join("data"))).unwrap();
    assert!(fcvm(None).status.success());
    assert!(home.path().join("data/vms").is_dir());
    std::fs::write(&file, "[run]\nmemory = '1g'\nmemroy = '2g'\n").unwrap();
    for config in [None, Some(file.as_path())] {
        let output = fcvm(config);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{text}");
        assert!(text.contains("config.toml, line 3") && text.contains("memroy"), "{text}");
    }
    let text = String::from_utf8(fcvm(Some(Path::new("/no/such/file"))).stderr).unwrap();
    assert!(text.contains("/no/such/file"), "{text}");
}

#[test]
fn an_empty_host_lists_nothing() {
    let (_dir, output) = fcvm(&["ps", "-a", "-q"]);
    assert!(output.status.success() && output.stdout.is_empty());
    let (_dir, output) = fcvm(&["ps", "--format", "json"]);
    assert_eq!(output.stdout, b"[]\n");
}
