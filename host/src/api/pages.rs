//! Which pages may call: the right `Host`, and no foreign `Origin`.
//!
//! A page in a browser can reach a daemon on loopback: from the page's own origin, or under a name
//! of its own that it makes resolve to this machine (DNS rebinding). `Origin` reveals the first,
//! `Host` the second.

use std::net::IpAddr;

use http::{HeaderMap, Uri, Version, header};

use super::extract::header_once;
use super::problem::{Problem, ProblemKind};

/// The pages that may call the API.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// Names that `Host` may contain, besides `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Origins of web pages that may call the API, besides the daemon's own, such as
    /// `https://console.example`.
    pub origins: Vec<String>,
}

impl Pages {
    /// Refuses a request that a page of somebody else's has made.
    pub(super) fn allow(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let host = header_once(headers, &header::HOST)?
            .or_else(|| uri.authority().map(|authority| authority.as_str()));
        // RFC 9112, section 3.2. Without it nothing shows whose page a browser calls from. (HTTP/1.0
        // has no `Host`, and no browser speaks it.)
        if host.is_none() && version == Version::HTTP_11 {
            let detail = "a request of HTTP/1.1 needs the header `Host`";
            return Err(Problem::new(ProblemKind::BAD_REQUEST, detail));
        }
        if let Some(host) = host
            && !self.is_ours(host)
        {
            let detail = format!(
                "this daemon is not `{host}`; use its address, or add the name to `daemon.allowed_hosts`"
            );
            return Err(Problem::new(ProblemKind::WRONG_HOST, detail));
        }
        if let Some(origin) = header_once(headers, &header::ORIGIN)?
            && !self.is_allowed_origin(origin, host)
        {
            let detail = format!("add `{origin}` to `daemon.allowed_origins` to let its pages in");
            return Err(Problem::new(ProblemKind::FORBIDDEN_ORIGIN, detail));
        }
        Ok(())
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
    use http::HeaderValue;

    use super::*;

    fn pages() -> Pages {
        Pages {
            hosts: vec!["abide.example".to_owned()],
            origins: vec!["https://console.example/".to_owned()],
        }
    }

    fn status(pages: &Pages, path: &str, headers: &[(&'static str, &'static str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect();
        let uri = path.parse().expect("a path");
        pages
            .allow(Version::HTTP_11, &uri, &headers)
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
            assert_eq!(status(&pages(), "/", &[("host", host)]), expected, "{host}");
        }
        let twice = [("host", "localhost"), ("host", "attacker.example")];
        let mut headers = HeaderMap::new();
        for (name, value) in twice {
            headers.append(name, HeaderValue::from_static(value));
        }
        let refused = pages().allow(Version::HTTP_11, &"/".parse().expect("a path"), &headers);
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
            assert_eq!(status(&pages(), "/", &headers), expected, "{origin}");
        }
    }
}
