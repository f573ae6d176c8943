//! Malformed heads are read the same in any pieces and written in one normalised form.

use super::*;
use crate::fuzzing::{behaviour, fuzz};

#[test]
fn responses_parse_the_same_in_any_pieces() {
    let words = [
        "HTTP/1.1 200",
        "HTTP/1.0 103",
        "\r\n",
        "\n ",
        ":",
        "Content-Length: ",
        "Transfer-Encoding: chunked",
        "Location: ",
        "Retry-After: ",
    ];
    fuzz("answer", &words, |bytes| {
        let mut rest = bytes;
        let whole = HeadReader::default().read(&mut rest).map(|head| head.map(|head| head.plain()));
        let mut reader = HeadReader::default();
        let mut used = 0;
        let mut in_pieces = Ok(None);
        for piece in bytes.chunks(7) {
            let mut left = piece;
            in_pieces = reader.read(&mut left).map(|head| head.map(|head| head.plain()));
            used += piece.len() - left.len();
            if in_pieces != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, in_pieces);
        assert!(used >= MAX_HEAD_BYTES || !matches!(whole, Ok(Some(_))) || used == bytes.len() - rest.len());
        let Ok(Some(head)) = whole else { return behaviour(format!("{whole:?}")) };
        let text = String::from_utf8(head).unwrap();
        let names = ["Content-Length", "Transfer-Encoding", "Connection", "Location", "Retry-After"];
        let (status, headers) = text.strip_suffix("\r\n\r\n").unwrap().split_once("\r\n").unwrap();
        assert!(status.len() == 13 && !status.starts_with("HTTP/1.1 10") || status == "HTTP/1.1 101 ");
        assert!(headers.split("\r\n").all(|header| names.contains(&header.split(':').next().unwrap())));
        behaviour((status.chars().nth(9), headers.lines().count()))
    });
}
