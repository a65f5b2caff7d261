//! Whether a container is well: a command that the agent runs in it, a page that it serves, or both, asked at intervals.
//!
//! The owner asks, over the link. So nothing is asked while the machine stands still, and a clone has a watch of its own
//! that begins when it is awake.

use crate::run::now_ns;
use bytes::Bytes;
use fcvm_image::HealthCheck;
use fcvm_link::{Lane, Receiver, Session};
use fcvm_proto::message::{Dial, Dialled, Exec, HostRequest, Place, ProcessEvent, Transport};
use fcvm_proto::plan;
use fcvm_spec::{Engine, HealthAsked, HealthCommand, HealthSpec, HealthUrl, VmSpec};
use fcvm_store::{Health, HealthRecord, HealthStatus};
use std::time::Duration;
use tokio::sync::mpsc;

/// Docker's and podman's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// Pauses between checks as long as the container was never well: whoever waits for it wants to know at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Checks that a record keeps, and how much of what they said.
const KEPT: usize = 5;
const LONGEST_OUTPUT: usize = 500;
/// A server's first line is longer only if it is no server of pages.
const LONGEST_STATUS: usize = 1024;

/// Puts what an image says of its health under what was asked.
pub(crate) fn resolve(asked: &HealthSpec, image: Option<&HealthCheck>) -> HealthSpec {
    let of_image = |image: &HealthCheck| HealthCommand::of_image(&image.test).map(HealthAsked::Command);
    let check = match &asked.check {
        HealthAsked::Image => image.and_then(of_image).unwrap_or(HealthAsked::None),
        own => own.clone(),
    };
    let of_image = image.filter(|_| matches!(asked.check, HealthAsked::Image | HealthAsked::Command(_)));
    HealthSpec {
        check,
        url: asked.url.clone(),
        interval: asked.interval.or(of_image.and_then(|image| image.interval)),
        timeout: asked.timeout.or(of_image.and_then(|image| image.timeout)),
        start_period: asked.start_period.or(of_image.and_then(|image| image.start_period)),
        retries: asked.retries.or(of_image.and_then(|image| image.retries)),
    }
}

/// Whether there is anything to ask.
pub(crate) fn is_watched(spec: &HealthSpec) -> bool {
    matches!(spec.check, HealthAsked::Command(_)) || spec.url.is_some()
}

/// What Podman is told of a container's health, so that it says the same of it as we do.
pub(crate) fn for_podman(spec: &VmSpec) -> Option<plan::Health> {
    let HealthAsked::Command(command) = &spec.health.check else { return None };
    let retries = spec.health.retries.unwrap_or(RETRIES);
    (spec.container.engine == Engine::Podman).then(|| plan::Health {
        command: command.words().to_vec(),
        retries,
        start_period_s: grace(&spec.health).as_secs(),
        timeout_s: spec.health.timeout.unwrap_or(TIMEOUT).as_secs().max(1),
    })
}

/// How long after its start a container that was never well may fail: it is asked more often while it starts; its time to
/// become well is what it would be otherwise.
fn grace(spec: &HealthSpec) -> Duration {
    let interval = spec.interval.unwrap_or(INTERVAL);
    spec.start_period.unwrap_or_default().saturating_add(interval.saturating_mul(spec.retries.unwrap_or(RETRIES)))
}

/// What is said of a container after one more check, `up` after it started.
pub(crate) fn after(before: &Health, check: HealthRecord, spec: &HealthSpec, up: Duration) -> Health {
    let good = check.exit_code == 0;
    let retries = spec.retries.unwrap_or(RETRIES);
    let failing_streak = if good { 0 } else { before.failing_streak.saturating_add(1) };
    let status = match before.status {
        _ if good => HealthStatus::Healthy,
        HealthStatus::Starting if up < grace(spec) => HealthStatus::Starting,
        HealthStatus::Healthy if failing_streak < retries => HealthStatus::Healthy,
        _ => HealthStatus::Unhealthy,
    };
    let mut log = before.log.clone();
    log.push(check);
    log.drain(..log.len().saturating_sub(KEPT));
    Health { status, failing_streak, log }
}

/// Checks for as long as somebody listens.
pub(crate) async fn watch(spec: VmSpec, session: Session, checks: mpsc::Sender<HealthRecord>) {
    let interval = spec.health.interval.unwrap_or(INTERVAL);
    let mut pause = FIRST_PAUSE.min(interval);
    let mut was_well = false;
    loop {
        let check = check(&spec, &session).await;
        was_well |= check.exit_code == 0;
        if checks.send(check).await.is_err() {
            return;
        }
        tokio::time::sleep(if was_well { interval } else { pause }).await;
        pause = (pause * 2).min(interval).min(LONGEST_PAUSE);
    }
}

/// Asks once.
pub(crate) async fn check(spec: &VmSpec, session: &Session) -> HealthRecord {
    let start_ns = now_ns();
    let limit = spec.health.timeout.unwrap_or(TIMEOUT);
    // What is dropped here is ended in the guest.
    let answer = tokio::time::timeout(limit, ask(spec, session)).await;
    let (exit_code, output) =
        answer.unwrap_or_else(|_| (-1, format!("the check took longer than {} s", limit.as_secs_f32())));
    HealthRecord { start_ns, end_ns: now_ns(), exit_code, output }
}

async fn ask(spec: &VmSpec, session: &Session) -> (i32, String) {
    let mut answer = (0, String::new());
    if let HealthAsked::Command(command) = &spec.health.check {
        answer = run(question(command, spec.container.engine), session).await.unwrap_or_else(|reason| (1, reason));
    }
    if let (0, Some(url)) = (answer.0, &spec.health.url) {
        answer = fetch(url, session).await.unwrap_or_else(|reason| (1, reason));
    }
    answer
}

