//! Statements of a transaction: SQL text and bound values, as given to the driver.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::domain::payload::{Payload, PayloadLimits};
use mqtt_gateway::store::Dialect;
use mqtt_gateway::store::for_benches::{DataRows, lock, write_counters_of};

use crate::payloads::THREE_ATTRIBUTES;

/// Messages whose rows exactly fill a statement of 512 rows; two of them have one attribute.
const FULL: usize = 172;

pub(super) fn bench(criterion: &mut Criterion) {
    let limits = PayloadLimits::default();
    let payload = |number| {
        let text = if number < 2 { r#"{"temperature": 21.5}"# } else { THREE_ATTRIBUTES };
        Payload::parse(text.as_bytes(), &limits).unwrap()
    };
    let full: Vec<Payload<'_>> = (0..FULL).map(payload).collect();
    let few = [payload(2)];

    let mut group = criterion.benchmark_group("statement");
    for dialect in [Dialect::MySql, Dialect::Postgres, Dialect::Sqlite] {
        let named = |what: &str| BenchmarkId::new(what, format!("{dialect:?}"));
        for (what, payloads) in [("insert 512 rows", full.as_slice()), ("insert 3 rows", &few)] {
            let rows = DataRows::of(payloads, "FLOW-1");
            group.bench_function(named(what), |bencher| {
                bencher.iter(|| black_box(&rows).insert(dialect).unwrap());
            });
        }
        for count in [16, 512] {
            let flows: Vec<FlowId> = (1..=count).collect();
            let counters: Vec<(FlowId, i64)> = flows.iter().map(|flow| (*flow, 1_000_000)).collect();
            group.bench_function(named(&format!("counters of {count} flows")), |bencher| {
                bencher.iter(|| write_counters_of(dialect, black_box(&counters)).unwrap());
            });
            group.bench_function(named(&format!("lock {count} flows")), |bencher| {
                bencher.iter(|| lock(dialect, black_box(&flows)).unwrap());
            });
        }
    }
    group.finish();
}
