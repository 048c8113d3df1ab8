//! The hosts to which guests may send HTTP requests: which URLs an operator's entries allow. The
//! addresses that a name resolves to are checked when the connection is made, not here.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::Patterns;
use super::patterns::{common, covers};

/// The longest URL that the host accepts, in bytes.
const URL_MAX_BYTES: usize = 8 << 10;
/// The only name that refers to this machine by itself.
const LOCALHOST: &str = "localhost";

/// One entry of `capabilities.http`: `[SCHEME://]HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HttpRule {
    /// The entry as the operator wrote it.
    text: String,
    scheme: Scheme,
    host: HostRule,
    port: PortRule,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    /// A name, or a pattern with `*`, in lower case.
    Name(String),
    /// A literal address.
    Address(Host<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortRule {
    Any,
    Only(u16),
}

/// Why an entry is invalid.
#[derive(Debug, thiserror::Error)]
#[error("`{entry}` is no host to send to: {reason}")]
pub struct BadHttpRule {
    entry: String,
    reason: &'static str,
}

/// Which addresses a request may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Addresses of the public internet.
    Public,
    /// Also this machine.
    Loopback,
    /// Also private networks. Never multicast, broadcast or unspecified addresses.
    Private,
}

impl HttpRule {
    /// Parses an entry.
    ///
    /// # Errors
    /// Returns what is wrong with the entry.
    pub fn parse(entry: &str) -> Result<Self, BadHttpRule> {
        let bad = |reason| BadHttpRule {
            entry: entry.to_owned(),
            reason,
        };
        let (scheme, rest) = match entry.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(_) => return Err(bad("it begins with neither https:// nor http://")),
            None => (Scheme::Https, entry),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(bad(
                "paths are not told apart; leave out what follows the host",
            ));
        }
        if rest.contains('@') {
            return Err(bad("an entry holds no user or password"));
        }
        let (host, port) = match rest.rsplit_once(':') {
            // A colon before the `]` of a bracketed IPv6 address does not begin a port.
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let port = match port {
            None => PortRule::Only(scheme.port()),
            Some("*") => PortRule::Any,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(bad("its port is none of 1 to 65535 (or `*`)")),
                Ok(port) => PortRule::Only(port),
            },
        };
        Ok(Self {
            text: entry.to_owned(),
            scheme,
            host: HostRule::parse(host).ok_or_else(|| {
                bad("write a name like `api.example`, `*.example` or an address ([…] for IPv6)")
            })?,
            port,
        })
    }

    /// Returns the entry as the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it allows all targets, and all their addresses, that `other` allows.
    fn covers(&self, other: &Self) -> bool {
        let port = self.port == PortRule::Any || self.port == other.port;
        let host = match (&self.host, &other.host) {
            (HostRule::Name(name), HostRule::Name(other)) => covers(name, other),
            (HostRule::Address(address), HostRule::Address(other)) => address == other,
            (HostRule::Name(_), HostRule::Address(_))
            | (HostRule::Address(_), HostRule::Name(_)) => false,
        };
        self.scheme == other.scheme && port && host && self.reach() >= other.reach()
    }

    fn allows(&self, target: &EgressTarget) -> bool {
        let port = match self.port {
            PortRule::Any => true,
            PortRule::Only(port) => port == target.port,
        };
        self.scheme == target.scheme && port && self.host.fits(&target.host)
    }

    /// Returns what this entry alone allows to reach. An entry with a literal address allows even a
    /// private one, as the operator named it explicitly.
    fn reach(&self) -> Reach {
        match &self.host {
            HostRule::Address(_) => Reach::Private,
            HostRule::Name(name) if name == LOCALHOST => Reach::Loopback,
            HostRule::Name(_) => Reach::Public,
        }
    }
}

impl From<HttpRule> for String {
    fn from(rule: HttpRule) -> Self {
        rule.text
    }
}

impl TryFrom<String> for HttpRule {
    type Error = BadHttpRule;

    fn try_from(entry: String) -> Result<Self, BadHttpRule> {
        Self::parse(&entry)
    }
}

impl HostRule {
    fn parse(host: &str) -> Option<Self> {
        if host.contains('*') {
            let fits = |c: char| c.is_ascii_alphanumeric() || "*.-_".contains(c);
            return host
                .chars()
                .all(fits)
                .then(|| Self::Name(host.to_ascii_lowercase()));
        }
        match Host::parse(host).ok()? {
            Host::Domain(name) => Some(Self::Name(without_root(name))),
            address => Some(Self::Address(address)),
        }
    }

