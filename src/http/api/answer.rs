//! Answers, which are made on the thread of the API and sent by that of the server.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, LOCATION};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;

/// A document.
#[derive(Debug)]
pub(super) struct ApiAnswer {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Vec<u8>,
}

impl ApiAnswer {
    /// 200 with a document.
    pub(super) fn new(document: &impl Serialize) -> Self {
        // All documents have names that are texts, so this cannot fail.
        let body = serde_json::to_vec(document).unwrap_or_default();
        Self { status: StatusCode::OK, headers: Vec::new(), body }
    }

    /// 201 with a document and the place of the new resource.
    pub(super) fn created(location: String, document: &impl Serialize) -> Self {
        let headers = vec![(LOCATION, location)];
        Self { status: StatusCode::CREATED, headers, ..Self::new(document) }
    }

    /// Adds the version of the resource.
    pub(super) fn with_version(mut self, version: &str) -> Self {
        self.headers.push((ETAG, format!("\"{version}\"")));
        self
    }
}

impl Responder for ApiAnswer {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for header in self.headers {
            response.insert_header(header);
        }
        response.content_type("application/json").body(self.body)
    }
}

/// A document as a line.
pub(super) fn line(document: &impl Serialize) -> Bytes {
    // All documents have names that are texts, so this cannot fail.
    let mut line = serde_json::to_vec(document).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
