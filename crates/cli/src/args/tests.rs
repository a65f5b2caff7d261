use super::*;
use crate::config::Config;
use fcvm_spec::{Accel, MachineShape, MiB, NetworkMode, Removal};

fn plan(line: &str) -> Result<RunPlan, String> {
    plan_with(line, &Config::default())
}

fn plan_with(line: &str, config: &Config) -> Result<RunPlan, String> {
    let words = line.split_whitespace().map(OsString::from);
    let cli = parse(words).map_err(|failure| failure.text())?;
    match cli.verb {
        Verb::Podman(verb) => match *verb {
            PodmanVerb::Run(args) => args.plan(config).map_err(|failure| failure.text()),
            _ => panic!("not run"),
        },
        Verb::Direct(PodmanVerb::Run(args)) => args.plan(config).map_err(|failure| failure.text()),
        _ => panic!("not run"),
    }
}

#[test]
fn what_stands_behind_the_image_is_the_containers() {
    for line in ["fcvm run img ls -l --name x", "fcvm podman run img ls -l --name x", "fcvm run -- img ls -l --name x"]
    {
        let plan = plan(line).unwrap();
        assert_eq!(plan.request.spec.image, "img");
        assert_eq!(plan.request.spec.container.command, ["ls", "-l", "--name", "x"], "{line}");
    }
}

#[test]
fn memory_and_processors_shape_the_machine_and_the_container() {
    let spec = plan("fcvm run -m 512m --cpus 1.5 img").unwrap().request.spec;
    assert_eq!((spec.machine.memory, spec.machine.cpus), (MiB(608), 2));
    assert_eq!((spec.container.memory, spec.container.cpu_milli), (Some(512 << 20), Some(1500)));
    let spec = plan("fcvm run -m 6m img").unwrap().request.spec;
    assert_eq!((spec.machine.memory, spec.container.memory), (MachineShape::LEAST_MEMORY, Some(6 << 20)));
    let spec = plan("fcvm run --mem 300 --cpu 3 img").unwrap().request.spec;
    assert_eq!((spec.machine.memory, spec.machine.cpus, spec.container.memory), (MiB(300), 3, None));
}

#[test]
fn a_flag_wins_over_the_settings_file() {
    let text = "[run]\nmemory = '256m'\ncpus = 3\nnetwork = 'none'\naccel = 'tcg'\n[log]\nmax_size = '1m'\n";
    let config: Config = toml::from_str(text).unwrap();
    let spec = |line: &str| plan_with(line, &config).unwrap().request.spec;
    let default = spec("fcvm run img");
    assert_eq!((default.machine.cpus, default.container.memory), (3, Some(256 << 20)));
    assert_eq!((default.network, default.container.log_max_size), (NetworkMode::None, Some(1 << 20)));
    let typed = spec("fcvm run --mem 512 --cpu 1 --net rootless --accel auto --log-opt max-size=2m img");
    assert_eq!((typed.machine.cpus, typed.machine.memory, typed.container.memory), (1, MiB(512), None));
    assert_eq!((typed.machine.accel, typed.container.log_max_size), (Accel::Auto, Some(2 << 20)));
}

#[test]
fn short_flags_combine_and_values_follow() {
    let plan = plan("fcvm run -dP -h box --rm -eA=1 -eB=2 -p 8080:80 -u 1:2 -w /x img").unwrap();
    assert_eq!(plan.place, Place::Background);
    let spec = plan.request.spec;
    assert_eq!((spec.removal, spec.ports.len()), (Removal::Automatic, 1));
    assert_eq!(spec.container.env, ["A=1", "B=2"]);
    assert_eq!(spec.container.hostname.as_deref(), Some("box"), "-h is the host's name, as in podman");
}

#[test]
fn flags_that_are_not_there_are_refused_by_name() {
    for (line, words) in [
        ("fcvm run -a stdaux img", "stdaux"),
        ("fcvm run -it --detach-keys ctrl-P img", "ctrl-P"),
        ("fcvm run --health-on-failure=kill img", "--health-on-failure"),
        ("fcvm run --volume-driver=x img", "--volume-driver"),
        ("fcvm run --no-such-flag img", "--no-such-flag"),
        ("fcvm run --cpus 0 img", "--cpus"),
        ("fcvm run --mem 1 img", "too small"),
        ("fcvm run --vmm xen img", "--vmm"),
        ("fcvm run -w x img", "absolute"),
        ("fcvm run --network host img", "host"),
    ] {
        let text = plan(line).expect_err(line);
        assert!(text.contains(words), "{line}: {text}");
        assert!(!text.contains('\n'), "{line}: {text}");
    }
}

#[test]
fn commands_and_flags_of_podman_are_refused_with_the_reason_of_their_verb() {
    for (line, words) in [
        ("fcvm inspect -s x", "-s: the disk"),
        ("fcvm logs -t -l x", "-l: name the VM"),
        ("fcvm rm --tty x", "--tty: it is not supported"),
        ("fcvm --log-level debug ps", "--log-level: set FCVM_LOG"),
        ("fcvm build .", "build: images are only run here"),
        ("fcvm podman network ls", "network: every VM has a network of its own"),
        ("fcvm nonsense", "nonsense"),
        ("fcvm port x 80 90", "unexpected argument 90"),
    ] {
        let text = parse(line.split_whitespace().map(OsString::from)).expect_err(line).text();
        assert!(text.contains(words) && !text.contains('\n'), "{line}: {text}");
    }
}

#[test]
fn what_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let args = vec![OsString::from("fcvm"), OsString::from("run"), OsString::from_vec(vec![0xff])];
    assert!(parse(args.into_iter()).unwrap_err().text().contains("UTF-8"));
}

#[test]
fn the_table_of_flags_is_consistent() {
    command().debug_assert();
}
