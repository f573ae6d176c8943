//! The table of the fields that messages had.

use crate::batches::Setup;
use crate::database::TestDatabase;
use mqtt_gateway::domain::drift::{FieldKind, ObservedFields, SchemaExpectation, SeenFlow};
use mqtt_gateway::domain::payload::{Payload, PayloadLimits};
use mqtt_gateway::store::{
    Database, edit_fields, forget_removed_flows, read_changed_fields, read_fields, record_fields,
};

on_every_database! {
    replicas_add_to_the_same_fields
    changed_flows_are_found
    removed_flows_are_forgotten
}

/// What a gateway sees in messages of flow 1.
fn seen(payloads: &[&str]) -> Vec<SeenFlow> {
    let mut fields = ObservedFields::default();
    for (at_us, payload) in (1..).zip(payloads) {
        let payload = Payload::parse(payload.as_bytes(), &PayloadLimits::default()).unwrap();
        fields.observe(1, &payload, "t", at_us);
    }
    fields.take(std::time::Duration::ZERO, 10)
}

async fn record(database: &Database, payloads: &[&str]) -> Vec<String> {
    let recorded = record_fields(database, &seen(payloads)).await.unwrap();
    let changes = recorded.into_iter().flat_map(|recorded| recorded.changes);
    changes.map(|change| format!("{} {}", change.field, change.description)).collect()
}

async fn replicas_add_to_the_same_fields(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let other = Database::connect(setup.test.settings(), 2).await.unwrap();
    let first = [r#"{"value": "é\u0000"}"#];
    let both = tokio::join!(record(&setup.database, &first), record(&other, &first));
    assert_eq!(both, (Vec::new(), Vec::new()));
    let both =
        tokio::join!(record(&setup.database, &[r#"{"value": 1}"#]), record(&other, &[r#"{"value": 2}"#]));
    assert_eq!([both.0, both.1].concat(), ["value changed from string to int"], "one of them reports it");
    let log = read_fields(&other, 1).await.unwrap().unwrap();
    let messages = |kind| log.field("value").unwrap().fact(kind).unwrap().messages;
    assert_eq!((messages(FieldKind::String), messages(FieldKind::Int)), (2, 2));
}

async fn changed_flows_are_found(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    assert_eq!(read_fields(&setup.database, 1).await.unwrap(), None);
    record(&setup.database, &[r#"{"value": 1}"#, r#"{"value": 1, "extra": 1}"#]).await;
    let (changed, next) = read_changed_fields(&setup.database, None).await.unwrap();
    assert_eq!((changed.keys().copied().collect::<Vec<_>>(), next), (vec![1], None));
    assert!(read_changed_fields(&setup.database, Some(1)).await.unwrap().0.is_empty());
    let schema = SchemaExpectation::new("{}");
    edit_fields(&setup.database, 1, |log| log.dismiss("extra", &schema)).await.unwrap();
    assert!(read_changed_fields(&setup.database, None).await.unwrap().0.is_empty());
    // A row that cannot be read is learnt again.
    setup.test.execute("UPDATE flow_fields SET fields = 'x'").await;
    record(&setup.database, &[r#"{"value": 1}"#]).await;
    assert_eq!(read_fields(&setup.database, 1).await.unwrap().unwrap().fields.len(), 1);
}

async fn removed_flows_are_forgotten(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    record(&setup.database, &[r#"{"value": 1}"#]).await;
    forget_removed_flows(&setup.database).await.unwrap();
    assert_eq!(setup.count("SELECT COUNT(*) FROM flow_fields").await, 1);
    setup.test.execute("DELETE FROM flows").await;
    assert!(record_fields(&setup.database, &seen(&[r#"{"value": 1}"#])).await.unwrap().is_empty());
    forget_removed_flows(&setup.database).await.unwrap();
    assert_eq!(setup.count("SELECT COUNT(*) FROM flow_fields").await, 0);
}
