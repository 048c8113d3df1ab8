//! Access control: the right `Host`, no foreign `Origin`, and the bearer token if one is
//! configured.
//!
//! A page in a browser can reach a daemon on loopback: from the page's own origin, or under a name
//! of its own that it makes resolve to this machine (DNS rebinding). `Origin` reveals the first,
//! `Host` the second.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Uri, Version, header};
use sha2::{Digest as _, Sha256};

use super::problem::{Problem, ProblemKind};

/// Paths that reveal nothing and serve probes, which have no token.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// The digest of a bearer token; the token itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Compares in a time that reveals nothing about the token: the digest of an attacker's text
    /// cannot be steered, and all bytes are compared.
    fn is(&self, other: &str) -> bool {
        let other: [u8; 32] = Sha256::digest(other).into();
        let differing = self
            .0
            .iter()
            .zip(other)
            .fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The rules for who may call the API.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that `Authorization: Bearer` must carry.
    pub token: Option<TokenDigest>,
    /// Names that `Host` may contain, besides `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Origins of web pages that may call the API, besides the daemon's own, such as
    /// `https://console.example`.
    pub origins: Vec<String>,
}

/// The middleware that enforces [`Access`].
pub(super) async fn check(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let has_host =
        request.headers().contains_key(header::HOST) || request.uri().authority().is_some();
    // RFC 9112, section 3.2. Without it nothing shows whose page a browser calls from.
    if !has_host && request.version() == Version::HTTP_11 {
        let detail = "a request of HTTP/1.1 needs the header `Host`";
        return Err(Problem::new(ProblemKind::BAD_REQUEST, detail));
    }
    access.allow(request.uri(), request.headers())?;
    Ok(next.run(request).await)
}

impl Access {
    fn allow(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let host = one(headers, header::HOST)?
            .or_else(|| uri.authority().map(|authority| authority.as_str()));
        // HTTP/1.0 has no `Host`, and no browser speaks it.
        if let Some(host) = host
            && !self.is_ours(host)
        {
            let detail = format!(
                "this daemon is not `{host}`; use its address, or add the name to `daemon.allowed_hosts`"
            );
            return Err(Problem::new(ProblemKind::WRONG_HOST, detail));
        }
        if let Some(origin) = one(headers, header::ORIGIN)?
            && !self.is_allowed_origin(origin, host)
        {
            let detail = format!("add `{origin}` to `daemon.allowed_origins` to let its pages in");
            return Err(Problem::new(ProblemKind::FORBIDDEN_ORIGIN, detail));
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        if OPEN_PATHS.contains(&uri.path()) {
            return Ok(());
        }
        let given = one(headers, header::AUTHORIZATION)?.and_then(bearer);
        if given.is_some_and(|given| token.is(given)) {
            return Ok(());
        }
        let detail = match given {
            Some(_) => "the token is not the one that the configuration names",
            None => "send the token as `Authorization: Bearer TOKEN`",
        };
        let challenge = HeaderValue::from_static("Bearer realm=\"abide\"");
        Err(Problem::new(ProblemKind::UNAUTHORIZED, detail)
            .header(header::WWW_AUTHENTICATE, challenge))
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host);
        let ip = name.trim_start_matches('[').trim_end_matches(']');
        // A name is resolved, and so can be made to resolve to this machine; an address cannot.
        ip.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self
                .hosts
                .iter()
                .any(|ours| ours.eq_ignore_ascii_case(name) || ours.eq_ignore_ascii_case(host))
    }

    fn is_allowed_origin(&self, origin: &str, host: Option<&str>) -> bool {
        let own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let same = own.is_some_and(|own| host.is_some_and(|host| own.eq_ignore_ascii_case(host)));
        same || self
            .origins
            .iter()
            .any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
    }
}

/// Returns the value of a header that may occur only once.
fn one(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    match first.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(text)),
        _ => {
            let detail = format!("the header `{name}` must come once, as plain text");
            Err(Problem::new(ProblemKind::BAD_REQUEST, detail))
        }
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => {
            // `::1` has colons and no port.
            if name.contains(':') && !name.ends_with(']') {
                host
            } else {
                name
            }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            token: None,
            hosts: vec!["abide.example".to_owned()],
            origins: vec!["https://console.example/".to_owned()],
        }
    }

    fn status(access: &Access, path: &str, headers: &[(&'static str, &'static str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect();
        let uri = path.parse().expect("a path");
        access
            .allow(&uri, &headers)
            .map_or_else(|problem| problem.status(), |()| 200)
    }

    #[test]
    fn hosts_are_ours_or_addresses() {
        for (host, expected) in [
            ("localhost:7420", 200),
            ("127.0.0.1:7420", 200),
            ("[::1]:7420", 200),
            ("[::1]", 200),
            ("10.0.0.7", 200),
            ("abide.example:80", 200),
            ("Abide.Example", 200),
            ("attacker.example", 421),
            ("localhost.attacker.example:7420", 421),
            ("", 421),
        ] {
            assert_eq!(
                status(&access(), "/", &[("host", host)]),
                expected,
                "{host}"
            );
        }
        let twice = [("host", "localhost"), ("host", "attacker.example")];
        let mut headers = HeaderMap::new();
        for (name, value) in twice {
            headers.append(name, HeaderValue::from_static(value));
        }
        let refused = access().allow(&"/".parse().expect("a path"), &headers);
        assert_eq!(refused.expect_err("refused").status(), 400);
    }

    #[test]
    fn origins_are_our_own_or_listed() {
        for (origin, expected) in [
            ("http://localhost:7420", 200),
            ("https://console.example", 200),
            ("https://attacker.example", 403),
            ("http://localhost:1", 403),
            ("null", 403),
        ] {
            let headers = [("host", "localhost:7420"), ("origin", origin)];
            assert_eq!(status(&access(), "/", &headers), expected, "{origin}");
        }
    }

    #[test]
    fn a_token_is_asked_for_but_by_probes() {
        let access = Access {
            token: Some(TokenDigest::new("secret")),
            ..access()
        };
        let with = |value| status(&access, "/v1/daemon", &[("authorization", value)]);
        assert_eq!(with("Bearer secret"), 200);
        assert_eq!(with("bearer secret"), 200);
        assert_eq!(with("Bearer secretx"), 401);
        assert_eq!(with("Bearer "), 401);
        assert_eq!(with("Basic secret"), 401);
        assert_eq!(status(&access, "/v1/daemon", &[]), 401);
        assert_eq!(status(&access, "/metrics", &[]), 401);
        assert_eq!(status(&access, "/healthz", &[]), 200);
    }
}
