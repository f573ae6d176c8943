use super::*;

fn flow(id: i64, code: &str, schema: &str) -> FlowRecord {
    FlowRecord {
        id,
        last_msg_id: None,
        definition: FlowDefinition {
            code: code.to_owned(),
            topic: "a".to_owned(),
            action: "STORE_DB".to_owned(),
            payload_schema: Some(schema.to_owned()),
            enabled: Some(true),
            ..FlowDefinition::default()
        },
    }
}

fn rejected(memory: &mut RejectedFlows, flows: &[FlowRecord]) -> Vec<String> {
    memory.check(flows, &EndpointNetworks::All);
    assert_eq!(memory.codes, memory.named.iter().map(|flow| flow.code.clone()).collect());
    memory.named.iter().map(|flow| format!("{}: {}", flow.code, flow.problems[0].problem)).collect()
}

#[test]
fn later_checks_find_what_the_first_one_finds() {
    let broken = flow(2, "B", "[1]");
    let steps = [
        vec![flow(1, "A", "{}"), broken.clone()],
        vec![flow(1, "A", "[2]"), broken.clone()],
        vec![flow(1, "A", "{}"), flow(2, "B", "{}")],
        // Two with one code, as tables without the unique index allow, and again one.
        vec![flow(1, "A", "{}"), broken.clone(), flow(3, "A", "{}")],
        vec![flow(1, "A", "{}"), broken.clone(), flow(3, "A", "[1]")],
        vec![flow(1, "A", "{}"), broken],
        vec![],
    ];
    let mut memory = RejectedFlows::default();
    let counts = steps.iter().map(|flows| {
        let found = rejected(&mut memory, flows);
        assert_eq!(found, rejected(&mut RejectedFlows::default(), flows));
        found.len()
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 2, 0, 3, 3, 1, 0]);
}
