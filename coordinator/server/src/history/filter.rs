//! Which executions are listed, and in which order.

use millstream_model::hash::ContentHash;
use millstream_model::ids::WorkflowId;
use millstream_model::time::Timestamp;
use millstream_model::view::ExecutionStatus;

/// Conditions that all have to hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Any of them; none: all.
    pub workflows: Vec<WorkflowId>,
    /// Any of them; none: all.
    pub statuses: Vec<ExecutionStatus>,
    pub started: Range,
    /// One that is bounded leaves out what has not ended.
    pub ended: Range,
    pub partial: Option<bool>,
    /// All of them.
    pub labels: Vec<(String, String)>,
    /// All of them.
    pub attributes: Vec<Comparison>,
}

/// From `after` on, and before `before`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

/// A condition on an attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub name: String,
    pub is: Is,
}

/// What an attribute must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Is {
    /// It reads like this, or is this number.
    Equal(String),
    Number(Relation, f64),
}

/// How a number stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    /// The relation as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    pub by: SortBy,
    pub descending: bool,
}

/// What is compared. An execution that has not ended comes after all that have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    StartedAt,
    EndedAt,
    Duration,
    /// And those of one workflow by their start.
    Workflow,
}

impl SortBy {
    /// Every order.
    pub const ALL: [Self; 4] = [Self::StartedAt, Self::EndedAt, Self::Duration, Self::Workflow];

    /// The order as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartedAt => "started_at",
            Self::EndedAt => "ended_at",
            Self::Duration => "duration",
            Self::Workflow => "workflow",
        }
    }
}

impl Default for Sort {
    fn default() -> Self {
        Self { by: SortBy::StartedAt, descending: true }
    }
}

/// Names a query: equal for the same filter and order, however they were written.
pub(super) fn fingerprint(filter: &Filter, sort: Sort) -> [u8; 8] {
    let mut filter = filter.clone();
    filter.workflows.sort();
    filter.statuses.sort();
    filter.labels.sort();
    filter.attributes.sort_by_cached_key(|comparison| format!("{comparison:?}"));
    let hash = ContentHash::of(format!("{filter:?} {sort:?}").as_bytes());
    let mut start = [0; 8];
    start.copy_from_slice(&hash.as_bytes()[..8]);
    start
}
