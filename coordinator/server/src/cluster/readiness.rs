//! Whether the cluster takes requests, as far as this coordinator knows.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_model::ids::{NodeId, Partition};

use super::Cluster;
use crate::leases::View;
use crate::owner::machine::Counts;
use crate::owner::status::Status;

/// How often a start looks whether everything is in its place.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// How long a start waits for other coordinators to own what they are to own.
const OTHERS_MAX: Duration = Duration::from_secs(15);

/// Why nobody answers for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// It is owned here, and the journal is not folded to its end yet.
    CatchingUp,
    /// Nobody holds its lease.
    NoOwner,
    /// Nobody that is present can fold it; why, where this coordinator is one of them.
    Halted { nodes: Vec<NodeId>, incident: Option<String> },
}

impl std::fmt::Display for Absence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CatchingUp => f.write_str("its owner, this coordinator, has not caught up with the journal yet"),
            Self::NoOwner => f.write_str("it has no owner at the moment"),
            Self::Halted { incident: Some(incident), .. } => write!(f, "it is halted: {incident}"),
            Self::Halted { nodes, incident: None } => {
                let nodes: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
                write!(f, "it is halted at {}, whose readiness and log say why", nodes.join(", "))
            }
        }
    }
}

/// Whether the cluster can take requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// This coordinator.
    pub node: NodeId,
    /// The connection to NATS is up.
    pub connected: bool,
    /// It is known who owns what.
    pub listed: bool,
    /// It is handing everything over.
    pub leaving: bool,
    /// Partitions of the cluster.
    pub partitions: u16,
    /// Partitions that this coordinator owns, and those of them that it has caught up with.
    pub owned: u16,
    pub caught_up: u16,
    /// Coordinators that are present.
    pub coordinators: Vec<NodeId>,
    /// Partitions that nobody answers for, and why.
    pub absent: BTreeMap<Partition, Absence>,
    /// Partitions that cannot be folded here, and why; others may own them.
    pub incidents: BTreeMap<Partition, String>,
    /// What was ignored or repaired here since the owners began.
    pub counts: Counts,
}

impl Readiness {
    /// Whether requests will be answered.
    pub fn is_ready(&self) -> bool {
        self.connected && self.listed && !self.leaving && self.absent.is_empty()
    }

    /// What keeps it from being ready, in a line.
    pub fn reason(&self) -> Option<String> {
        if !self.connected {
            return Some("NATS is not connected".to_owned());
        }
        if !self.listed {
            return Some("who owns what is not known yet".to_owned());
        }
        let (partition, absence) = self.absent.first_key_value()?;
        Some(match self.absent.len() {
            1 => format!("partition {partition}: {absence}"),
            count => format!("{count} partitions have nobody who answers for them, of these {partition}: {absence}"),
        })
    }
}

impl Cluster {
    /// Whether requests will be answered.
    pub fn ready(&self) -> Readiness {
        let view = self.view.borrow();
        let mut readiness = Readiness {
            node: self.leases.node().clone(),
            connected: self.broker.is_connected(),
            listed: view.listed,
            leaving: view.coordinators.first().is_some_and(|own| own.leaving),
            partitions: view.partitions,
            owned: 0,
            caught_up: 0,
            coordinators: view.coordinators.iter().map(|coordinator| coordinator.node.clone()).collect(),
            absent: BTreeMap::new(),
            incidents: view.incidents.clone(),
            counts: Counts::default(),
        };
        for partition in crate::leases::assignment::all(view.partitions) {
            if let Some(owned) = view.owned.get(&partition) {
                let status = owned.handle().status.borrow();
                readiness.owned += 1;
                readiness.caught_up += u16::from(status.caught_up);
                readiness.counts.add(&status.counts);
            }
            if let Some(absence) = self.absence(&view, partition) {
                readiness.absent.insert(partition, absence);
            }
        }
        readiness
    }

    /// What each own owner says of itself.
    pub fn statuses(&self) -> BTreeMap<Partition, Status> {
        let view = self.view.borrow();
        let status = |owned: &crate::leases::Owned| owned.handle().status.borrow().clone();
        view.owned.iter().map(|(partition, owned)| (*partition, status(owned))).collect()
    }

    /// Returns once every partition that is to be owned here is caught up with or cannot be, and the others have owners
    /// or have had the time to get them.
    pub async fn caught_up(&self) {
        let began = tokio::time::Instant::now();
        loop {
            {
                let view = self.view.borrow();
                let patient = began.elapsed() < OTHERS_MAX;
                let waits = |(partition, node): (&Partition, &NodeId)| match view.owned.get(partition) {
                    Some(owned) => !owned.handle().status.borrow().caught_up,
                    None => {
                        let is_own = node == self.leases.node() && !view.incidents.contains_key(partition);
                        patient && (is_own || !view.holders.contains_key(partition))
                    }
                };
                if view.listed && !view.assigned.iter().any(waits) {
                    return;
                }
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    fn absence(&self, view: &View, partition: Partition) -> Option<Absence> {
        if let Some(owned) = view.owned.get(&partition) {
            // The journal is the owner's, with or without a lease.
            return (!owned.handle().status.borrow().caught_up).then_some(Absence::CatchingUp);
        }
        let holder = view.holders.get(&partition);
        if holder.is_some_and(|node| node != self.leases.node()) {
            return None;
        }
        let nodes: Vec<NodeId> = view.halted_at(partition).cloned().collect();
        if !nodes.is_empty() && !view.assigned.contains_key(&partition) {
            return Some(Absence::Halted { nodes, incident: view.incidents.get(&partition).cloned() });
        }
        Some(Absence::NoOwner)
    }
}
