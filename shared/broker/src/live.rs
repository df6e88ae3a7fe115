//! Live events: told as they happen, to whoever listens, and kept by nobody.

use async_nats::Subscriber;
use futures::StreamExt;
use millstream_model::event::Event;
use tracing::debug;

use crate::Broker;
use crate::request::RequestError;

/// Listens to live events. Those that happen while the connection is down are lost.
pub struct LiveEvents {
    subscriber: Subscriber,
}

impl Broker {
    /// Tells an event to whoever listens. While the connection is down nobody is told, and nobody waits for it.
    pub async fn publish_live(&self, event: &Event) -> Result<(), RequestError> {
        if !self.is_connected() {
            return Err(RequestError::Offline);
        }
        let text = serde_json::to_vec(event).expect("an event always has a JSON form");
        let sent = self.client().publish(self.names().live(event.execution_id), text.into()).await;
        sent.map_err(|_| RequestError::Offline)
    }

    /// Listens to the events of all executions.
    pub async fn subscribe_live(&self) -> Result<LiveEvents, RequestError> {
        let subscriber = self.client().subscribe(self.names().live_all()).await;
        Ok(LiveEvents { subscriber: subscriber.map_err(|_| RequestError::Offline)? })
    }
}

impl LiveEvents {
    /// The next event; `None` when the connection was closed for good. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let message = self.subscriber.next().await?;
            match serde_json::from_slice(&message.payload) {
                Ok(event) => return Some(event),
                Err(error) => debug!(subject = %message.subject, %error, "not an event"),
            }
        }
    }
}
