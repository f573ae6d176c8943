//! Answers whose status line says what became of the message, whatever else is odd about them.

use super::{FailedAnswer, PostError, answering, assert_taken_once, clients, item};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[actix::test]
async fn interim_answers_do_not_count() {
    let all = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", all] {
        let mut sink = answering(format!("{interim}{OK}"));
        let clients = clients();
        clients.post(&[item(&sink.url())]).await.unwrap();
        assert_taken_once(&mut sink).await;
        // The final answer was read: the connection is fit for the next message.
        clients.post(&[item(&sink.url())]).await.unwrap();
        assert_eq!(sink.connections(), 1);
    }
    let sink = answering("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let outcome = clients().post(&[item(&sink.url())]).await;
    assert!(matches!(outcome, Err(PostError::Status(FailedAnswer { status: 500, .. }))), "{outcome:?}");
}

#[actix::test]
async fn request_says_who_it_is_from() {
    let mut sink = answering(OK);
    let mut posted = item(&sink.url());
    let named = std::sync::Arc::make_mut(&mut posted);
    (named.flow_code, named.topic, named.message_id) = ("TEMP é".into(), "home/1/temp".to_owned(), 42);
    let before = chrono::Utc::now().timestamp();
    clients().post(&[posted]).await.unwrap();
    let request = sink.next().await;
    for (name, value) in [
        ("idempotency-key", super::KEY),
        ("webhook-id", super::KEY),
        ("x-gateway-flow", "TEMP%20%C3%A9"),
        ("x-gateway-message-id", "42"),
        ("x-gateway-topic", "home/1/temp"),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    let sent: i64 = request.header("webhook-timestamp").parse().unwrap();
    assert!((before..=chrono::Utc::now().timestamp()).contains(&sent), "{sent}");
}

#[actix::test]
async fn interim_answers_without_end_are_a_failure() {
    let sink = answering("HTTP/1.1 100 Continue\r\n\r\n".repeat(4000));
    let outcome = clients().post(&[item(&sink.url())]).await;
    assert!(matches!(outcome, Err(PostError::Exchange(_))), "{outcome:?}");
    let sink = answering("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    let outcome = clients().post(&[item(&sink.url())]).await;
    assert!(matches!(outcome, Err(PostError::Status(FailedAnswer { status: 101, .. }))), "{outcome:?}");
}

#[actix::test]
async fn the_status_counts_in_a_malformed_head() {
    let many = "X-Many: y\r\n".repeat(200);
    let long = format!("X: {}\r\n", "y".repeat(200_000));
    for headers in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: abc\r\n",
        "X: a\r\n b\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "X: a\u{1}b\r\nContent-Length: 2\r\n",
        "no colon\r\n",
        &many,
        &long,
    ] {
        let mut sink = answering(format!("HTTP/1.1 200 OK\r\n{headers}\r\nok"));
        clients().post(&[item(&sink.url())]).await.unwrap_or_else(|error| panic!("{headers:.60}: {error}"));
        assert_taken_once(&mut sink).await;
        let sink = answering(format!("HTTP/1.1 503 Away\r\n{headers}\r\nno"));
        let outcome = clients().post(&[item(&sink.url())]).await;
        assert!(
            matches!(outcome, Err(PostError::Status(FailedAnswer { status: 503, .. }))),
            "{headers:.60}: {outcome:?}"
        );
    }
}

#[actix::test]
async fn leftover_bytes_are_not_the_next_answer() {
    // Two answers to one request, the second of them a lie.
    let sink = answering(
        "HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    );
    let clients = clients();
    for _ in 0..3 {
        let outcome = clients.post(&[item(&sink.url())]).await;
        assert!(matches!(outcome, Err(PostError::Status(FailedAnswer { status: 503, .. }))), "{outcome:?}");
    }
}
