//! The nats-servers of a world: configuration files, stores and processes of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::Api;
use crate::chaos::world::Ground;
use crate::process::Process;
use crate::wait::eventually;

/// How long a cluster may take to be whole after all of it was started.
const WHOLE: Duration = Duration::from_secs(60);

/// One nats-server.
#[derive(Debug)]
pub struct Server {
    pub process: Process,
    pub url: String,
    monitor: Api,
}

/// Where a server listens.
struct Ports {
    client: u16,
    cluster: u16,
    monitor: u16,
}

/// Writes the configuration of `count` servers that form a cluster, and starts them.
///
/// # Panics
/// When they do not start.
pub async fn start(count: usize, sync_always: bool, ground: &Ground, directory: &Path) -> Vec<Server> {
    let binary = crate::nats::binary().await;
    let mut free = free_ports(count * 3).into_iter();
    let mut port = || free.next().expect("so many were asked for");
    let ports: Vec<Ports> = (0..count).map(|_| Ports { client: port(), cluster: port(), monitor: port() }).collect();
    let routes: Vec<String> = (0..count).map(|i| format!("nats://{}:{}", ground.host(i), ports[i].cluster)).collect();
    let mut servers = Vec::new();
    for (i, ports) in ports.iter().enumerate() {
        let store = ground.store(i).unwrap_or_else(|| directory.join(format!("store-{}", i + 1)));
        let text = configuration(i, ground.host(i), ports, &routes, &store, sync_always);
        let file = directory.join(format!("nats-{}.conf", i + 1));
        std::fs::write(&file, text).expect("the world's directory can be written");
        let mut words: Vec<String> = ground.prefix(i).to_vec();
        words.extend([binary.display().to_string(), "-c".to_owned(), file.display().to_string()]);
        let program = PathBuf::from(words.remove(0));
        let name = format!("nats-{}", i + 1);
        let process =
            Process::start(&name, &program, words, Vec::new(), directory).expect("nats-server can be started");
        let monitor = Api::new(format!("http://{}:{}", ground.host(i), ports.monitor));
        servers.push(Server { process, url: format!("nats://{}:{}", ground.host(i), ports.client), monitor });
    }
    whole(&servers).await;
    servers
}

/// Waits until every server says that it is in step with the others.
///
/// # Panics
/// When that takes too long.
pub async fn whole(servers: &[Server]) {
    for server in servers {
        let what = format!("{} is in step", server.url);
        eventually(WHOLE, &what, || async { server.is_healthy().await.then_some(()) }).await;
    }
}

impl Server {
    /// Whether it answers and its streams are current.
    pub async fn is_healthy(&self) -> bool {
        let asked = self.monitor.get("/healthz");
        let answer = tokio::time::timeout(Duration::from_secs(2), asked).await;
        matches!(answer, Ok(Ok(answer)) if answer.status == 200)
    }

    /// The names of the streams whose leader it is.
    pub async fn leads(&self) -> Vec<String> {
        let Ok(answer) = self.monitor.get("/jsz?streams=true&leader-only=true").await else { return Vec::new() };
        let details = answer.body.pointer("/account_details/0/stream_detail");
        let streams = details.and_then(|list| list.as_array()).cloned().unwrap_or_default();
        let names = streams.iter().filter_map(|stream| stream["name"].as_str());
        names.map(ToOwned::to_owned).collect()
    }
}

fn configuration(
    index: usize,
    host: &str,
    ports: &Ports,
    routes: &[String],
    store: &Path,
    sync_always: bool,
) -> String {
    let name = index + 1;
    let Ports { client, cluster, monitor } = ports;
    let mut text = format!("server_name: n{name}\nlisten: {host}:{client}\nhttp: {host}:{monitor}\n");
    let sync = if sync_always { "  sync_interval: always\n" } else { "" };
    writeln!(text, "jetstream {{\n  store_dir: \"{}\"\n{sync}}}", store.display()).expect("a string grows");
    if routes.len() > 1 {
        let routes = routes.join(", ");
        writeln!(text, "cluster {{\n  name: chaos\n  listen: {host}:{cluster}\n  routes: [{routes}]\n}}")
            .expect("a string grows");
    }
    text
}

/// Ports of loopback below those that the system gives to outgoing connections: a server that is down for a while
/// finds its own free when it comes back.
///
/// # Panics
/// When there are not so many.
pub fn free_ports(count: usize) -> Vec<u16> {
    let offset = u16::try_from(std::process::id() % 9_000).expect("it is below 9,000");
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<u16> = (20_000 + offset..32_000).filter(is_free).take(count).collect();
    assert_eq!(ports.len(), count, "loopback has free ports");
    ports
}
