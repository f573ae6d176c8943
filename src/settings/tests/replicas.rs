//! Roles of replicas.

use super::*;

#[test]
fn role_depends_on_group_and_shard() {
    let role = |environment: &[(&str, &str)]| settings(environment).role;
    let group = |name| Role::InGroup(ShareGroup::parse(name).unwrap());
    let shard = |index, count| Role::Shard(Shard { index, count });
    assert_eq!(role(&[]), Role::ALONE);
    assert_eq!(role(&[("SHARD_INDEX", "mqtt-gateway-0")]), Role::ALONE);
    let gw3 = ("MQTT_CLIENT_ID", "gw-3");
    assert_eq!(role(&[gw3, ("SHARED_GROUP", "g"), ("SHARD_INDEX", "gw-3")]), group("g"));
    assert_eq!(role(&[gw3, ("SHARD_COUNT", "4"), ("SHARD_INDEX", "gw-3")]), shard(3, 4));
    assert_eq!(role(&[gw3, ("SHARD_COUNT", "4"), ("SHARD_INDEX", "0")]), shard(0, 4));
}

#[test]
fn conflicting_replica_settings_are_rejected() {
    let gw3 = ("MQTT_CLIENT_ID", "gw-3");
    assert_eq!(
        problem(&[gw3, ("SHARD_COUNT", "3"), ("SHARD_INDEX", "gw-3")]),
        "SHARD_INDEX = \"gw-3\" (environment): expected a number below SHARD_COUNT, which is 3"
    );
    assert_eq!(
        problem(&[gw3, ("SHARD_INDEX", "gw-3")]),
        "SHARD_INDEX = \"gw-3\" (environment): expected a number below SHARD_COUNT, which is 1"
    );
    assert!(problem(&[gw3, ("SHARD_COUNT", "3")]).starts_with("SHARD_INDEX is not set: expected a number"));
    let both = problem(&[gw3, ("SHARD_COUNT", "3"), ("SHARD_INDEX", "1"), ("SHARED_GROUP", "g")]);
    assert!(both.starts_with("SHARED_GROUP = \"g\"") && both.contains("SHARD_COUNT is 3"), "{both}");
    for many in [&[("SHARED_GROUP", "g")][..], &[("SHARD_COUNT", "3"), ("SHARD_INDEX", "1")]] {
        let problem = problem(many);
        assert!(
            problem.starts_with("MQTT_CLIENT_ID = \"mqtt-gateway\" (default): expected a name"),
            "{problem}"
        );
    }
}

#[test]
fn default_lanes_depend_on_role() {
    let lanes = |environment: &[(&str, &str)]| {
        let settings = settings(environment);
        (settings.lanes, settings.has_explicit_lanes)
    };
    let gw3 = ("MQTT_CLIENT_ID", "gw-3");
    assert_eq!(lanes(&[("SHARD_INDEX", "gw-0")]), (2, false));
    assert_eq!(lanes(&[("LANES", "")]), (2, false), "an empty text is no setting");
    assert_eq!(lanes(&[gw3, ("SHARED_GROUP", "g")]), (1, false));
    assert_eq!(lanes(&[gw3, ("SHARD_COUNT", "4"), ("SHARD_INDEX", "gw-3")]), (1, false));
    assert_eq!(lanes(&[gw3, ("SHARED_GROUP", "g"), ("LANES", "2")]), (2, true));
}

#[test]
fn retiring_ignores_shard_count() {
    let environment =
        [REQUIRED, &[("SHARD_COUNT", "2"), ("SHARD_INDEX", "gw-3"), ("SHARED_GROUP", "g")]].concat();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    let sources = Sources { environment, files: &FakeFiles::default() };
    let settings = load_settings_for(Purpose::Retiring, &sources).unwrap().settings;
    assert_eq!(settings.role, Role::Leaving);
    assert_eq!(settings.group, ShareGroup::parse("g"), "its session may know it as a member");
}
