//! 307 and 308 are followed with body and key; nothing secret goes along to another origin.

use super::{PostError, Reply, Sink, assert_taken_once, clients, item};

fn redirecting(status: u16, location: String) -> Sink {
    Sink::start(move |request| {
        if request.line.starts_with("POST /in ") {
            let page = "<html>moved</html>";
            let head =
                format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: {}", page.len());
            return Reply::Bytes(format!("{head}\r\n\r\n{page}").into_bytes());
        }
        Reply::ok()
    })
}

#[actix::test]
async fn the_same_post_goes_where_the_endpoint_says() {
    for status in [307, 308] {
        let mut sink = redirecting(status, "/in/?a=b".to_owned());
        let url = sink.url().replace("http://", "http://me:s3cret@");
        clients().post(&[item(&url)]).await.unwrap();
        let (first, second) = (sink.next().await, sink.next().await);
        assert_eq!(second.line, "POST /in/?a=b HTTP/1.1");
        for name in ["idempotency-key", "authorization", "content-type", "host"] {
            assert_eq!(first.header(name), second.header(name), "{name}");
        }
        assert_eq!(first.text(), second.text());
        assert_eq!(sink.connections(), 1, "the redirect leaves the connection as it was");
    }
}

#[actix::test]
async fn credentials_do_not_go_to_another_origin() {
    let mut other = Sink::start(|_| Reply::ok());
    let location = format!("http://they:theirs@{}/there", other.address());
    let mut sink = redirecting(308, location);
    let url = sink.url().replace("http://", "http://me:s3cret@");
    clients().post(&[item(&url)]).await.unwrap();
    assert_eq!(sink.next().await.header("authorization"), "Basic bWU6czNjcmV0");
    let request = other.next().await;
    assert_eq!(
        (request.line.as_str(), request.header("authorization").as_str()),
        ("POST /there HTTP/1.1", "")
    );
    assert_eq!(request.header("host"), other.address().to_string());
}

#[actix::test]
async fn a_circle_of_redirects_ends() {
    let circle = Sink::start(|_| {
        Reply::Bytes(b"HTTP/1.1 307 T\r\nLocation: /round?s3cret\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    let outcome = clients().post(&[item(&circle.url())]).await.unwrap_err();
    assert!(matches!(outcome, PostError::TooManyRedirects { status: 307, .. }), "{outcome:?}");
    assert_eq!(outcome.status(), Some(307));
    assert!(outcome.to_string().contains("/round") && !outcome.to_string().contains("s3cret"), "{outcome}");
}

#[actix::test]
async fn redirect_whose_body_stalls_is_followed() {
    let mut other = Sink::start(|_| Reply::ok());
    let head = format!("HTTP/1.1 307 T\r\nLocation: {}\r\nContent-Length: 5\r\n\r\n", other.url());
    let sink = Sink::start(move |_| Reply::Stall(head.clone().into_bytes()));
    clients().post(&[item(&sink.url())]).await.unwrap();
    assert_taken_once(&mut other).await;
}

#[actix::test]
async fn get_redirects_are_failures() {
    for status in [301, 302, 303] {
        let mut sink = redirecting(status, "/login?s3cret".to_owned());
        let error = clients().post(&[item(&sink.url())]).await.unwrap_err();
        assert!(matches!(error, PostError::Redirect { status: found, .. } if found == status), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains(&format!("http://{}/login:", sink.address())) && !said.contains("s3cret"),
            "{said}"
        );
        assert_taken_once(&mut sink).await;
    }
}
