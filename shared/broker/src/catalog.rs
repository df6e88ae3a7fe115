//! Definitions and agents: by id what is in force, by hash what never changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_model::agent::Agent;
use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::ids::{AgentId, WorkflowId};
use millstream_model::limits::INLINE_MAX;
use millstream_model::payload::PayloadRef;
use millstream_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::bucket::{Expected, Record, decode, in_bucket};
use crate::watch::{Change, Watch};
use crate::{Broker, StoreError};

/// Keys of what is in force.
const BY_ID: &str = "id.";

/// The definition of a workflow that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionRecord {
    pub hash: ContentHash,
    /// The definition's own version text.
    pub version: String,
    pub updated_at: Timestamp,
}

/// A [`DefinitionRecord`] as it is stored; when it was written the store knows.
#[derive(Debug, Serialize, Deserialize)]
struct InForce {
    hash: ContentHash,
    #[serde(default)]
    version: String,
}

/// Stands in the bucket for content that is too large for a message. No definition looks like it: each has an id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    #[serde(rename = "ref")]
    reference: PayloadRef,
}

/// What a watcher of agents is told.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentChange {
    Put(Agent),
    Deleted(AgentId),
    /// Every agent that was there when watching began was told; comes once.
    InitialDone,
}

/// Watches the agents' manifests in force, across reconnects.
pub struct AgentWatch {
    bucket: String,
    watch: Watch,
}

impl Broker {
    /// Puts a definition in force. Its content is stored first, under its hash, for ever.
    pub async fn put_definition(
        &self,
        workflow: &WorkflowId,
        hash: ContentHash,
        canonical_json: &str,
    ) -> Result<(), StoreError> {
        /// All that is wanted of a definition here.
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            version: Option<String>,
        }
        let names = self.names();
        let (bucket, key) = (names.definitions(), names.definition(workflow));
        let head: Head = serde_json::from_str(canonical_json).map_err(|source| StoreError::Unreadable {
            bucket: bucket.clone(),
            key: key.clone(),
            source,
        })?;
        self.keep_definition(hash, canonical_json).await?;
        let in_force = InForce { hash, version: head.version.unwrap_or_default() };
        self.put_record(&bucket, &key, json(&in_force), Expected::Anything, None)
            .await
            .map(drop)
            .map_err(in_bucket(&bucket))
    }

    /// Stores a definition's content under its hash, for ever, without putting it in force.
    pub async fn keep_definition(&self, hash: ContentHash, canonical_json: &str) -> Result<(), StoreError> {
        let content = self.definition_content(hash, canonical_json).await?;
        self.put_content(&self.names().definitions(), hash, content).await
    }

    /// The canonical JSON of a definition.
    pub async fn definition_by_hash(&self, hash: ContentHash) -> Result<Option<String>, StoreError> {
        let bucket = self.names().definitions();
        let Some(record) = self.content(&bucket, hash).await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&record.value).into_owned();
        let Ok(Elsewhere { reference }) = serde_json::from_str(&text) else { return Ok(Some(text)) };
        let loaded = self.get_text(self.names().definition_object(hash), reference).await;
        loaded.map(Some).map_err(|source| StoreError::Payload(Box::new(source)))
    }

    /// What is stored as a definition's content: itself, or where it is when it is large.
    async fn definition_content(&self, hash: ContentHash, text: &str) -> Result<Bytes, StoreError> {
        if text.len() <= INLINE_MAX {
            return Ok(text.to_owned().into());
        }
        let reference = PayloadRef::to(text);
        let stored = self.put_text(self.names().definition_object(hash), reference, text).await;
        stored.map_err(|source| StoreError::Payload(Box::new(source)))?;
        Ok(json(&Elsewhere { reference }))
    }

    /// The definition of a workflow that is in force.
    pub async fn definition(&self, workflow: &WorkflowId) -> Result<Option<DefinitionRecord>, StoreError> {
        let bucket = self.names().definitions();
        let record = self.record(&bucket, &self.names().definition(workflow)).await.map_err(in_bucket(&bucket))?;
        record.as_ref().map(|record| definition_record(&bucket, record)).transpose()
    }

    /// Every definition that is in force.
    pub async fn definitions(&self) -> Result<Vec<(WorkflowId, DefinitionRecord)>, StoreError> {
        let bucket = self.names().definitions();
        let records = self.records(&bucket, "id.*").await.map_err(in_bucket(&bucket))?;
        let mut found = BTreeMap::new();
        for record in &records {
            let Some(workflow) = id_of::<WorkflowId>(&bucket, &record.key) else { continue };
            found.insert(workflow, definition_record(&bucket, record)?);
        }
        Ok(found.into_iter().collect())
    }

    /// Takes a definition out of force; whether there was one. Its content stays, for executions that use it.
    pub async fn delete_definition(&self, workflow: &WorkflowId) -> Result<bool, StoreError> {
        let key = self.names().definition(workflow);
        self.delete_in_force(&self.names().definitions(), &key).await
    }

    /// Puts an agent's manifest in force. It is stored under its hash first, for ever.
    pub async fn put_agent(&self, agent: &Agent) -> Result<(), StoreError> {
        let (bucket, key) = (self.names().agents(), self.names().agent(&agent.id));
        let value = serde_json::to_value(agent).expect("a manifest always has a JSON form");
        let value = Bytes::from(canonical_json(&value));
        self.put_content(&bucket, agent.hash(), value.clone()).await?;
        let put = self.put_record(&bucket, &key, value, Expected::Anything, None).await;
        put.map(drop).map_err(in_bucket(&bucket))
    }

    /// The agent's manifest that is in force.
    pub async fn agent(&self, agent: &AgentId) -> Result<Option<Agent>, StoreError> {
        let bucket = self.names().agents();
        let record = self.record(&bucket, &self.names().agent(agent)).await.map_err(in_bucket(&bucket))?;
        record.as_ref().map(|record| decode(&bucket, record)).transpose()
    }

    /// Every manifest that is in force, by id.
    pub async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let bucket = self.names().agents();
        let records = self.records(&bucket, "id.*").await.map_err(in_bucket(&bucket))?;
        let mut agents = records.iter().map(|record| decode(&bucket, record)).collect::<Result<Vec<Agent>, _>>()?;
        agents.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(agents)
    }

    /// A manifest, in force or not.
    pub async fn agent_by_hash(&self, hash: ContentHash) -> Result<Option<Agent>, StoreError> {
        let bucket = self.names().agents();
        let record = self.content(&bucket, hash).await?;
        record.as_ref().map(|record| decode(&bucket, record)).transpose()
    }

    /// Takes a manifest out of force; whether there was one. Its content stays, for executions that use it.
    pub async fn delete_agent(&self, agent: &AgentId) -> Result<bool, StoreError> {
        self.delete_in_force(&self.names().agents(), &self.names().agent(agent)).await
    }

    /// Watches the manifests in force: those that are there, then every change.
    pub fn watch_agents(&self) -> AgentWatch {
        let bucket = self.names().agents();
        AgentWatch { watch: Watch::new(self.clone(), bucket.clone(), "id.*".to_owned()), bucket }
    }

    async fn put_content(&self, bucket: &str, hash: ContentHash, value: Bytes) -> Result<(), StoreError> {
        let key = self.names().content(hash);
        if self.immutable_record(bucket, &key).await.map_err(in_bucket(bucket))?.is_some() {
            return Ok(());
        }
        let put = self.put_record(bucket, &key, value, Expected::Anything, None).await;
        put.map(drop).map_err(in_bucket(bucket))
    }

    async fn content(&self, bucket: &str, hash: ContentHash) -> Result<Option<Record>, StoreError> {
        self.immutable_record(bucket, &self.names().content(hash)).await.map_err(in_bucket(bucket))
    }

    async fn delete_in_force(&self, bucket: &str, key: &str) -> Result<bool, StoreError> {
        let Some(record) = self.record(bucket, key).await.map_err(in_bucket(bucket))? else { return Ok(false) };
        let deleted = self.delete_record(bucket, &record.key, Expected::Anything, None).await;
        deleted.map(|()| true).map_err(in_bucket(bucket))
    }
}

