//! Inbox directories that are copied, put back, started twice and frozen, against one database.
//!
//! The code under test is `domain::identity`. Around it are models: directories with records, a lane with a fence, and
//! processes that notice only at their next transaction that another start has taken over. Whatever happens, each
//! message that some directory still holds is stored, and once unless somebody had to consent to a replay.

use std::collections::{BTreeMap, BTreeSet};

use mqtt_gateway::domain::identity::{
    Consent, DatabaseChange, InboxDirectory, RegisteredStarts, Registration, Resume, Start, StartDecision,
    StartState, decide_start,
};
use mqtt_gateway::domain::message::{OFFSETS_PER_START, Offset};
use proptest::prelude::*;

/// A message, the same in every copy.
type Message = u64;

#[derive(Debug, Clone, Copy)]
enum Step {
    Start(usize),
    Receive(usize),
    Process(usize),
    /// The process stands still, and gives no sign of life.
    Freeze(usize),
    Thaw(usize),
    Kill(usize),
    Stop(usize),
    /// The first directory is copied over the second.
    Copy,
    /// The second directory takes the place of the first.
    PutBack,
}

#[derive(Debug, Clone)]
struct Inbox {
    place: u64,
    last_start: Option<String>,
    next_base: Offset,
    records: BTreeMap<Offset, Message>,
}

#[derive(Debug)]
struct Process {
    start_id: String,
    next_offset: Offset,
    is_frozen: bool,
}

#[derive(Debug, Default)]
struct World {
    directories: [Option<Inbox>; 2],
    processes: [Option<Process>; 2],
    places: u64,
    messages: Message,
    starts: Vec<Start>,
    lane: Option<Offset>,
    stored: Vec<Message>,
    /// The operator has consented to a replay.
    was_replayed: bool,
}

