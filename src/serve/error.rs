//! Errors as the API tells them: a status, a stable code, a sentence, and the way out.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::wire::{ErrorBody, ErrorDetail};
use crate::machine::input::Refusal;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    /// Stable, for programs.
    code: &'static str,
    message: String,
    help: String,
}

impl ApiError {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ApiError {
        ApiError { status, code, message: message.into(), help: help.into() }
    }

    pub fn unauthorized(message: &str) -> ApiError {
        let help = "send Authorization: Bearer TOKEN with a token from [daemon.tokens], or use the unix socket";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message, help)
    }

    pub fn forbidden(message: impl Into<String>, help: &str) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message, help)
    }

    pub fn not_found(message: impl Into<String>, help: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message, help)
    }

    pub fn invalid(message: impl Into<String>, help: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message, help)
    }

    pub fn unavailable(message: impl Into<String>, help: &str) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, help)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::NotFound(why) => {
                ApiError::not_found(why, "`backstop status` (GET /v1/status) lists what there is")
            }
            Refusal::Conflict(why) => {
                let help = "`backstop status` (GET /v1/status) shows how things stand now";
                ApiError::new(StatusCode::CONFLICT, "conflict", why, help)
            }
            Refusal::Invalid(why) => {
                ApiError::invalid(why, "change the request; it was understood, and nothing was done")
            }
            Refusal::NotAllowed(why) => ApiError::forbidden(why, "ask one of them"),
            Refusal::Unavailable(why) => {
                ApiError::unavailable(why, "`backstop status` (GET /readyz) says what is wrong; then try again")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body =
            ErrorBody { error: ErrorDetail { code: self.code.to_owned(), message: self.message, help: self.help } };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
