use super::*;

fn flow(code: &str, topic: &str) -> FlowDefinition {
    FlowDefinition {
        code: code.to_owned(),
        topic: topic.to_owned(),
        action: "STORE_DB".to_owned(),
        payload_schema: Some("{}".to_owned()),
        enabled: Some(true),
        ..FlowDefinition::default()
    }
}

fn posting(url: &str) -> FlowDefinition {
    FlowDefinition {
        action: "POST_ENDPOINT".to_owned(),
        endpoint_url: Some(url.to_owned()),
        ..flow("P", "p")
    }
}

fn among(flow: &FlowDefinition, others: &[FlowDefinition]) -> Vec<Problem> {
    check_flow(flow, &FlowSet::new(others.iter().chain([flow])), &EndpointNetworks::All)
}

/// The only problem of a flow that is alone.
fn only_problem(flow: &FlowDefinition) -> Problem {
    let mut problems = among(flow, &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn good_flows_have_no_problems() {
    assert_eq!(among(&flow("T", "a/+/b"), &[flow("U", "c/#")]), []);
    assert_eq!(among(&posting("https://example.com/hook"), &[]), []);
}

#[test]
fn each_unusable_column_is_an_error_with_a_remedy() {
    let broken = [
        ("code", FlowDefinition { code: " ".into(), ..flow("", "a") }),
        ("code", flow(&"x".repeat(101), "a")),
        ("topic", flow("T", "")),
        ("topic", flow("T", "a/#/b")),
        ("topic", flow("T", "a\n")),
        ("topic", flow("T", "a\u{ffff}")),
        ("action", FlowDefinition { action: "store_db".into(), ..flow("T", "a") }),
        ("payload_schema", FlowDefinition { payload_schema: None, ..flow("T", "a") }),
        (
            "payload_schema",
            FlowDefinition { payload_schema: Some(r#"{"a": "strin"}"#.into()), ..flow("T", "a") },
        ),
        ("endpoint_url", posting(" ")),
        ("endpoint_url", posting("ftp://example.com")),
        ("endpoint_url", posting("http://169.254.169.254/latest")),
        ("endpoint_url", posting("http://[::ffff:169.254.169.254]/")),
        ("endpoint_url", FlowDefinition { options: Some(r#"{"also_post": true}"#.into()), ..flow("T", "a") }),
        ("options", FlowDefinition { options: Some(r#"{"delivry": {}}"#.into()), ..flow("T", "a") }),
        ("message_key", FlowDefinition { message_key: Some("id".into()), ..flow("T", "a") }),
    ];
    for (field, flow) in broken {
        let problem = only_problem(&flow);
        assert!(problem.is_error() && !problem.remedy.is_empty(), "{problem}");
        assert_eq!(problem.field, field, "{problem}");
    }
}

#[test]
fn endpoints_of_flows_that_do_not_post_are_not_checked() {
    assert_eq!(among(&FlowDefinition { endpoint_url: Some("?".into()), ..flow("T", "a") }, &[]), []);
}

#[test]
fn remedies_name_what_was_meant() {
    let problem = only_problem(&FlowDefinition { action: " post_endpoint".into(), ..flow("T", "a") });
    assert_eq!(problem.remedy, "write it as POST_ENDPOINT");
}

#[test]
fn networks_of_the_settings_count() {
    let flow = posting("http://10.0.0.1/");
    let problems = check_flow(&flow, &FlowSet::new([&flow]), &EndpointNetworks::Public);
    assert!(problems[0].is_error() && problems[0].problem.contains("ENDPOINT_NETWORKS"), "{problems:?}");
}

#[test]
fn new_code_is_one_without_warnings() {
    for (code, other) in [(" SP ", "T"), ("t", "T")] {
        let found = among(&flow(code, "a"), &[flow(other, "b")]);
        assert!(found.iter().all(|problem| !problem.is_error()), "a row keeps its code: {found:?}");
        let found = problems_of_new(found);
        assert!(found[0].is_error() && found[0].field == "code", "{found:?}");
    }
    let overlap = among(&flow("N", "b"), &[flow("T", "b")]);
    assert_eq!(problems_of_new(overlap.clone()), overlap, "other warnings stay warnings");
}

#[test]
fn same_code_is_an_error_and_another_case_a_warning() {
    let same = among(&flow("T", "a"), &[flow("T", "b")]);
    assert!(same[0].is_error() && same[0].problem.contains("another flow"), "{same:?}");
    let other_case = among(&flow("T", "a"), &[flow("t", "b")]);
    assert!(!other_case[0].is_error() && other_case[0].field == "code", "{other_case:?}");
}

#[test]
fn wide_filters_are_warnings() {
    for topic in ["#", "$share/g/#", "$SYS/#", "$SYS/broker/uptime", " a", "a "] {
        let problem = only_problem(&flow("T", topic));
        assert!(!problem.is_error() && problem.field == "topic", "{topic}: {problem}");
    }
}

#[test]
fn overlapping_flows_are_named() {
    let others = [flow("A", "a/+"), flow("B", "b/#"), flow("C", "#"), flow("BAD", "a/#/x")];
    let problems = among(&flow("T", "a/b"), &others);
    assert_eq!(problems.len(), 1);
    assert!(!problems[0].is_error());
    assert!(problems[0].problem.ends_with("\"A\" (a/+), \"C\" (#)"), "{}", problems[0]);
}

#[test]
fn many_overlapping_flows_are_counted() {
    let others: Vec<FlowDefinition> = (0..9).map(|number| flow(&number.to_string(), "a/#")).collect();
    let problems = among(&flow("T", "a/b"), &others);
    assert!(problems[0].problem.ends_with("and 6 more"), "{}", problems[0]);
}

#[test]
fn problems_hide_secrets() {
    let options = r#"{"delivery": {"auth": {"type": "bearer", "token": 5, "s3cret": "s3cret"}}}"#;
    let flow = FlowDefinition { options: Some(options.into()), ..posting("http://me:s3cret@h:99999/s3cret") };
    let problems = among(&flow, &[]);
    assert_eq!(problems.len(), 2);
    for problem in problems {
        assert!(!problem.to_string().contains("h:99999"), "{problem}");
    }
}
