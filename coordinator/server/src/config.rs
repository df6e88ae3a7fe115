//! Configuration: defaults, then a file, then the environment, then flags; later ones win.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, Value, ValueKind};
use millstream_broker::{BrokerConfig, Storage, Topology};
use millstream_model::entry::Defaults;
use millstream_model::ids::{InvalidName, NodeId};
use millstream_model::limits::{PARTITIONS, RETENTION_MS};

use crate::audit::AuditConfig;
use crate::owner::keeper::Keeping;
use settings::Settings;
pub use settings::{SETTINGS, Setting};

/// What every variable of ours starts with.
pub const ENVIRONMENT_PREFIX: &str = "MILLSTREAM";
/// What stands between the parts of a variable's name.
pub const ENVIRONMENT_SEPARATOR: &str = "__";
/// Where the API listens unless told otherwise.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8686);

/// What a coordinator needs to know to start.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    pub nats: BrokerConfig,
    /// Where the API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The process's own name; a random one if absent.
    pub node: Option<NodeId>,
    /// Partitions of a cluster that is created. An existing one must have as many.
    pub partitions: u16,
    pub storage: Storage,
    pub replicas: usize,
    /// Queued tasks of one capability and partition.
    pub tasks_per_subject_max: i64,
    /// Size of each partition's journal; unlimited if absent.
    pub journal_bytes_max: Option<i64>,
    /// How long the history keeps an execution whose definition does not say.
    pub retention_ms: u64,
    /// File of the index that survives a restart; without it the index goes with the process.
    pub index_path: Option<PathBuf>,
    /// What applies where a definition is silent.
    pub defaults: Defaults,
    pub audit: AuditConfig,
    /// When what is kept leaves memory, and the journal is cut.
    pub keeping: Keeping,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        let topology = Topology::default();
        Self {
            nats: BrokerConfig { name: "millstream-coordinator".to_owned(), ..BrokerConfig::default() },
            listen: LISTEN,
            node: None,
            partitions: PARTITIONS,
            storage: Storage::File,
            replicas: 1,
            tasks_per_subject_max: topology.tasks_per_subject_max,
            journal_bytes_max: topology.journal_bytes_max,
            retention_ms: RETENTION_MS,
            index_path: None,
            defaults: Defaults::default(),
            audit: AuditConfig::default(),
            keeping: Keeping::default(),
        }
    }
}

impl CoordinatorConfig {
    /// What the cluster's streams and buckets look like.
    pub fn topology(&self) -> Topology {
        Topology {
            partitions: self.partitions,
            storage: self.storage,
            replicas: self.replicas,
            tasks_per_subject_max: self.tasks_per_subject_max,
            journal_bytes_max: self.journal_bytes_max,
        }
    }
}

/// Where settings come from, beside the defaults.
#[derive(Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// The process's environment; what is not ours is left alone.
    pub environment: BTreeMap<String, String>,
    /// Settings by key, as flags give them.
    pub flags: Vec<(&'static str, String)>,
}

/// A configuration, and what in the environment looks like ours and is not a setting.
#[derive(Debug)]
pub struct Loaded {
    pub config: CoordinatorConfig,
    pub unknown_variables: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Box<config::ConfigError>,
    },
    #[error("the configuration file {} has '{key}', which is not a setting; --help lists them", path.display())]
    UnknownSetting { path: PathBuf, key: String },
    #[error("a setting has the wrong form: {source}")]
    Form {
        #[source]
        source: Box<config::ConfigError>,
    },
    #[error("prefix '{prefix}': {source}")]
    Prefix {
        prefix: String,
        #[source]
        source: InvalidName,
    },
    #[error("node '{node}': {source}")]
    Node {
        node: String,
        #[source]
        source: InvalidName,
    },
    #[error("{key} is {value}, and must be {allowed}")]
    Range { key: &'static str, value: String, allowed: &'static str },
}

/// Reads the configuration from `sources`.
pub fn load(sources: Sources) -> Result<Loaded, InvalidConfig> {
    let form = |source| InvalidConfig::Form { source: Box::new(source) };
    let defaults = Config::try_from(&Settings::default()).expect("settings always have a serial form");
    let mut builder = Config::builder().add_source(defaults);
    if let Some(path) = sources.file {
        builder = builder.add_source(read_file(&path)?);
    }
    let (known, unknown_variables) = split_environment(sources.environment);
    let environment = Environment::with_prefix(ENVIRONMENT_PREFIX)
        .prefix_separator(ENVIRONMENT_SEPARATOR)
        .separator(ENVIRONMENT_SEPARATOR)
        .source(Some(known.into_iter().collect()));
    builder = builder.add_source(environment);
    for (key, value) in sources.flags {
        builder = builder.set_override(key, value).map_err(form)?;
    }
    let settings: Settings = builder.build().map_err(form)?.try_deserialize().map_err(form)?;
    Ok(Loaded { config: settings.check()?, unknown_variables })
}

fn read_file(path: &Path) -> Result<Config, InvalidConfig> {
    let file = Config::builder().add_source(File::from(path)).build();
    let file = file.map_err(|source| InvalidConfig::File { path: path.to_owned(), source: Box::new(source) })?;
    let known: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    let mut keys = Vec::new();
    leaves("", &file.cache, &mut keys);
    match keys.into_iter().find(|key| !known.contains(key.as_str())) {
        Some(key) => Err(InvalidConfig::UnknownSetting { path: path.to_owned(), key }),
        None => Ok(file),
    }
}

/// The dotted keys of everything that is not a table.
fn leaves(key: &str, value: &Value, keys: &mut Vec<String>) {
    let ValueKind::Table(members) = &value.kind else {
        keys.push(key.to_owned());
        return;
    };
    let sorted: BTreeMap<&String, &Value> = members.iter().collect();
    for (name, member) in sorted {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        leaves(&key, member, keys);
    }
}

/// Variables that are settings, and the names of those that only look like ours: one environment may serve
/// several programs, so these are no error.
fn split_environment(variables: BTreeMap<String, String>) -> (BTreeMap<String, String>, Vec<String>) {
    let known: BTreeSet<String> = SETTINGS.iter().map(Setting::variable).collect();
    let start = format!("{ENVIRONMENT_PREFIX}{ENVIRONMENT_SEPARATOR}");
    let ours = variables.into_iter().filter(|(name, _)| name.starts_with(&start));
    let (settings, others): (BTreeMap<_, _>, BTreeMap<_, _>) = ours.partition(|(name, _)| known.contains(name));
    (settings, others.into_keys().collect())
}

#[cfg(test)]
mod tests;
