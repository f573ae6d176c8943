//! Pages of lists: a limit, an opaque cursor, and the link to the next page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::form_urlencoded;

use super::problem::ApiProblem;

/// Most rows of a page.
const MAX_LIMIT: u16 = 1_000;

/// Rows of a page without a limit.
const DEFAULT_LIMIT: u16 = 100;

/// Where a page begins, and its length.
#[derive(Debug)]
pub(super) struct PageQuery {
    limit: Option<u16>,
    after: Option<String>,
}

impl PageQuery {
    pub(super) fn new(limit: Option<u16>, after: Option<String>) -> Self {
        Self { limit, after }
    }

    /// Most rows of the page.
    pub(super) fn limit(&self) -> Result<usize, ApiProblem> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(limit.into());
        }
        Err(ApiProblem::bad_request(format!("query: limit: expected 1 to {MAX_LIMIT}")))
    }

    /// The key after which the page begins.
    pub(super) fn after<K: std::str::FromStr>(&self) -> Result<Option<K>, ApiProblem> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let key = text.and_then(|text| text.parse().ok());
        key.map(Some).ok_or_else(ApiProblem::bad_cursor)
    }
}

/// The link to the page after the row with `last` as its key: the same path and query with another cursor.
pub(super) fn next_link(path: &str, query: &str, last: &impl ToString) -> String {
    let cursor = URL_SAFE_NO_PAD.encode(last.to_string());
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "after");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("after", &cursor)
        .finish();
    format!("{path}?{query}")
}

/// The rows of a page of a list that is in memory, and the key of its last row if more follow.
pub(super) fn page_of<T, K: PartialEq>(
    rows: Vec<T>,
    key: impl Fn(&T) -> K,
    after: Option<&K>,
    limit: usize,
) -> (Vec<T>, Option<K>) {
    let start = match after {
        None => 0,
        Some(after) => rows.iter().position(|row| key(row) == *after).map_or(rows.len(), |place| place + 1),
    };
    let has_more = rows.len() > start + limit;
    let page: Vec<T> = rows.into_iter().skip(start).take(limit).collect();
    let last = page.last().filter(|_| has_more).map(key);
    (page, last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn next_link_leads_to_the_next_page() {
        let link = next_link("/api/v1/flows", "limit=2&after=eA&text=a%26b", &7);
        assert_eq!(link, "/api/v1/flows?limit=2&text=a%26b&after=Nw");
        let query = PageQuery::new(None, Some("Nw".to_owned()));
        assert_eq!(query.after::<i64>().unwrap(), Some(7));
        assert!(PageQuery::new(None, Some("eA".to_owned())).after::<i64>().is_err());
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
}
