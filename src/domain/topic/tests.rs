#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn filter(raw: &str) -> TopicFilter {
    TopicFilter::parse(raw).expect(raw)
}

#[test]
fn filters_match_by_the_specification() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/tennis/player1/#", "sport/tennis/player12", false),
        ("sport/#", "sport", true),
        ("#", "a", true),
        ("#", "/", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("a/b", "a/b/", false),
        ("A", "a", false),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("+/#", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/+", "$SYS/x", true),
        ("a/#", "a/$x", true),
        ("a/+", "a/$x", true),
        ("#", "", false),
        ("/#", "/", true),
        ("é/+", "é/ü", true),
        ("$share/g/a/+", "a/b", true),
        ("$share/g/a/+", "$share/g/a/b", false),
        ("$share/g/#", "$SYS/x", false),
        ("$share", "$share", true),
    ];
    for (raw, topic, expected) in cases {
        assert_eq!(filter(raw).matches(topic), expected, "{raw} on {topic:?}");
    }
}

#[test]
fn examples_replace_wildcards() {
    for (raw, topic) in
        [("a/+/b", "a/example/b"), ("#", "example"), ("$share/g/a/#", "a/example"), ("a//", "a//")]
    {
        assert_eq!(filter(raw).example(), topic);
    }
}

#[test]
fn refused_characters_are_named() {
    let refused =
        [0x1, 0x9, 0xA, 0xD, 0x1F, 0x7F, 0x80, 0x9F, 0xFDD0, 0xFDEF, 0xFFFE, 0xFFFF, 0x1_FFFE, 0x10_FFFF];
    for code in refused {
        let character = char::from_u32(code).unwrap();
        for raw in [format!("a/b{character}"), format!("$share/g{character}/a")] {
            assert_eq!(TopicFilter::parse(&raw), Err(FilterError::Character { code }), "{raw:?}");
        }
    }
    let said = TopicFilter::parse("sensors/temp\n").unwrap_err().to_string();
    assert!(said.contains("U+000A") && said.contains("remove it"), "{said}");
    for taken in ["a b", "a\u{a0}", "\u{200b}", "\u{feff}", "\u{fffd}", "\u{fdcf}", "\u{fdf0}", "😀"] {
        assert!(TopicFilter::parse(taken).is_ok(), "{taken:?}");
    }
}

#[test]
fn invalid_filters_name_the_culprit() {
    let culprit = |level: &str| FilterError::WildcardNotAlone { level: level.to_owned() };
    let share = |found: &str| FilterError::BadShare { found: found.to_owned() };
    let cases = [
        ("", FilterError::Empty),
        ("a\0b", FilterError::Nul),
        ("a/#/b", FilterError::MultiLevelNotLast),
        ("#/", FilterError::MultiLevelNotLast),
        ("a/b+/c", culprit("b+")),
        ("a/b#", culprit("b#")),
        ("++", culprit("++")),
        ("#a", culprit("#a")),
        ("$share/", share("$share/")),
        ("$share/g", share("$share/g")),
        ("$share/g/", share("$share/g/")),
        ("$share//a", share("$share//a")),
        ("$share/+/a", share("$share/+/a")),
        ("$share/g/a/#/b", FilterError::MultiLevelNotLast),
    ];
    for (raw, expected) in cases {
        assert_eq!(TopicFilter::parse(raw), Err(expected), "{raw:?}");
    }
    assert_eq!(TopicFilter::parse(&"x".repeat(65_536)), Err(FilterError::TooLong { length: 65_536 }));
    assert!(TopicFilter::parse(&"x".repeat(65_535)).is_ok());
    assert!(culprit("b+").to_string().contains("\"b+\""));
}

#[test]
fn shared_filter_keeps_its_text() {
    let shared = filter("$share/group/a/+");
    assert_eq!(shared.as_str(), "$share/group/a/+");
    assert!(shared.is_shared());
    assert!(!filter("a/+").is_shared());
}

#[test]
fn relations_follow_the_topics() {
    let covering = [
        ("#", "a/b"),
        ("#", "+/#"),
        ("+/#", "#"),
        ("a/#", "a"),
        ("a/+", "a/b"),
        ("a/#", "a/+/#"),
        ("a/+", "a/+"),
    ];
    for (wide, narrow) in covering {
        assert!(filter(wide).covers(&filter(narrow)), "{wide} covers {narrow}");
    }
    let not_covering =
        [("#", "$SYS/a"), ("a/+/#", "a/#"), ("a/b", "a/+"), ("a/+", "+/b"), ("+", "#"), ("a/+", "a/+/c")];
    for (wide, narrow) in not_covering {
        assert!(!filter(wide).covers(&filter(narrow)), "{wide} does not cover {narrow}");
    }
    let joins = [
        ("a/+", "+/b", Some("+/+")),
        ("a/#", "+/b", Some("#")),
        ("a/b/#", "a/+/c", Some("a/+/#")),
        ("a/b", "a/b/c", Some("a/b/#")),
        ("$SYS/a/+", "$SYS/+/b", Some("$SYS/+/+")),
        ("$SYS/a", "+/a", None),
        ("/#", "/+/x", Some("/#")),
    ];
    for (a, b, joined) in joins {
        assert_eq!(filter(a).join(&filter(b)), joined.map(filter), "{a} with {b}");
    }
}

/// Filters over a small alphabet, so that they often overlap.
pub(crate) fn any_filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("$x"), 4 => Just("+")];
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, open)| {
            if open {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter_map("empty", |raw| TopicFilter::parse(&raw).ok())
}

/// Every topic of up to five levels over the alphabet of [`any_filter`] and an additional level `z`. These topics
/// distinguish any two such filters.
pub(crate) fn all_topics() -> Vec<String> {
    let mut topics: Vec<String> = vec![String::new()];
    let mut longest = topics.clone();
    for depth in 0..5 {
        longest = longest
            .iter()
            .flat_map(|head| {
                ["a", "b", "", "$x", "z"]
                    .map(|level| if depth == 0 { level.to_owned() } else { format!("{head}/{level}") })
            })
            .collect();
        topics.extend_from_slice(&longest);
    }
    topics
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn examples_are_matched(filter in any_filter()) {
        prop_assert!(filter.matches(&filter.example()), "{filter}: {}", filter.example());
    }

    #[test]
    fn relations_agree_with_matching(a in any_filter(), b in any_filter()) {
        let topics = all_topics();
        let both = topics.iter().map(|topic| (a.matches(topic), b.matches(topic))).collect::<Vec<_>>();
        prop_assert_eq!(a.covers(&b), both.iter().all(|&(by_a, by_b)| by_a || !by_b));
        prop_assert_eq!(a.overlaps(&b), both.iter().any(|&(by_a, by_b)| by_a && by_b));
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        if a.overlaps(&b) {
            prop_assert!(a.join(&b).is_some());
        }
        if let Some(joined) = a.join(&b) {
            prop_assert!(joined.covers(&a) && joined.covers(&b));
            prop_assert_eq!(TopicFilter::parse(joined.as_str()), Ok(joined));
        }
    }

    #[test]
    fn join_is_the_smallest_cover(a in any_filter(), b in any_filter(), c in any_filter()) {
        if c.covers(&a) && c.covers(&b) {
            prop_assert!(c.covers(&a.join(&b).expect("c covers both")));
        }
    }

    #[test]
    fn filter_parser_never_panics(raw in ".{0,30}", topic in ".{0,30}") {
        if let Ok(filter) = TopicFilter::parse(&raw) {
            prop_assert_eq!(filter.as_str(), raw);
            let _ = filter.matches(&topic);
        }
    }
}
