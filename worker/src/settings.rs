//! What a worker process is told: a file, the environment, flags, the last having the last word.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use config::{Config, ConfigError, Environment, File, Map};
use millstream_broker::BrokerConfig;
use millstream_model::ids::{Capability, InvalidName, WorkerId};
use millstream_model::names::Names;
use millstream_worker::WorkerConfig;
use serde::{Deserialize, Deserializer};

const PREFIX: &str = "MILLSTREAM";
const SEPARATOR: &str = "__";

const ALL_SETTINGS: &str = "\
Settings (file key · environment variable · default):
  nats.url                 MILLSTREAM__NATS__URL                 nats://127.0.0.1:4222
  nats.user                MILLSTREAM__NATS__USER                none
  nats.password            MILLSTREAM__NATS__PASSWORD            none
  nats.token               MILLSTREAM__NATS__TOKEN               none
  nats.creds_file          MILLSTREAM__NATS__CREDS_FILE          none
  prefix                   MILLSTREAM__PREFIX                    ms
  id                       MILLSTREAM__ID                        a name that no other worker has
  capabilities             MILLSTREAM__CAPABILITIES (a,b)        all whose agents it can run
  concurrency              MILLSTREAM__CONCURRENCY               256
  concurrency_per_capability.<name>
                           MILLSTREAM__CONCURRENCY_PER_CAPABILITY__<NAME>
                                                                 as concurrency
  shutdown_grace_ms        MILLSTREAM__SHUTDOWN_GRACE_MS         30000
Flags win over the environment, the environment over the file (YAML, TOML or JSON).

Logs: MILLSTREAM_LOG (or RUST_LOG) sets the filter, MILLSTREAM_LOG_FORMAT=json the format.
Traces: exported over OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set.";

/// Takes tasks from NATS and runs them: http, process and built-in agents.
#[derive(Debug, Default, Parser)]
#[command(name = "millstream-worker", version, after_long_help = ALL_SETTINGS, after_help = "--help shows all settings")]
pub(crate) struct Flags {
    /// File with settings: .yaml, .toml or .json
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    config: Option<PathBuf>,
    /// NATS to connect to; several URLs separated by commas
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// Pools to take work from, separated by commas; without it all whose agents it can run
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    capabilities: Vec<Capability>,
    /// Tasks that run at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,
    /// The worker's name; must differ from every other's
    #[arg(long, value_name = "NAME")]
    id: Option<WorkerId>,
    /// What all streams and subjects of this environment begin with
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{0}")]
    Unreadable(#[from] ConfigError),
    #[error("prefix `{prefix}`: {source}")]
    Prefix {
        prefix: String,
        #[source]
        source: InvalidName,
    },
    #[error("concurrency must be at least 1")]
    NoConcurrency,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    nats: Nats,
    prefix: String,
    #[serde(deserialize_with = "maybe_name")]
    id: Option<WorkerId>,
    #[serde(deserialize_with = "list")]
    capabilities: Vec<Capability>,
    concurrency: u32,
    concurrency_per_capability: BTreeMap<String, u32>,
    shutdown_grace_ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Nats {
    url: String,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    creds_file: Option<PathBuf>,
}

const KNOWN: [&str; 7] =
    ["nats", "prefix", "id", "capabilities", "concurrency", "concurrency_per_capability", "shutdown_grace_ms"];

impl Default for Settings {
    fn default() -> Self {
        let worker = WorkerConfig::default();
        Self {
            nats: Nats::default(),
            prefix: Names::default().to_string(),
            id: None,
            capabilities: worker.capabilities,
            concurrency: worker.concurrency,
            concurrency_per_capability: BTreeMap::new(),
            shutdown_grace_ms: u64::try_from(worker.shutdown_grace.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self { url: BrokerConfig::default().url, user: None, password: None, token: None, creds_file: None }
    }
}

/// Puts the settings together. Variables of the environment that other Millstream processes
/// know are no mistake; they are returned, to be mentioned.
pub(crate) fn load(
    flags: Flags,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(WorkerConfig, Vec<String>), SettingsError> {
    let mut builder = Config::builder();
    if let Some(path) = &flags.config {
        builder = builder.add_source(File::from(path.as_path()));
    }
    let (known, unknown) = split(environment);
    let source = Environment::with_prefix(PREFIX).prefix_separator(SEPARATOR).separator(SEPARATOR);
    builder = builder.add_source(source.source(Some(known)));
    let settings: Settings = builder.build()?.try_deserialize()?;
    Ok((settings.with(flags)?, unknown))
}

impl Settings {
    fn with(self, flags: Flags) -> Result<WorkerConfig, SettingsError> {
        let prefix = flags.prefix.unwrap_or(self.prefix);
        let names = Names::from_str(&prefix).map_err(|source| SettingsError::Prefix { prefix, source })?;
        let id = flags.id.or(self.id);
        let capabilities = if flags.capabilities.is_empty() { self.capabilities } else { flags.capabilities };
        let mut concurrency_per_capability = BTreeMap::new();
        for (name, slots) in self.concurrency_per_capability {
            // The environment's names arrive in lower case.
            let same = capabilities.iter().find(|capability| capability.as_str().eq_ignore_ascii_case(&name));
            let capability = match same {
                Some(capability) => capability.clone(),
                None => name.parse().map_err(|problem: InvalidName| ConfigError::Message(problem.to_string()))?,
            };
            concurrency_per_capability.insert(capability, slots);
        }
        let concurrency = flags.concurrency.unwrap_or(self.concurrency);
        if concurrency == 0 || concurrency_per_capability.values().any(|slots| *slots == 0) {
            return Err(SettingsError::NoConcurrency);
        }
        let name = id.as_ref().map_or_else(|| "millstream-worker".to_owned(), |id| format!("millstream-worker {id}"));
        Ok(WorkerConfig {
            nats: BrokerConfig {
                url: flags.nats_url.unwrap_or(self.nats.url),
                name,
                names,
                user: self.nats.user,
                password: self.nats.password,
                token: self.nats.token,
                creds_file: self.nats.creds_file,
            },
            id,
            capabilities,
            concurrency,
            concurrency_per_capability,
            shutdown_grace: Duration::from_millis(self.shutdown_grace_ms),
        })
    }
}

/// The worker's variables, and the names of those with our prefix that are not its.
fn split(environment: impl Iterator<Item = (String, String)>) -> (Map<String, String>, Vec<String>) {
    let mut unknown = Vec::new();
    let mut known = Map::new();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(SEPARATOR)) else { continue };
        let first = rest.split(SEPARATOR).next().unwrap_or_default().to_ascii_lowercase();
        if KNOWN.contains(&first.as_str()) {
            known.insert(name, value);
        } else {
            unknown.push(name);
        }
    }
    (known, unknown)
}

/// A list as the file writes it, or a text with commas as the environment does.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Capability>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Text(String),
    }
    let names = match Written::deserialize(deserializer)? {
        Written::List(names) => names,
        Written::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
    };
    names.into_iter().filter(|name| !name.is_empty()).map(|name| named(&name)).collect()
}

fn maybe_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WorkerId>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|name| named(&name)).transpose()
}

