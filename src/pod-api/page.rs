//! Long lists are given page by page.

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::problem::Problem;

/// The rows of a page, where nobody says how many.
const SIZE: usize = 20;

/// The parameters of a query, decoded.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

/// Which page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1 on.
    pub number: usize,
    /// The most rows of it, 1 at least.
    pub size: usize,
}

impl Query {
    /// What stands behind the `?`.
    pub fn new(query: Option<&str>) -> Query {
        Query(form_urlencoded::parse(query.unwrap_or("").as_bytes()).into_owned().collect())
    }

    /// The first value of any of these names.
    pub fn get(&self, names: &[&str]) -> Option<&str> {
        self.all(names).next()
    }

    /// All values of any of these names.
    pub fn all(&self, names: &[&str]) -> impl Iterator<Item = &str> {
        let values = self.0.iter().filter(|(name, _)| names.contains(&name.as_str()));
        values.map(|(_, value)| value.as_str())
    }

    /// `page_number` and `page_size`.
    pub fn page(&self) -> Result<Page, Problem> {
        let number = |name: &str, default: usize| match self.get(&[name]).map(str::parse) {
            None => Ok(default),
            Some(Ok(number @ 1..)) => Ok(number),
            Some(_) => Err(Problem::malformed(format!("{name} must be a number from 1 on."))),
        };
        Ok(Page { number: number("page_number", 1)?, size: number("page_size", SIZE)? })
    }
}

/// Which page of how many items.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    page: Page,
    items: usize,
}

impl Page {
    /// This page of `all`: see [`Cut::answer`].
    pub fn of<T: Serialize>(self, all: Vec<T>) -> Response {
        let (cut, rows) = self.cut(all);
        cut.answer(rows)
    }

    /// The rows that are to be shown. None is left beyond the last page.
    pub fn cut<T>(self, all: Vec<T>) -> (Cut, Vec<T>) {
        let cut = Cut { page: self, items: all.len() };
        let skipped = (self.number - 1).saturating_mul(self.size);
        (cut, all.into_iter().skip(skipped).take(self.size).collect())
    }
}

impl Cut {
    /// Its rows, as they are shown: 206 if there are more behind it.
    pub fn answer<T: Serialize>(self, rows: Vec<T>) -> Response {
        let Cut { page: Page { number, size }, items } = self;
        let pages = items.div_ceil(size);
        let status = if number < pages { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let headers = [
            ("pagination-current-page", number),
            ("pagination-page-size", size),
            ("pagination-page-count", pages),
            ("pagination-item-count", items),
        ];
        let headers = headers.map(|(name, it)| (HeaderName::from_static(name), it.to_string()));
        (status, headers, Json(rows)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_page_is_cut_out() {
        for (items, number, size, status, rows, pages) in [
            (13, 1, 20, 200, 0..13, "1"),
            (13, 2, 2, 206, 2..4, "7"),
            (42, 3, 20, 200, 40..42, "3"),
            (42, 9, 20, 200, 0..0, "3"),
            (40, 2, 20, 200, 20..40, "2"),
            (0, 1, 20, 200, 0..0, "0"),
            (3, usize::MAX, usize::MAX, 200, 0..0, "1"),
        ] {
            let response = Page { number, size }.of((0..items).collect());
            assert_eq!(response.status(), status, "{items} {number} {size}");
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("pagination-page-count"), pages);
            assert_eq!(header("pagination-item-count"), items.to_string());
            assert_eq!(header("pagination-current-page"), number.to_string());
            assert_eq!(header("pagination-page-size"), size.to_string());
            let expected = serde_json::to_vec(&rows.collect::<Vec<usize>>()).unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, expected, "{items} {number} {size}");
        }
    }

    #[test]
    fn a_query_is_read() {
        let page = |query: &str| Query::new(Some(query)).page().ok().map(|it| (it.number, it.size));
        for (query, expected) in [
            ("", Some((1, 20))),
            ("page_number=2&page_size=40", Some((2, 40))),
            ("page_number=2&page_number=0", Some((2, 20))),
            ("page_number=0", None),
            ("page_size=0", None),
            ("page_number=-1", None),
            ("page_number=", None),
            ("page_number=99999999999999999999", None),
        ] {
            assert_eq!(page(query), expected, "{query}");
        }
        let query = Query::new(Some("search=a%40b+c&q=%ff"));
        assert_eq!(query.get(&["q", "search"]), Some("a@b c"));
        assert_eq!(query.get(&["other"]), None);
    }
}
