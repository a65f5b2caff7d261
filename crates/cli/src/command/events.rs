//! `events`: what happened to VMs, and what happens to them while it is watched.

use super::logs::moment;
use crate::args::EventsArgs;
use crate::error::Failure;
use crate::settings;
use crate::ui;
use crate::ui::template::Template;
use fcvm_store::{VmEvent, What};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Prints events until there are no more to come.
pub(super) fn events(args: &EventsArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let wanted = Wanted::of(args)?;
    let form = Form::of(args)?;
    let mut reader = engine.store().events()?;
    loop {
        while let Some(event) = reader.next_event()? {
            if !wanted.holds(&event) {
                continue;
            }
            match writeln!(io::stdout(), "{}", form.render(&event)?) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
        let left = wanted.until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())));
        match left {
            _ if !args.follows() => return Ok(()),
            None => reader.wait(None)?,
            Some(Ok(left)) if !left.is_zero() => reader.wait(Some(left))?,
            Some(_) => return Ok(()),
        }
    }
}

/// Which events are shown.
struct Wanted {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Vec<Filter>,
}

/// `--filter KEY=VALUE`: values of one key are alternatives, keys all count.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Container(String),
    Event(String),
    Image(String),
    Label(String, Option<String>),
    Type(String),
}

impl Wanted {
    fn of(args: &EventsArgs) -> Result<Self, Failure> {
        // Who only looks at what comes does not want what was.
        let since = match args.since.as_deref().map(moment).transpose()? {
            None if args.follows() => Some(Timestamp::now()),
            since => since,
        };
        let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { since, until: args.until.as_deref().map(moment).transpose()?, filters })
    }

    fn holds(&self, event: &VmEvent) -> bool {
        let at_ns = i128::from(event.at_ns);
        let early = self.since.is_some_and(|since| at_ns < since.as_nanosecond());
        let late = self.until.is_some_and(|until| at_ns > until.as_nanosecond());
        let kind = |filter: &Filter| std::mem::discriminant(filter);
        let matches =
            |filter: &Filter| self.filters.iter().any(|other| kind(other) == kind(filter) && other.holds(event));
        !early && !late && self.filters.iter().all(matches)
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        Ok(match key {
            "container" => Self::Container(value),
            "event" => Self::Event(value),
            "image" => Self::Image(value),
            "type" => Self::Type(value),
            "label" => match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            },
            _ => {
                let known = "container, event, image, label, type";
                return Err(Failure::new(format!("{key} is an invalid filter: it is one of {known}")));
            }
        })
    }

    fn holds(&self, event: &VmEvent) -> bool {
        match self {
            Self::Container(wanted) => {
                event.name.as_str() == wanted || (!wanted.is_empty() && event.id.as_str().starts_with(wanted.as_str()))
            }
            Self::Event(wanted) => status(&event.what) == wanted,
            Self::Image(wanted) => event.image.contains(wanted.as_str()),
            Self::Label(name, value) => {
                event.labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
            Self::Type(wanted) => wanted == TYPE,
        }
    }
}

/// Podman's word for what VMs are.
const TYPE: &str = "container";

/// Podman's words where it has them.
fn status(what: &What) -> &'static str {
    match what {
        What::Create => "create",
        What::Start => "start",
        What::Clone { .. } => "clone",
        What::Rewind { .. } => "rewind",
        What::Snapshot { .. } => "snapshot",
        What::Health { .. } => "health_status",
        What::Pause => "pause",
        What::Unpause => "unpause",
        What::Kill { .. } => "kill",
        What::Stop => "stop",
        What::Oom => "oom",
        What::Died { .. } => "died",
        What::Restart { .. } => "restart",
        What::Reboot => "reboot",
        What::Update => "update",
        What::Rename { .. } => "rename",
        What::Remove => "remove",
    }
}

/// What is known beyond the kind.
fn detail(what: &What) -> Option<(&'static str, String)> {
    Some(match what {
        What::Clone { snapshot } | What::Rewind { snapshot } | What::Snapshot { snapshot } => {
            ("snapshot", snapshot.to_string())
        }
        What::Kill { signal } => ("signal", signal.to_string()),
        What::Restart { policy } => ("policy", policy.to_string()),
        What::Rename { before } => ("before", before.to_string()),
        What::Died { code } => ("exitCode", code.to_string()),
        _ => return None,
    })
}

