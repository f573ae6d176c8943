//! Tests of the guard with a model broker that sends in order within a window, over a connection that fails
//! anywhere.

use std::collections::{BTreeSet, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// A broker's policy of assigning packet identifiers.
#[derive(Debug, Clone)]
enum Allocator {
    /// 1 to 65,535, then 1.
    Rising(u16),
    /// 1 to a low number, then 1, whether free or not.
    ShortCycle {
        last: u16,
        length: u16,
    },
    LowestFree,
    /// A queue of free identifiers.
    Fifo(VecDeque<u16>),
    /// A stack of free identifiers.
    Lifo(Vec<u16>),
    /// A random free identifier of the first `of`; `state` is the state of the generator.
    Random {
        of: u16,
        state: u64,
    },
}

impl Allocator {
    fn next(&mut self, used: &BTreeSet<u16>) -> u16 {
        match self {
            Allocator::Rising(last) => {
                *last = last.checked_add(1).unwrap_or(1);
                *last
            }
            Allocator::ShortCycle { last, length } => {
                *last = if last == length { 1 } else { *last + 1 };
                *last
            }
            Allocator::LowestFree => (1..=u16::MAX).find(|id| !used.contains(id)).unwrap(),
            Allocator::Fifo(free) => free.pop_front().unwrap(),
            Allocator::Lifo(free) => free.pop().unwrap(),
            Allocator::Random { of, state } => loop {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let id = u16::try_from((*state >> 33) % u64::from(*of)).unwrap() + 1;
                if !used.contains(&id) {
                    break id;
                }
            },
        }
    }

    fn give_back(&mut self, id: u16) {
        match self {
            Allocator::Fifo(free) => free.push_back(id),
            Allocator::Lifo(free) => free.push(id),
            _ => {}
        }
    }
}

/// A message. The guard does not see `serial`.
#[derive(Debug, Clone, Copy)]
struct Message {
    serial: u64,
    content: Content,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    id: u16,
    duplicate: bool,
    message: Message,
}

/// A step of a run. Numbers are upper bounds.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(usize),
    /// We receive messages.
    Receive(usize),
    /// The broker receives acknowledgements.
    Acknowledge(usize),
    /// All data in flight is lost in both directions, and the session resumes.
    Cut,
    /// Like a cut, and the gateway restarts from its stored state.
    Kill,
}

struct World {
    guard: RedeliveryGuard,
    allocator: Allocator,
    window: usize,
    /// Number of messages after which payloads repeat.
    period: u64,
    topics: u64,
    next_serial: u64,
    waiting: VecDeque<Message>,
    unacknowledged: VecDeque<(u16, Message)>,
    to_us: VecDeque<Packet>,
    to_broker: VecDeque<u16>,
    received: HashSet<u64>,
    repeated: u64,
}

impl World {
    fn new(allocator: Allocator, window: usize, period: u64, topics: u64) -> World {
        let mut world = World {
            guard: RedeliveryGuard::default(),
            allocator,
            window,
            period,
            topics,
            next_serial: 0,
            waiting: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            to_us: VecDeque::new(),
            to_broker: VecDeque::new(),
            received: HashSet::new(),
            repeated: 0,
        };
        world.guard.begin_connection(InFlight::Bounded);
        world
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Publish(count) => (0..count).for_each(|_| self.publish()),
            Step::Receive(count) => (0..count).for_each(|_| self.receive()),
            Step::Acknowledge(count) => (0..count).for_each(|_| self.acknowledge()),
            Step::Cut => self.cut(),
            Step::Kill => {
                self.guard = RedeliveryGuard::resume(self.guard.memory());
                self.cut();
            }
        }
    }

    fn publish(&mut self) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let payload = u128::from(serial / self.topics % self.period);
        let content = Content { topic: serial % self.topics, payload, retained: false };
        self.waiting.push_back(Message { serial, content });
        self.send();
    }

    fn send(&mut self) {
        while self.unacknowledged.len() < self.window {
            let Some(message) = self.waiting.pop_front() else {
                return;
            };
            let used = self.unacknowledged.iter().map(|(id, _)| *id).collect();
            let id = self.allocator.next(&used);
            self.unacknowledged.push_back((id, message));
            self.to_us.push_back(Packet { id, duplicate: false, message });
        }
    }

    fn receive(&mut self) {
        let Some(Packet { id, duplicate, message }) = self.to_us.pop_front() else {
            return;
        };
        let fingerprint = Fingerprint { packet_id: id, duplicate, content: message.content };
        let known = self.received.contains(&message.serial);
        match self.guard.classify(&fingerprint) {
            DeliveryKind::Redelivered => assert!(known, "lost: {message:?} under {id}"),
            DeliveryKind::New => {
                self.guard.received(&fingerprint);
                self.repeated += u64::from(known);
                self.received.insert(message.serial);
            }
        }
        self.to_broker.push_back(id);
    }

    fn acknowledge(&mut self) {
        let Some(id) = self.to_broker.pop_front() else {
            return;
        };
        let index = self.unacknowledged.iter().position(|(other, _)| *other == id).unwrap();
        self.unacknowledged.remove(index);
        self.allocator.give_back(id);
        self.send();
    }

    fn cut(&mut self) {
        self.to_broker.clear();
        self.to_us = self
            .unacknowledged
            .iter()
            .map(|(id, message)| Packet { id: *id, duplicate: true, message: *message })
            .collect();
        self.guard.begin_connection(InFlight::Bounded);
    }

    /// Delivers and acknowledges all published messages.
    fn drain(&mut self) {
        while !self.to_us.is_empty() || !self.to_broker.is_empty() {
            self.receive();
            self.acknowledge();
        }
        assert_eq!(self.received.len() as u64, self.next_serial);
    }

    fn warm_up(&mut self, messages: usize) {
        for _ in 0..messages {
            self.perform(Step::Publish(1));
            self.drain();
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..30_usize).prop_map(Step::Publish),
        4 => (1..30_usize).prop_map(Step::Receive),
        4 => (1..30_usize).prop_map(Step::Acknowledge),
        1 => Just(Step::Cut),
        1 => Just(Step::Kill),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..150)
}