/// What is run to ask: the command in the container, or Podman, which then knows the answer too.
fn question(command: &HealthCommand, engine: Engine) -> Exec {
    const PODMAN: [&str; 4] = ["podman", "healthcheck", "run", "container"];
    match engine {
        Engine::Crun => Exec { command: command.words().to_vec(), ..Exec::default() },
        Engine::Podman => Exec { command: PODMAN.map(str::to_owned).to_vec(), place: Place::System, ..Exec::default() },
    }
}

async fn run(exec: Exec, session: &Session) -> Result<(i32, String), String> {
    let (_sender, mut receiver) = open(session, &HostRequest::Exec(exec))?;
    let mut output = Vec::new();
    loop {
        let item = receiver.recv().await.map_err(|error| error.to_string())?.ok_or("the guest fell silent")?;
        if item.lane != Lane::Message {
            let room = LONGEST_OUTPUT.saturating_sub(output.len());
            output.extend_from_slice(&item.bytes[..item.bytes.len().min(room)]);
            continue;
        }
        match item.message() {
            Ok(ProcessEvent::Started { .. } | ProcessEvent::OutOfMemory | ProcessEvent::Detached) => {}
            Ok(ProcessEvent::Exited(exit)) => {
                return Ok((i32::from(exit.code()), String::from_utf8_lossy(&output).into_owned()));
            }
            Ok(ProcessEvent::Failed { code, reason }) => return Ok((i32::from(code), reason)),
            Err(error) => return Err(format!("the guest sent nonsense: {error}")),
        }
    }
}

/// A page is well that is there: a status below 400.
async fn fetch(url: &HealthUrl, session: &Session) -> Result<(i32, String), String> {
    let dial = Dial { protocol: Transport::Tcp, address: None, port: url.port };
    let (sender, mut receiver) = open(session, &HostRequest::Dial(dial))?;
    let item = receiver.recv().await.map_err(|error| error.to_string())?.ok_or("the guest fell silent")?;
    match item.message() {
        Ok(Dialled::Connected) => {}
        Ok(Dialled::Failed(errno)) => return Err(std::io::Error::from_raw_os_error(errno).to_string()),
        Err(error) => return Err(format!("the guest sent nonsense: {error}")),
    }
    let HealthUrl { host, path, .. } = url;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fcvm\r\nConnection: close\r\n\r\n");
    sender.send(Lane::Data, Bytes::from(request)).await.map_err(|error| error.to_string())?;
    let line = first_line(&mut receiver).await?;
    let status = line.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)).and_then(|code| code.parse().ok());
    match status {
        Some(200..400_u16) => Ok((0, line)),
        _ => Err(line),
    }
}

async fn first_line(receiver: &mut Receiver) -> Result<String, String> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_STATUS && !bytes.contains(&b'\n') {
        let Some(item) = receiver.recv().await.map_err(|error| error.to_string())? else { break };
        bytes.extend_from_slice(&item.bytes);
    }
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(&line[..line.len().min(LONGEST_OUTPUT)]).into_owned())
}

fn open(session: &Session, request: &HostRequest) -> Result<(fcvm_link::Sender, Receiver), String> {
    session.open(request).map(fcvm_link::Stream::split).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(before: &Health, exit_code: i32, up_s: u64) -> Health {
        let spec = HealthSpec { interval: Some(Duration::from_secs(10)), retries: Some(2), ..HealthSpec::default() };
        let check = HealthRecord { start_ns: 0, end_ns: 1, exit_code, output: String::new() };
        after(before, check, &spec, Duration::from_secs(up_s))
    }

    #[test]
    fn a_container_is_ill_after_so_many_failures_and_well_after_one_success() {
        let well = note(&Health::default(), 0, 1);
        assert_eq!(well.status, HealthStatus::Healthy);
        let once = note(&well, 1, 2);
        assert_eq!((once.status, once.failing_streak), (HealthStatus::Healthy, 1));
        let twice = note(&once, -1, 3);
        assert_eq!((twice.status, twice.failing_streak), (HealthStatus::Unhealthy, 2));
        assert_eq!(note(&twice, 0, 4).status, HealthStatus::Healthy);
    }

    #[test]
    fn one_that_was_never_well_has_the_time_that_its_retries_take() {
        let mut health = Health::default();
        for up_s in 0..20 {
            health = note(&health, 1, up_s);
            assert_eq!(health.status, HealthStatus::Starting, "{up_s} s");
        }
        assert_eq!((health.failing_streak, health.log.len()), (20, KEPT));
        assert_eq!(note(&health, 1, 20).status, HealthStatus::Unhealthy);
    }

    #[test]
    fn what_was_asked_stands_over_what_the_image_says() {
        let test = vec!["CMD".to_owned(), "of-image".to_owned()];
        let command = HealthCommand::of_image(&test).unwrap();
        let (interval, retries) = (Some(Duration::from_secs(5)), Some(7));
        let image = HealthCheck { test, interval, timeout: None, start_period: None, retries };
        let asked = HealthSpec { retries: Some(1), ..HealthSpec::default() };
        let resolved = resolve(&asked, Some(&image));
        assert_eq!(resolved.check, HealthAsked::Command(command));
        assert_eq!((resolved.interval, resolved.retries), (interval, Some(1)));
        assert!(!is_watched(&resolve(&asked, None)));
        let none = HealthSpec { check: HealthAsked::None, ..asked };
        assert!(!is_watched(&resolve(&none, Some(&image))));
        assert_eq!(resolve(&none, Some(&image)), none);
    }
}
