//! `executions list`: what ran, found by what it was.

use serde_json::Value;

use crate::arguments::ListExecutions;
use crate::outcome::Exit;
use crate::output;
use crate::progress::{count, duration};
use crate::server_api::{Listed, Page, ServerApi};

pub(super) async fn list(arguments: ListExecutions) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let listed = api.executions(&query(&arguments)).await?;
    if arguments.json {
        output::json(&listed)?;
        return Ok(Exit::Success);
    }
    let page = api.page(&listed)?;
    if page.executions.is_empty() && arguments.limit > 0 {
        output::note("No execution fits.");
    } else if arguments.limit > 0 {
        let rows: Vec<Vec<String>> = page.executions.iter().map(row).collect();
        output::table(&["id", "workflow", "status", "started", "time", ""], &rows)?;
    }
    if arguments.summary {
        output::line(&format!("\n{}", summary(&page)))?;
    }
    if !page.complete {
        output::note("The server is still reading the history: there may be more.");
    }
    if let Some(next) = &page.next {
        output::note(&format!("More with --cursor {next}"));
    }
    Ok(Exit::Success)
}

/// The parameters of `GET /executions`.
fn query(arguments: &ListExecutions) -> Vec<(&'static str, String)> {
    let mut query = vec![("limit", arguments.limit.to_string())];
    let mut push = |name: &'static str, values: &[String]| {
        query.extend(values.iter().map(|value| (name, value.clone())));
    };
    let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
    push("workflow", &arguments.workflow);
    push("status", &arguments.status.iter().map(|status| status.as_str().to_owned()).collect::<Vec<_>>());
    push("label", &arguments.labels);
    push("attribute", &arguments.attributes);
    push("sort", &one(&arguments.sort));
    push("cursor", &one(&arguments.cursor));
    for (name, moment) in [
        ("started_after", arguments.started_after),
        ("started_before", arguments.started_before),
        ("ended_after", arguments.ended_after),
        ("ended_before", arguments.ended_before),
    ] {
        push(name, &one(&moment.map(|moment| moment.to_string())));
    }
    if arguments.summary {
        push("summary", &["true".to_owned()]);
    }
    query
}

fn row(execution: &Listed) -> Vec<String> {
    let Listed { id, workflow_id, started_at, ended_at, .. } = execution;
    let took = ended_at.map(|end| duration(end.as_micros().saturating_sub(started_at.as_micros())));
    let status = execution.status.as_str();
    let status = match (execution.parked, execution.partial) {
        (true, _) => format!("{status} (parked)"),
        (false, true) => format!("{status} (partial)"),
        (false, false) => status.to_owned(),
    };
    vec![id.clone(), workflow_id.clone(), status, started_at.to_string(), took.unwrap_or_default(), remark(execution)]
}

/// Why it failed, or what it can be found by.
fn remark(execution: &Listed) -> String {
    let error = execution.error.as_ref().map(|error| {
        let step = error.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
        format!("{step}{}", error.error.code)
    });
    let attributes = execution.attributes.iter().map(|(name, value)| match value {
        Value::String(text) => pair(name, text),
        value => pair(name, &value.to_string()),
    });
    let labels = execution.labels.iter().map(|(name, value)| pair(name, value));
    error.into_iter().chain(attributes).chain(labels).collect::<Vec<_>>().join(" ")
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

fn summary(page: &Page) -> String {
    let Some(summary) = &page.summary else { return String::new() };
    let states: Vec<String> =
        summary.by_status.iter().map(|(status, number)| format!("{} {status}", count(*number))).collect();
    let mut text = format!("{} executions: {}", count(summary.total), states.join(", "));
    if let Some(rate) = summary.success_rate {
        text.push_str(&format!("\n{:.1} % of those that ended completed", rate * 100.0));
    }
    if let Some(took) = summary.duration_ms {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for reading, and saturates")]
        let [avg, p50, p95, max] = [took.avg, took.p50, took.p95, took.max].map(|ms| duration((ms * 1_000.0) as u64));
        text.push_str(&format!("\nthey took {avg} on average, half of them at most {p50}, 95 % {p95}, all {max}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::arguments::{Arguments, Command, Executions};

    #[test]
    fn what_is_asked_for_becomes_the_parameters_of_the_server() {
        let line = "millstream executions list --workflow a --status failed --label team:x --attribute total>=5 \
                    --started-after 2026-01-31T00:00:00Z --sort -duration --limit 7 --summary";
        let Command::Executions(Executions::List(arguments)) =
            Arguments::try_parse_from(line.split_whitespace()).expect("arguments").command
        else {
            panic!("another command")
        };
        let asked: Vec<String> = query(&arguments).iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            asked,
            [
                "limit=7",
                "workflow=a",
                "status=FAILED",
                "label=team:x",
                "attribute=total>=5",
                "sort=-duration",
                "started_after=2026-01-31T00:00:00.000000Z",
                "summary=true"
            ]
        );
    }

    #[test]
    fn a_row_tells_how_long_it_took_why_it_failed_and_what_it_is_found_by() {
        let listed: Listed = serde_json::from_value(json!({
            "id": "x", "workflow_id": "orders", "status": "FAILED", "started_at": "2026-01-31T00:00:00Z",
            "ended_at": "2026-01-31T00:00:02Z", "labels": {"team": "a"}, "attributes": {"sku": "s-1", "n": 2},
            "error": {"step": "pay", "code": "TIMEOUT", "message": "too slow", "failure_mode": "resource",
                      "stage": "EXECUTE"},
        }))
        .expect("a row");
        let expected =
            ["x", "orders", "FAILED", "2026-01-31T00:00:00.000000Z", "2.0 s", "pay: TIMEOUT n=2 sku=s-1 team=a"];
        assert_eq!(row(&listed), expected);
    }

    #[test]
    fn a_summary_reads_as_sentences() {
        let page: Page = serde_json::from_value(json!({
            "executions": [], "summary": {"total": 1200, "by_status": {"COMPLETED": 1190, "FAILED": 10},
            "success_rate": 0.9917, "duration_ms": {"avg": 1500.0, "p50": 900.0, "p95": 4000.0, "max": 60000.0}},
        }))
        .expect("a page");
        let text = summary(&page);
        assert!(text.starts_with("1,200 executions: 1,190 COMPLETED, 10 FAILED\n99.2 % of those"), "{text}");
    }
}