    fn fits(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::Name(name), Host::Domain(host)) => Patterns(vec![name.clone()]).allow(host),
            // A pattern never matches an address: `*` stands for names only.
            (Self::Name(_), _) => false,
            (Self::Address(address), host) => address == host,
        }
    }
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// All hosts to which a plugin may send requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpGrants {
    /// The entries of `capabilities.http`.
    pub hosts: Vec<HttpRule>,
    /// Names or patterns that may resolve to private addresses: `capabilities.http_private`.
    pub private: Patterns,
}

impl HttpGrants {
    /// Returns these grants without what `present` does not grant.
    pub(super) fn within(&self, present: &Self) -> Self {
        Self {
            hosts: common(&self.hosts, &present.hosts, HttpRule::covers),
            private: self.private.common(&present.private),
        }
    }

    /// Returns which addresses `target` may resolve to; none if no entry allows the target.
    pub fn reach(&self, target: &EgressTarget) -> Option<Reach> {
        let granted = self.hosts.iter().filter(|rule| rule.allows(target));
        let reach = granted.map(HttpRule::reach).max()?;
        match &target.host {
            Host::Domain(name) if self.private.allow(name) => Some(Reach::Private),
            _ => Some(reach),
        }
    }
}

/// The destination of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressTarget {
    scheme: Scheme,
    /// The host: a name in lower case and without the root's trailing dot, or an address.
    pub host: Host<String>,
    port: u16,
}

impl EgressTarget {
    /// Parses a URL exactly as the HTTP client that sends the request does. URLs that other parsers
    /// might read differently are refused.
    ///
    /// # Errors
    /// Returns why no request may be sent to this URL.
    pub fn parse(url: &str) -> Result<(Self, Url), String> {
        let invalid = |why: &str| {
            let shown: String = url.chars().take(200).collect();
            format!("`{shown}` is no URL to send to: {why}")
        };
        if url.len() > URL_MAX_BYTES {
            return Err(invalid(&format!("it has more than {URL_MAX_BYTES} bytes")));
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(invalid("it holds spaces or control characters"));
        }
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].contains(&&*scheme.to_ascii_lowercase()) => {
                rest
            }
            _ => return Err(invalid("it begins with neither http:// nor https://")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(invalid("it names no host"));
        }
        if authority.contains(['@', '%', '\\']) {
            return Err(invalid(
                "user names, escapes and backslashes before the path are refused",
            ));
        }
        let parsed = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
        let scheme = match parsed.scheme() {
            "https" => Scheme::Https,
            _ => Scheme::Http,
        };
        let host = match parsed.host() {
            Some(Host::Domain(name)) => Host::Domain(without_root(name.to_owned())),
            Some(Host::Ipv4(address)) => Host::Ipv4(address),
            Some(Host::Ipv6(address)) => Host::Ipv6(address),
            None => return Err(invalid("it names no host")),
        };
        let target = Self {
            scheme,
            host,
            port: parsed.port().unwrap_or(scheme.port()),
        };
        Ok((target, parsed))
    }
}