/// How events are shown.
enum Form {
    Line,
    Json,
    Template(Template),
}

impl Form {
    fn of(args: &EventsArgs) -> Result<Self, Failure> {
        Ok(match args.format.as_deref() {
            None => Self::Line,
            Some("json") => Self::Json,
            Some(template) => Self::Template(Template::parse(template)?),
        })
    }

    fn render(&self, event: &VmEvent) -> Result<String, Failure> {
        match self {
            Self::Line => Ok(line(event)),
            Self::Json => Ok(row(event).to_string()),
            Self::Template(template) => template.render_body(&[row(event)]),
        }
    }
}

fn line(event: &VmEvent) -> String {
    let VmEvent { at_ns, what, id, name, image, labels } = event;
    let mut facts = format!("image={image}, name={name}");
    if let What::Health { status } = what {
        facts = format!("{facts}, health_status={status}");
    }
    for (name, value) in detail(what).iter().map(|(name, value)| (*name, value)) {
        facts = format!("{facts}, {name}={value}");
    }
    for (name, value) in labels {
        facts = format!("{facts}, {name}={value}");
    }
    format!("{} {TYPE} {} {id} ({facts})", ui::time::go(*at_ns), status(what))
}

/// In podman's shape; what is not known of an event is empty.
fn row(event: &VmEvent) -> Value {
    let mut attributes = json!(event.labels);
    if let (Some((name, value)), Value::Object(attributes)) = (detail(&event.what), &mut attributes) {
        attributes.insert(name.to_owned(), value.into());
    }
    let (code, health) = match &event.what {
        What::Died { code } => (Some(*code), String::new()),
        What::Health { status } => (None, status.to_string()),
        _ => (None, String::new()),
    };
    json!({
        "ID": event.id,
        "Image": event.image,
        "Name": event.name,
        "Status": status(&event.what),
        "Time": ui::time::rfc3339(event.at_ns),
        "Type": TYPE,
        "ContainerExitCode": code.unwrap_or(0),
        "HealthStatus": health,
        "Attributes": attributes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn event(what: What) -> VmEvent {
        VmEvent {
            at_ns: 1_795_453_704_937_988_301,
            what,
            id: fcvm_spec::VmId::from_random([0xab; 32]),
            name: "web".parse().unwrap(),
            image: "docker.io/library/nginx".to_owned(),
            labels: BTreeMap::from([("tier".to_owned(), "front".to_owned())]),
        }
    }

    fn holds(filters: &[&str], event: &VmEvent) -> bool {
        let filters = filters.iter().map(|text| Filter::parse(text).unwrap()).collect();
        Wanted { since: None, until: None, filters }.holds(event)
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_keys_all_count() {
        let died = event(What::Died { code: 3 });
        for (filters, expected) in [
            (&[][..], true),
            (&["event=died"], true),
            (&["event=start", "event=died"], true),
            (&["event=start"], false),
            (&["event=died", "container=web"], true),
            (&["event=died", "container=abab"], true),
            (&["event=died", "container=other"], false),
            (&["label=tier", "image=nginx", "type=container"], true),
            (&["label=tier=back"], false),
            (&["type=image"], false),
        ] {
            assert_eq!(holds(filters, &died), expected, "{filters:?}");
        }
        assert!(Filter::parse("nonsense=1").is_err());
    }

    #[test]
    fn events_look_like_podmans() {
        let died = event(What::Died { code: 3 });
        let id = "ab".repeat(32);
        let expected = format!(
            "2026-11-23 17:08:24.937988301 +0000 UTC container died {id} \
             (image=docker.io/library/nginx, name=web, exitCode=3, tier=front)"
        );
        assert_eq!(line(&died), expected);
        let row = row(&died);
        assert_eq!((&row["Status"], &row["ContainerExitCode"]), (&"died".into(), &3.into()));
        assert_eq!(row["Attributes"]["tier"], "front");
    }
}
