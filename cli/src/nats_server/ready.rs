//! Whether a nats-server that was just started answers.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

/// The listeners a nats-server writes into its `ports_file_dir`.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// Reads the client port from the ports file; `None` until the server has written it.
pub(super) fn client_port(directory: &Path) -> Option<u16> {
    let entries = std::fs::read_dir(directory).ok()?;
    let file =
        entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "ports"))?;
    port_of(&std::fs::read_to_string(file).ok()?)
}

fn port_of(text: &str) -> Option<u16> {
    let ports: Ports = serde_json::from_str(text).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

/// Whether the server greets clients and has JetStream.
pub(super) fn greets(port: u16) -> bool {
    let patience = Duration::from_secs(1);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(stream) = TcpStream::connect_timeout(&address, patience) else { return false };
    if stream.set_read_timeout(Some(patience)).is_err() {
        return false;
    }
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && has_jetstream(&line)
}

fn has_jetstream(greeting: &str) -> bool {
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        jetstream: bool,
    }
    greeting
        .strip_prefix("INFO ")
        .and_then(|json| serde_json::from_str::<Info>(json.trim()).ok())
        .is_some_and(|info| info.jetstream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_the_ports_file() {
        assert_eq!(port_of(r#"{"nats":["nats://127.0.0.1:41233"]}"#), Some(41233));
        assert_eq!(port_of(r#"{"nats":["#), None);
    }

    #[test]
    fn a_greeting_says_whether_there_is_jetstream() {
        assert!(has_jetstream("INFO {\"server_id\":\"A\",\"jetstream\":true}\r\n"));
        assert!(!has_jetstream("INFO {\"server_id\":\"A\"}\r\n"));
        assert!(!has_jetstream("HTTP/1.1 400 Bad Request\r\n"));
    }
}
