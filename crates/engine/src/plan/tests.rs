use super::*;
use fcvm_spec::{ContainerSpec, HealthSpec, HostEntry, MachineShape, Removal, SnapshotPolicy, Tmpfs, VmId};

fn spec(container: ContainerSpec) -> VmSpec {
    VmSpec {
        id: VmId::from_random([0xab; 32]),
        name: "web".parse().unwrap(),
        image: "nginx".to_owned(),
        root: fcvm_spec::RootKind::Image,
        container,
        machine: MachineShape::default(),
        rootfs_size: None,
        cgroup: None,
        network: NetworkMode::Default,
        ports: Vec::new(),
        removal: Removal::Keep,
        stdin: Stdin::Null,
        snapshot: SnapshotPolicy::Allowed,
        metadata: Default::default(),
        health: HealthSpec::default(),
        restart: fcvm_spec::RestartPolicy::No,
    }
}

fn image(config: &str) -> ImageConfiguration {
    let text = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}},"history":[]}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn plan(container: ContainerSpec, config: &str) -> Result<Plan, NoCommand> {
    compute(
        &spec(container),
        &image(config),
        &HostFacts { time_ns: 1, entropy: [0; 32], terminal: TerminalSize { rows: 24, columns: 80 } },
    )
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn entrypoint_and_command_combine_as_in_podman() {
    const CONFIG: &str = r#"{"Entrypoint":["/entry"],"Cmd":["serve"]}"#;
    let run = |entrypoint: Option<&[&str]>, command: &[&str]| {
        let container =
            ContainerSpec { entrypoint: entrypoint.map(words), command: words(command), ..ContainerSpec::default() };
        plan(container, CONFIG).map(|plan| command_line(&plan))
    };
    assert_eq!(run(None, &[]).unwrap(), "/entry serve");
    assert_eq!(run(None, &["x", "-y"]).unwrap(), "/entry x -y");
    assert_eq!(run(Some(&["/mine"]), &[]).unwrap(), "/mine");
    assert_eq!(run(Some(&["/mine"]), &["a"]).unwrap(), "/mine a");
    assert_eq!(run(Some(&[]), &["a"]).unwrap(), "a");
    assert_eq!(run(Some(&[]), &[]), Err(NoCommand));
}

fn command_line(plan: &Plan) -> String {
    command(plan).join(" ")
}

#[test]
fn the_callers_environment_wins_over_the_images_over_the_defaults() {
    let env = words(&["B=mine", "C=3", "C=4"]);
    let plan =
        plan(ContainerSpec { env, ..ContainerSpec::default() }, r#"{"Cmd":["x"],"Env":["PATH=/img","B=image"]}"#);
    let env = plan.unwrap().container.oci["process"]["env"].clone();
    let expected = ["PATH=/img", "TERM=xterm", "container=fcvm", "HOSTNAME=abababababab", "B=mine", "C=4"];
    assert_eq!(env, serde_json::json!(expected));
}

#[test]
fn hosts_and_resolv_conf_name_the_guests_own_network() {
    let add_host = vec![HostEntry::parse("db:192.0.2.7").unwrap(), HostEntry::parse("me:host-gateway").unwrap()];
    let plan = plan(ContainerSpec { add_host, ..ContainerSpec::default() }, r#"{"Cmd":["x"]}"#).unwrap();
    for line in ["192.0.2.7\tdb", "10.0.2.2\tme", "10.0.2.2\thost.containers.internal", "10.0.2.100\tabababababab web"]
    {
        assert!(plan.container.hosts.lines().any(|known| known == line), "{line}");
    }
    assert_eq!(plan.container.resolv_conf, "nameserver 10.0.2.3\n");
}

#[test]
fn a_read_only_container_can_still_write_where_programs_expect_to() {
    let tmpfs = vec![Tmpfs::parse("/tmp:size=1m").unwrap()];
    let plan = plan(ContainerSpec { read_only: true, tmpfs, ..ContainerSpec::default() }, r#"{"Cmd":["x"]}"#).unwrap();
    let oci = &plan.container.oci;
    assert_eq!(oci["root"]["readonly"], true);
    let mounts: Vec<_> = oci["mounts"].as_array().unwrap().iter().map(|mount| mount["destination"].clone()).collect();
    assert_eq!(mounts.iter().filter(|path| *path == "/tmp").count(), 1);
    assert!(mounts.contains(&"/run".into()));
}

#[test]
fn limits_and_privileges_reach_the_configuration() {
    let container = ContainerSpec { memory: Some(64 << 20), cpu_milli: Some(1500), ..ContainerSpec::default() };
    let oci = plan(container, r#"{"Cmd":["x"]}"#).unwrap().container.oci;
    assert_eq!(oci["linux"]["resources"]["memory"]["limit"], 64 << 20);
    assert_eq!(oci["linux"]["resources"]["cpu"]["quota"], 150_000);
    assert!(oci["linux"]["maskedPaths"].is_array());
    let privileged = ContainerSpec { privileged: true, ..ContainerSpec::default() };
    let oci = plan(privileged, r#"{"Cmd":["x"]}"#).unwrap().container.oci;
    assert!(oci["linux"]["maskedPaths"].is_null());
    assert_eq!(oci["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 41);
}
