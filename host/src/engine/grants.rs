//! Capability checks. This is the only place that checks them, before a step leaves the engine.

use crate::domain::{Capabilities, ChatRequest, EgressTarget, HttpRequest, StepError};

/// A plugin's capabilities, and its name for error messages.
pub(super) struct Grants {
    pub(super) plugin: String,
    pub(super) granted: Capabilities,
}

impl Grants {
    /// Checks that the model provider is granted; fills in the provider if the guest named none.
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

    /// Checks that the tool is granted.
    pub(super) fn tool(&self, name: &str) -> Result<(), StepError> {
        if self.granted.tools.allow_tool(name) {
            Ok(())
        } else {
            Err(self.denied(format!("tool `{name}` is"), "tools", name))
        }
    }

    /// Checks that the request's URL is granted. The addresses that its host resolves to are
    /// checked when the request is sent.
    pub(super) fn http(&self, request: &HttpRequest) -> Result<(), StepError> {
        let (target, _) = EgressTarget::parse(&request.url).map_err(StepError::Invalid)?;
        match self.granted.http.reach(&target) {
            Some(_) => Ok(()),
            None => {
                let entry = target.to_string();
                Err(self.denied(format!("HTTP to `{entry}` is"), "http", &entry))
            }
        }
    }

    fn denied(&self, what: String, kind: &str, add: &str) -> StepError {
        let plugin = &self.plugin;
        StepError::Denied(format!(
            "{what} not granted; add {add} to plugins.{plugin}.capabilities.{kind}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{HttpGrants, HttpRule, Patterns};

    fn grants(llm: &[&str], http: &[&str]) -> Grants {
        let patterns = |names: &[&str]| Patterns(names.iter().map(|n| (*n).to_owned()).collect());
        Grants {
            plugin: "p".into(),
            granted: Capabilities {
                llm: patterns(llm),
                tools: patterns(&["read_*", "mail"]),
                http: HttpGrants {
                    hosts: http
                        .iter()
                        .map(|entry| HttpRule::parse(entry).expect("an entry"))
                        .collect(),
                    private: Patterns::default(),
                },
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
    fn a_request_is_granted_by_its_host() {
        let grants = grants(&[], &["http://good.example", "*.fine.example"]);
        let asked = |url: &str| {
            grants.http(&HttpRequest {
                method: "GET".into(),
                url: url.into(),
                headers: vec![],
                body: vec![],
            })
        };
        assert_eq!(asked("http://good.example/x"), Ok(()));
        assert_eq!(asked("https://a.fine.example"), Ok(()));
        let text = "HTTP to `http://evil.example:8080` is not granted; add \
                    http://evil.example:8080 to plugins.p.capabilities.http";
        let denied = asked("http://evil.example:8080/good.example");
        assert_eq!(denied, Err(StepError::Denied(text.into())));
        for url in ["http://evil.example@good.example/", "good.example"] {
            let answer = asked(url);
            assert!(matches!(answer, Err(StepError::Invalid(_))), "{answer:?}");
        }
    }
}
