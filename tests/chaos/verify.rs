//! The last questions: does `millstream verify` find anything, and does a fold from the journal alone give what was
//! shown?

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::binaries::binaries;
use crate::chaos::judge::Evidence;
use crate::chaos::schedule::Target;
use crate::chaos::world::World;

/// Executions that are asked for after the restart.
const ASKED_MAX: usize = 300;

/// Kills and restarts every coordinator, compares what they show with what was shown, and runs `millstream verify`.
/// What is wrong is answered.
///
/// # Panics
/// When a coordinator does not come back.
pub async fn verify(world: &mut World, evidence: &Evidence) -> Vec<String> {
    let mut problems = Vec::new();
    let coordinators = world.clients().apis().len();
    for i in 0..coordinators {
        world.kill(Target::Coordinator(i));
    }
    for i in 0..coordinators {
        world.start_again(Target::Coordinator(i));
    }
    for i in 0..coordinators {
        world.ready(i).await;
    }
    let shown: BTreeMap<&String, &Value> =
        evidence.executions.iter().filter_map(|(id, of)| Some((id, of.shown.first()?.as_ref()?))).collect();
    let apis = world.clients().apis();
    for (i, (id, before)) in shown.into_iter().take(ASKED_MAX).enumerate() {
        let answer = apis[i % apis.len()].get(&format!("/executions/{id}")).await;
        match answer {
            Ok(answer) if answer.body == *before => {}
            Ok(answer) => problems.push(format!("{id} is another after a restart: {}\n    {before}", answer.body)),
            Err(problem) => problems.push(format!("{id} after a restart: {problem}")),
        }
    }
    problems.extend(command(&world.nats_urls()));
    problems
}

/// What `millstream verify` says, when it is not content.
fn command(nats_urls: &str) -> Option<String> {
    let verify = || {
        let mut command = Command::new(&binaries().millstream);
        command.arg("verify");
        command
    };
    let known = verify().arg("--help").output().is_ok_and(|output| output.status.success());
    if !known {
        println!("this build has no `millstream verify`");
        return None;
    }
    let output = verify().args(["--nats-url", nats_urls]).output().expect("our binaries can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("millstream verify: {}", said.trim_end());
    (!output.status.success()).then_some(said)
}
