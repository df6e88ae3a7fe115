//! The connection: made once, kept for ever.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, ServerAddr, ServerError, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use millstream_model::names::Names;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

use crate::replies::{Replies, Ticket, refused_subject};
use crate::request::{ANSWER_WAIT, RequestError};

/// Longest pause between two attempts to connect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);
/// Messages one subscription may hold before the client drops more.
const SUBSCRIPTION_CAPACITY: usize = 128 * 1024;
/// How exact the deadlines of replies are.
const TICK: Duration = Duration::from_millis(200);

/// How to reach NATS, and as whom.
#[derive(Clone)]
pub struct BrokerConfig {
    /// One URL, or several separated by commas.
    pub url: String,
    /// The connection's name, as NATS shows it to operators.
    pub name: String,
    pub names: Names,
    pub user: Option<String>,
    pub password: Option<String>,
    pub token: Option<String>,
    /// A `.creds` file: JWT and seed of a user.
    pub creds_file: Option<PathBuf>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            name: "millstream".to_owned(),
            names: Names::default(),
            user: None,
            password: None,
            token: None,
            creds_file: None,
        }
    }
}

impl std::fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerConfig")
            .field("url", &without_credentials(&self.url))
            .field("name", &self.name)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// Why this configuration will never connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{url}` is not a NATS URL; a good one is nats://127.0.0.1:4222")]
    Url { url: String },
    #[error("the credentials file {} cannot be used: {source}", path.display())]
    Credentials {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("NATS at {url} does not accept these credentials")]
    Unauthorized { url: String },
}

/// A connection to NATS; clones share it. It reconnects by itself for ever and closes with its last clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    names: Names,
    replies: Arc<Replies>,
    link: watch::Receiver<Link>,
    router: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.router.abort();
    }
}

/// State of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) connected: bool,
    /// How often a connection was made, this one included; it numbers them.
    pub(crate) connects: u64,
}

impl Link {
    fn of(client: &Client) -> Self {
        Self {
            connected: client.connection_state() == State::Connected,
            connects: client.statistics().connects.load(Ordering::Relaxed),
        }
    }
}

impl Broker {
    /// Connects, and waits for NATS as long as that takes.
    pub async fn connect(config: BrokerConfig) -> Result<Self, ConnectError> {
        let shown = without_credentials(&config.url);
        let servers = parse_servers(&config.url).ok_or(ConnectError::Url { url: shown.clone() })?;
        let (events, received) = mpsc::unbounded_channel();
        let client = connect_client(&config, &servers, &shown, events).await?;
        let replies = Arc::new(Replies::new(client.new_inbox()));
        let subscriber = client
            .subscribe(replies.filter())
            .await
            .expect("the inbox is a valid subject and a new connection takes commands");
        let (link, observed) = watch::channel(Link::of(&client));
        let router = Router { client: client.clone(), replies: Arc::clone(&replies), link };
        let router = tokio::spawn(router.run(subscriber, received)).abort_handle();
        let inner = Inner { client, names: config.names, replies, link: observed, router };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Largest message the server takes, headers included.
    pub fn max_payload(&self) -> usize {
        self.inner.client.max_payload()
    }

    /// Whether the connection is there at this moment.
    pub fn is_connected(&self) -> bool {
        self.inner.client.connection_state() == State::Connected
    }

    /// The number of the connection that is there at this moment: another number means that there was a gap.
    pub fn connection(&self) -> Option<u64> {
        let number = self.inner.client.statistics().connects.load(Ordering::Relaxed);
        self.is_connected().then_some(number)
    }

    /// Ends when the connection is there.
    pub async fn connected(&self) {
        let mut link = self.link();
        // The sender lives as long as the router, and that as long as `self`.
        drop(link.wait_for(|link| link.connected).await);
    }

    /// The names of this environment.
    pub fn names(&self) -> &Names {
        &self.inner.names
    }

    /// Waits until everything sent so far was written to the connection.
    pub async fn flush(&self) {
        if let Err(error) = self.inner.client.flush().await {
            warn!(%error, "cannot flush the connection to NATS");
        }
    }

    /// Writes what was sent so far and closes the connection; nothing can be sent afterwards.
    pub async fn drain(&self) {
        self.flush().await;
        if let Err(error) = self.inner.client.drain().await {
            warn!(%error, "cannot drain the connection to NATS");
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }

    /// Ends with [`Reply::Denied`](crate::replies::Reply) when the server refuses what this connection is about to
    /// publish to a subject, and with something else after some seconds.
    pub(crate) fn refusal(&self, subject: String) -> Ticket {
        let connection = self.inner.client.statistics().connects.load(Ordering::Relaxed);
        self.inner.replies.expect(subject, connection, ANSWER_WAIT).1
    }

    /// Sends a message that wants a reply. Messages leave in the order of the calls.
    ///
    /// While the connection is down it waits for it, at most [`ANSWER_WAIT`].
    pub(crate) async fn send(
        &self,
        subject: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Ticket, RequestError> {
        let inner = &*self.inner;
        if !self.is_connected() && tokio::time::timeout(ANSWER_WAIT, self.connected()).await.is_err() {
            return Err(RequestError::Offline);
        }
        let (size, max) = (payload.len(), inner.client.max_payload());
        let connection = inner.client.statistics().connects.load(Ordering::Relaxed);
        let (reply, ticket) = inner.replies.expect(subject.clone(), connection, wait);
        let sent = match headers {
            Some(headers) => {
                inner.client.publish_with_reply_and_headers(subject.clone(), reply, headers, payload).await
            }
            None => inner.client.publish_with_reply(subject.clone(), reply, payload).await,
        };
        let Err(error) = sent else { return Ok(ticket) };
        drop(ticket);
        inner.replies.forget_abandoned();
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Err(RequestError::TooLarge { subject, size, max }),
            PublishErrorKind::Send | PublishErrorKind::InvalidSubject => Err(RequestError::Offline),
        }
    }
}

async fn connect_client(
    config: &BrokerConfig,
    servers: &[ServerAddr],
    shown: &str,
    events: mpsc::UnboundedSender<Event>,
) -> Result<Client, ConnectError> {
    let mut announced = false;
    let mut attempt = 0;
    loop {
        let options = options(config, events.clone()).await?;
        match options.connect(servers).await {
            Ok(client) => {
                if announced {
                    info!(url = shown, "NATS is there");
                }
                return Ok(client);
            }
            Err(error) => match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    return Err(ConnectError::Unauthorized { url: shown.to_owned() });
                }
                ConnectErrorKind::ServerParse => return Err(ConnectError::Url { url: shown.to_owned() }),
                ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Tls
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => {
                    if !announced {
                        warn!(url = shown, %error, "waiting for NATS");
                        announced = true;
                    }
                    attempt += 1;
                    tokio::time::sleep(reconnect_delay(attempt + 1)).await;
                }
            },
        }
    }
}

