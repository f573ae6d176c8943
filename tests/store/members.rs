//! The table of members on real databases.

use crate::database::TestDatabase;
use mqtt_gateway::domain::replicas::{Member, Role, Shard, ShareGroup};
use mqtt_gateway::store::{Database, announce, members, migrate, remove_member, timed};

on_every_database! {
    a_member_is_heard_as_it_announced_itself
    announcement_replaces_the_former
    new_inbox_keeps_the_member
    a_member_that_says_nothing_counts_as_dead
    member_times_follow_database_clock
}

async fn migrated(test: &TestDatabase) -> Database {
    let database = Database::connect(test.settings(), 2).await.unwrap();
    migrate(&database).await.unwrap();
    database
}

fn member(number: u32, role: Role) -> Member {
    Member {
        inbox_id: format!("{number:032}"),
        client_id: format!("gateway-{number}"),
        role,
        subscribed_at_us: None,
        handing_over_since_us: None,
        silent_for_us: 0,
    }
}

/// All members in the order of their numbers; how long they were silent is another question.
async fn heard(database: &Database) -> Vec<Member> {
    let mut members = members(database).await.unwrap();
    assert!(members.iter().all(Member::is_alive), "{members:?}");
    for member in &mut members {
        member.silent_for_us = 0;
    }
    members.sort_by(|one, other| one.inbox_id.cmp(&other.inbox_id));
    members
}

async fn a_member_is_heard_as_it_announced_itself(test: TestDatabase) {
    let database = migrated(&test).await;
    let all = [
        member(1, Role::ALONE),
        Member {
            subscribed_at_us: Some(1_700_000_000_123_456),
            handing_over_since_us: Some(1_700_000_001_000_007),
            ..member(2, Role::Shard(Shard { index: 1023, count: 1024 }))
        },
        member(3, Role::InGroup(ShareGroup::parse("gateways").unwrap())),
        member(4, Role::Leaving),
    ];
    for member in &all {
        announce(&database, member).await.unwrap();
    }
    assert_eq!(heard(&database).await, all);
    remove_member(&database, &all[1].inbox_id).await.unwrap();
    assert_eq!(heard(&database).await, [all[0].clone(), all[2].clone(), all[3].clone()]);
}

async fn announcement_replaces_the_former(test: TestDatabase) {
    let database = migrated(&test).await;
    let before = Member {
        subscribed_at_us: Some(1_700_000_000_000_000),
        handing_over_since_us: Some(1_700_000_000_000_000),
        ..member(1, Role::InGroup(ShareGroup::parse("gateways").unwrap()))
    };
    announce(&database, &before).await.unwrap();
    let now = member(1, Role::Shard(Shard { index: 0, count: 2 }));
    announce(&database, &now).await.unwrap();
    assert_eq!(heard(&database).await, [now]);
}

async fn new_inbox_keeps_the_member(test: TestDatabase) {
    let database = migrated(&test).await;
    announce(&database, &member(1, Role::ALONE)).await.unwrap();
    let anew = Member { client_id: "gateway-1".to_owned(), ..member(2, Role::ALONE) };
    announce(&database, &anew).await.unwrap();
    assert_eq!(heard(&database).await, [anew]);
}

async fn a_member_that_says_nothing_counts_as_dead(test: TestDatabase) {
    let database = migrated(&test).await;
    announce(&database, &member(1, Role::ALONE)).await.unwrap();
    test.execute("UPDATE gateway_members SET seen_at = '2020-01-01 00:00:00.000000'").await;
    assert!(!members(&database).await.unwrap()[0].is_alive());
    announce(&database, &member(1, Role::ALONE)).await.unwrap();
    assert!(members(&database).await.unwrap()[0].is_alive());
}

async fn member_times_follow_database_clock(test: TestDatabase) {
    let database = migrated(&test).await;
    let nothing = || async { Ok(()) };
    let ((), first) = timed(&database, nothing()).await.unwrap();
    // The clock of the test and that of the database are the same machine's.
    let now_us = chrono::Utc::now().timestamp_micros();
    assert!(first.from_us < first.until_us);
    assert!(first.from_us <= now_us && now_us - first.from_us < 600_000_000, "{first:?} at {now_us}");
    let ((), second) = timed(&database, nothing()).await.unwrap();
    assert!(second.from_us >= first.from_us && second.until_us >= first.until_us, "{first:?} {second:?}");
}