impl World {
    fn perform(&mut self, step: Step) {
        match step {
            Step::Start(slot) => self.start(slot),
            Step::Receive(slot) => self.receive(slot),
            Step::Process(slot) => self.process(slot),
            Step::Freeze(slot) => self.freeze(slot, true),
            Step::Thaw(slot) => self.freeze(slot, false),
            Step::Kill(slot) => self.processes[slot] = None,
            Step::Stop(slot) => self.stop(slot),
            Step::Copy if self.processes[1].is_none() => self.copy(0, 1),
            Step::PutBack if self.processes[0].is_none() && self.directories[1].is_some() => self.copy(1, 0),
            Step::Copy | Step::PutBack => {}
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        self.places += 1;
        let place = self.places;
        self.directories[to] = self.directories[from].clone().map(|inbox| Inbox { place, ..inbox });
    }

    fn directory(&self, slot: usize) -> InboxDirectory {
        let inbox = self.directories[slot].as_ref().expect("it was made");
        InboxDirectory {
            inbox_id: "inbox".to_owned(),
            client_id: "gateway".to_owned(),
            location: format!("directory {slot}"),
            place: inbox.place.to_string(),
            database_id: inbox.last_start.as_ref().map(|_| "database".to_owned()),
            start_id: inbox.last_start.clone(),
            next_base: inbox.next_base,
            log_end: inbox.records.keys().next_back().map_or(0, |last| last + 1),
            committed: Vec::new(),
        }
    }

    fn registry(&self) -> RegisteredStarts {
        RegisteredStarts {
            database_id: "database".to_owned(),
            starts: self.starts.iter().rev().cloned().collect(),
            lanes: self.lane.map(|lane| (0, lane)).into_iter().collect(),
            others: Vec::new(),
        }
    }

    fn start(&mut self, slot: usize) {
        if self.processes[slot].is_some() {
            return;
        }
        if self.directories[slot].is_none() {
            if slot == 1 {
                return;
            }
            self.places += 1;
            let (place, next_base) = (self.places, OFFSETS_PER_START);
            let inbox = Inbox { place, last_start: None, next_base, records: BTreeMap::new() };
            self.directories[slot] = Some(inbox);
        }
        let directory = self.directory(slot);
        let (mut silent, mut consent) = (Vec::new(), Consent::default());
        loop {
            match decide_start(&directory, &self.registry(), consent, &silent) {
                StartDecision::Register(registration) => {
                    return self.register(slot, &directory, &registration);
                }
                StartDecision::Refuse(_) => {
                    consent.database = Some(DatabaseChange::Replay);
                    self.was_replayed = true;
                }
                StartDecision::Watch(start) => {
                    let lives = |process: &Process| process.start_id == start.start_id && !process.is_frozen;
                    if self.processes.iter().flatten().any(lives) {
                        return;
                    }
                    silent.push(start.start_id);
                }
            }
        }
    }

    fn register(&mut self, slot: usize, directory: &InboxDirectory, registration: &Registration) {
        let resume = Resume { lanes: self.registry().lanes, lagging: Vec::new() };
        if let Some(last) = self.starts.last_mut() {
            last.resume.get_or_insert(resume);
        }
        let generation = i64::try_from(self.starts.len()).expect("few starts") + 1;
        let start_id = format!("start {generation}");
        self.starts.push(Start {
            inbox_id: directory.inbox_id.clone(),
            start_id: start_id.clone(),
            generation,
            location: directory.location.clone(),
            place: directory.place.clone(),
            parent: directory.start_id.clone(),
            base: registration.base,
            log_end: directory.log_end,
            state: StartState::Running,
            beats: 0,
            resume: None,
        });
        self.lane = Some(registration.lanes.get(&0).copied().or(self.lane).unwrap_or(0));
        let next_offset = registration.base.max(directory.next_base);
        let inbox = self.directories[slot].as_mut().expect("it was made");
        inbox.next_base = next_offset + OFFSETS_PER_START;
        inbox.last_start = Some(start_id.clone());
        self.processes[slot] = Some(Process { start_id, next_offset, is_frozen: false });
    }

    /// A process that was succeeded does not know it yet, and goes on receiving.
    fn receive(&mut self, slot: usize) {
        let Some(process) = self.processes[slot].as_mut().filter(|process| !process.is_frozen) else {
            return;
        };
        let inbox = self.directories[slot].as_mut().expect("a process has a directory");
        inbox.records.insert(process.next_offset, self.messages);
        process.next_offset += 1;
        self.messages += 1;
    }

    /// The next message of the lane, in one transaction.
    fn process(&mut self, slot: usize) {
        let Some(process) = self.processes[slot].as_ref().filter(|process| !process.is_frozen) else {
            return;
        };
        if self.starts.last().is_none_or(|last| last.start_id != process.start_id) {
            self.processes[slot] = None;
            return;
        }
        let inbox = self.directories[slot].as_ref().expect("a process has a directory");
        if let Some((offset, message)) = inbox.records.range(self.lane.unwrap_or(0)..).next() {
            self.stored.push(*message);
            self.lane = Some(offset + 1);
        }
    }

    fn freeze(&mut self, slot: usize, is_frozen: bool) {
        if let Some(process) = &mut self.processes[slot] {
            process.is_frozen = is_frozen;
        }
    }

    fn stop(&mut self, slot: usize) {
        self.freeze(slot, false);
        for _ in 0..self.messages {
            self.process(slot);
        }
        let Some(process) = self.processes[slot].take() else { return };
        let start = self.starts.iter_mut().find(|start| start.start_id == process.start_id);
        if let Some(start) = start {
            start.state = StartState::Drained;
        }
    }

    /// Nothing runs any more; both directories are brought into the database, one after the other.
    fn come_to_rest(&mut self) {
        self.processes = [None, None];
        for slot in [0, 1, 0] {
            self.start(slot);
            self.stop(slot);
        }
        let stored: BTreeSet<Message> = self.stored.iter().copied().collect();
        assert!(self.was_replayed || stored.len() == self.stored.len(), "TWICE: {:?}", self.stored);
        for inbox in self.directories.iter().flatten() {
            let lost: Vec<_> = inbox.records.values().filter(|message| !stored.contains(*message)).collect();
            assert!(lost.is_empty(), "LOST: {lost:?}");
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let slot = 0..2_usize;
    prop_oneof![
        3 => slot.clone().prop_map(Step::Start),
        6 => slot.clone().prop_map(Step::Receive),
        4 => slot.clone().prop_map(Step::Process),
        1 => slot.clone().prop_map(Step::Freeze),
        1 => slot.clone().prop_map(Step::Thaw),
        1 => slot.clone().prop_map(Step::Kill),
        1 => slot.prop_map(Step::Stop),
        1 => Just(Step::Copy),
        1 => Just(Step::PutBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn copies_of_an_inbox_store_each_message_once(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut world = World::default();
        for step in steps {
            world.perform(step);
        }
        world.come_to_rest();
    }
}
