//! A connection to NATS, with what a coordinator is configured with.

use std::time::Duration;

use anyhow::Context as _;
use millstream_broker::{Broker, BrokerConfig};
use millstream_coordinator::config::{self, CoordinatorConfig, Sources};

use crate::arguments::Nats;
use crate::outcome::Invalid;

/// How long NATS may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects as the coordinators of the cluster do, and answers with their configuration too.
pub(crate) async fn connect(nats: &Nats) -> anyhow::Result<(Broker, CoordinatorConfig)> {
    let config = configuration(nats)?;
    let url = config.nats.url.clone();
    let broker_config = BrokerConfig { name: "millstream".to_owned(), ..config.nats.clone() };
    let connected = tokio::time::timeout(PATIENCE, Broker::connect(broker_config)).await;
    let broker = connected.with_context(|| {
        format!(
            "no NATS answers at {url}\nName another one with --nats-url or MILLSTREAM__NATS__URL, or give the \
             coordinators' configuration with --config"
        )
    })??;
    Ok((broker, config))
}

fn configuration(nats: &Nats) -> Result<CoordinatorConfig, Invalid> {
    let flags = [("nats.url", &nats.nats_url), ("prefix", &nats.prefix)];
    let sources = Sources {
        file: nats.config.clone(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        flags: flags.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect(),
    };
    config::load(sources).map(|loaded| loaded.config).map_err(|error| Invalid::new(error.to_string()))
}
