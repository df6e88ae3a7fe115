//! What is owed to the world. Every effect is harmless when it is performed twice.

use millstream_model::ids::ExecutionId;
use millstream_model::plan::StepIndex;

/// Names one attempt of a step, or of an item of its fan-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskRef {
    pub execution: ExecutionId,
    pub step: StepIndex,
    pub item: Option<u32>,
    pub activation: u32,
    pub attempt: u32,
}

/// An effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Publish a task.
    Publish(TaskRef),
    /// Evaluate what reads values that are not in the state, and append the answer.
    Evaluate(Evaluate),
    /// Tell the workers that no step of the execution is to be started whose activation is below this number.
    /// Compensations and `finally` are exempt.
    Cancel { execution: ExecutionId, below: u32 },
    /// The execution has ended: answer those who wait for it.
    End(ExecutionId),
}

/// What the owner is asked to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evaluate {
    /// The step's condition.
    Condition(ExecutionId, StepIndex),
    /// How many items the step's fan-out has.
    Items(ExecutionId, StepIndex),
    /// The step's fan-in.
    Aggregate(ExecutionId, StepIndex),
    /// The execution's output.
    Output(ExecutionId),
}

impl Evaluate {
    /// The execution it belongs to.
    pub const fn execution(self) -> ExecutionId {
        match self {
            Self::Condition(execution, _)
            | Self::Items(execution, _)
            | Self::Aggregate(execution, _)
            | Self::Output(execution) => execution,
        }
    }
}
