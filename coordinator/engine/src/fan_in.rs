//! A fan-in: joins outputs of other steps.

use std::sync::Arc;

use millstream_model::definition::Aggregate;
use millstream_model::elements::Elements;
use millstream_model::payload::Payload;
use millstream_model::plan::{StepIndex, Work};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::execution::Execution;
use crate::scope::{Missing, Unfit, Values};
use crate::step::{Output, Settlement};

impl Execution {
    /// The aggregate of a fan-in step, over `values` that may hold what is not inline.
    ///
    /// - `list`: all outputs in the order of `from`, then index; null where there is none
    /// - `merge`: members of all objects, later ones win
    /// - `first`: the successful output with the lowest (position in `from`, index); null when there is none
    pub(crate) fn aggregate(&self, step: StepIndex, values: &Values<'_>) -> Result<Result<Output, Unfit>, Missing> {
        let Work::FanIn { from, aggregate } = &self.plan.planned(step).work else {
            return Ok(Err(Unfit("the step is not a fan-in".to_owned())));
        };
        let outputs = match self.outputs_of(from, values)? {
            Ok(outputs) => outputs,
            Err(unfit) => return Ok(Err(unfit)),
        };
        Ok(match aggregate {
            Aggregate::List => Ok(Output::List(Arc::new(outputs))),
            Aggregate::First => Ok(Output::One(outputs.into_iter().flatten().next().unwrap_or_else(Payload::null))),
            Aggregate::Merge => merge(&outputs, values)?.map(|merged| Output::One(Payload::from_value(&merged))),
        })
    }

    fn outputs_of(
        &self,
        from: &[StepIndex],
        values: &Values<'_>,
    ) -> Result<Result<Vec<Option<Payload>>, Unfit>, Missing> {
        let mut outputs = Vec::new();
        for &source in from {
            match self.step(source).settlement() {
                Some(Settlement::Completed(Output::One(output))) => outputs.push(Some(output.clone())),
                Some(Settlement::Completed(Output::List(list))) => outputs.extend(list.iter().cloned()),
                Some(Settlement::Completed(Output::Whole(list))) => match Elements::parse(values.text(list)?) {
                    Ok(elements) => outputs.extend((0..elements.len()).map(|i| element(elements.get(i)))),
                    Err(error) => return Ok(Err(Unfit(format!("the outputs that were taken over: {error}")))),
                },
                Some(
                    Settlement::Failed { outputs: Some(list), .. } | Settlement::Cancelled { outputs: Some(list) },
                ) => {
                    outputs.extend(list.iter().cloned());
                }
                Some(Settlement::Failed { .. } | Settlement::Skipped(_) | Settlement::Cancelled { .. }) | None => {
                    outputs.push(None);
                }
            }
        }
        Ok(Ok(outputs))
    }
}

/// An output of a list that was taken over; null stands for none.
fn element(text: &str) -> Option<Payload> {
    let text = Some(text).filter(|text| *text != "null")?;
    RawValue::from_string(text.to_owned()).ok().map(Payload::inline)
}

fn merge(outputs: &[Option<Payload>], values: &Values<'_>) -> Result<Result<Value, Unfit>, Missing> {
    let mut merged = Map::new();
    for output in outputs.iter().flatten() {
        let text = values.text(output)?;
        match serde_json::from_str(text.get()) {
            Ok(Value::Object(members)) => merged.extend(members),
            Ok(other) => {
                return Ok(Err(Unfit(format!("fan_in merge joins objects, one of the outputs is {}", kind(&other)))));
            }
            Err(error) => return Ok(Err(Unfit(format!("an output is not JSON: {error}")))),
        }
    }
    Ok(Ok(Value::Object(merged)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
