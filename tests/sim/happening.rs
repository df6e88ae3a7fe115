//! Everything that can happen in the world.

use millstream_coordinator::owner::command::Answer;
use millstream_model::ids::ExecutionId;

use super::client::{Demand, DemandId};
use super::network::{Life, Node, Ticket};
use super::request::{NoReply, Push, Reply, Request};
use super::strikes::Strike;

/// One thing that happens.
#[derive(Debug)]
pub enum Happening {
    /// A message arrives at the broker.
    Arrive(Box<Envelope>),
    /// The broker's answer arrives at its sender, or the wait for it is over.
    Answer(Ticket, Result<Reply, NoReply>),
    /// Something that the broker sent by itself arrives.
    Push { life: Life, connection: u64, push: Push },
    /// Something happens in a process.
    Process(Life, Input),
    /// A node has a connection again.
    Reconnect(Node),
    /// The time has come at which the broker does something by itself.
    BrokerWakes,
    /// Something goes wrong.
    Strike(Strike),
    /// A process of the node starts.
    Start(Node),
    /// A process that stood still goes on.
    Continue(Life),
    /// A client wants something.
    Want(DemandId),
    /// A client's request arrives at a coordinator.
    Ask { life: Life, id: DemandId, demand: Box<Demand> },
    /// A coordinator's answer arrives at a client; `None` when there is none.
    Told { id: DemandId, answer: Option<Answer> },
    /// From here on nothing goes wrong any more.
    Heal,
}

/// A message on its way to the broker.
#[derive(Debug)]
pub struct Envelope {
    pub life: Life,
    pub connection: u64,
    /// Who waits for the answer.
    pub ticket: Option<Ticket>,
    pub answering: Answering,
    pub request: Request,
}

/// How a message will be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering {
    /// Whether the answer arrives.
    pub answered: bool,
    /// 10164 is the answer, and whether it was stored all the same.
    pub unsettled: Option<bool>,
}

/// What happens in a process.
#[derive(Debug)]
pub enum Input {
    Reply(Ticket, Result<Reply, NoReply>),
    Push(Push),
    /// It looks at its connection.
    Link,
    /// Time has passed that it waited for.
    Wake(Wake),
    Ask(DemandId, Box<Demand>),
    /// It owns the partition without a lease, or does so no more.
    Stray(bool),
    /// It is asked to hand over what it owns and to go.
    Leave,
}

/// What a process waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// The owner's next deadline.
    Owner,
    /// That of the leases.
    Leases,
    /// The leases are watched again.
    WatchLeases,
    /// What the next message wants is asked for again.
    Bring,
    /// The record of a parked execution is asked for again.
    Parked {
        execution: ExecutionId,
        record: u64,
    },
    /// A reader opens the journal, or the marks of cancelled executions, again.
    Reopen,
    Rewatch,
    /// A lane tries to pull again.
    Pull(usize),
    /// The presence is to be renewed.
    Announce,
    /// A clock of a run is due.
    Run(u64),
    /// The agent of a run has answered.
    Answered(u64),
    /// A run tries a claim, a value or something else again.
    Retry(u64),
    /// The results of a lane are tried again.
    Results(usize),
    /// The grace of a stopping worker is over.
    GraceOver,
}
