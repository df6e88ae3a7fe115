//! Definitions: stored by content hash, immutable there, and by id, which names the hash in force.

use std::sync::Arc;

use millstream_broker::{DefinitionRecord, StoreError};
use millstream_model::definition::Definition;
use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::ids::WorkflowId;
use millstream_model::plan::Plan;
use millstream_model::validate::{self, Gap, Problem};
use serde_json::value::RawValue;

use super::Catalog;

/// Whether a write made something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Created,
    Replaced,
}

/// A definition as it is stored.
#[derive(Debug)]
pub struct StoredDefinition {
    pub record: DefinitionRecord,
    /// The definition's canonical JSON.
    pub definition: Box<RawValue>,
}

/// Why a definition was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateDefinitionError {
    #[error("workflow {id} exists already")]
    Exists { id: WorkflowId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no plan for a content hash.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("definition {hash} is not in the store")]
    Missing { hash: ContentHash },
    #[error("what is stored as definition {hash} has another hash")]
    Damaged { hash: ContentHash },
    #[error("definition {hash} cannot be read by this build: {source}")]
    Unreadable {
        hash: ContentHash,
        #[source]
        source: serde_json::Error,
    },
    #[error("definition {hash} cannot be compiled by this build: {}", listed(.problems))]
    Invalid { hash: ContentHash, problems: Vec<Problem> },
    #[error("the compilation of definition {hash} was aborted")]
    Aborted { hash: ContentHash },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PlanError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Damaged { .. } | Self::Unreadable { .. } | Self::Invalid { .. } => false,
            Self::Aborted { .. } => true,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why the text of a definition has no plan.
#[derive(Debug, thiserror::Error)]
pub enum CompileTextError {
    #[error("the definition has {} problem(s)", .0.len())]
    Invalid(Vec<Problem>),
    #[error("the compilation was aborted")]
    Aborted,
}

/// A definition that was sent.
#[derive(Debug)]
pub struct Compiled {
    pub plan: Arc<Plan>,
    /// What is not wrong and deserves a look.
    pub warnings: Vec<Gap>,
}

/// Compiles the text of a definition, off the event loop.
pub async fn compile_text(text: String) -> Result<Compiled, CompileTextError> {
    let compiled = tokio::task::spawn_blocking(move || {
        let plan = validate::definition(&text)?;
        let warnings = validate::gaps_in(&text, &plan);
        Ok(Compiled { plan: Arc::new(plan), warnings })
    });
    match compiled.await {
        Ok(Ok(compiled)) => Ok(compiled),
        Ok(Err(problems)) => Err(CompileTextError::Invalid(problems)),
        Err(_) => Err(CompileTextError::Aborted),
    }
}

impl Catalog {
    /// Stores a definition whose id must not be in use.
    pub async fn create_definition(&self, plan: &Arc<Plan>) -> Result<(), CreateDefinitionError> {
        let _writing = self.inner.writing.lock().await;
        let id = &plan.definition.id;
        if self.inner.broker.definition(id).await?.is_some() {
            return Err(CreateDefinitionError::Exists { id: id.clone() });
        }
        Ok(self.store(plan).await?)
    }

    /// Stores a definition and puts it in force for executions from now on.
    pub async fn put_definition(&self, plan: &Arc<Plan>) -> Result<Written, StoreError> {
        let _writing = self.inner.writing.lock().await;
        let before = self.inner.broker.definition(&plan.definition.id).await?;
        self.store(plan).await?;
        Ok(if before.is_some() { Written::Replaced } else { Written::Created })
    }

    /// Stores a definition by its hash alone: what is in force under its id stays.
    pub async fn keep_definition(&self, plan: &Arc<Plan>) -> Result<(), StoreError> {
        self.inner.broker.keep_definition(plan.hash, &text_of(plan)).await?;
        self.inner.plans.keep(Arc::clone(plan));
        Ok(())
    }

    async fn store(&self, plan: &Arc<Plan>) -> Result<(), StoreError> {
        self.inner.broker.put_definition(&plan.definition.id, plan.hash, &text_of(plan)).await?;
        self.inner.plans.keep(Arc::clone(plan));
        Ok(())
    }

    /// The definition in force under `id`.
    pub async fn definition(&self, id: &WorkflowId) -> Result<Option<StoredDefinition>, PlanError> {
        let Some(record) = self.inner.broker.definition(id).await? else { return Ok(None) };
        let text = self.text(record.hash).await?;
        let definition =
            RawValue::from_string(text).map_err(|source| PlanError::Unreadable { hash: record.hash, source })?;
        Ok(Some(StoredDefinition { record, definition }))
    }

    /// All definitions in force, by id.
    pub async fn definitions(&self) -> Result<Vec<(WorkflowId, DefinitionRecord)>, StoreError> {
        let mut definitions = self.inner.broker.definitions().await?;
        definitions.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(definitions)
    }

    /// Takes a definition out of force; false when there is none. What was submitted with it goes on.
    pub async fn delete_definition(&self, id: &WorkflowId) -> Result<bool, StoreError> {
        let _writing = self.inner.writing.lock().await;
        self.inner.broker.delete_definition(id).await
    }

    /// The plan in force under `id`.
    pub async fn plan_in_force(&self, id: &WorkflowId) -> Result<Option<Arc<Plan>>, PlanError> {
        match self.inner.broker.definition(id).await? {
            Some(record) => self.plan(record.hash).await.map(Some),
            None => Ok(None),
        }
    }

    /// The plan of the definition stored as `hash`.
    pub async fn plan(&self, hash: ContentHash) -> Result<Arc<Plan>, PlanError> {
        self.inner.plans.get_or_compile(hash, || self.compile(hash)).await
    }

    async fn compile(&self, hash: ContentHash) -> Result<Arc<Plan>, PlanError> {
        let text = self.text(hash).await?;
        let compiled = tokio::task::spawn_blocking(move || compile(hash, &text)).await;
        compiled.unwrap_or(Err(PlanError::Aborted { hash }))
    }

    async fn text(&self, hash: ContentHash) -> Result<String, PlanError> {
        let text = self.inner.broker.definition_by_hash(hash).await?.ok_or(PlanError::Missing { hash })?;
        if ContentHash::of(text.as_bytes()) == hash { Ok(text) } else { Err(PlanError::Damaged { hash }) }
    }
}

fn text_of(plan: &Plan) -> String {
    let value = serde_json::to_value(&*plan.definition).expect("a definition always has a JSON form");
    canonical_json(&value)
}

fn compile(hash: ContentHash, text: &str) -> Result<Arc<Plan>, PlanError> {
    let definition: Definition = serde_json::from_str(text).map_err(|source| PlanError::Unreadable { hash, source })?;
    let mut plan = Plan::compile(definition).map_err(|problems| PlanError::Invalid { hash, problems })?;
    // The name it is stored under stays its name, also where a later build writes the same definition differently.
    plan.hash = hash;
    Ok(Arc::new(plan))
}
