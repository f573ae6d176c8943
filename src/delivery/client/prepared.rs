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
use super::flow_tls::FlowTls;
use super::oauth::OAuthClient;
use super::secret_header::secret_header;
use crate::credentials::CredentialError;
use crate::delivery::tls::Tls;
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
    pub(super) authorization: Authorization,
    /// TLS of its own. Like the headers, it is for the origin of the endpoint.
    pub(super) tls: Option<FlowTls>,
    pub(super) signing_keys: Vec<SigningKey>,
    pub(super) format: PostFormat,
    /// The body is a batch, even of one message.
    pub(super) is_batch: bool,
    /// Time limit of a post, if the flow has one of its own.
    pub(super) timeout: Option<Duration>,
    pub(super) answers: AnswerRules,
}

impl PreparedOptions {
    /// Prepares options. What needs no change is taken from `known`, an earlier preparation.
    pub(super) fn new(
        options: &DeliveryOptions,
        known: Option<&Self>,
        allowed: &CredentialSettings,
        tls: &Tls,
    ) -> Result<Self, PostError> {
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
            authorization: Authorization::new(options.auth.as_ref(), allowed)?,
            tls: FlowTls::read(&options.tls, known.and_then(|known| known.tls.as_ref()), allowed, tls)?,
            signing_keys: signing_keys.collect::<Result<_, PostError>>()?,
            format: options.format,
            is_batch: options.batch.is_some(),
            timeout: options.timeout_seconds.map(Duration::from_secs_f64),
            answers: options.answer_rules().map_err(|error| unusable(error.path, &error.problem))?,
        })
    }
}

/// The source of the header `Authorization`.
pub(super) enum Authorization {
    /// The user of the URL, if there is one.
    OfUrl,
    /// This value.
    Header(HeaderValue),
    /// A token for this client.
    OAuth(OAuthClient),
}

impl Authorization {
    fn new(auth: Option<&Auth>, allowed: &CredentialSettings) -> Result<Self, PostError> {
        let words = match auth {
            None => return Ok(Self::OfUrl),
            Some(Auth::Bearer { token }) => format!("Bearer {}", read(token, allowed)?.expose_secret()),
            Some(Auth::Basic { username, password }) => {
                let (username, password) = (read(username, allowed)?, read(password, allowed)?);
                let words = format!("{}:{}", username.expose_secret(), password.expose_secret());
                format!("Basic {}", BASE64_STANDARD.encode(words))
            }
            Some(Auth::OAuth2 { token_url, client_id, client_secret, scope, audience }) => {
                return Ok(Self::OAuth(OAuthClient {
                    token_url: token_url.as_str().into(),
                    id: read(client_id, allowed)?,
                    secret: read(client_secret, allowed)?,
                    scope: scope.clone(),
                    audience: audience.clone(),
                }));
            }
        };
        let header = secret_header(&words);
        header.map(Self::Header).ok_or_else(|| unusable("auth".to_owned(), "is no value of an HTTP header"))
    }
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
    tls: Rc<Tls>,
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
    pub(super) fn new(allowed: CredentialSettings, tls: Rc<Tls>) -> Self {
        let defaults = PreparedOptions {
            method: Method::POST,
            headers: Vec::new(),
            authorization: Authorization::OfUrl,
            tls: None,
            signing_keys: Vec::new(),
            format: PostFormat::Json,
            is_batch: false,
            timeout: None,
            answers: AnswerRules::default(),
        };
        Self { allowed, tls, defaults: Rc::new(defaults), known: RefCell::default() }
    }

    /// Returns the prepared options. Reads their secrets again after a while, so that they can be rotated.
    pub(super) fn get(
        &self,
        options: Option<&Arc<DeliveryOptions>>,
        now: Instant,
    ) -> Result<Rc<PreparedOptions>, PostError> {
        let Some(options) = options else { return Ok(Rc::clone(&self.defaults)) };
        let mut known = self.known.borrow_mut();
        let earlier = known.get(&Arc::as_ptr(options));
        if let Some(earlier) = earlier.filter(|earlier| now.duration_since(earlier.read) < MAX_AGE) {
            return Ok(Rc::clone(&earlier.prepared));
        }
        let earlier = earlier.map(|earlier| &*earlier.prepared);
        let prepared = Rc::new(PreparedOptions::new(options, earlier, &self.allowed, &self.tls)?);
        if known.len() >= MAX_PREPARED {
            known.clear();
        }
        let entry = KnownOptions { _options: Arc::clone(options), prepared: Rc::clone(&prepared), read: now };
        known.insert(Arc::as_ptr(options), entry);
        Ok(prepared)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::domain::flow_options::FlowOptions;

    #[test]
    fn secrets_are_read_again_within_five_seconds() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let allowed =
            CredentialSettings { dir: directory.path().to_owned(), ..CredentialSettings::default() };
        let options = format!(
            r#"{{"delivery": {{"auth": {{"type": "bearer", "token": "file:{}"}}}}}}"#,
            file.display()
        );
        let options = FlowOptions::parse(Some(&options)).unwrap().delivery().unwrap();
        let cache = OptionsCache::new(allowed, Rc::default());
        let start = Instant::now();
        let token = |age: Duration| {
            let prepared = cache.get(Some(&options), start + age).unwrap();
            match &prepared.authorization {
                Authorization::Header(words) => words.to_str().unwrap().to_owned(),
                _ => panic!("no token"),
            }
        };
        std::fs::write(&file, "first").unwrap();
        assert_eq!(token(Duration::ZERO), "Bearer first");
        std::fs::write(&file, "second").unwrap();
        assert_eq!(token(Duration::from_millis(4_999)), "Bearer first", "not at each post");
        assert_eq!(token(Duration::from_secs(5)), "Bearer second");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(token(Duration::from_millis(9_999)), "Bearer second");
        assert!(cache.get(Some(&options), start + Duration::from_secs(10)).is_err());
    }
}
