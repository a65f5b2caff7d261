//! `--filter KEY=VALUE`, as podman combines them: values of one key are alternatives (of `label` not), keys all count.

use crate::error::Failure;
use fcvm_spec::VmId;
use fcvm_store::VmRecord;

/// What is wanted.
pub(in crate::command) struct Filters(Vec<Filter>);

enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Ancestor(String),
    Health(String),
    Label {
        name: String,
        value: Option<String>,
        wanted: bool,
    },
    Exited(u8),
    Restart(String),
    /// Created before this time.
    Until(i64),
    /// Created before or since this VM.
    Before(i64),
    Since(i64),
}

impl Filters {
    /// Parses filters; some name another VM.
    pub(in crate::command) fn parse(texts: &[String], records: &[VmRecord]) -> Result<Self, Failure> {
        texts.iter().map(|text| Filter::parse(text, records)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether they choose VMs by what these are doing, so that ended ones count too.
    pub(super) fn choose_phases(&self) -> bool {
        self.0.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)))
    }

    pub(in crate::command) fn match_all(&self, record: &VmRecord) -> bool {
        let matches = |filter: &Filter| match filter {
            Filter::Label { .. } => filter.matches(record),
            _ => self.0.iter().any(|other| other.key() == filter.key() && other.matches(record)),
        };
        self.0.iter().all(matches)
    }
}

impl Filter {
    fn parse(text: &str, records: &[VmRecord]) -> Result<Self, Failure> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        Ok(match key {
            "name" => Self::Name(value),
            "id" => Self::Id(value),
            "status" => Self::Status(value),
            "health" => Self::Health(value),
            "ancestor" => Self::Ancestor(value),
            "label" => Self::label(&value, true),
            "label!" => Self::label(&value, false),
            "exited" => Self::Exited(
                value
                    .parse()
                    .map_err(|_| Failure::new(format!("invalid filter {text:?}: an exit code is expected")))?,
            ),
            "restart-policy" => Self::Restart(value),
            "until" => Self::Until(before(&value)?),
            "before" => Self::Before(created(&value, records)?),
            "since" => Self::Since(created(&value, records)?),
            _ => {
                let known =
                    "name, id, status, label, label!, ancestor, health, exited, restart-policy, until, before, since";
                return Err(Failure::new(format!("{key} is an invalid filter: it is one of {known}")));
            }
        })
    }

    fn label(text: &str, wanted: bool) -> Self {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        Self::Label { name: name.to_owned(), value, wanted }
    }

    fn key(&self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(self)
    }

    fn matches(&self, record: &VmRecord) -> bool {
        match self {
            Self::Name(pattern) => anchored(record.spec.name.as_str(), pattern),
            Self::Id(start) => record.spec.id.as_str().starts_with(start),
            Self::Status(state) => record.phase.podman() == state,
            Self::Health(status) => is_health(record, status),
            Self::Ancestor(image) => is_ancestor(record, image),
            Self::Label { name, value, wanted } => {
                let found = record.spec.container.labels.get(name);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found)) == *wanted
            }
            Self::Exited(code) => record.ended.as_ref().is_some_and(|ended| ended.code == *code),
            Self::Restart(policy) => record.spec.restart.name() == policy,
            Self::Before(created) | Self::Until(created) => record.created_ns < *created,
            Self::Since(created) => record.created_ns > *created,
        }
    }
}

/// Of podman's regular expressions, a part of the name, or with `^` and `$` its beginning and its end.
fn anchored(name: &str, pattern: &str) -> bool {
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(_), Some(_)) => name == pattern.trim_start_matches('^').trim_end_matches('$'),
        (Some(start), None) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name.contains(pattern),
    }
}

/// Podman's words, `none` among them.
fn is_health(record: &VmRecord, status: &str) -> bool {
    record.health.as_ref().map_or_else(|| "none".to_owned(), |health| health.status.to_string()) == status
}

/// An image by its name, with or without the tag that is meant anyway, or by the beginning of its id.
fn is_ancestor(record: &VmRecord, image: &str) -> bool {
    let asked = record.spec.image.as_str();
    let latest = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    let id = record.image_digest.as_deref().unwrap_or_default();
    let by_id = image.len() >= 12 && (id.starts_with(image) || id.trim_start_matches("sha256:").starts_with(image));
    latest(asked) == latest(image) || by_id
}

fn created(name: &str, records: &[VmRecord]) -> Result<i64, Failure> {
    let is = |record: &&VmRecord| record.spec.name.as_str() == name || is_id(&record.spec.id, name);
    let found = records.iter().find(is);
    found.map(|record| record.created_ns).ok_or_else(|| Failure::new(format!("no VM with name or id {name:?}")))
}

fn before(text: &str) -> Result<i64, Failure> {
    Ok(i64::try_from(crate::command::logs::moment(text)?.as_nanosecond()).unwrap_or(i64::MAX))
}

fn is_id(id: &VmId, text: &str) -> bool {
    text.len() >= 4 && id.as_str().starts_with(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, label: &str, created_ns: i64) -> VmRecord {
        let (key, value) = label.split_once('=').unwrap();
        serde_json::from_value(serde_json::json!({
            "spec": {
                "id": "ab".repeat(32), "name": name, "image": "docker.io/library/nginx:latest",
                "container": { "labels": { key: value } },
                "machine": { "cpus": 1, "memory": 512, "kernel": "default", "vmm": "auto", "accel": "auto" },
                "network": "default", "ports": [], "removal": "keep", "stdin": "null", "snapshot": "allowed",
            },
            "phase": "running", "created_ns": created_ns, "owner": { "pid": 1, "start_time": 1 },
        }))
        .unwrap()
    }

    fn names(filters: &[&str]) -> Result<Vec<String>, String> {
        let records = [record("web-1", "tier=front", 1), record("web-2", "tier=back", 2), record("db", "x=y", 3)];
        let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        let filters = Filters::parse(&texts, &records).map_err(|failure| failure.text())?;
        let found = records.iter().filter(|record| filters.match_all(record));
        Ok(found.map(|record| record.spec.name.to_string()).collect())
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_keys_all_count() {
        assert_eq!(names(&[]).unwrap().len(), 3);
        assert_eq!(names(&["name=web"]).unwrap(), ["web-1", "web-2"]);
        assert_eq!(names(&["name=^web-1$", "name=db"]).unwrap(), ["web-1", "db"]);
        assert_eq!(names(&["name=web", "label=tier=back"]).unwrap(), ["web-2"]);
        assert_eq!(names(&["label=tier", "label!=tier=back"]).unwrap(), ["web-1"]);
        assert_eq!(names(&["ancestor=docker.io/library/nginx", "since=web-1", "before=db"]).unwrap(), ["web-2"]);
        assert_eq!(names(&["status=exited"]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_filter_is_refused_by_name() {
        for (filter, word) in
            [("x=y", "x is an invalid filter"), ("exited=soon", "exited"), ("before=nobody", "nobody")]
        {
            assert!(names(&[filter]).unwrap_err().contains(word), "{filter}");
        }
    }
}
