//! Lists by pages.

use serde_json::Value;
use test_support::world::{Backend, World};

use super::{ApiClient, Served};

/// All rows of a list by following its links, with the number of pages.
pub(super) fn all(client: &ApiClient, path: &str, list: &str) -> (Vec<Value>, usize) {
    let (mut rows, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(path) = next {
        let page = client.read(path.strip_prefix("/api/v1").unwrap_or(&path));
        rows.extend(page[list].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    (rows, pages)
}

fn codes(rows: &[Value]) -> Vec<String> {
    rows.iter().map(|row| row["code"].as_str().unwrap().to_owned()).collect()
}

fn flows_are_listed_page_by_page(world: World) {
    for number in 0..1_050 {
        world.flow(&format!("F{number}"), &format!("t/{number}")).insert(&world.sql);
    }
    let served = Served::new(world);
    let (rows, pages) = all(&served.admin, "/flows", "flows");
    let expected: Vec<String> = (0..1_050).map(|number| format!("F{number}")).collect();
    assert_eq!((codes(&rows), pages), (expected, 11));
    let (rows, pages) = all(&served.admin, "/flows?limit=7&text=f10", "flows");
    assert_eq!((rows.len(), pages), (1 + 10 + 50, 9));
    assert_eq!(all(&served.admin, "/flows?enabled=false", "flows").0.len(), 0);
    let none = served.admin.read("/flows?action=NOPE");
    assert_eq!(none["next"], Value::Null);
}

on_each_database!(flows_are_listed_page_by_page);

#[test]
fn tokens_are_listed_page_by_page() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    for name in ["a", "b", "c", "d"] {
        super::added_token(&served.world, name, "read", &[]);
    }
    let (rows, pages) = all(&served.admin, "/tokens?limit=2", "tokens");
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!((names, pages), (vec!["a", "b", "c", "d", "root"], 3));
}
