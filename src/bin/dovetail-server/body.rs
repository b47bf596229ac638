//! What a request sends: an object of JSON, within a size and a time.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::state::App;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The largest body.
pub const MOST_BYTES: usize = 10 << 20;

/// The fields of a request, whatever its content type says.
pub struct Body(pub Fields);

impl FromRequest<Arc<App>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Body, ApiError> {
        let bytes = tokio::time::timeout(app.body_timeout, Bytes::from_request(request, app)).await;
        let bytes = bytes.map_err(|_| ApiError::timeout())?.map_err(|rejection| match rejection
            .into_response()
            .status()
        {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(MOST_BYTES),
            _ => ApiError::invalid("the body of the request broke off; send it again"),
        })?;
        let object: Result<Map<String, Value>, _> = serde_json::from_slice(&bytes);
        let wrong = |error| ApiError::invalid(format!("the body is no JSON object: {error}"));
        object.map(|object| Body(Fields::new(object))).map_err(wrong)
    }
}
