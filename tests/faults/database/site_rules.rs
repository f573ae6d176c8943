//! Constraints and triggers of a site: the message that breaks one is a dead letter, and all others go on. A flow whose
//! messages all break one is set aside.

use test_support::eventually;
use test_support::publisher::Message;
use test_support::world::{Backend, SERVERS, World};

/// One lane with the flows `strict` and `other`.
fn world(backend: Backend) -> World {
    let mut world = World::on(backend);
    world.set("LANES", "1");
    for code in ["strict", "other"] {
        world.flow(code, code).insert(&world.sql);
    }
    world
}

/// A trigger whose body is the same for all servers but for how it is declared.
fn create_trigger(world: &World, when: &str, on_mariadb: &str, on_postgres: &str) {
    world.sql.run(&if world.backend == Backend::Postgres {
        format!(
            "CREATE FUNCTION site() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {on_postgres}; RETURN NEW; END $$; \
             CREATE TRIGGER site {when} INSERT ON data FOR EACH ROW EXECUTE FUNCTION site()"
        )
    } else {
        format!("CREATE TRIGGER site {when} INSERT ON data FOR EACH ROW {on_mariadb}")
    });
}

/// Publishes one good message to each flow, the bad one, and one more good one to each: the bad one is the only dead
/// letter, and its flow and the other go on.
fn only_the_bad_one_is_refused(world: &World, good: [&str; 2], bad: &str, words: &str) {
    let mut gateway = world.start_subscribed();
    let message = |topic: &str, payload: &str| Message::new(&world.topic(topic), payload);
    world.publish_all([
        message("strict", good[0]),
        message("other", r#"{"v": 1}"#),
        message("strict", bad),
        message("strict", good[1]),
        message("other", r#"{"w": 2}"#),
    ]);
    for code in ["strict", "other"] {
        let stored = world.wait_for_stored(code, 2);
        assert!(stored.iter().map(|message| message.id).eq(1..=2), "{code}: {stored:?}");
    }
    let letters = world.wait_for_dead_letters(1);
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((letter.reason.as_str(), letter.payload.as_slice()), ("refused_by_database", bad.as_bytes()));
    assert!(letter.detail.contains(words), "{}", letter.detail);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(world.audit(), ["look dead_letters of strict"]);
}

/// `MariaDB` keeps whole seconds of the time, so the index of `PostgreSQL` does, too.
#[test]
fn unique_key_violation_is_only_dead_letter() {
    for backend in SERVERS {
        let world = world(backend);
        let second =
            if backend == Backend::Postgres { "date_trunc('second', received_at)" } else { "received_at" };
        world.sql.run(&format!("CREATE UNIQUE INDEX once ON data (flow_code, attribute_name, {second})"));
        let mut gateway = world.start_subscribed();
        let copies = (0..5).flat_map(|n| ["strict", "other"].map(|topic| (topic, n)));
        let messages = copies.map(|(topic, n)| {
            // Those of the other flow differ in their names.
            let payload =
                if topic == "strict" { r#"{"v": 1}"#.to_owned() } else { format!(r#"{{"v{n}": 1}}"#) };
            Message::new(&world.topic(topic), payload)
        });
        world.publish_all(messages);
        let other = world.wait_for_stored("other", 5);
        assert!(other.iter().map(|message| message.id).eq(1..=5));
        // They come within a second or in two.
        let all = eventually("the messages of the other flow", || {
            let (stored, letters) = (world.stored("strict"), world.dead_letters());
            (stored.len() + letters.len() >= 5).then_some((stored, letters))
        });
        let (stored, letters) = all;
        assert!((1..=2).contains(&stored.len()), "{stored:?}");
        assert!(stored.iter().map(|message| message.id).eq(1..=i64::try_from(stored.len()).unwrap()));
        assert!(letters.iter().all(|letter| letter.reason == "refused_by_database"), "{letters:?}");
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(world.audit(), ["look dead_letters of strict"]);
    }
}

#[test]
fn foreign_key_violation_is_only_dead_letter() {
    for backend in SERVERS {
        let world = world(backend);
        world.sql.run("CREATE TABLE names (n VARCHAR(255) NOT NULL PRIMARY KEY)");
        world.sql.run("INSERT INTO names VALUES ('v'), ('w')");
        world.sql.run("ALTER TABLE data ADD FOREIGN KEY (attribute_name) REFERENCES names (n)");
        only_the_bad_one_is_refused(
            &world,
            [r#"{"v": 1}"#, r#"{"w": 3}"#],
            r#"{"unknown": 2}"#,
            "foreign key",
        );
    }
}

/// The site keeps the latest value of each attribute, and does not expect a second one.
#[test]
fn trigger_duplicate_is_only_dead_letter() {
    for backend in SERVERS {
        let world = world(backend);
        world.sql.run(
            "CREATE TABLE latest (code VARCHAR(100), name VARCHAR(255), value VARCHAR(99), PRIMARY KEY (code, name))",
        );
        let fill = "INSERT INTO latest VALUES (NEW.flow_code, NEW.attribute_name, NEW.attribute_value)";
        create_trigger(&world, "AFTER", fill, fill);
        let words = if backend == Backend::Postgres { "latest_pkey" } else { "Duplicate entry" };
        only_the_bad_one_is_refused(&world, [r#"{"v": 1}"#, r#"{"w": 3}"#], r#"{"v": 2}"#, words);
    }
}

#[test]
fn trigger_division_is_only_dead_letter() {
    for backend in SERVERS {
        let world = world(backend);
        create_trigger(
            &world,
            "BEFORE",
            "SET NEW.attribute_value = 100 / CAST(NEW.attribute_value AS SIGNED)",
            "NEW.attribute_value := 100 / CAST(NEW.attribute_value AS INTEGER)",
        );
        let words = if backend == Backend::Postgres { "division by zero" } else { "Division by 0" };
        only_the_bad_one_is_refused(&world, [r#"{"v": 1}"#, r#"{"w": 3}"#], r#"{"v": 0}"#, words);
    }
}

fn refused_flow_is_set_aside(backend: Backend) {
    let world = world(backend);
    match backend {
        Backend::Sqlite => world.sql.run(
            "CREATE TRIGGER site BEFORE INSERT ON data WHEN NEW.flow_code = 'strict' \
             BEGIN SELECT RAISE(ABORT, 'not now'); END",
        ),
        Backend::MariaDb | Backend::Postgres => create_trigger(
            &world,
            "BEFORE",
            "IF NEW.flow_code = 'strict' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not now'; END IF",
            "IF NEW.flow_code = 'strict' THEN RAISE 'not now'; END IF",
        ),
    }
    let publish = |numbers: std::ops::Range<usize>| {
        let messages = numbers.flat_map(|n| ["strict", "other"].map(|topic| (topic, n)));
        world.publish_all(
            messages.map(|(topic, n)| Message::new(&world.topic(topic), format!(r#"{{"n": {n}}}"#))),
        );
    };
    let mut gateway = world.start_subscribed();
    publish(0..50);
    let line = gateway.wait_for_line("Flow strict is set aside");
    assert!(line.contains("20 of its messages in a row") && line.contains("not now"), "{line}");
    world.wait_for_stored("other", 50);
    publish(50..60);
    let other = world.wait_for_stored("other", 60);
    assert!(other.iter().map(|message| message.id).eq(1..=60));
    assert_eq!(world.dead_letters().len(), 20);
    assert_eq!(world.audit(), ["look lagging of strict", "look dead_letters of strict"]);
    assert_eq!(gateway.count_errors("is set aside"), 1);

    let table = if backend == Backend::Postgres { "ON data" } else { "" };
    world.sql.run(&format!("DROP TRIGGER site {table}"));
    gateway.wait_for_line("has caught up with its lane");
    publish(60..70);
    let strict = world.wait_for_stored("strict", 50);
    assert!(strict.iter().map(|message| message.id).eq(1..=50), "without a gap");
    let numbers = strict.iter().map(|message| message.value("n").unwrap().parse::<usize>().unwrap());
    assert!(numbers.eq(20..70), "in order, and nothing lost");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(world.dead_letters().len(), 20);
    assert_eq!(world.audit(), ["look dead_letters of strict"]);
}

#[test]
fn rejected_flow_waits_until_trigger_is_gone() {
    [Backend::MariaDb, Backend::Postgres, Backend::Sqlite].into_iter().for_each(refused_flow_is_set_aside);
}
