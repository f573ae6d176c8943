//! Pages of lists: a limit, an opaque cursor, and the link to the next page.

use std::future::{Ready, ready};
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded;
use utoipa::IntoParams;

use super::body::located;
use super::problem::ApiProblem;

/// Most rows of a page.
const MAX_LIMIT: u16 = 1_000;

/// Rows of a page without a limit.
const DEFAULT_LIMIT: u16 = 100;

/// Where a page begins, and its length: parameters of every list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Most rows of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Begins after this place, the cursor in `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$", max_length = 200)]
    after: Option<String>,
}

/// The parameters of a query.
pub(super) struct ApiQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for ApiQuery<T> {
    type Error = ApiProblem;
    type Future = Ready<Result<Self, ApiProblem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()).map(Self))
    }
}

/// Parses a query. The problem names the parameter at fault.
fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, ApiProblem> {
    let parser = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(parser).map_err(|error| ApiProblem::bad_query(located(&error)))
}

/// The page that a request asks for.
#[derive(Debug)]
pub(super) struct PageRequest {
    /// Most rows of the page.
    pub(super) limit: usize,
    after: Option<String>,
    path: String,
    query: String,
}

impl PageRequest {
    fn new(request: &HttpRequest) -> Result<Self, ApiProblem> {
        let PageQuery { limit, after } = parse_query(request.query_string())?;
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiProblem::bad_query(format!("limit: expected 1 to {MAX_LIMIT}")));
        }
        let (path, query) = (request.path().to_owned(), request.query_string().to_owned());
        Ok(Self { limit: limit.into(), after, path, query })
    }

    /// The key after which the page begins.
    pub(super) fn after<K: FromStr>(&self) -> Result<Option<K>, ApiProblem> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.filter(|text| !text.is_empty());
        let key = text.and_then(|text| text.parse().ok());
        key.map(Some).ok_or_else(ApiProblem::bad_cursor)
    }

    /// The other parameters of the query.
    pub(super) fn conditions<T: DeserializeOwned>(&self) -> Result<T, ApiProblem> {
        let others = form_urlencoded::parse(self.query.as_bytes());
        let others = others.filter(|(name, _)| !matches!(name.as_ref(), "limit" | "after"));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).finish();
        parse_query(&query)
    }

    /// The link to the next page, after the row with this key.
    pub(super) fn next(&self, last: Option<impl ToString>) -> Option<String> {
        last.map(|last| next_link(&self.path, &self.query, &last))
    }
}

impl FromRequest for PageRequest {
    type Error = ApiProblem;
    type Future = Ready<Result<Self, ApiProblem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::new(request))
    }
}

/// The link to the page after the row with `last` as its key: the same path and query with another cursor.
fn next_link(path: &str, query: &str, last: &impl ToString) -> String {
    let cursor = URL_SAFE_NO_PAD.encode(last.to_string());
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "after");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("after", &cursor)
        .finish();
    format!("{path}?{query}")
}

/// A text as a segment of a path.
pub(super) fn segment(text: &str) -> String {
    // A segment may not be empty or dots, but a code that is will not be found by any path.
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// The rows of a page of a list that is in memory, by their keys, and the key of the last row if more follow. The row
/// of the key `after` may be gone.
pub(super) fn page_of<T, K: Ord>(
    mut rows: Vec<T>,
    key: impl Fn(&T) -> K,
    after: Option<&K>,
    limit: usize,
) -> (Vec<T>, Option<K>) {
    rows.retain(|row| after.is_none_or(|after| key(row) > *after));
    rows.sort_by_key(&key);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let last = rows.last().filter(|_| has_more).map(key);
    (rows, last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn page(uri: &str) -> Result<PageRequest, ApiProblem> {
        PageRequest::new(&TestRequest::with_uri(uri).to_http_request())
    }

    #[test]
    fn next_link_leads_to_the_next_page() {
        let link = page("/api/v1/flows?limit=2&after=eA&text=a%26b").unwrap().next(Some(7)).unwrap();
        assert_eq!(link, "/api/v1/flows?limit=2&text=a%26b&after=Nw");
        assert_eq!(page(&link).unwrap().after::<i64>().unwrap(), Some(7));
        assert!(page("/?after=eA").unwrap().after::<i64>().is_err());
    }

    #[test]
    fn wrong_parameter_is_named() {
        let problem = page("/?after=eA&limit=x").unwrap_err().to_string();
        assert!(problem.starts_with("query: limit: "), "{problem}");
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(page("/").unwrap().limit, 100);
        assert_eq!(page("/?limit=1000").unwrap().limit, 1_000);
        for wrong in ["0", "1001", "-1", "x", ""] {
            assert!(page(&format!("/?limit={wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_cover_a_list_once() {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, last) = page_of((0..7).collect(), |row| *row, after.as_ref(), 3);
            seen.extend(page);
            after = last;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..7).collect::<Vec<i32>>());
    }

    #[test]
    fn list_goes_on_after_a_removed_row() {
        let rows = vec![1, 4, 6];
        assert_eq!(page_of(rows, |row| *row, Some(&3), 1), (vec![4], Some(4)));
    }
}
