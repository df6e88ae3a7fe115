//! The clients that all http agents of a worker share.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 3;

/// Pools of connections: one that honours the environment's proxy, and one for this machine,
/// where a proxy could not follow. Each is built with its first agent, because that reads the
/// system's certificates.
#[derive(Debug, Clone)]
pub struct HttpClients(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    outside: LazyLock<Client>,
    loopback: LazyLock<Client>,
}

impl Default for HttpClients {
    fn default() -> Self {
        Self(Arc::new(Pools {
            outside: LazyLock::new(|| build(settings)),
            loopback: LazyLock::new(|| build(|| settings().no_proxy())),
        }))
    }
}

impl HttpClients {
    pub(crate) fn for_url(&self, url: &Url) -> Client {
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let pool = if host == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
            &self.0.loopback
        } else {
            &self.0.outside
        };
        Client::clone(pool)
    }
}

fn settings() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("millstream-worker/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::limited(REDIRECTS_MAX))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
}

/// A machine without root certificates can still call agents over plain HTTP.
fn build(settings: impl Fn() -> ClientBuilder) -> Client {
    // Loses only to a provider that somebody installed before, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    settings().build().unwrap_or_else(|problem| {
        tracing::warn!(%problem, "no system certificates: https agents cannot be reached");
        let without_roots = settings().tls_certs_only(std::iter::empty()).build();
        without_roots.expect("a client without root certificates depends on nothing outside")
    })
}
