//! Validates a guest's request before anything is sent.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{EgressTarget, HttpRequest, StepError};

/// The largest total size of a request's headers, in bytes.
const HEADERS_MAX_BYTES: usize = 32 << 10;

/// Headers that belong to the connection, or that determine where the request goes. Only the host
/// sets them.
const NOT_A_GUESTS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A validated request.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) method: Method,
    pub(super) target: EgressTarget,
    pub(super) url: reqwest::Url,
    pub(super) headers: HeaderMap,
}

impl Sound {
    pub(super) fn of(request: &HttpRequest, limit_bytes: u64) -> Result<Self, StepError> {
        let method = method(&request.method)?;
        let (target, url) = EgressTarget::parse(&request.url).map_err(StepError::Invalid)?;
        let bytes = request.body.len() as u64;
        if bytes > limit_bytes {
            return Err(StepError::TooLarge(format!(
                "the request's body has {bytes} bytes where {limit_bytes} are allowed \
                 (`limits.event`); nothing was sent"
            )));
        }
        Ok(Self {
            method,
            target,
            url,
            headers: headers(&request.headers)?,
        })
    }

    /// Returns a short name for it: method and target.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// Returns whether its method is idempotent: sending it twice has the same effect as sending it
    /// once.
    pub(super) fn repeatable(&self) -> bool {
        [Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(&self.method)
    }
}

fn method(method: &str) -> Result<Method, StepError> {
    let invalid = |why| StepError::Invalid(format!("`{method}` is no method to send: {why}"));
    let parsed =
        Method::from_bytes(method.as_bytes()).map_err(|_| invalid("write one like GET or POST"))?;
    // Some servers are case-sensitive and some are not, so accept only capitals.
    if method.chars().any(|c| c.is_ascii_lowercase()) {
        return Err(invalid("methods are written in capitals"));
    }
    if [Method::CONNECT, Method::TRACE].contains(&parsed) {
        return Err(invalid("it is not for guests"));
    }
    Ok(parsed)
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, StepError> {
    let bytes: usize = given
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > HEADERS_MAX_BYTES {
        return Err(StepError::TooLarge(format!(
            "the request's headers have {bytes} bytes where {HEADERS_MAX_BYTES} are allowed; \
             nothing was sent"
        )));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let invalid = |why: &str| StepError::Invalid(format!("header `{name}`: {why}"));
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid("this is no header's name"))?;
        if NOT_A_GUESTS.contains(&parsed.as_str()) {
            return Err(invalid("the host sets it; leave it out"));
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| invalid("its value holds characters that a header cannot"))?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(method: &str, header: (&str, &str), body: usize) -> Result<Sound, StepError> {
        let request = HttpRequest {
            method: method.into(),
            url: "https://a.example/x".into(),
            headers: vec![(header.0.into(), header.1.into())],
            body: vec![0; body],
        };
        Sound::of(&request, 10)
    }

    #[test]
    fn methods_are_told_apart() {
        for (method, repeatable) in [
            ("GET", true),
            ("HEAD", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("OPTIONS", false),
            ("PURGE", false),
        ] {
            let request = sound(method, ("accept", "*/*"), 10).expect(method);
            assert_eq!(request.repeatable(), repeatable, "{method}");
            assert_eq!(request.name(), format!("{method} a.example"));
        }
        for method in [
            "",
            "get",
            "CONNECT",
            "TRACE",
            "GET /x HTTP/1.1\r\nX:",
            "G T",
        ] {
            let refused = sound(method, ("accept", "*/*"), 0);
            assert!(matches!(refused, Err(StepError::Invalid(_))), "{method}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        for name in NOT_A_GUESTS
            .iter()
            .copied()
            .chain(["Host", "TE", "", "a b", "x\r\ny"])
        {
            let refused = sound("GET", (name, "x"), 0);
            assert!(matches!(refused, Err(StepError::Invalid(_))), "{name}");
        }
        let refused = sound("GET", ("x", "a\r\nhost: b"), 0);
        assert!(matches!(refused, Err(StepError::Invalid(_))));
        assert!(sound("GET", ("authorization", "Bearer x"), 0).is_ok());
        for refused in [
            sound("GET", ("x", &"y".repeat(HEADERS_MAX_BYTES)), 0),
            sound("POST", ("x", "y"), 11),
        ] {
            assert!(
                matches!(refused, Err(StepError::TooLarge(_))),
                "{refused:?}"
            );
        }
    }
}
