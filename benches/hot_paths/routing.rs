//! Routing of topics to flows, and of records to the batches of a lane.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use mqtt_gateway::domain::batch::{LanePosition, OpenedLane};
use mqtt_gateway::domain::flow::Flow;
use mqtt_gateway::domain::lanes::{BatchContext, IdleLane, LaneCursor, RecordSource};
use mqtt_gateway::domain::message::{Body, DeliveryFacts, FlowId, Offset, Record, SubscriptionId};
use mqtt_gateway::domain::payload::PayloadLimits;
use mqtt_gateway::domain::routing::RoutingTable;
use mqtt_gateway::domain::routing_history::RoutingHistory;
use mqtt_gateway::domain::subscription_ids::Binding;
use mqtt_gateway::domain::topic::TopicFilter;
use mqtt_gateway::domain::trie::FilterTrie;

use crate::payloads::THREE_ATTRIBUTES;

const FILTERS: [usize; 4] = [10, 1_000, 10_000, 100_000];

/// Topics are used in turn, so that the processor caches more than one path.
const TOPICS: usize = 1_000;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for count in FILTERS {
        bench_match(&mut group, count);
    }
    group.finish();

    let mut group = criterion.benchmark_group("route");
    for count in FILTERS {
        bench_route(&mut group, count);
    }
    group.finish();

    let mut group = criterion.benchmark_group("gather");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [16, 10_000] {
        bench_gather(&mut group, flows);
    }
    group.finish();
}

/// Returns the filter with this number. Every tenth has a wildcard: in turn `+` inside, `+` first, `#` last.
fn filter(number: usize) -> String {
    let (plant, line) = (number % 7, number % 53);
    match number % 30 {
        0 => format!("plant{plant}/+/machine{number}/temperature"),
        10 => format!("+/line{line}/machine{number}/temperature"),
        20 => format!("plant{plant}/line{line}/machine{number}/#"),
        _ => topic(number),
    }
}

/// Returns a topic that matches the filter with this number, and possibly others.
fn topic(number: usize) -> String {
    format!("plant{}/line{}/machine{number}/temperature", number % 7, number % 53)
}

/// Topics of filters from the whole table, in an irregular order.
fn topics(count: usize) -> Vec<String> {
    (0..TOPICS).map(|turn| topic(turn * 7_919 % count)).collect()
}

fn trie(count: usize) -> FilterTrie<usize> {
    let mut trie = FilterTrie::default();
    for number in 0..count {
        trie.insert(&TopicFilter::parse(&filter(number)).unwrap(), number);
    }
    trie
}

fn table(count: usize) -> RoutingTable {
    let flow = |number: usize| Flow {
        id: FlowId::try_from(number).unwrap() + 1,
        code: format!("FLOW-{number}"),
        topic: filter(number),
        action: "STORE_DB".to_owned(),
        endpoint_url: None,
    };
    RoutingTable::new((0..count).map(flow).collect()).0
}

fn history(count: usize) -> RoutingHistory {
    let mut history = RoutingHistory::default();
    history.push(0, Arc::new(table(count)));
    history
}

fn bench_match(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let trie = trie(count);
    let topics = topics(count);
    let mut turn = topics.iter().cycle();
    group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
        bencher.iter(|| {
            let mut found = 0;
            trie.visit(turn.next().unwrap(), |number| found += number);
            black_box(found)
        });
    });
}

/// The subscription identifiers with their filters and flows; the identifiers are 1, 2, 3 and so on.
fn bindings(count: usize) -> HashMap<SubscriptionId, (String, [FlowId; 1])> {
    let meaning = |number| (filter(number), [FlowId::try_from(number).unwrap()]);
    (1..).zip((0..count).map(meaning)).collect()
}

fn bench_route(group: &mut BenchmarkGroup<'_, WallTime>, count: usize) {
    let history = history(count);
    let bindings = bindings(count);
    let binding_of = |id| bindings.get(&id).map(|(filter, flows)| Binding { filter, flows });
    let messages: Vec<(String, [SubscriptionId; 1])> = (0..TOPICS)
        .map(|turn| turn * 7_919 % count)
        .map(|number| (topic(number), [SubscriptionId::try_from(number).unwrap() + 1]))
        .collect();
    for (by, named) in [("topic", 0), ("subscription", 1)] {
        let mut turn = messages.iter().cycle();
        let mut flows = Vec::new();
        group.bench_function(BenchmarkId::new(by, count), |bencher| {
            bencher.iter(|| {
                let (topic, ids) = turn.next().unwrap();
                flows.clear();
                history.at(5).unwrap().route(topic, &ids[..named], &binding_of, &mut flows);
                black_box(flows.len())
            });
        });
    }
}

/// Number of messages in a batch.
const BATCH: usize = 512;

/// Batches of 512 messages of a lane, from an inbox in which every other message belongs to another lane.
fn bench_gather(group: &mut BenchmarkGroup<'_, WallTime>, flows: usize) {
    let history = history(flows);
    let log: Arc<[Arc<Record>]> = (0..16 * BATCH).map(|turn| record(turn, flows)).collect();
    let batch_context = BatchContext {
        tables: &history,
        binding_of: &|_| None,
        lanes: 2,
        payload: &PayloadLimits::default(),
        max_pairs: BATCH,
        max_bytes: 16 << 20,
        scan_limit: 2 * BATCH,
        max_lagging: 0,
    };
    for lane in [0, 1] {
        let opened =
            || OpenedLane { position: LanePosition { epoch: 1, next_offset: 0 }, lagging: Vec::new() };
        let begin = || {
            let mut cursor = LaneCursor::new(lane, Log { records: Arc::clone(&log), next: 0 });
            cursor.open(&opened());
            cursor
        };
        group.bench_function(BenchmarkId::new(format!("{flows} flows"), format!("lane {lane}")), |bencher| {
            let batch =
                |mut cursor: LaneCursor<Log>| cursor.next_batch(&batch_context, IdleLane::Skip).unwrap();
            bencher.iter_batched(begin, batch, BatchSize::SmallInput);
        });
    }
}

fn record(turn: usize, flows: usize) -> Arc<Record> {
    Arc::new(Record {
        offset: turn as Offset,
        received_at_us: 1_700_000_000_000_000,
        topic: topic(turn * 7_919 % flows),
        body: Body::Whole(THREE_ATTRIBUTES.into()),
        delivery: DeliveryFacts { qos: 1, ..DeliveryFacts::default() },
    })
}

/// An inbox in memory.
struct Log {
    records: Arc<[Arc<Record>]>,
    next: usize,
}

impl RecordSource for Log {
    type Error = Infallible;

    fn position(&self) -> Offset {
        self.next as Offset
    }

    fn seek(&mut self, offset: Offset) {
        self.next = usize::try_from(offset).unwrap();
    }

    fn read(&mut self, max_records: usize, _: usize, out: &mut Vec<Arc<Record>>) -> Result<(), Self::Error> {
        let records = self.records.iter().skip(self.next).take(max_records);
        let before = out.len();
        out.extend(records.cloned());
        self.next += out.len() - before;
        Ok(())
    }

    fn reader_at(&self, offset: Offset) -> Self {
        Self { records: Arc::clone(&self.records), next: usize::try_from(offset).unwrap() }
    }
}
