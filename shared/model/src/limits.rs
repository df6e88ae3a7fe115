//! Every limit and default in one place. Sizes are bytes, times milliseconds, unless the name says otherwise.

/// Characters of a name.
pub const NAME_LENGTH_MAX: usize = 64;

/// Entries of one journal message.
pub const BATCH_ENTRIES_MAX: usize = 256;
/// Largest JSON text of a payload value that travels inside messages; above it the value is claim-checked.
pub const INLINE_MAX: usize = 128 * 1024;
/// Largest value a step may return; above it the step fails with `RESULT_TOO_LARGE`.
pub const RESULT_MAX: usize = 64 * 1024 * 1024;
/// Largest body of a REST request: an input of [`RESULT_MAX`] and its envelope.
pub const REQUEST_BODY_MAX: usize = RESULT_MAX + 1024 * 1024;

/// Source text of a definition.
pub const DEFINITION_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Nesting of a definition's tree.
pub const DEFINITION_DEPTH_MAX: usize = 64;
/// Nodes of a definition's tree, aliases expanded.
pub const DEFINITION_NODES_MAX: usize = 1_000_000;
/// Bytes of strings in a definition's tree, aliases expanded.
pub const DEFINITION_TEXT_MAX: usize = 32 * 1024 * 1024;
/// Steps of a workflow.
pub const STEPS_MAX: usize = 10_000;
/// Dependencies of one step.
pub const DEPENDENCIES_MAX: usize = 10_000;
/// Items of one fan-out.
pub const FAN_OUT_ITEMS_MAX: usize = 1_000_000;
/// Text of one condition.
pub const CONDITION_LENGTH_MAX: usize = 4_096;
/// Nested list macros (`all`, `exists`, `map`, `filter`, `exists_one`) of one condition.
pub const CONDITION_MACRO_DEPTH_MAX: usize = 2;
/// Elements of a list that a condition reads.
pub const CONDITION_LIST_MAX: usize = 10_000;
/// Nesting of the operators and calls of one condition.
pub const CONDITION_DEPTH_MAX: usize = 64;
/// Operations of one evaluation of a condition.
pub const CONDITION_STEPS_MAX: u64 = 1_000_000;
/// Text of one path.
pub const PATH_LENGTH_MAX: usize = 1_024;
/// Descendant segments (`..`) of one path.
pub const PATH_DESCENDANTS_MAX: usize = 2;
/// Filters (`?`) of one path.
pub const PATH_FILTERS_MAX: usize = 4;
/// Wildcards, slices and further selectors (`*`, `:`, `,`) of one path.
pub const PATH_SELECTORS_MAX: usize = 16;
/// Nodes one path may select.
pub const PATH_NODES_MAX: usize = 1_000_000;
/// Attempts of one step.
pub const ATTEMPTS_MAX: u32 = 100;
/// Effects that the report on compensation gaps has, and failing steps that it names for each.
pub const GAPS_MAX: usize = 100;
pub const GAP_CUTS_MAX: usize = 20;
/// Labels of an execution.
pub const LABELS_MAX: usize = 64;
/// Any duration in a definition: one year.
pub const DURATION_MS_MAX: u64 = 366 * 24 * 3_600 * 1_000;
/// How long the history may keep an execution: ten years.
pub const RETENTION_MS_MAX: u64 = 10 * DURATION_MS_MAX;
/// The least that the history keeps an execution: what the broker counts in.
pub const RETENTION_MS_MIN: u64 = 1_000;
/// How long the history keeps an execution whose definition does not say.
pub const RETENTION_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Attributes that executions of one workflow can be found by.
pub const SEARCHABLE_MAX: usize = 16;
/// Bytes of an attribute's text; the rest is cut.
pub const ATTRIBUTE_LENGTH_MAX: usize = 256;
/// Capabilities of a cluster: each has a durable consumer, and traffic over many of them slows the broker.
pub const CAPABILITIES_MAX: usize = 50;
/// Text of an error message that is kept; the rest is cut.
pub const ERROR_MESSAGE_MAX: usize = 4_096;

/// F82: start-to-close of one attempt.
pub const STEP_TIMEOUT_MS: u64 = 60_000;
/// F84: the execution's deadline.
pub const WORKFLOW_TIMEOUT_MS: u64 = 3_600_000;
/// F127: steps of one execution that run at the same time.
pub const MAX_PARALLEL: u32 = 10;
/// F88: attempts of a step.
pub const MAX_ATTEMPTS: u32 = 3;
/// F90: delay after the first attempt.
pub const BACKOFF_MS: u64 = 1_000;
/// F90: growth of the delay per attempt.
pub const BACKOFF_MULTIPLIER: f64 = 2.0;
/// F90: ceiling of the delay.
pub const MAX_BACKOFF_MS: u64 = 30_000;
/// Failures in a row that open an agent's circuit.
pub const CIRCUIT_FAILURES: u32 = 5;
/// How long an open circuit lets no call pass.
pub const CIRCUIT_OPEN_MS: u64 = 30_000;
/// Items of a fan-out that run at the same time.
pub const FAN_OUT_CONCURRENCY: u32 = 1_000;

/// Partitions of a new cluster.
pub const PARTITIONS: u16 = 8;
/// Redelivery of a task whose worker is silent.
pub const ACK_WAIT_MS: u64 = 10_000;
/// Progress acks while a task runs.
pub const PROGRESS_MS: u64 = 3_000;
/// Unacked tasks per capability.
pub const ACK_PENDING_MAX: i64 = 100_000;
/// What a task that is late to start gets until the fold gives it up, for the worker's word to arrive.
pub const SCHEDULE_GRACE_MS: u64 = 1_000;
/// What a claimed ordinal gets beyond start-to-close before it is LOST.
pub const CLAIM_GRACE_MS: u64 = 5_000;
/// How long running steps may take to acknowledge a cancel.
pub const CANCEL_GRACE_MS: u64 = 10_000;
/// How far the clocks of two workers may be apart: each looks at its own when it decides whether a task may start. A
/// claim outlives the last such moment by it.
pub const CLOCK_SKEW_MAX_MS: u64 = 600_000;
/// Life of a claim on a task that may start at any time: as long as a message may wait for a worker without anybody
/// having a look.
pub const CLAIM_TTL_UNBOUNDED_MS: u64 = 24 * 3_600_000;
/// Memory of an idempotency key, in journal time.
pub const IDEMPOTENCY_TTL_MS: u64 = 24 * 3_600_000;
/// Duplicate window of the journal streams; a control batch is retried only within half of it.
pub const DUPLICATE_WINDOW_MS: u64 = 120_000;
/// Presence of a worker without renewal.
pub const PRESENCE_TTL_MS: u64 = 15_000;
/// Renewal of a worker's presence.
pub const PRESENCE_RENEW_MS: u64 = 5_000;
/// How long `MS_CANCELLED` remembers an execution.
pub const CANCELLED_TTL_MS: u64 = 24 * 3_600_000;
