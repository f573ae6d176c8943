//! The options of a flow in the form in which the client uses them: secrets are read, keys and headers are parsed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use awc::http::Method;
use awc::http::header::{HeaderName, HeaderValue};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};

use super::PostError;
use crate::credentials::CredentialError;
use crate::domain::credential::Credential;
use crate::domain::posting::answers::AnswerRules;
use crate::domain::posting::options::{Auth, DeliveryOptions, PostFormat, PostMethod};
use crate::domain::posting::signature::SigningKey;
use crate::settings::CredentialSettings;

/// Time for which prepared options are used before their secrets are read again.
const MAX_AGE: Duration = Duration::from_secs(5);

/// Maximum number of prepared options; when it is exceeded, the cache is cleared.
const MAX_PREPARED: usize = 1024;

/// Options ready for use.
pub(super) struct PreparedOptions {
    pub(super) method: Method,
    /// Additional headers. They may be secret, so they stay at the origin of the endpoint.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The header `Authorization`, in place of the user of the URL.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) signing_keys: Vec<SigningKey>,
    pub(super) format: PostFormat,
    /// The body is a batch, even of one message.
    pub(super) is_batch: bool,
    /// Time limit of a post, if the flow has one of its own.
    pub(super) timeout: Option<Duration>,
    pub(super) answers: AnswerRules,
}

impl PreparedOptions {
    fn new(options: &DeliveryOptions, allowed: &CredentialSettings) -> Result<Self, PostError> {
        let headers = options.headers.iter().map(|(name, value)| {
            let unusable = || unusable(format!("headers.{name}"), "is no value of an HTTP header");
            let value = secret_header(read(value, allowed)?.expose_secret()).ok_or_else(unusable)?;
            Ok((HeaderName::try_from(name.as_str()).map_err(|_| unusable())?, value))
        });
        let signing_keys = options.signing_secrets.iter().zip(0..).map(|(secret, index): (_, usize)| {
            let path = format!("signing_secrets[{index}]");
            SigningKey::parse(read(secret, allowed)?.expose_secret())
                .map_err(|error| unusable(path, &error.to_string()))
        });
        Ok(Self {
            method: match options.method {
                PostMethod::Post => Method::POST,
                PostMethod::Put => Method::PUT,
                PostMethod::Patch => Method::PATCH,
            },
            headers: headers.collect::<Result<_, PostError>>()?,
            authorization: options.auth.as_ref().map(|auth| authorization(auth, allowed)).transpose()?,
            signing_keys: signing_keys.collect::<Result<_, PostError>>()?,
            format: options.format,
            is_batch: options.batch.is_some(),
            timeout: options.timeout_seconds.map(Duration::from_secs_f64),
            answers: options.answer_rules().map_err(|error| unusable(error.path, &error.problem))?,
        })
    }
}

fn authorization(auth: &Auth, allowed: &CredentialSettings) -> Result<HeaderValue, PostError> {
    let words = match auth {
        Auth::Bearer { token } => format!("Bearer {}", read(token, allowed)?.expose_secret()),
        Auth::Basic { username, password } => {
            let (username, password) = (read(username, allowed)?, read(password, allowed)?);
            let words = format!("{}:{}", username.expose_secret(), password.expose_secret());
            format!("Basic {}", BASE64_STANDARD.encode(words))
        }
    };
    secret_header(&words).ok_or_else(|| unusable("auth".to_owned(), "is no value of an HTTP header"))
}

fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn read(credential: &Credential, allowed: &CredentialSettings) -> Result<SecretString, CredentialError> {
    credential.read(allowed)
}

fn unusable(path: String, problem: &str) -> PostError {
    PostError::Options { path, problem: problem.to_owned() }
}

/// The prepared options of all flows. Lives on one thread.
pub(super) struct OptionsCache {
    allowed: CredentialSettings,
    defaults: Rc<PreparedOptions>,
    /// By address of the options, which the entry keeps alive.
    known: RefCell<HashMap<*const DeliveryOptions, KnownOptions>>,
}

struct KnownOptions {
    _options: Arc<DeliveryOptions>,
    prepared: Rc<PreparedOptions>,
    read: Instant,
}

impl OptionsCache {
    pub(super) fn new(allowed: CredentialSettings) -> Self {
        let defaults = PreparedOptions {
            method: Method::POST,
            headers: Vec::new(),
            authorization: None,
            signing_keys: Vec::new(),
            format: PostFormat::Json,
            is_batch: false,
            timeout: None,
            answers: AnswerRules::default(),
        };
        Self { allowed, defaults: Rc::new(defaults), known: RefCell::default() }
    }

    /// Returns the prepared options. Reads their secrets again after a while, so that they can be rotated.
    pub(super) fn get(
        &self,
        options: Option<&Arc<DeliveryOptions>>,
    ) -> Result<Rc<PreparedOptions>, PostError> {
        let Some(options) = options else { return Ok(Rc::clone(&self.defaults)) };
        let mut known = self.known.borrow_mut();
        if let Some(known) = known.get(&Arc::as_ptr(options)).filter(|known| known.read.elapsed() < MAX_AGE) {
            return Ok(Rc::clone(&known.prepared));
        }
        let prepared = Rc::new(PreparedOptions::new(options, &self.allowed)?);
        if known.len() >= MAX_PREPARED {
            known.clear();
        }
        let entry = KnownOptions {
            _options: Arc::clone(options),
            prepared: Rc::clone(&prepared),
            read: Instant::now(),
        };
        known.insert(Arc::as_ptr(options), entry);
        Ok(prepared)
    }
}
