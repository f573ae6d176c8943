use proptest::prelude::*;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// File content, the values that python-dotenv 1.2.2 reads from it, and its number of warnings.
/// It ran with `override=False`, with `HOST=outer` and an empty `EMPTY` in the environment.
#[rustfmt::skip]
const KNOWN_ANSWERS: &[(&str, Pairs<'_>, usize)] = &[
    ("A=b", &[("A", "b")], 0),
    ("A = b", &[("A", "b")], 0),
    ("A=b c  d  ", &[("A", "b c  d")], 0),
    (" \t A=b", &[("A", "b")], 0),
    ("A=", &[("A", "")], 0),
    ("A= ", &[("A", "")], 0),
    ("A", &[], 0),
    ("A\nB=1", &[("B", "1")], 0),
    ("export A=b", &[("A", "b")], 0),
    ("export  A = b", &[("A", "b")], 0),
    ("export\tA=b", &[("A", "b")], 0),
    ("export", &[], 0),
    ("exportA=b", &[("exportA", "b")], 0),
    ("export =b", &[], 1),
    ("A=b #c", &[("A", "b")], 0),
    ("A=b#c", &[("A", "b#c")], 0),
    ("A=b\t#c", &[("A", "b")], 0),
    ("A=#c", &[("A", "#c")], 0),
    ("A= #c", &[("A", "#c")], 0),
    ("A=p#a$$w0rd", &[("A", "p#a$$w0rd")], 0),
    ("A=p$HOME", &[("A", "p$HOME")], 0),
    ("A=$B", &[("A", "$B")], 0),
    ("A=pa$${B}", &[("A", "pa$")], 0),
    ("# only\nA=1", &[("A", "1")], 0),
    ("  # indented\nA=1", &[("A", "1")], 0),
    ("A=1 # x # y", &[("A", "1")], 0),
    ("A=b c #d", &[("A", "b c")], 0),
    ("A='b c'", &[("A", "b c")], 0),
    ("A='b #c'", &[("A", "b #c")], 0),
    ("A='b' #c", &[("A", "b")], 0),
    ("A='b'#c", &[("A", "b")], 0),
    ("A='b' c", &[], 1),
    ("A='it\\'s'", &[("A", "it's")], 0),
    ("A='a\\nb'", &[("A", "a\\nb")], 0),
    ("A='a\\\\b'", &[("A", "a\\b")], 0),
    ("A='a\\\"b'", &[("A", "a\\\"b")], 0),
    ("A=\"b c\"", &[("A", "b c")], 0),
    ("A=\"b #c\"", &[("A", "b #c")], 0),
    ("A=\"b\" # c", &[("A", "b")], 0),
    ("A=\"b\" c", &[], 1),
    ("A=\"say \\\"hi\\\"\"", &[("A", "say \"hi\"")], 0),
    ("A=\"a\\nb\\tc\\\\d\\'e\"", &[("A", "a\nb\tc\\d'e")], 0),
    ("A=\"\\a\\b\\f\\r\\v\"", &[("A", "\u{7}\u{8}\u{c}\r\u{b}")], 0),
    ("A=\"\\x41\\u0041\\q\"", &[("A", "\\x41\\u0041\\q")], 0),
    ("A=\"C:\\dir\\\"", &[("A", "C:\\dir\\")], 0),
    ("A=\"C:\\dir\\\"\nB=\"x\"", &[], 1),
    ("A='C:\\dir\\'", &[("A", "C:\\dir\\")], 0),
    ("A=\"two\nlines\"\nB=1", &[("A", "two\nlines"), ("B", "1")], 0),
    ("A='two\nlines'\nB=1", &[("A", "two\nlines"), ("B", "1")], 0),
    ("A=\"two\r\nlines\"\r\nB=1\r\n", &[("A", "two\nlines"), ("B", "1")], 0),
    ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")], 0),
    ("A=1\rB=2", &[("A", "1"), ("B", "2")], 0),
    ("A=\"open\nB=1", &[("B", "1")], 1),
    ("A='open\nB=1", &[("B", "1")], 1),
    ("A=b\"c\"", &[("A", "b\"c\"")], 0),
    ("A=b'c", &[("A", "b'c")], 0),
    ("=b", &[], 1),
    ("=\nA=1", &[("A", "1")], 1),
    ("A=1\n=b\nB=2", &[("A", "1"), ("B", "2")], 1),
    ("A B=c", &[], 1),
    ("A B\nC=1", &[("C", "1")], 1),
    ("A: b\nB=1", &[("B", "1")], 1),
    ("'A'=b", &[("A", "b")], 0),
    ("'A B'=c", &[("A B", "c")], 0),
    ("'A=b\nB=1", &[("B", "1")], 1),
    ("A.b-c=1", &[("A.b-c", "1")], 0),
    ("1A=b", &[("1A", "b")], 0),
    ("A==b", &[("A", "=b")], 0),
    ("A=b=c", &[("A", "b=c")], 0),
    ("A=a,b;c", &[("A", "a,b;c")], 0),
    ("Ä=ö", &[("Ä", "ö")], 0),
    ("A=\u{a0}b\u{a0}", &[("A", "b")], 0),
    ("A\u{a0}=b", &[("A", "b")], 0),
    ("A=b\u{a0}#c", &[("A", "b")], 0),
    ("A=b\u{1f}#c", &[("A", "b")], 0),
    ("A=b\u{b}c", &[("A", "b\u{b}c")], 0),
    ("\u{feff}A=1\nB=2", &[("B", "2"), ("\u{feff}A", "1")], 0),
    ("\u{feff}# c\nB=2", &[("B", "2")], 0),
    ("B=1\nA=${B}", &[("A", "1"), ("B", "1")], 0),
    ("A=${B}\nB=1", &[("A", ""), ("B", "1")], 0),
    ("A=${B:-d}", &[("A", "d")], 0),
    ("A=${B:-}", &[("A", "")], 0),
    ("B=\nA=${B:-d}", &[("A", ""), ("B", "")], 0),
    ("B\nA=${B:-d}", &[("A", "")], 0),
    ("A=${B-d}", &[("A", "")], 0),
    ("A=${B:d}", &[("A", "${B:d}")], 0),
    ("A=${B:+d}", &[("A", "${B:+d}")], 0),
    ("A=${}", &[("A", "")], 0),
    ("A=${:-d}", &[("A", "d")], 0),
    ("A=${B:-${C}}", &[("A", "${C}")], 0),
    ("A=${${B}", &[("A", "")], 0),
    ("A=${B", &[("A", "${B")], 0),
    ("A=$B}", &[("A", "$B}")], 0),
    ("A={B}", &[("A", "{B}")], 0),
    ("A=\\${B}", &[("A", "\\")], 0),
    ("A='${HOST}'", &[("A", "outer")], 0),
    ("A=\"${HOST}\"", &[("A", "outer")], 0),
    ("A=${HOST}", &[("A", "outer")], 0),
    ("A=x${HOST}y${HOST}z", &[("A", "xouteryouterz")], 0),
    ("HOST=inner\nA=${HOST}", &[("A", "outer"), ("HOST", "inner")], 0),
    ("A=\"\\${HOST}\"", &[("A", "\\outer")], 0),
    ("A=${HOST:-d}", &[("A", "outer")], 0),
    ("A=${EMPTY:-d}", &[("A", "")], 0),
    ("A=${HOST} # c", &[("A", "outer")], 0),
    ("A=${A}", &[("A", "")], 0),
    ("A=1\nA=${A}2", &[("A", "12")], 0),
    ("A=$${HOST}", &[("A", "$outer")], 0),
    ("A=${ HOST }", &[("A", "")], 0),
    ("A=${B:-a b}", &[("A", "a b")], 0),
    ("A=${B:-a #b}", &[("A", "${B:-a")], 0),
    ("A=\"${B:-\n}\"", &[("A", "\n")], 0),
    ("A=1\nA=2", &[("A", "2")], 0),
    ("A=1\nA", &[], 0),
    ("A=b\\", &[("A", "b\\")], 0),
    ("A=b\\\nC=1", &[("A", "b\\"), ("C", "1")], 0),
    ("A=b\\n", &[("A", "b\\n")], 0),
    ("A=`b`", &[("A", "`b`")], 0),
    ("A=$(id)", &[("A", "$(id)")], 0),
    ("A=b;C=1", &[("A", "b;C=1")], 0),
    ("A=b && C=d", &[("A", "b && C=d")], 0),
    ("set A=b", &[], 1),
    ("A= 'b'", &[("A", "b")], 0),
    ("A= \"b\" ", &[("A", "b")], 0),
    ("A='b'\\''c'", &[], 1),
    ("A=\"\"", &[("A", "")], 0),
    ("A=''", &[("A", "")], 0),
    ("\n\n\nA=1\n\n", &[("A", "1")], 0),
    ("   ", &[], 0),
    ("", &[], 0),
    ("A=1\n  \n\t\nB=2", &[("A", "1"), ("B", "2")], 0),
    ("\n\nA='x' y\nB=1", &[("B", "1")], 1),
    ("A=\"x\nB=1\nC='z' w\nD=1", &[("B", "1"), ("D", "1")], 2),
    ("A=!@%^&*()_+|~", &[("A", "!@%^&*()_+|~")], 0),
    ("A=a\"b#c\"d #e", &[("A", "a\"b#c\"d")], 0),
    ("export 'A'=b", &[("A", "b")], 0),
    ("export A", &[], 0),
    ("A=b\n  export B=c", &[("A", "b"), ("B", "c")], 0),
    ("A=\t'b'", &[("A", "b")], 0),
    ("A=b\\#c", &[("A", "b\\#c")], 0),
    ("A=\\ #c", &[("A", "\\")], 0),
];

fn environment(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("outer".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

#[test]
fn values_match_python_dotenv() {
    for (text, expected, unreadable) in KNOWN_ANSWERS {
        let read = read(text, &environment);
        let pairs: Vec<(&str, &str)> =
            read.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, *expected, "values of {text:?}");
        let warned = read.warnings.iter().filter(|warning| warning.starts_with("line ")).count();
        assert_eq!(warned, *unreadable, "warnings about {text:?}");
    }
}

#[test]
fn warning_names_only_the_line() {
    let read = read("\n\nA=1\n\n  DB_PASSWORD='se' cret\nB=2\n", &environment);
    assert_eq!(read.warnings, ["line 5 is no NAME=value and was left out"]);
}

#[test]
fn a_byte_order_mark_is_warned_about() {
    assert!(read("\u{feff}A=1", &environment).warnings.concat().contains("byte order mark"));
}

#[test]
fn lines_inside_quoted_values_are_counted() {
    let statements = parse::statements("A='1\n2\n3'\n= bad\n");
    assert_eq!(statements.last(), Some(&parse::Statement::Unreadable { line: 4 }));
}

proptest! {
    #[test]
    fn any_text_can_be_read(text in "[ -~\n\t\\\\'\"#=${}:\u{a0}é]{0,80}") {
        let lines = text.lines().count();
        for statement in parse::statements(&text) {
            if let parse::Statement::Unreadable { line } = statement {
                prop_assert!((1..=lines).contains(&line));
            }
        }
        read(&text, &environment);
    }

    #[test]
    fn plain_unquoted_password_is_kept(
        password in "[!#-&(-z|~]{1,40}",
    ) {
        let read = read(&format!("DB_PASSWORD={password} # comment"), &environment);
        prop_assert_eq!(read.values.get("DB_PASSWORD"), Some(&password));
        prop_assert!(read.warnings.is_empty());
    }
}
