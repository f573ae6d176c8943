//! Proxies from the environment.

use super::*;

#[test]
fn lower_case_proxy_takes_precedence() {
    let loaded = load_with(
        &[
            ("HTTP_PROXY", "http://upper:1"),
            ("http_proxy", "me:s3cret@lower:2"),
            ("NO_PROXY", "Example.com, 10.0.0.0/8"),
            ("CURL_CA_BUNDLE", "curl.pem"),
        ],
        &[(".env", "https_proxy=http://me:s3cret@dotenv:3\nREQUESTS_CA_BUNDLE=requests.pem\n")],
    );
    let loaded = loaded.unwrap();
    let HttpRoute { proxies, ca_bundle, .. } = &loaded.settings.http_route;
    let shown = |proxy: &Option<Proxy>| proxy.as_ref().map(ToString::to_string);
    assert_eq!(shown(&proxies.http).as_deref(), Some("http://lower:2"));
    assert_eq!(shown(&proxies.https).as_deref(), Some("http://dotenv:3"));
    assert_eq!(proxies.bypass, Bypass::parse("example.com,10.0.0.0/8"));
    assert_eq!(ca_bundle.as_deref(), Some(Path::new("requests.pem")));
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.effective).contains("s3cret"));
}

#[test]
fn invalid_proxy_error_hides_password() {
    let said = problem(&[("https_proxy", "socks5://me:s3cret@host:1080")]);
    assert_eq!(
        said,
        "HTTPS_PROXY (environment, not shown): expected an http or https URL of a proxy, as in \
         `http://user:password@host:3128`"
    );
}
