//! The navigation of error pages.

use actix_web::HttpMessage;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;

use super::page::{ConsoleError, error_page, refused_form_page};
use super::visitor::Visitor;

/// Adds the navigation to the error page of a visitor with a session.
pub(super) async fn with_navigation(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let (request, response) = next.call(request).await?.map_into_boxed_body().into_parts();
    let error = response.error().and_then(actix_web::Error::as_error::<ConsoleError>);
    let page = match (error, request.extensions().get::<Visitor>()) {
        (Some(ConsoleError::Failed(problem)), Some(visitor)) => {
            let page = if request.method() == Method::POST { refused_form_page } else { error_page };
            Some(page(problem, visitor.frame("", problem.details.title)))
        }
        _ => None,
    };
    let response = match page {
        Some(page) => response.set_body(BoxBody::new(page)),
        None => response,
    };
    Ok(ServiceResponse::new(request, response))
}
