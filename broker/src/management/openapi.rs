//! The API told in the form of OpenAPI, for those who generate clients. Written by hand; tests hold it to the table of
//! resources and to what a running broker answers.

use super::reply::{Outcome, Reply};
use super::request::Request;

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /api/openapi.json`.
pub fn document(_request: &Request) -> Outcome {
    Ok(Reply::written_json(DOCUMENT))
}
