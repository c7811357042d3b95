//! Export and import of definitions.

use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::DifferencesView;
use crate::definitions::{Document, ImportError, Plan, export, export_vhost};

/// So many objects that were left out of an import over HTTP are named in the log.
const LEFT_OUT_LOGGED_MAX: usize = 100;
/// So much of each.
const LEFT_OUT_CHARS_MAX: usize = 500;

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> ApiError {
        match error {
            ImportError::Storage(error) => ApiError::Unavailable(error.to_string()),
            other => ApiError::bad(other),
        }
    }
}

/// `GET /api/definitions`.
pub fn get(request: &Request) -> Outcome {
    Reply::json(&export(&request.broker))
}

/// `GET /api/definitions/{vhost}`.
pub fn get_vhost(request: &Request) -> Outcome {
    Reply::json(&export_vhost(&*request.vhost()?))
}

/// `POST /api/definitions`; with `dry_run=true` it only says what would change.
pub fn post(request: &Request) -> Outcome {
    import(request, Document::parse(request.document()?)?)
}

/// `POST /api/definitions/{vhost}`: what the file has in virtual hosts goes into this one.
pub fn post_vhost(request: &Request) -> Outcome {
    let vhost = request.vhost()?;
    import(request, Document::parse(request.document()?)?.into_vhost(&vhost.name))
}

fn import(request: &Request, document: Document) -> Outcome {
    let plan = Plan::new(&request.broker, document)?;
    if request.query_flag("dry_run") {
        let differences = plan.differences().iter().map(ToString::to_string).collect();
        return Reply::json(&DifferencesView { differences });
    }
    let left_out: Vec<String> = plan.left_out().take(LEFT_OUT_LOGGED_MAX).collect();
    plan.apply(&request.broker)?;
    // The answer has no place for it.
    for object in left_out {
        tracing::warn!("definitions: left out: {object:.LEFT_OUT_CHARS_MAX$}");
    }
    Ok(Reply::done())
}
