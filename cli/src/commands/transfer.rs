//! `executions export` and `import`: an execution in one file.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use millstream_broker::Broker;
use millstream_coordinator::history::summary::{self, Values};
use millstream_engine::{Execution, refold};
use millstream_model::hash::ContentHash;
use millstream_model::history::{Kept, KeptIn, Record};
use millstream_model::payload::PayloadRef;
use millstream_model::time::Timestamp;
use millstream_model::token::Secret;
use millstream_model::transcript::Transcribed;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::arguments::{Export, ImportExecution, Nats};
use crate::connection::connect;
use crate::export_file::{self, ExportFile};
use crate::outcome::{Exit, Invalid};
use crate::server_api::ServerApi;
use crate::{files, output};

/// What a record takes beside its transcript.
const RECORD_HEAD: usize = 64 * 1024;
/// How long the server may take to see what was imported.
const VISIBLE_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// Reads an exported execution; `-` is stdin.
pub(super) fn read(path: &Path) -> Result<ExportFile, Invalid> {
    let text = files::text(path)?;
    ExportFile::read(&text).map_err(|error| Invalid::new(format!("{}: {error}", path.display())))
}

/// An execution's transcript, from a server.
pub(super) async fn transcript(api: &ServerApi, id: &str) -> anyhow::Result<Transcribed> {
    let text = api.transcript(id).await?;
    Transcribed::parse(&text).context("the server's transcript cannot be read by this build")
}

/// The definition that a transcript names: from the server where it is in force, else from NATS.
pub(super) async fn definition(
    api: &ServerApi,
    source: &mut Source<'_>,
    transcript: &Transcribed,
) -> anyhow::Result<String> {
    let Some(millstream_model::entry::Entry::Submitted(submitted)) = transcript.lines.first().map(|line| &line.entry)
    else {
        anyhow::bail!("the transcript does not begin with a submission");
    };
    let (workflow, wanted) = (submitted.workflow.as_str(), submitted.definition);
    if let Some((hash, text)) = api.definition_in_force(workflow).await?
        && hash == wanted
        && ContentHash::of(text.as_bytes()) == wanted
    {
        return Ok(text);
    }
    let why = "another definition is in force there by now";
    let found = source.broker(why).await?.definition_by_hash(wanted).await?;
    found.with_context(|| format!("definition {wanted} of workflow {workflow} is not in the store"))
}

/// NATS, once something is needed that servers do not tell.
pub(super) struct Source<'a> {
    nats: &'a Nats,
    broker: Option<Broker>,
}

impl<'a> Source<'a> {
    pub(super) fn new(nats: &'a Nats) -> Self {
        Self { nats, broker: None }
    }

    async fn broker(&mut self, why: &str) -> anyhow::Result<&Broker> {
        if self.broker.is_none() {
            let (broker, _) = connect(self.nats).await.with_context(|| format!("NATS is needed, because {why}"))?;
            self.broker = Some(broker);
        }
        Ok(self.broker.as_ref().expect("it was connected above"))
    }
}

pub(super) async fn export(arguments: Export) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let mut transcript = transcript(&api, &arguments.id).await?;
    let (execution, _) = refold::submission(&transcript).context("the transcript does not begin with a submission")?;
    let mut source = Source::new(&arguments.nats);
    let definition = definition(&api, &mut source, &transcript).await?;
    let mut payloads: BTreeMap<PayloadRef, Box<str>> = BTreeMap::new();
    for reference in export_file::references(&transcript) {
        let why = "the execution has values that are too large for messages";
        let text = source.broker(why).await?.get_payload(execution, reference).await?;
        payloads.insert(reference, text.get().into());
    }
    export_file::renew_secret(&mut transcript, new_secret());
    let plan = export_file::compile(ContentHash::of(definition.as_bytes()), &definition)?;
    let folded = Execution::refold(&transcript, plan)?;
    let mut file = ExportFile::new(transcript, definition, payloads, &folded, now());
    if arguments.redact {
        export_file::redact(&mut file).map_err(|error| Invalid::new(error.to_string()))?;
    }
    let path = arguments.output.unwrap_or_else(|| PathBuf::from(format!("{execution}.millstream")));
    let mut bytes = Vec::new();
    file.write(&mut bytes)?;
    if path == Path::new("-") {
        std::io::stdout().write_all(&bytes).map_err(|_| output::Closed)?;
    } else {
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        let entries = file.transcript.lines.len();
        let status = file.head.status.as_str();
        output::note(&format!("{}: {entries} entries of execution {execution}, {status}", path.display()));
    }
    if !file.head.redacted {
        output::note("It has all inputs and outputs as they were; --redact blanks them.");
    }
    Ok(Exit::Success)
}

