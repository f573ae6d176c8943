use super::*;

/// The normalised head of `bytes`, and the bytes after it.
fn read(bytes: &[u8]) -> Result<Option<(String, &[u8])>, HeadError> {
    let mut rest = bytes;
    let head = HeadReader::default().read(&mut rest)?;
    Ok(head.map(|head| (String::from_utf8(head.plain()).unwrap(), rest)))
}

fn plain(head: &str) -> String {
    read(head.as_bytes()).unwrap().expect("a whole head").0
}

#[test]
fn interim_responses_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let answer = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (head, rest) = read(answer.as_bytes()).unwrap().unwrap();
    assert_eq!((head.as_str(), rest), ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n", b"ok".as_slice()));
    assert_eq!(read(interim.as_bytes()), Ok(None));
    assert!(plain("HTTP/1.1 101 Switching Protocols\r\n\r\n").starts_with("HTTP/1.1 101 "));
}

#[test]
fn endless_interim_responses_fail() {
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD_BYTES / 20);
    assert_eq!(read(endless.as_bytes()), Err(HeadError::TooLong));
}

#[test]
fn clear_framing_is_kept() {
    for framing in ["Content-Length: 17", "Transfer-Encoding: chunked"] {
        assert_eq!(
            plain(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")),
            format!("HTTP/1.1 200 \r\n{framing}\r\n\r\n")
        );
    }
    let twice = plain("HTTP/1.1 201 C\ncontent-length : 5\nX: y\n folded\nContent-Length:5\n\n");
    assert_eq!(twice, "HTTP/1.1 201 \r\nContent-Length: 5\r\n\r\n");
    assert_eq!(plain("HTTP/1.1 204 No Content\r\n\r\n"), "HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn ambiguous_framing_closes_the_connection() {
    let many_headers = "X: y\r\n".repeat(MAX_HEAD_BYTES / 6);
    for headers in [
        "",
        "Content-Length: abc\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length:\r\n 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        &many_headers,
    ] {
        let head = plain(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"));
        assert_eq!(head, "HTTP/1.1 200 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "{headers:.80}");
    }
}

#[test]
fn connection_close_is_respected() {
    for head in ["HTTP/1.1 200 OK\r\nConnection: x, Close\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/2 200\r\n"] {
        let head = plain(&format!("{head}Content-Length: 5\r\n\r\n"));
        assert_eq!(head, "HTTP/1.1 200 \r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
    }
}

#[test]
fn unsafe_location_is_dropped() {
    let head = |location: &str| plain(&format!("HTTP/1.1 307 T\r\nContent-Length: 0\r\n{location}\r\n\r\n"));
    assert!(head("Location: /a?b").contains("\r\nLocation: /a?b\r\n"));
    assert!(head("Location:\r\n /a").contains("\r\nLocation: /a\r\n"));
    assert!(!head("Location: /\u{1}\u{e9}").contains("Location"));
}

#[test]
fn retry_after_is_kept() {
    let head = |value: &str| plain(&format!("HTTP/1.1 503 No\r\nContent-Length: 0\r\n{value}\r\n\r\n"));
    let date = "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT";
    assert!(head(date).contains(&format!("\r\n{date}\r\n")));
    assert!(head("retry-after:\r\n 7").contains("\r\nRetry-After: 7\r\n"));
    assert!(!head("Retry-After: \u{1}").contains("Retry-After"));
}

#[test]
fn status_of_an_incomplete_head_counts() {
    let mut reader = HeadReader::default();
    let mut bytes = b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 422 No\r\nContent-Length: 5\r\nX".as_slice();
    assert!(matches!(reader.read(&mut bytes), Ok(None)));
    assert_eq!(reader.take_incomplete().unwrap().status, 422);
    let mut reader = HeadReader::default();
    let mut interim = b"HTTP/1.1 103 X\r\n".as_slice();
    assert!(matches!(reader.read(&mut interim), Ok(None)));
    assert!(reader.take_incomplete().is_none());
}

#[test]
fn missing_status_line_is_not_http() {
    for head in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1\r\n",
        "HTTP/1.1 20\r\n",
        "HTTP/1.1 2000\r\n",
        "HTTP/1.1 099\r\n",
        "HTTP/1.1 +20\r\n",
    ] {
        assert_eq!(read(head.as_bytes()), Err(HeadError::NotHttp), "{head:?}");
    }
}