/// Writes the shortest entry that would allow the target.
impl fmt::Display for EgressTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme == Scheme::Http {
            f.write_str("http://")?;
        }
        self.host.fmt(f)?;
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// Removes the root's dot: a name is the same with and without it.
fn without_root(mut name: String) -> String {
    if name.ends_with('.') {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(hosts: &[&str], private: &[&str], url: &str) -> Option<Reach> {
        let rules = hosts.iter().map(|entry| HttpRule::parse(entry));
        let grants = HttpGrants {
            hosts: rules.collect::<Result<_, _>>().expect("entries"),
            private: Patterns(private.iter().map(|name| (*name).to_owned()).collect()),
        };
        let (target, _) = EgressTarget::parse(url).expect("a URL");
        grants.reach(&target)
    }

    #[test]
    fn entries_allow_what_they_say_and_no_more() {
        for (entry, url, allowed) in [
            ("api.example", "https://api.example/x?y", true),
            ("api.example", "https://API.EXAMPLE./", true),
            ("api.example", "https://api.example:443/", true),
            ("api.example", "https://api.example:8443/", false),
            ("api.example", "http://api.example/", false),
            ("api.example", "https://api.example.evil.example/", false),
            ("api.example:8443", "https://api.example:8443/", true),
            ("api.example:8443", "https://api.example/", false),
            ("api.example:*", "https://api.example:1/", true),
            ("http://api.example", "http://api.example/", true),
            ("http://api.example", "https://api.example/", false),
            ("http://localhost:8080", "http://localhost:8080/", true),
            ("http://localhost:8080", "http://127.0.0.1:8080/", false),
            ("*.example", "https://a.b.example/", true),
            ("*.example", "https://example/", false),
            ("*.example", "https://notexample/", false),
            ("*", "https://anything.example/", true),
            ("*", "https://8.8.8.8/", false),
            ("*", "https://[2606:4700::1111]/", false),
            ("*", "http://anything.example/", false),
            ("https://*:*", "https://anything.example:9/", true),
            ("8.8.8.8", "https://8.8.8.8/", true),
            // As a browser reads addresses.
            ("http://127.0.0.1:*", "http://0x7f.1:80/", true),
            ("http://[::1]:80", "http://[0:0::1]/", true),
            ("bücher.example", "https://xn--bcher-kva.example/", true),
            ("xn--bcher-kva.example", "https://bücher.example/", true),
        ] {
            assert_eq!(
                reach(&[entry], &[], url).is_some(),
                allowed,
                "{entry} on {url}"
            );
        }
    }

    #[test]
    fn private_addresses_are_reached_only_where_it_is_said() {
        for (entry, private, url, expected) in [
            ("a.example", "b.example", "https://a.example", Reach::Public),
            (
                "a.example",
                "*.example",
                "https://a.example",
                Reach::Private,
            ),
            ("*", "", "https://localhost", Reach::Public),
            ("localhost", "", "https://localhost", Reach::Loopback),
            ("10.0.0.1", "", "https://10.0.0.1", Reach::Private),
        ] {
            assert_eq!(reach(&[entry], &[private], url), Some(expected), "{url}");
        }
        assert_eq!(
            reach(&["*", "localhost"], &[], "https://localhost"),
            Some(Reach::Loopback)
        );
        assert_eq!(reach(&[], &["*"], "https://a.example"), None);
    }

    #[test]
    fn what_two_lists_allow_is_what_each_allows() {
        let grants = |hosts: &[&str], private: &[&str]| HttpGrants {
            hosts: hosts
                .iter()
                .map(|host| HttpRule::parse(host).unwrap())
                .collect(),
            private: Patterns(private.iter().map(|&name| name.to_owned()).collect()),
        };
        for (these, others, expected) in [
            (
                &["*.a.example:*"][..],
                &["x.a.example"][..],
                &["x.a.example"][..],
            ),
            (&["http://a.example"], &["a.example"], &[]),
            (&["a.example:8080"], &["a.example"], &[]),
            (&["10.0.0.1"], &["*", "10.0.0.1"], &["10.0.0.1"]),
            // A pattern does not grant this machine, which the name does.
            (&["localhost"], &["*"], &[]),
        ] {
            let common = grants(these, &["b*"]).within(&grants(others, &["bc"]));
            assert_eq!(
                common,
                grants(expected, &["bc"]),
                "{these:?} and {others:?}"
            );
        }
    }

    #[test]
    fn entries_that_are_none_are_refused() {
        for entry in [
            "",
            "ftp://a.example",
            "a.example/path",
            "user@a.example",
            "a.example:0",
            "a b",
            "a.example:http",
            "https://",
            "a.example:",
            "::1",
            "[::1",
            "*:99999",
        ] {
            assert!(HttpRule::parse(entry).is_err(), "{entry}");
        }
    }

    #[test]
    fn urls_that_can_be_read_in_two_ways_are_refused() {
        for url in [
            "http://evil.example@good.example/",
            "http://good.example\\@evil.example/",
            "http://good.example%2eevil.example/",
            "http:///x",
            "http:good.example",
            "ftp://good.example/",
            "good.example",
            "https://good.example/a\nb",
            "https://good\t.example/",
            "https://good.example:99999/",
            "https://[::1",
        ] {
            assert!(EgressTarget::parse(url).is_err(), "{url}");
        }
        let (target, url) =
            EgressTarget::parse("HTTPS://Evil.example#@good.example/").expect("a URL");
        assert_eq!(target.to_string(), "evil.example");
        assert_eq!(url.host_str(), Some("evil.example"));
        let (target, _) = EgressTarget::parse("http://[::1]:8080/").expect("a URL");
        assert_eq!(target.to_string(), "http://[::1]:8080");
    }
}