fn named<T: FromStr<Err = InvalidName>, E: serde::de::Error>(name: &str) -> Result<T, E> {
    name.parse().map_err(|problem| E::custom(format_args!("`{name}`: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
        let owned: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        owned.into_iter()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = std::env::temp_dir().join(format!("millstream-worker-settings-{}.yaml", std::process::id()));
        std::fs::write(&file, "concurrency: 1\ncapabilities: [http]\nnats: {url: 'nats://file:4222', token: '007'}\n")
            .expect("a file");
        let flags = Flags { config: Some(file.clone()), concurrency: Some(3), ..Flags::default() };
        let variables = [("MILLSTREAM__CONCURRENCY", "2"), ("MILLSTREAM__NATS__URL", "nats://environment:4222")];
        let (config, unknown) = load(flags, environment(&variables)).expect("settings");
        std::fs::remove_file(file).expect("the file is there");
        assert_eq!(config.concurrency, 3);
        assert_eq!(config.nats.url, "nats://environment:4222");
        assert_eq!(config.nats.token.as_deref(), Some("007"));
        assert_eq!(config.capabilities.len(), 1);
        assert!(unknown.is_empty());
    }

    #[test]
    fn the_environment_lists_capabilities_with_commas_and_keeps_texts_as_they_are() {
        let variables = [
            ("MILLSTREAM__CAPABILITIES", "http, process"),
            ("MILLSTREAM__NATS__PASSWORD", "0123"),
            ("MILLSTREAM__CONCURRENCY_PER_CAPABILITY__HTTP", "8"),
            ("MILLSTREAM__LISTEN", "127.0.0.1:1"),
            ("MILLSTREAM_LOG", "debug"),
        ];
        let (config, unknown) = load(Flags::default(), environment(&variables)).expect("settings");
        let names: Vec<_> = config.capabilities.iter().map(Capability::as_str).collect();
        assert_eq!(names, ["http", "process"]);
        assert_eq!(config.nats.password.as_deref(), Some("0123"));
        assert_eq!(config.concurrency_per_capability.get("http"), Some(&8));
        assert_eq!(unknown, ["MILLSTREAM__LISTEN"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (variables, wanted) in [
            ([("MILLSTREAM__CONCURRENCY", "many")], "concurrency"),
            ([("MILLSTREAM__CONCURRENCY", "0")], "concurrency must be at least 1"),
            ([("MILLSTREAM__CAPABILITIES", "a b")], "`a b`"),
            ([("MILLSTREAM__PREFIX", "a.b")], "prefix `a.b`"),
            ([("MILLSTREAM__NATS__URI", "nats://x")], "uri"),
        ] {
            let error = load(Flags::default(), environment(&variables)).expect_err("bad settings").to_string();
            assert!(error.to_lowercase().contains(wanted), "{error}");
        }
        let missing = Flags { config: Some("/nonexistent.yaml".into()), ..Flags::default() };
        let error = load(missing, environment(&[])).expect_err("no file").to_string();
        assert!(error.contains("nonexistent.yaml"), "{error}");
    }

    #[test]
    fn the_help_names_every_setting() {
        for setting in KNOWN {
            assert!(ALL_SETTINGS.contains(setting), "{setting}");
        }
    }
}
