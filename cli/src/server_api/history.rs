//! What a server knows of executions that have long ended, and of all of them.

use std::collections::BTreeMap;

use millstream_model::hash::ContentHash;
use millstream_model::time::Timestamp;
use millstream_model::view::{ExecutionError, ExecutionStatus, ExecutionView};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{RequestError, ServerApi, json};

/// An execution in a list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Listed {
    pub id: String,
    pub workflow_id: String,
    pub status: ExecutionStatus,
    #[serde(default)]
    pub partial: bool,
    /// It waits for long and is not in memory.
    #[serde(default)]
    pub parked: bool,
    #[serde(with = "millstream_model::time::rfc3339")]
    pub started_at: Timestamp,
    #[serde(default, with = "millstream_model::time::rfc3339_option")]
    pub ended_at: Option<Timestamp>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    #[serde(default)]
    pub error: Option<ExecutionError>,
}

/// A page of a list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    pub executions: Vec<Listed>,
    /// Begins the next page.
    #[serde(default)]
    pub next: Option<String>,
    /// Whether the server has read all of the history.
    #[serde(default = "yes")]
    pub complete: bool,
    #[serde(default)]
    pub summary: Option<Summary>,
}

/// All that fit, in figures.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Summary {
    pub total: u64,
    #[serde(default)]
    pub by_status: BTreeMap<String, u64>,
    #[serde(default)]
    pub success_rate: Option<f64>,
    #[serde(default)]
    pub duration_ms: Option<Durations>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Durations {
    pub avg: f64,
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

fn yes() -> bool {
    true
}

impl ServerApi {
    /// Lists executions as `query` says, as the server writes it.
    pub(crate) async fn executions(&self, query: &[(&str, String)]) -> Result<Value, RequestError> {
        json(self, self.patiently(self.get(&["executions"], query)).await?).await
    }

    /// A page that [`Self::executions`] gave.
    pub(crate) fn page(&self, listed: &Value) -> Result<Page, RequestError> {
        Page::deserialize(listed).map_err(|error| self.foreign(format!("it lists something else: {error}")))
    }

    /// An execution as it was after the entry at a place of the journal.
    pub(crate) async fn execution_at(&self, id: &str, at: &str) -> Result<ExecutionView, RequestError> {
        let request = self.get(&["executions", id], &[("at", at.to_owned())]);
        json(self, self.patiently(request).await?).await
    }

    /// The text of an execution's transcript.
    pub(crate) async fn transcript(&self, id: &str) -> Result<String, RequestError> {
        let request = self.get(&["executions", id, "entries"], &[("format", "transcript".to_owned())]);
        self.patiently(request).await?.text().await.map_err(|error| self.broken(&error))
    }

    /// The hash and the text of the definition that is in force under an id; `None` when there is none.
    pub(crate) async fn definition_in_force(&self, id: &str) -> Result<Option<(ContentHash, String)>, RequestError> {
        #[derive(Deserialize)]
        struct InForce {
            hash: ContentHash,
            definition: Box<RawValue>,
        }
        match self.patiently(self.request(Method::GET, &["workflows", id])).await {
            Ok(response) => {
                let InForce { hash, definition } = json(self, response).await?;
                Ok(Some((hash, definition.get().to_owned())))
            }
            Err(RequestError::Refused(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn get(&self, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        self.client.request(Method::GET, url)
    }

    /// Whether the server knows an execution.
    pub(crate) async fn knows(&self, id: &str) -> Result<bool, RequestError> {
        match self.patiently(self.request(Method::GET, &["executions", id])).await {
            Ok(_) => Ok(true),
            Err(RequestError::Refused(problem)) if problem.status == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}