/// Publishes messages that are all acknowledged, then some that are lost on the way. A reused identifier could
/// then be mistaken for an old message, and payloads may even repeat after the same number.
fn opening() -> impl Strategy<Value = (Vec<Step>, u64)> {
    let count = 1..80_usize;
    (count, 1..80_usize, 1..80_u64, any::<bool>()).prop_map(|(count, lost, period, agree)| {
        let steps = [
            Step::Publish(count),
            Step::Receive(count),
            Step::Acknowledge(count),
            Step::Publish(lost),
            Step::Cut,
        ];
        (steps.to_vec(), if agree { count as u64 } else { period })
    })
}

/// Policies with a predictable first reuse, which lose nothing whatever the payloads.
fn orderly(window: u16) -> impl Strategy<Value = Allocator> {
    prop_oneof![
        Just(Allocator::LowestFree),
        (window..window + 30).prop_map(|length| Allocator::ShortCycle { last: 0, length }),
        (window..window + 30).prop_map(|count| Allocator::Fifo((1..=count).collect())),
    ]
}

fn any_early_reuse(window: u16) -> impl Strategy<Value = Allocator> {
    prop_oneof![
        orderly(window),
        (window..window + 30).prop_map(|count| Allocator::Lifo((1..=count).rev().collect())),
        (window..window + 60, any::<u64>()).prop_map(|(of, state)| Allocator::Random { of, state }),
        any::<u64>().prop_map(|state| Allocator::Random { of: 65_535, state }),
    ]
}

fn with_window<A: Strategy<Value = Allocator> + 'static>(
    allocator: fn(u16) -> A,
) -> impl Strategy<Value = (usize, Allocator)> {
    (1..60_u16).prop_flat_map(move |window| (Just(usize::from(window)), allocator(window)))
}

