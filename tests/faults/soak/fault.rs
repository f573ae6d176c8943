//! Faults by name.

use test_support::proxy::{How, Way};

/// A fault and how long it lasts: mostly not in seconds but in messages that the broker takes meanwhile, so that a
/// slow machine does not make it a lesser one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    KillGateway,
    EndGateway,
    FreezeGateway { messages: u64 },

    RestartBroker,
    KillBroker,
    FreezeBroker { millis: u64 },
    CutBroker(How),
    StallBroker { way: Way, messages: u64 },
    HalfCloseBroker(Way),
    RefuseBroker { messages: u64 },
    CutAtPuback { nth: usize, passed_on: bool },

    KillDatabase { messages: u64 },
    RestartDatabase { messages: u64 },
    FreezeDatabase { messages: u64 },
    CutDatabase(How),
    StallDatabase { way: Way, messages: u64 },
    SlowDatabase { millis: u64, messages: u64 },
    CutAtCommit { nth: usize, reached: Reached },

    EndpointFails { messages: u64 },
    EndpointStalls { messages: u64 },
    CutEndpoint(How),
}

/// How far a COMMIT got before its connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Not to the server.
    Nobody,
    /// To the server, which may or may not have acted on it.
    Perhaps,
    /// It is done, and the answer is lost.
    Committed,
}

impl Fault {
    /// The kind, for counting.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::KillGateway => "gateway: kill -9",
            Fault::EndGateway => "gateway: SIGTERM",
            Fault::FreezeGateway { .. } => "gateway: SIGSTOP",
            Fault::RestartBroker => "broker: restart",
            Fault::KillBroker => "broker: kill -9, saved before",
            Fault::FreezeBroker { .. } => "broker: SIGSTOP",
            Fault::CutBroker(_) => "broker: connection cut",
            Fault::StallBroker { .. } => "broker: connection stalls",
            Fault::HalfCloseBroker(_) => "broker: connection half closed",
            Fault::RefuseBroker { .. } => "broker: refuses connections",
            Fault::CutAtPuback { .. } => "broker: cut at a PUBACK",
            Fault::KillDatabase { .. } => "database: kill -9",
            Fault::RestartDatabase { .. } => "database: restart",
            Fault::FreezeDatabase { .. } => "database: SIGSTOP",
            Fault::CutDatabase(_) => "database: connections cut",
            Fault::StallDatabase { .. } => "database: connections stall",
            Fault::SlowDatabase { .. } => "database: slow",
            Fault::CutAtCommit { .. } => "database: cut at a COMMIT",
            Fault::EndpointFails { .. } => "endpoint: answers 500",
            Fault::EndpointStalls { .. } => "endpoint: does not answer",
            Fault::CutEndpoint(_) => "endpoint: connections cut",
        }
    }
}
