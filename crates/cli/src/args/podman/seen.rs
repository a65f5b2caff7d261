//! Flags of the verbs that show something.

use clap::Args;

/// `ps` and `ls`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Ended ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// No header
    #[arg(long, alias = "no-heading")]
    pub(crate) noheading: bool,
    /// json, table, or a template such as '{{.ID}} {{.Names}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// name=, id=, status=, label=, ancestor=, health=, exited=, before=, since=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// The newest one, ended or not
    #[arg(short, long, conflicts_with = "last")]
    pub(crate) latest: bool,
    /// So many of the newest, ended or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub(crate) last: Option<usize>,
    /// Which comes first
    #[arg(long, value_name = "FIELD", default_value = "created", hide_default_value = true)]
    pub(crate) sort: Sort,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    Command,
    /// The newest first
    Created,
    Id,
    Image,
    Names,
    Runningfor,
    Status,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on as more is written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only from this time: RFC 3339, or a span before now such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only so many lines of the end
    #[arg(long, value_name = "LINES", default_value = "all")]
    pub(crate) tail: String,
    /// With the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// With the VM's name before each line
    #[arg(short = 'n', long = "names")]
    pub(crate) with_names: bool,
    /// The VMs
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// container=, event=, image=, label=, type=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.Time}} {{.Name}} {{.Status}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Only from this time: RFC 3339, or a span before now such as 10m [default: now, or all with --no-stream]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Go on as more happens
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    stream: bool,
    /// Do not
    #[arg(long)]
    no_stream: bool,
    /// Whole ids; they are whole anyway
    #[arg(long)]
    no_trunc: bool,
}

impl EventsArgs {
    /// Whether what is still to come is wanted.
    pub(crate) fn follows(&self) -> bool {
        self.stream && !self.no_stream
    }
}

/// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// json, or a template such as '{{.State.Status}}'
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// Only VMs or only images of this name
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "all")]
    pub(crate) kind: InspectKind,
    /// VMs or images
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// What `inspect` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InspectKind {
    All,
    Container,
    Image,
}

/// `port`.
#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// The ports of every running VM
    #[arg(short, long, conflicts_with = "name")]
    pub(crate) all: bool,
    /// The VM
    #[arg(required_unless_present = "all")]
    pub(crate) name: Option<String>,
    /// Only this port of the container: PORT[/tcp|udp]
    pub(crate) port: Option<String>,
}

/// `version` and `info`.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// json, or a template
    #[arg(short, long)]
    pub(crate) format: Option<String>,
}