fn play(world: &mut World, steps: &[Step]) {
    for step in steps {
        world.perform(*step);
    }
    world.drain();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn predictable_reuse_loses_nothing(
        (window, allocator) in with_window(orderly), (opening, period) in opening(), topics in 1..3_u64, steps in steps(),
    ) {
        play(&mut World::new(allocator, window, period, topics), &[opening, steps].concat());
    }

    #[test]
    fn repeated_payloads_lose_nothing(
        (window, allocator) in with_window(any_early_reuse),
        (opening, period) in opening(), topics in 1..4_u64, steps in steps(),
    ) {
        let period = period % ((VARIED_PAYLOADS as u64 - 1) / topics) + 1;
        play(&mut World::new(allocator, window, period, topics), &[opening, steps].concat());
    }

    #[test]
    fn different_payloads_lose_nothing(
        (window, allocator) in with_window(any_early_reuse),
        (opening, _) in opening(), topics in 1..4_u64, steps in steps(),
    ) {
        play(&mut World::new(allocator, window, u64::MAX, topics), &[opening, steps].concat());
    }

    #[test]
    fn a_trusted_broker_repeats_nothing(
        first in any::<u16>(), window in 1..40_usize, period in 1..5_u64, steps in steps(),
    ) {
        let mut world = World::new(Allocator::Rising(first), window, period, 1);
        world.warm_up(5);
        world.guard = RedeliveryGuard::resume(RedeliveryMemory { risen: MIN_RISING_IDS, ..world.guard.memory() });
        world.guard.begin_connection(InFlight::Bounded);
        play(&mut world, &steps);
        prop_assert_eq!(world.repeated, 0);
    }

    #[test]
    fn a_warming_session_repeats_nothing(
        first in any::<u16>(), window in 1..40_usize, topics in 1..4_u64, steps in steps(),
    ) {
        let mut world = World::new(Allocator::Rising(first), window, u64::MAX, topics);
        world.warm_up(4 * VARIED_PAYLOADS);
        play(&mut world, &steps);
        prop_assert_eq!(world.repeated, 0);
    }

    #[test]
    fn stored_memory_suffices_for_a_restart(
        (window, allocator) in with_window(any_early_reuse), period in 1..80_u64, steps in steps(),
    ) {
        let mut world = World::new(allocator, window, period.min(VARIED_PAYLOADS as u64 - 1), 1);
        for step in &steps {
            world.perform(*step);
        }
        let memory = world.guard.memory();
        prop_assert_eq!(RedeliveryGuard::resume(memory.clone()).memory(), memory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_new_identifier_cycle_loses_nothing(
        length in 1..=u16::MAX, rounds in 1..3_usize,
    ) {
        let mut guard = received((1..=length).cycle().take(rounds * usize::from(length)).map(sent_again));
        prop_assert_eq!(guard.classify(&sent_again(1)), DeliveryKind::New);
    }
}

/// A guard that trusts the broker, with one topic of equal payloads.
fn trusted() -> World {
    let mut world = World::new(Allocator::Rising(0), 50, 1, 1);
    world.warm_up(MIN_RISING_IDS as usize);
    world
}

fn lose_acknowledgements(world: &mut World, count: usize) {
    world.perform(Step::Publish(count));
    world.perform(Step::Receive(count));
    world.perform(Step::Cut);
}

/// A guard that has received these messages, at the start of a connection.
fn received(fingerprints: impl Iterator<Item = Fingerprint>) -> RedeliveryGuard {
    let mut guard = RedeliveryGuard::default();
    for fingerprint in fingerprints {
        guard.received(&Fingerprint { duplicate: false, ..fingerprint });
    }
    guard.begin_connection(InFlight::Bounded);
    guard
}

/// A redelivered message; all have equal content.
fn sent_again(packet_id: u16) -> Fingerprint {
    Fingerprint { packet_id, duplicate: true, content: Content { topic: 1, payload: 1, retained: false } }
}

#[test]
fn trust_covers_half_the_rise() {
    let mut guard = received((1..=20_000).map(sent_again));
    assert_eq!(guard.classify(&sent_again(10_000)), DeliveryKind::New);
    assert!((10_001..=20_000).all(|id| guard.classify(&sent_again(id)) == DeliveryKind::Redelivered));
    assert_eq!(guard.classify(&sent_again(20_001)), DeliveryKind::New);
}

#[test]
fn beyond_half_the_identifiers_payloads_decide() {
    let varied = |packet_id: u16| Fingerprint {
        content: Content { payload: packet_id.into(), ..sent_again(packet_id).content },
        ..sent_again(packet_id)
    };
    let rounds = || (1..=u16::MAX).cycle().take(2 * usize::from(u16::MAX));
    let mut equal = received(rounds().map(sent_again));
    assert_eq!(equal.classify(&sent_again(u16::MAX / 2)), DeliveryKind::New);
    equal.begin_connection(InFlight::Bounded);
    assert_eq!(equal.classify(&sent_again(u16::MAX / 2 + 2)), DeliveryKind::Redelivered);
    let mut different = received(rounds().map(varied));
    assert!((3..=u16::MAX).all(|id| different.classify(&varied(id)) == DeliveryKind::Redelivered));
}

#[test]
fn skipped_identifiers_shorten_the_window() {
    let rising = |step: usize| (0..65_535_u32).cycle().step_by(step).map(|id| u16::try_from(id + 1).unwrap());
    for (step, remembered) in [(1, MAX_WINDOW_MESSAGES), (3, 21_845), (60, 1_093)] {
        let guard = received(rising(step).take(140_000).map(sent_again));
        assert_eq!((guard.memory().stepped_back, guard.memory().window.len()), (false, remembered), "{step}");
    }
}

#[test]
fn a_third_delivery_is_recognised() {
    let mut world = trusted();
    lose_acknowledgements(&mut world, 7);
    for _ in 0..3 {
        world.perform(Step::Receive(4));
        world.perform(Step::Kill);
    }
    world.drain();
    assert_eq!(world.repeated, 0);
}

#[test]
fn an_unexpected_message_ends_recognition() {
    let mut world = trusted();
    lose_acknowledgements(&mut world, 3);
    // The first two messages arrive in reverse order.
    world.to_us.swap(0, 1);
    world.drain();
    assert_eq!(world.repeated, 2);
}

#[test]
fn messages_without_dup_are_new() {
    let mut world = trusted();
    lose_acknowledgements(&mut world, 3);
    world.to_us.iter_mut().for_each(|packet| packet.duplicate = false);
    world.drain();
    assert_eq!(world.repeated, 3);
}

#[test]
fn a_new_session_forgets_messages() {
    let mut world = trusted();
    lose_acknowledgements(&mut world, 3);
    world.guard.begin_session();
    world.drain();
    assert_eq!(world.repeated, 3);
    assert!(world.guard.memory().window.len() == 3);
}

#[test]
fn invalidation_spares_varied_payloads() {
    for (period, expected) in [(1, 3), (u64::MAX, 0)] {
        let mut world = World::new(Allocator::Rising(0), 50, period, 1);
        world.warm_up(MIN_RISING_IDS as usize);
        lose_acknowledgements(&mut world, 3);
        world.guard.invalidate();
        world.drain();
        assert_eq!(world.repeated, expected, "payloads of period {period}");
    }
}

#[test]
fn unbounded_trust_needs_a_full_cycle() {
    for (risen, expected) in [(MIN_RISING_IDS, 3), (MIN_RISING_IDS_UNBOUNDED, 0)] {
        let mut world = trusted();
        world.guard = RedeliveryGuard::resume(RedeliveryMemory { risen, ..world.guard.memory() });
        lose_acknowledgements(&mut world, 3);
        world.guard.begin_connection(InFlight::Unbounded);
        world.drain();
        assert_eq!(world.repeated, expected);
    }
}

#[test]
fn the_oldest_warming_message_is_new() {
    let mut world = World::new(Allocator::Rising(0), 50, u64::MAX, 1);
    lose_acknowledgements(&mut world, 40);
    world.drain();
    assert_eq!(world.repeated, 40);
}

#[test]
fn a_step_back_ends_trust() {
    let mut world = World::new(Allocator::Rising(0), 50, u64::MAX, 1);
    world.warm_up(100);
    let fingerprint = |packet_id| Fingerprint {
        packet_id,
        duplicate: false,
        content: Content { topic: 1, payload: u128::from(packet_id), retained: false },
    };
    assert!(world.guard.received(&fingerprint(50)));
    assert!(!world.guard.received(&fingerprint(40)));
    world.allocator = Allocator::Rising(40);
    world.warm_up(MIN_RISING_IDS as usize - 10);
    lose_acknowledgements(&mut world, 3);
    world.drain();
    assert_eq!(world.repeated, 3, "not trusted yet");
    world.warm_up(MIN_RISING_IDS as usize);
    lose_acknowledgements(&mut world, 3);
    world.drain();
    assert_eq!(world.repeated, 3, "trusted again");
}

#[test]
fn long_steps_are_no_rise() {
    let mut guard = RedeliveryGuard::default();
    let content = Content { topic: 1, payload: 1, retained: false };
    let mut round = [1, 22_000, 44_000].into_iter().cycle().take(3 * MIN_RISING_IDS as usize);
    round.all(|packet_id| {
        guard.received(&Fingerprint { packet_id, duplicate: false, content });
        true
    });
    assert!(guard.memory().stepped_back && guard.memory().risen < 4);
}

#[test]
fn a_discarded_message_counts_as_unsent() {
    let mut world = World::new(Allocator::Rising(0), 50, u64::MAX, 1);
    world.warm_up(50);
    lose_acknowledgements(&mut world, 3);
    // The message arrives between the first and the second and is discarded, as before.
    let other = Content { topic: 9, payload: 9, retained: true };
    world.receive();
    let passed_over = Fingerprint { packet_id: 60_000, duplicate: true, content: other };
    assert_eq!(world.guard.classify(&passed_over), DeliveryKind::New);
    world.drain();
    assert_eq!(world.repeated, 0);
}

#[test]
fn unreadable_identifiers_are_never_trusted() {
    let mut guard = RedeliveryGuard::default();
    let content = Content { topic: 1, payload: 1, retained: false };
    for _ in 0..3 * MIN_RISING_IDS {
        guard.received(&Fingerprint { packet_id: 0, duplicate: false, content });
    }
    assert!(guard.memory().risen == 0 && guard.memory().window.len() == 1);
}
