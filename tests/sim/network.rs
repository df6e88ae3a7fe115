//! Processes and what is between them and the broker: connections, requests that are not answered yet.

use std::collections::BTreeMap;
use std::fmt;

use super::agenda::Time;

/// A place where one process runs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Coordinator(u8),
    Worker(u8),
}

/// One process, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    pub node: Node,
    pub number: u32,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Node::Coordinator(index) => write!(f, "coordinator-{index}.{}", self.number),
            Node::Worker(index) => write!(f, "worker-{index}.{}", self.number),
        }
    }
}

/// Names a request until its sender has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A request whose sender waits.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    pub life: Life,
    pub connection: u64,
    pub sent: Time,
}

/// The connection of a node.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// Its number while there is one.
    connection: Option<u64>,
    /// When the last message of the node arrives at the broker, and the last of the broker at the node: later ones
    /// do not overtake them.
    to_broker: Time,
    from_broker: Time,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<Node, Link>,
    open: BTreeMap<Ticket, Open>,
    tickets: u64,
    connections: u64,
}

impl Network {
    /// Connects a node, or connects it anew.
    pub fn connect(&mut self, node: Node) -> u64 {
        self.connections += 1;
        self.links.entry(node).or_default().connection = Some(self.connections);
        self.connections
    }

    /// Ends the connection of a node. Returns the requests that will not be answered any more.
    pub fn cut(&mut self, node: Node) -> Vec<(Ticket, Open)> {
        if let Some(link) = self.links.get_mut(&node) {
            link.connection = None;
        }
        let lost: Vec<(Ticket, Open)> =
            self.open.iter().filter(|(_, open)| open.life.node == node).map(|(t, o)| (*t, *o)).collect();
        for (ticket, _) in &lost {
            self.open.remove(ticket);
        }
        lost
    }

    /// The number of a node's connection.
    pub fn connection(&self, node: Node) -> Option<u64> {
        self.links.get(&node)?.connection
    }

    /// Registers a request.
    pub fn open(&mut self, life: Life, connection: u64, sent: Time) -> Ticket {
        let ticket = self.ticket();
        self.open.insert(ticket, Open { life, connection, sent });
        ticket
    }

    /// A name for a request that is not sent.
    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Ends a request; `None` when it has ended before.
    pub fn close(&mut self, ticket: Ticket) -> Option<Open> {
        self.open.remove(&ticket)
    }

    /// Who waits for the answer to a request.
    pub fn waiting(&self, ticket: Ticket) -> Option<Open> {
        self.open.get(&ticket).copied()
    }

    /// When a message sent now arrives at the broker without overtaking earlier ones.
    pub fn arrival(&mut self, node: Node, at: Time) -> Time {
        let link = self.links.entry(node).or_default();
        link.to_broker = at.max(link.to_broker.plus_micros(1));
        link.to_broker
    }

    /// When a message of the broker arrives at a node without overtaking earlier ones.
    pub fn delivery(&mut self, node: Node, at: Time) -> Time {
        let link = self.links.entry(node).or_default();
        link.from_broker = at.max(link.from_broker.plus_micros(1));
        link.from_broker
    }
}
