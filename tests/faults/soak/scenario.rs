//! Faults over time, the same for the same seed.

use super::fault::{Fault, Reached};
use test_support::proxy::{How, Way};

/// A fault, and how many messages the broker takes before it strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) after: u64,
    pub(super) fault: Fault,
}

/// Steps without end.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    state: u64,
}

impl Scenario {
    pub(super) fn from_seed(seed: u64) -> Scenario {
        Scenario { state: seed }
    }

    /// `SplitMix64`. Our own, for a seed has to mean the same with the next version of any library.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.random() % (most - least + 1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let most = u64::try_from(all.len()).unwrap() - 1;
        all[usize::try_from(self.between(0, most)).unwrap()]
    }

    fn fault(&mut self) -> Fault {
        let how = self.one_of(&[How::Fin, How::Rst]);
        let way = self.one_of(&[Way::ToServer, Way::ToClient]);
        let messages = self.between(50, 1_500);
        let millis = self.between(100, 4_000);
        let nth = usize::try_from(self.between(1, 50)).unwrap();
        let reached = self.one_of(&[Reached::Nobody, Reached::Perhaps, Reached::Committed]);
        let passed_on = self.one_of(&[true, false]);
        self.one_of(&[
            Fault::KillGateway,
            Fault::EndGateway,
            Fault::FreezeGateway { messages },
            Fault::RestartBroker,
            Fault::KillBroker,
            Fault::FreezeBroker { millis },
            Fault::CutBroker(how),
            Fault::StallBroker { way, messages },
            Fault::HalfCloseBroker(way),
            Fault::RefuseBroker { messages },
            Fault::CutAtPuback { nth, passed_on },
            Fault::KillDatabase { messages },
            Fault::RestartDatabase { messages },
            Fault::FreezeDatabase { messages },
            Fault::CutDatabase(how),
            Fault::StallDatabase { way, messages },
            Fault::SlowDatabase { millis: millis / 40, messages },
            Fault::CutAtCommit { nth, reached },
            Fault::EndpointFails { messages },
            Fault::EndpointStalls { messages },
            Fault::CutEndpoint(how),
        ])
    }
}

impl Iterator for Scenario {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let after = self.between(50, 1_500);
        Some(Step { after, fault: self.fault() })
    }
}

#[test]
fn seed_determines_the_faults() {
    let of = |seed| Scenario::from_seed(seed).take(20).collect::<Vec<_>>();
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn every_kind_of_fault_comes_up() {
    let kinds = |count| {
        let names = Scenario::from_seed(1).take(count).map(|step| step.fault.name());
        names.collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(kinds(1_000), 21);
}
