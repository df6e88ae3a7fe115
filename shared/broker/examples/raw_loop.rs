//! The raw loop: the messages of one step and nothing else, to compare the product with.
//!
//! A step is: publish a task, pull it, append its result and wait for the PubAck, ack the task, read the result
//! from the journal; then the chain's next step. A fan-out publishes all tasks at once.
//!
//! ```text
//! cargo run --release -p millstream-broker --example raw_loop -- nats://127.0.0.1:4222 [seconds]
//! ```
//!
//! It creates streams under the prefix `rawloop`; run it against a server of its own.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use millstream_broker::{Broker, BrokerConfig, JournalReader, Storage, TaskPuller, Topology};
use millstream_model::ids::{Capability, Partition};
use tokio::task::JoinHandle;

type Failure = Box<dyn Error + Send + Sync>;

const PARTITION: Partition = Partition(0);
/// Size of a task and of a result, beside the number that says whose it is.
const FILLER: usize = 192;
/// Deliveries of one pull.
const PULL: usize = 500;
const FAN_OUT: u64 = 10_000;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let capability: Capability = "raw".parse()?;
    let coordinator = connect(&url, "raw-loop-coordinator").await?;
    let topology = Topology { partitions: 1, storage: Storage::File, ..Topology::default() };
    coordinator.provision(&topology).await?;
    coordinator.ensure_task_consumer(&capability).await?;
    let worker = start_worker(connect(&url, "raw-loop-worker").await?, capability.clone()).await?;
    let last = coordinator.journal_state(PARTITION).await?.last_sequence;
    let reader = coordinator.read_journal(PARTITION, last + 1).await?;
    let mut driver = Driver { broker: coordinator, capability, reader };
    for chains in [1, 256, 4_096] {
        driver.chains(chains, Duration::from_secs(seconds)).await?;
    }
    driver.fan_out().await?;
    worker.abort();
    Ok(())
}

async fn connect(url: &str, name: &str) -> Result<Broker, Failure> {
    let config = BrokerConfig {
        url: url.to_owned(),
        name: name.to_owned(),
        names: "rawloop".parse()?,
        ..BrokerConfig::default()
    };
    Ok(Broker::connect(config).await?)
}

/// Runs every task at once: its result is its input.
async fn start_worker(broker: Broker, capability: Capability) -> Result<JoinHandle<Result<(), Failure>>, Failure> {
    let mut puller: TaskPuller = broker.task_puller(&capability).await?;
    Ok(tokio::spawn(async move {
        loop {
            for delivery in puller.pull(PULL, Duration::from_secs(10)).await? {
                let (broker, capability) = (broker.clone(), capability.clone());
                tokio::spawn(async move {
                    let appended = broker.append_results(PARTITION, &capability, delivery.payload.clone(), None).await;
                    if appended.is_ok() {
                        drop(delivery.acker().ack().await);
                    }
                });
            }
        }
    }))
}

/// The coordinator's side.
struct Driver {
    broker: Broker,
    capability: Capability,
    reader: JournalReader,
}

impl Driver {
    async fn chains(&mut self, chains: u64, duration: Duration) -> Result<(), Failure> {
        let mut under_way = HashMap::new();
        let mut acks = FuturesUnordered::new();
        for chain in 0..chains {
            under_way.insert(chain, Instant::now());
            acks.push(self.broker.publish_task(&self.capability, PARTITION, task(chain), None).await?);
        }
        let start = Instant::now();
        let mut latencies = Vec::new();
        while !under_way.is_empty() {
            tokio::select! {
                biased;
                Some(ack) = acks.next() => ack?,
                message = self.reader.next() => {
                    let chain = number(&message?.payload);
                    let Some(since) = under_way.remove(&chain) else { continue };
                    latencies.push(since.elapsed());
                    if start.elapsed() < duration {
                        under_way.insert(chain, Instant::now());
                        acks.push(self.broker.publish_task(&self.capability, PARTITION, task(chain), None).await?);
                    }
                }
            }
        }
        let elapsed = start.elapsed();
        latencies.sort_unstable();
        let steps = latencies.len();
        println!(
            "{chains:>6} chains: {:>7.0} steps/s, p50 {:.2?}, p99 {:.2?}",
            steps as f64 / elapsed.as_secs_f64(),
            latencies[steps / 2],
            latencies[steps * 99 / 100],
        );
        Ok(())
    }

    async fn fan_out(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let mut acks = FuturesUnordered::new();
        for item in 0..FAN_OUT {
            acks.push(self.broker.publish_task(&self.capability, PARTITION, task(item), None).await?);
        }
        let mut done = 0;
        while done < FAN_OUT {
            tokio::select! {
                biased;
                Some(ack) = acks.next() => ack?,
                message = self.reader.next() => {
                    message?;
                    done += 1;
                }
            }
        }
        println!("fan-out of {FAN_OUT}: {:.3} s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

fn task(chain: u64) -> Bytes {
    let mut text = chain.to_le_bytes().to_vec();
    text.resize(8 + FILLER, b'x');
    text.into()
}

fn number(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}