pub(super) async fn import(arguments: ImportExecution) -> anyhow::Result<Exit> {
    let mut file = read(&arguments.file)?;
    let name = arguments.file.display();
    let plan = file.plan()?;
    let execution = file.execution(plan).map_err(|halt| Invalid::new(format!("{name}: {halt}")))?;
    if !execution.status().is_terminal() {
        let status = execution.status().as_str();
        return Err(Invalid::new(format!("the execution is {status}: only one that has ended can be imported")).into());
    }
    if execution.state_hash() != file.head.state {
        let by = &file.head.by;
        let message = format!("{name}: this build folds it to another state than version {by} did, which exported it");
        return Err(Invalid::new(message).into());
    }
    let id = execution.id();
    let api = ServerApi::new(&arguments.server.server)?;
    if api.knows(&id.to_string()).await? {
        return Err(Invalid::new(format!("the cluster has an execution {id} already")).into());
    }
    let (broker, config) = connect(&arguments.nats).await?;
    let partitions = broker.partitions().await?.unwrap_or_default();
    let partition = id.partition();
    if u16::from(partition.0) >= partitions {
        let message = format!("the execution is of partition {partition}, and this cluster has {partitions}");
        return Err(Invalid::new(message).into());
    }
    broker.keep_definition(file.head.definition, &file.definition).await?;
    for text in file.payloads.values() {
        broker.put_payload(id, text).await?;
    }
    export_file::renew_secret(&mut file.transcript, new_secret());
    let record = record(&broker, &file, &execution, config.retention_ms).await?;
    let ttl = summary::time_to_live(&record);
    let msg_id = format!("import-{id}");
    broker.append_history(partition, Some(&msg_id), record.encode(), ttl).await?;
    output::line(&format!("Imported execution {id}, {}.", execution.status().as_str()))?;
    let seen = tokio::time::timeout(VISIBLE_PATIENCE, async {
        while !api.knows(&id.to_string()).await? {
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(())
    });
    match seen.await {
        Ok(seen) => seen?,
        Err(_) => output::note("The server has not read it from the history yet."),
    }
    Ok(Exit::Success)
}

/// The record that the history keeps of an execution that has ended.
async fn record(
    broker: &Broker,
    file: &ExportFile,
    execution: &Execution,
    retention_ms: u64,
) -> anyhow::Result<Record> {
    let wanted = summary::wanted(execution);
    let value = |reference: Option<PayloadRef>| {
        let text = reference.and_then(|reference| file.payloads.get(&reference))?;
        RawValue::from_string(text.to_string()).ok().map(Into::into)
    };
    let values = Values { input: value(wanted.input), output: value(wanted.output) };
    let transcript = file.transcript.to_transcript();
    let (entries, text) = (transcript.len(), transcript.text_size());
    let bytes: Bytes = transcript.finish();
    let transcript = match bytes.len() + RECORD_HEAD <= broker.max_payload() {
        true => KeptIn::Here(bytes),
        false => KeptIn::Stored(broker.put_bytes(execution.id(), bytes).await?),
    };
    let summary = summary::of(execution, retention_ms, &values);
    Ok(Record::Ended(Kept { summary, state: execution.state_hash(), entries, text, transcript }))
}

/// 16 bytes of the system's random source, by way of two UUIDv4, which leave 122 random bits each.
fn new_secret() -> Secret {
    let seed = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
    let mut secret = [0; 16];
    secret.copy_from_slice(&ContentHash::of(&seed).as_bytes()[..16]);
    Secret::new(secret)
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
