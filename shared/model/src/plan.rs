//! Plans: definitions compiled once per content hash, with everything an execution needs to be looked up by index.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::definition::{Aggregate, Definition, FanOut, Step};
use crate::expression::{Attribute, Condition, Path, Template};
use crate::hash::ContentHash;
use crate::ids::StepId;
use crate::payload::Payload;

/// Place of a step in its definition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepIndex(pub u16);

/// A compiled definition.
#[derive(Debug)]
pub struct Plan {
    pub definition: Arc<Definition>,
    pub hash: ContentHash,
    /// In definition order: those of `steps`, then those of `finally`.
    pub steps: Vec<PlannedStep>,
    /// Compiled `output_map`.
    pub output: Option<Template>,
    /// Compiled `searchable`.
    pub attributes: Vec<Attribute>,
    pub(crate) index: BTreeMap<StepId, StepIndex>,
}

/// A compiled step.
#[derive(Debug)]
pub struct PlannedStep {
    pub depends_on: Vec<StepIndex>,
    /// The steps that depend on this one.
    pub dependents: Vec<StepIndex>,
    pub condition: Option<Condition>,
    /// Compiled `input_map`.
    pub input: Option<Template>,
    /// Compiled `compensate.input_map`.
    pub compensation: Option<Template>,
    /// `fallback.static_value`, as it becomes the output.
    pub fallback_value: Option<Payload>,
    pub work: Work,
}

/// What a step does.
#[derive(Debug)]
pub enum Work {
    /// An agent runs it once.
    Single,
    /// An agent runs it for each item of a list.
    FanOut { items: Path },
    /// Outputs of other steps are joined; no agent.
    FanIn { from: Vec<StepIndex>, aggregate: Aggregate },
}

/// The expressions of one step, compiled.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    pub(crate) condition: Option<Condition>,
    pub(crate) input: Option<Template>,
    pub(crate) items: Option<Path>,
    pub(crate) compensation: Option<Template>,
}

impl Plan {
    /// Puts a checked definition and its compiled expressions together.
    ///
    /// Invariants: `expressions` has one element per step, those of `finally` last; ids are unique; every dependency
    /// exists.
    pub(crate) fn assemble(
        definition: Definition,
        expressions: Vec<Expressions>,
        output: Option<Template>,
        attributes: Vec<Attribute>,
    ) -> Self {
        let at = |i: usize| StepIndex(u16::try_from(i).expect("STEPS_MAX fits"));
        let all = || definition.steps.iter().chain(&definition.finally);
        let index: BTreeMap<StepId, StepIndex> = all().enumerate().map(|(i, step)| (step.id.clone(), at(i))).collect();
        let mut dependents = vec![Vec::new(); index.len()];
        for (i, step) in all().enumerate() {
            for dependency in &step.depends_on {
                dependents[usize::from(index[dependency].0)].push(at(i));
            }
        }
        let steps = all()
            .zip(expressions)
            .zip(dependents)
            .map(|((step, expressions), dependents)| PlannedStep {
                depends_on: step.depends_on.iter().map(|id| index[id]).collect(),
                dependents,
                condition: expressions.condition,
                input: expressions.input,
                compensation: expressions.compensation,
                fallback_value: step
                    .fallback
                    .as_ref()
                    .and_then(|fallback| fallback.static_value.as_ref())
                    .map(Payload::from_value),
                work: match (&step.fan_in, expressions.items) {
                    (Some(fan_in), _) => Work::FanIn {
                        from: fan_in.from.iter().map(|id| index[id]).collect(),
                        aggregate: fan_in.aggregate,
                    },
                    (None, Some(items)) => Work::FanOut { items },
                    (None, None) => Work::Single,
                },
            })
            .collect();
        let hash = definition.hash();
        Self { definition: Arc::new(definition), hash, steps, output, attributes, index }
    }

    /// The step as it was written.
    pub fn step(&self, index: StepIndex) -> &Step {
        let (main, i) = (&self.definition.steps, usize::from(index.0));
        main.get(i).unwrap_or_else(|| &self.definition.finally[i - main.len()])
    }

    /// The compiled step.
    pub fn planned(&self, index: StepIndex) -> &PlannedStep {
        &self.steps[usize::from(index.0)]
    }

    /// Finds a step by its name.
    pub fn find(&self, step: &StepId) -> Option<StepIndex> {
        self.index.get(step).copied()
    }

    /// How the step fans out, if it does.
    pub fn fan_out(&self, index: StepIndex) -> Option<&FanOut> {
        self.step(index).fan_out.as_ref()
    }

    /// The steps of `steps`, in definition order.
    pub fn indices(&self) -> impl DoubleEndedIterator<Item = StepIndex> + use<> {
        range(0..self.definition.steps.len())
    }

    /// The steps of `finally`, in definition order.
    pub fn finally(&self) -> impl DoubleEndedIterator<Item = StepIndex> + use<> {
        range(self.definition.steps.len()..self.steps.len())
    }

    /// All steps, those of `finally` last.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = StepIndex> + use<> {
        range(0..self.steps.len())
    }

    /// Whether it is a step of `finally`.
    pub fn is_finally(&self, index: StepIndex) -> bool {
        usize::from(index.0) >= self.definition.steps.len()
    }
}

fn range(steps: std::ops::Range<usize>) -> impl DoubleEndedIterator<Item = StepIndex> + use<> {
    steps.map(|i| StepIndex(u16::try_from(i).expect("STEPS_MAX fits")))
}
