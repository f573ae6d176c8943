use proptest::prelude::*;

use super::*;

fn posting(url: &str, options: &str) -> FlowDefinition {
    FlowDefinition {
        code: "P".to_owned(),
        endpoint_url: Some(url.to_owned()),
        options: Some(options.to_owned()),
        ..FlowDefinition::default()
    }
}

const SECRETS: &str = r#"{"delivery": {"timeout_seconds": 5, "headers": {"X-Key": "s3cret", "X-Ref": "env:MQTT_K"},
    "signing_secrets": ["file:/run/s", "s3cret-1", "s3cret-2"]}}"#;

fn with_options(options: &str) -> MaskedFlow {
    MaskedFlow { options: Some(options.to_owned()), ..MaskedFlow::default() }
}

/// The restored options, or the texts of the problems.
fn restored(given: &str, present: Option<&str>) -> Result<Value, String> {
    let present = present.map(|options| posting("http://h/", options));
    match with_options(given).restore(present.as_ref()) {
        Ok(flow) => Ok(serde_json::from_str(&flow.options.unwrap()).unwrap()),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[test]
fn masked_flows_contain_no_secret() {
    let flow = posting("https://me:s3cret@h/p?k=s3cret#s3cret", SECRETS);
    let masked = MaskedFlow::new(&flow);
    assert!(!serde_json::to_string(&masked).unwrap().contains("s3cret"));
    assert!(!masked.document().to_string().contains("s3cret"));
    assert_eq!(masked.restore(Some(&flow)), Ok(flow.clone()));
    let problems = masked.restore(None).unwrap_err();
    assert!(problems.iter().any(|problem| problem.field == "endpoint_url"), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.problem.starts_with("delivery.headers.X-Key: ***")));
    assert!(problems.iter().all(|problem| !problem.to_string().contains("s3cret")));
}

#[test]
fn what_holds_no_secret_keeps_its_form() {
    let flow = posting("http://h", "{ \"also_post\":  false }");
    let masked = MaskedFlow::new(&flow);
    assert_eq!(
        (masked.endpoint_url.as_deref(), masked.options.as_deref()),
        (Some("http://h"), Some("{ \"also_post\":  false }"))
    );
    assert_eq!(masked.restore(None), Ok(flow));
}

#[test]
fn a_mask_keeps_the_secret_beside_other_changes() {
    let given = r#"{"delivery": {"timeout_seconds": 9, "headers": {"X-Key": "***", "X-New": "env:MQTT_N"}}}"#;
    let expected =
        json!({"delivery": {"timeout_seconds": 9, "headers": {"X-Key": "s3cret", "X-New": "env:MQTT_N"}}});
    assert_eq!(restored(given, Some(SECRETS)), Ok(expected));
}

#[test]
fn masks_of_a_list_are_taken_in_their_order() {
    let list = |items: &str| format!(r#"{{"delivery": {{"signing_secrets": {items}}}}}"#);
    let expected = json!({"delivery": {"signing_secrets": ["s3cret-1", "env:MQTT_N", "s3cret-2"]}});
    assert_eq!(restored(&list(r#"["***", "env:MQTT_N", "***"]"#), Some(SECRETS)), Ok(expected));
    let unclear = restored(&list(r#"["***"]"#), Some(SECRETS)).unwrap_err();
    assert!(unclear.contains("options: delivery.signing_secrets.0: ***"), "{unclear}");
}

#[test]
fn masks_without_a_secret_are_refused() {
    for given in [
        r#"{"delivery": {"headers": {"X-Other": "***"}}}"#,
        r#"{"delivery": {"headers": {"X-Ref": "***"}}}"#,
        r#"{"delivery": {"headers": "***"}}"#,
        r#""***""#,
    ] {
        assert!(restored(given, Some(SECRETS)).is_err(), "{given}");
        assert!(restored(given, None).is_err(), "{given}");
    }
    let url = MaskedFlow { endpoint_url: Some("https://h/other?k=***".to_owned()), ..MaskedFlow::default() };
    assert_eq!(
        url.restore(Some(&posting("https://h/p?k=s3cret", "{}"))).unwrap_err()[0].field,
        "endpoint_url"
    );
}

#[test]
fn a_password_is_kept_by_its_mask_alone() {
    let row = |password: &str| ServerDefinition {
        password: Some(Credential::new(password)),
        ..ServerDefinition::default()
    };
    let masked = MaskedServer::new(&row("s3cret"));
    assert_eq!(masked.password.as_deref(), Some("***"));
    assert_eq!(masked.restore(Some(&row("other"))), Ok(row("other")));
    for present in [None, Some(row("env:MQTT_P")), Some(row("")), Some(ServerDefinition::default())] {
        assert_eq!(masked.restore(present.as_ref()).unwrap_err().field, "password");
    }
    assert_eq!(MaskedServer::new(&row("env:MQTT_P")).restore(None), Ok(row("env:MQTT_P")));
}

#[test]
fn a_file_of_a_broker_is_masked_unless_it_is_a_path() {
    let row = |file: &str| ServerDefinition {
        ca_file: Some(file.to_owned()),
        client_cert_file: Some(file.to_owned()),
        client_key_file: Some(file.to_owned()),
        ..ServerDefinition::default()
    };
    let masked = MaskedServer::new(&row("-----BEGIN s3cret"));
    assert!(!serde_json::to_string(&masked).unwrap().contains("s3cret"));
    assert_eq!(masked.restore(Some(&row("tls/relative.pem"))), Ok(row("tls/relative.pem")));
    for present in [None, Some(row("/k.pem")), Some(row("")), Some(ServerDefinition::default())] {
        assert_eq!(masked.restore(present.as_ref()).unwrap_err().field, "ca_file");
    }
    for shown in ["/k.pem", "", " "] {
        assert_eq!(MaskedServer::new(&row(shown)).restore(None), Ok(row(shown)));
    }
    let key_alone = MaskedServer { client_key_file: masked.client_key_file, ..MaskedServer::default() };
    assert_eq!(key_alone.restore(None).unwrap_err().field, "client_key_file");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof!["[a-z]{0,4}", Just("***".to_owned()), Just("env:MQTT_X".to_owned())]
            .prop_map(Value::from),
    ];
    let name = prop_oneof![
        "[a-c]",
        Just("delivery".to_owned()),
        Just("headers".to_owned()),
        Just("method".to_owned())
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn masking_and_restoring_changes_nothing(options in any_json(), url in "(https?://([a-c]{1,3}(:[a-c]{1,3})?@)?h/[a-c]?([?]a=b)?(#c)?|[a-c]{0,3})") {
        let flow = posting(&url, &options.to_string());
        prop_assert_eq!(MaskedFlow::new(&flow).restore(Some(&flow)), Ok(flow));
    }

    /// A masked value that comes back shows the same as the one that was masked.
    #[test]
    fn restored_options_look_as_given(given in any_json(), present in any_json()) {
        let given = MaskedFlow::new(&posting("http://h/", &given.to_string()));
        let present = posting("http://h/", &present.to_string());
        if let Ok(flow) = given.restore(Some(&present)) {
            let parsed = |flow: &MaskedFlow| serde_json::from_str::<Value>(flow.options.as_deref().unwrap()).unwrap();
            prop_assert_eq!(parsed(&MaskedFlow::new(&flow)), parsed(&given));
        }
    }
}