impl AgentWatch {
    /// The next change. Dropping the future loses nothing; after an error it goes on trying with the next call.
    pub async fn next(&mut self) -> Result<AgentChange, StoreError> {
        loop {
            match self.watch.next().await.map_err(in_bucket(&self.bucket))? {
                Change::Put { key, value, .. } => match serde_json::from_slice(&value) {
                    Ok(agent) => return Ok(AgentChange::Put(agent)),
                    // One manifest of a newer version must not hide the others.
                    Err(error) => warn!(bucket = self.bucket, key, %error, "not a manifest"),
                },
                Change::Deleted { key } => {
                    if let Some(agent) = id_of(&self.bucket, &key) {
                        return Ok(AgentChange::Deleted(agent));
                    }
                }
                Change::InitialDone => return Ok(AgentChange::InitialDone),
            }
        }
    }
}

fn definition_record(bucket: &str, record: &Record) -> Result<DefinitionRecord, StoreError> {
    let InForce { hash, version } = decode(bucket, record)?;
    Ok(DefinitionRecord { hash, version, updated_at: record.time })
}

fn id_of<T: std::str::FromStr>(bucket: &str, key: &str) -> Option<T> {
    let id = key.strip_prefix(BY_ID).and_then(|id| id.parse().ok());
    if id.is_none() {
        warn!(bucket, key, "not a key of ours");
    }
    id
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("our records always have a JSON form").into()
}
