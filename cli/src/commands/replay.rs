//! `replay`: an execution entry by entry, from a server or from a file.

use std::path::Path;
use std::sync::Arc;

use millstream_model::hash::ContentHash;
use millstream_model::plan::Plan;
use millstream_model::transcript::Transcribed;

use super::transfer::{self, Source};
use crate::arguments::Replay;
use crate::outcome::{Exit, Invalid};
use crate::server_api::ServerApi;
use crate::{export_file, output, replay as entries};

pub(super) async fn replay(arguments: Replay) -> anyhow::Result<Exit> {
    let (transcript, plan) = transcript_of(&arguments).await?;
    let told = entries::replay(&transcript, plan, arguments.until, |told| match arguments.json {
        true => output::json_line(&told),
        false => output::line(&entries::text(&told, arguments.effects)),
    });
    told.map_err(|error| Invalid::new(error.to_string()))??;
    Ok(Exit::Success)
}

/// What is replayed: a file where there is one of this name, else an execution of the server.
async fn transcript_of(arguments: &Replay) -> anyhow::Result<(Transcribed, Arc<Plan>)> {
    let path = Path::new(&arguments.what);
    if arguments.what == "-" || path.is_file() {
        let file = transfer::read(path)?;
        let plan = file.plan()?;
        return Ok((file.transcript, plan));
    }
    let api = ServerApi::new(&arguments.server.server)?;
    let transcript = transfer::transcript(&api, &arguments.what).await?;
    let text = transfer::definition(&api, &mut Source::new(&arguments.nats), &transcript).await?;
    let plan = export_file::compile(ContentHash::of(text.as_bytes()), &text)?;
    Ok((transcript, plan))
}