async fn options(config: &BrokerConfig, events: mpsc::UnboundedSender<Event>) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .ping_interval(Duration::from_secs(10))
        .skip_subject_validation(true)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .event_callback(move |event| {
            // The router ends with the last clone of the broker; then nobody wants events.
            drop(events.send(event));
            std::future::ready(())
        });
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        options = options.user_and_password(user.clone(), password.clone());
    }
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let Some(path) = &config.creds_file {
        options = options
            .credentials_file(path)
            .await
            .map_err(|source| ConnectError::Credentials { path: path.clone(), source })?;
    }
    Ok(options)
}

/// Immediately at first, then doubling from 20 ms.
fn reconnect_delay(attempt: usize) -> Duration {
    let exponent = u32::try_from(attempt.saturating_sub(2)).unwrap_or(u32::MAX);
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(20 * 2_u64.saturating_pow(exponent.min(10))).min(RECONNECT_DELAY_MAX),
    }
}

fn parse_servers(urls: &str) -> Option<Vec<ServerAddr>> {
    let servers: Vec<ServerAddr> = urls.split(',').map(|url| url.trim().parse().ok()).collect::<Option<_>>()?;
    (!servers.is_empty()).then_some(servers)
}

/// `nats://user:secret@host` without what comes before the `@`.
fn without_credentials(urls: &str) -> String {
    let clean = |url: &str| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        (_, None) | (Some(_), Some(_)) => url.to_owned(),
    };
    urls.split(',').map(|url| clean(url.trim())).collect::<Vec<_>>().join(",")
}

/// Routes replies and watches the connection; ends with the last clone of the broker.
struct Router {
    client: Client,
    replies: Arc<Replies>,
    link: watch::Sender<Link>,
}

impl Router {
    async fn run(self, mut subscriber: Subscriber, mut events: mpsc::UnboundedReceiver<Event>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = subscriber.next() => match message {
                    Some(message) => self.replies.deliver(message),
                    None => break,
                },
                Some(event) = events.recv() => self.observe(&event),
                _ = tick.tick() => {
                    self.replies.expire(Instant::now());
                    self.refresh();
                }
            }
        }
        self.replies.lose(u64::MAX);
    }

    fn observe(&self, event: &Event) {
        match event {
            Event::Connected | Event::Disconnected | Event::Draining | Event::Closed => {}
            Event::LameDuckMode => info!("the NATS server asks its clients to leave"),
            Event::SlowConsumer(_) => warn!("a subscription is too slow and lost messages; its reader recovers them"),
            Event::ServerError(ServerError::Other(message)) => match refused_subject(message) {
                Some(subject) => {
                    error!(subject, "NATS refuses this connection to publish here; check the permissions of its user");
                    self.replies.deny(subject);
                }
                None => warn!(%message, "NATS reports an error"),
            },
            Event::ServerError(error @ (ServerError::AuthorizationViolation | ServerError::SlowConsumer(_))) => {
                error!(%error, "NATS reports an error");
            }
            // While it is down every attempt to reconnect is one; the loss itself was reported.
            Event::ClientError(error) => tracing::debug!(%error, "NATS client"),
        }
        self.refresh();
    }

    /// Compares with the client's own state, because its events can be dropped.
    fn refresh(&self) {
        let link = Link::of(&self.client);
        let before = *self.link.borrow();
        if link == before {
            return;
        }
        match (before.connected, link.connected) {
            (true, false) => warn!("the connection to NATS is lost; reconnecting"),
            (false, true) => info!("connected to NATS again"),
            (true, true) | (false, false) => {}
        }
        self.replies.lose(if link.connected { link.connects } else { link.connects + 1 });
        self.link.send_replace(link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_secret() {
        assert_eq!(without_credentials("nats://me:secret@a:4222, tls://b"), "nats://a:4222,tls://b");
        assert_eq!(without_credentials("me:secret@a:4222"), "a:4222");
    }

    #[test]
    fn several_servers_are_separated_by_commas() {
        assert_eq!(parse_servers("nats://a:4222, nats://b:4222").map(|s| s.len()), Some(2));
        assert!(parse_servers("not a url").is_none());
    }

    #[test]
    fn reconnects_back_off_to_a_ceiling() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        assert_eq!(reconnect_delay(2), Duration::from_millis(20));
        assert_eq!(reconnect_delay(3), Duration::from_millis(40));
        assert_eq!(reconnect_delay(1_000_000), RECONNECT_DELAY_MAX);
    }
}
