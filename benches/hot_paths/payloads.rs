//! Parsing a payload, validating it by its schema, and formatting its values.

use std::hint::black_box;

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use mqtt_gateway::domain::drift::ObservedFields;
use mqtt_gateway::domain::payload::{Payload, PayloadLimits};
use mqtt_gateway::domain::schema::PayloadSchema;
use mqtt_gateway::domain::value_style::ValueStyle;

pub(super) const THREE_ATTRIBUTES: &str = r#"{"temperature": 21.5, "humidity": 48, "status": "running"}"#;

const SCHEMA_OF_THREE: &str = r#"{"temperature": "number", "humidity": "int", "status": "string"}"#;

const JSON_SCHEMA_OF_THREE: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object", "required": ["temperature", "humidity", "status"], "properties": {
    "temperature": {"type": "number"}, "humidity": {"type": "integer", "minimum": 0}, "status": {"type": "string"}}}"#;

pub(super) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("payload");
    bench_payload(&mut group, "3 attributes", THREE_ATTRIBUTES, SCHEMA_OF_THREE);
    bench_payload(&mut group, "30 attributes", &thirty_attributes(), &schema_of_thirty());
    bench_payload(&mut group, "3 attributes, JSON Schema", THREE_ATTRIBUTES, JSON_SCHEMA_OF_THREE);
    group.finish();
}

/// Numbers and texts; one in five has an escape or is nested.
fn thirty_attributes() -> String {
    let attribute = |number: usize| match number % 5 {
        0 => format!(r#""number_{number}": {number}.25"#),
        1 => format!(r#""count_{number}": {number}"#),
        2 => format!(r#""text_{number}": "running normally since start number {number}""#),
        3 => format!(r#""flag_{number}": true"#),
        _ if number.is_multiple_of(2) => format!(r#""quoted_{number}": "line \"{number}\" of it""#),
        _ => format!(r#""nested_{number}": {{"x": {number}, "y": [1, 2, 3]}}"#),
    };
    let attributes: Vec<String> = (0..30).map(attribute).collect();
    format!("{{{}}}", attributes.join(", "))
}

fn schema_of_thirty() -> String {
    let field = |number: usize| match number % 5 {
        0 => format!(r#""number_{number}": "number""#),
        1 => format!(r#""count_{number}": "int""#),
        2 => format!(r#""text_{number}": "string""#),
        3 => format!(r#""flag_{number}": "bool""#),
        _ if number.is_multiple_of(2) => format!(r#""quoted_{number}": "string""#),
        _ => format!(r#""nested_{number}": "object""#),
    };
    let fields: Vec<String> = (0..30).map(field).collect();
    format!("{{{}}}", fields.join(", "))
}

fn bench_payload(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, text: &str, schema: &str) {
    let limits = PayloadLimits::default();
    let schema = PayloadSchema::compile(schema).unwrap();
    let read = || Payload::parse(black_box(text.as_bytes()), &limits).unwrap();
    let payload = read();
    schema.validate(&payload).unwrap();
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function(BenchmarkId::new("read", name), |bencher| bencher.iter(read));
    group.bench_function(BenchmarkId::new("validate", name), |bencher| {
        bencher.iter(|| schema.validate(black_box(&payload)));
    });
    let (mut fields, mut flow) = (ObservedFields::default(), 0);
    group.bench_function(BenchmarkId::new("fields", name), |bencher| {
        bencher.iter(|| {
            flow = (flow + 1) % 16;
            fields.observe(flow, black_box(&payload), "sensors/kitchen/temperature", 1);
        });
    });
    group.bench_function(BenchmarkId::new("values", name), |bencher| {
        bencher.iter(|| bytes_of_values(black_box(&payload)));
    });
    group.bench_function(BenchmarkId::new("all", name), |bencher| {
        bencher.iter(|| {
            let payload = read();
            schema.validate(&payload).unwrap();
            bytes_of_values(&payload)
        });
    });
}

fn bytes_of_values(payload: &Payload<'_>) -> usize {
    payload.attributes().iter().map(|attribute| attribute.text(ValueStyle::Python).len()).sum()
}
