//! What a request leads to: an answer, or the reason why not. The only mapping from refusals to HTTP's status codes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::views::ErrorView;
use crate::auth::AuthError;
use crate::broker::AdminError;
use crate::json::NotATable;
use crate::protocol::reply_code::ReplyCode;
use crate::vhost::OperationError;

/// What browsers and tools ask the user for.
const CHALLENGE: &str = "Basic realm=\"Leveret Management\"";

/// So much of a reason is told; one may repeat a name of many megabytes.
const REASON_CHARS_MAX: usize = 2000;

/// What a handler returns.
pub type Outcome = Result<Reply, ApiError>;

/// An answer, its body already JSON.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    location: Option<String>,
    body: Option<Vec<u8>>,
}

impl Reply {
    /// 200 with this as JSON.
    pub fn json(body: &impl Serialize) -> Outcome {
        Reply::with_status(StatusCode::OK, body)
    }

    /// 200 with what is JSON already.
    pub fn written_json(body: &str) -> Reply {
        Reply {
            status: StatusCode::OK,
            location: None,
            body: Some(body.as_bytes().to_vec()),
        }
    }

    /// Another status with this as JSON, as failed health checks have it.
    pub fn with_status(status: StatusCode, body: &impl Serialize) -> Outcome {
        let body = serde_json::to_vec(body).map_err(|error| ApiError::Failed(error.to_string()))?;
        Ok(Reply {
            status,
            location: None,
            body: Some(body),
        })
    }

    /// 201: it was not there before.
    pub fn created() -> Reply {
        Reply::empty(StatusCode::CREATED)
    }

    /// 201, and where it is now.
    pub fn created_at(location: String) -> Reply {
        Reply {
            location: Some(location),
            ..Reply::created()
        }
    }

    /// 204: done.
    pub fn done() -> Reply {
        Reply::empty(StatusCode::NO_CONTENT)
    }

    /// What PUT answers: 201 for something new, else 204.
    pub fn put(is_new: bool) -> Reply {
        if is_new { Reply::created() } else { Reply::done() }
    }

    fn empty(status: StatusCode) -> Reply {
        Reply {
            status,
            location: None,
            body: None,
        }
    }

    /// The body, for tests and for whoever wants to look into it.
    pub fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// Its status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
            None => self.status.into_response(),
        };
        if let Some(location) = self.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// Why a request was refused. Display is the reason as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request makes no sense, or a rule forbids it.
    #[error("{0}")]
    BadRequest(String),
    /// No list has such pages.
    #[error("{0}")]
    InvalidPages(String),
    /// There is no such page of the list.
    #[error("{0}")]
    PageOutOfRange(String),
    /// Nobody is logged in.
    #[error("{0}")]
    NotLoggedIn(&'static str),
    /// The user may not do this.
    #[error("{0}")]
    NotAuthorised(String),
    /// There is no such object.
    #[error("Not Found")]
    NotFound,
    /// What the request is about names something that does not exist.
    #[error("{0}")]
    NoSuch(String),
    /// It must be allowed first.
    #[error("{0}")]
    Protected(String),
    /// The path does not take this method.
    #[error("the resource does not take this method")]
    MethodNotAllowed,
    /// The body is larger than this resource takes.
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The body has more JSON values than this resource takes.
    #[error("the body has more than {0} values")]
    TooManyValues(usize),
    /// The body did not come in time.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// The broker cannot do it now.
    #[error("{0}")]
    Unavailable(String),
    /// A mistake of the broker.
    #[error("{0}")]
    Failed(String),
}

impl ApiError {
    /// A request that makes no sense.
    pub fn bad(reason: impl ToString) -> ApiError {
        ApiError::BadRequest(reason.to_string())
    }

    /// What is wrong, cut where it repeats too much of what the client has sent.
    pub fn reason(&self) -> String {
        let mut reason = self.to_string();
        if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
            reason.truncate(end);
            reason.push('…');
        }
        reason
    }

    /// The status code, and the `error` that tools look at.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            ApiError::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            ApiError::InvalidPages(_) => (StatusCode::BAD_REQUEST, "invalid_pagination_parameters"),
            ApiError::PageOutOfRange(_) => (StatusCode::BAD_REQUEST, "page_out_of_range"),
            // RabbitMQ spells these two differently, and tools compare.
            ApiError::NotLoggedIn(_) => (StatusCode::UNAUTHORIZED, "not_authorized"),
            ApiError::NotAuthorised(_) => (StatusCode::UNAUTHORIZED, "not_authorised"),
            ApiError::NotFound => (StatusCode::NOT_FOUND, "Object Not Found"),
            ApiError::NoSuch(_) => (StatusCode::NOT_FOUND, "not_found"),
            ApiError::Protected(_) => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            ApiError::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            ApiError::BodyTooLarge(_) | ApiError::TooManyValues(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large")
            }
            ApiError::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            ApiError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable"),
            ApiError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = self.status();
        let view = ErrorView {
            error,
            reason: self.reason(),
        };
        let body = serde_json::to_vec(&view).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if matches!(self, ApiError::NotLoggedIn(_)) {
            let challenge = HeaderValue::from_static(CHALLENGE);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> ApiError {
        match error.reply_code() {
            ReplyCode::AccessRefused => ApiError::NotAuthorised(error.to_string()),
            ReplyCode::NotFound => ApiError::NoSuch(error.to_string()),
            ReplyCode::InternalError => ApiError::Unavailable(error.to_string()),
            _ => ApiError::bad(error),
        }
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> ApiError {
        match error {
            AdminError::NoSuchVhost(_) => ApiError::NotFound,
            AdminError::VhostProtected(_) => ApiError::Protected(error.to_string()),
            AdminError::Auth(error) => error.into(),
            AdminError::Storage(error) => ApiError::Unavailable(error.to_string()),
            AdminError::VhostExists(_) | AdminError::VhostNameLength | AdminError::ClusterName => ApiError::bad(error),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> ApiError {
        match error {
            AuthError::NoRandomness { .. } | AuthError::NoMemory => ApiError::Failed(error.to_string()),
            _ => ApiError::bad(error),
        }
    }
}

impl From<NotATable> for ApiError {
    fn from(error: NotATable) -> ApiError {
        ApiError::bad(error)
    }
}
