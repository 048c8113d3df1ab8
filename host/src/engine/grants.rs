//! The only place where a capability is checked: before a step leaves the engine.

use crate::domain::{Capabilities, ChatRequest, HttpRequest, StepError};

/// What a plugin may do, and its name for the remedy.
pub(super) struct Grants {
    pub(super) plugin: String,
    pub(super) granted: Capabilities,
}

impl Grants {
    /// Whether a model may be asked; fills in the provider where the guest left it open.
    pub(super) fn chat(&self, request: &mut ChatRequest) -> Result<(), StepError> {
        let granted = &self.granted.llm;
        match &request.provider {
            Some(name) if granted.allow(name) => Ok(()),
            Some(name) => Err(self.denied(format!("llm `{name}` is"), "llm", name)),
            None => match granted.first_name() {
                Some(name) => {
                    request.provider = Some(name.to_owned());
                    Ok(())
                }
                None if granted.0.is_empty() => {
                    Err(self.denied("a model provider is".into(), "llm", "a provider's name"))
                }
                None => Err(StepError::Invalid(
                    "the operator granted patterns of llm providers: name the one to ask".into(),
                )),
            },
        }
    }

    /// Whether a tool may be called.
    pub(super) fn tool(&self, name: &str) -> Result<(), StepError> {
        if self.granted.tools.allow_tool(name) {
            Ok(())
        } else {
            Err(self.denied(format!("tool `{name}` is"), "tools", name))
        }
    }

    /// Whether a request may be sent to the host that its URL names.
    pub(super) fn http(&self, request: &HttpRequest) -> Result<(), StepError> {
        let host = host(&request.url)?;
        if self.granted.http.allow(&host) {
            Ok(())
        } else {
            Err(self.denied(format!("HTTP to `{host}` is"), "http", &host))
        }
    }

    fn denied(&self, what: String, kind: &str, add: &str) -> StepError {
        let plugin = &self.plugin;
        StepError::Denied(format!(
            "{what} not granted; add {add} to plugins.{plugin}.capabilities.{kind}"
        ))
    }
}

/// The host of an HTTP URL, in lower case. URLs that others might read otherwise are refused.
fn host(url: &str) -> Result<String, StepError> {
    let invalid = |why: &str| StepError::Invalid(format!("`{url}` is no URL to send to: {why}"));
    let uri: http::Uri = url.parse().map_err(|_| invalid("it cannot be parsed"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(invalid("it begins with neither http:// nor https://"));
    }
    let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
    if authority.as_str().contains(['@', '%', '\\']) {
        return Err(invalid(
            "user names, escapes and backslashes before the path are refused",
        ));
    }
    match authority.host() {
        "" => Err(invalid("it names no host")),
        host => Ok(host.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Patterns;

    fn grants(llm: &[&str], http: &[&str]) -> Grants {
        let patterns = |names: &[&str]| Patterns(names.iter().map(|n| (*n).to_owned()).collect());
        Grants {
            plugin: "p".into(),
            granted: Capabilities {
                llm: patterns(llm),
                tools: patterns(&["read_*", "mail"]),
                http: patterns(http),
            },
        }
    }

    fn request(provider: Option<&str>) -> ChatRequest {
        ChatRequest {
            provider: provider.map(str::to_owned),
            model: None,
            messages: vec![],
            tools: vec![],
            max_tokens: None,
            temperature: None,
        }
    }

    #[test]
    fn a_refusal_names_the_key() {
        let denied = grants(&[], &[]).chat(&mut request(Some("local")));
        let text = "llm `local` is not granted; add local to plugins.p.capabilities.llm";
        assert_eq!(denied, Err(StepError::Denied(text.into())));
        assert!(matches!(
            grants(&[], &[]).chat(&mut request(None)),
            Err(StepError::Denied(_))
        ));
        assert!(grants(&[], &[]).tool("read_file").is_ok());
        assert!(grants(&[], &[]).tool("mail__send").is_ok());
        assert!(matches!(
            grants(&[], &[]).tool("write_file"),
            Err(StepError::Denied(_))
        ));
    }

    #[test]
    fn the_first_provider_is_filled_in() {
        let mut open = request(None);
        assert_eq!(grants(&["x*", "b", "a"], &[]).chat(&mut open), Ok(()));
        assert_eq!(open.provider.as_deref(), Some("b"));
        assert!(matches!(
            grants(&["x*"], &[]).chat(&mut request(None)),
            Err(StepError::Invalid(_))
        ));
    }

    #[test]
    fn hosts_are_read_as_everybody_reads_them() {
        let grants = grants(&[], &["good.example", "*.fine.example"]);
        for (url, expected) in [
            ("http://good.example", Some(true)),
            ("https://GOOD.example:8443/x?y#z", Some(true)),
            ("https://a.fine.example/", Some(true)),
            ("https://fine.example/", Some(false)),
            ("http://evil.example/good.example", Some(false)),
            ("http://evil.example#@good.example/", Some(false)),
            ("http://evil.example@good.example/", None),
            ("http://good.example\\@evil.example/", None),
            ("http://good.example%2eevil.example/", None),
            ("ftp://good.example/", None),
            ("good.example", None),
            ("http:///x", None),
        ] {
            let request = HttpRequest {
                method: "GET".into(),
                url: url.into(),
                headers: vec![],
                body: vec![],
            };
            let verdict = match grants.http(&request) {
                Ok(()) => Some(true),
                Err(StepError::Denied(_)) => Some(false),
                Err(_) => None,
            };
            assert_eq!(verdict, expected, "{url}");
        }
    }
}
