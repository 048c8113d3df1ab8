//! Removes secrets from the texts of servers, some of which repeat what they were sent.

use super::classify::AttemptFailure;
use super::provider::LlmProvider;

/// The shortest value of a header or a query that may be a secret, in bytes: shorter ones are
/// ordinary words.
const SECRET_MIN_BYTES: usize = 8;

impl AttemptFailure {
    /// Returns the failure with all of the provider's secrets removed from its text.
    pub(super) fn without_key(mut self, provider: &LlmProvider) -> Self {
        let text = self.error.text_mut();
        if let Some(key) = provider.api_key.as_ref().filter(|key| !key.0.is_empty()) {
            hide(text, &key.0, "[API key]");
        }
        let given = provider.headers.iter().chain(&provider.query);
        for (name, value) in given {
            let least = if value.is_named() {
                1
            } else {
                SECRET_MIN_BYTES
            };
            hide_forms(text, name, &value.0, least);
        }
        // The query of the base URL may hold a key.
        let base = url::Url::parse(&provider.base_url).ok();
        for (name, value) in base.iter().flat_map(url::Url::query_pairs) {
            hide_forms(text, &name, &value, SECRET_MIN_BYTES);
        }
        self
    }
}

/// Hides a value in each form in which a server may repeat it, like only the key of `Bearer KEY`.
/// Forms of fewer than `least` bytes are ordinary words and stay.
fn hide_forms(text: &mut String, name: &str, value: &str, least: usize) {
    let mark = format!("[{name}]");
    let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let words = value.split_ascii_whitespace();
    let words = words.filter(|word| word.len() >= SECRET_MIN_BYTES);
    for form in [value, &encoded].into_iter().chain(words) {
        if form.len() >= least.max(1) {
            hide(text, form, &mark);
        }
    }
}

/// Replaces a secret by a mark, also if a truncation left only its beginning.
fn hide(text: &mut String, secret: &str, mark: &str) {
    *text = text.replace(secret, mark);
    let lengths = (SECRET_MIN_BYTES..secret.len()).rev();
    let beginnings = lengths.filter_map(|length| secret.get(..length));
    for beginning in beginnings {
        let cut = format!("{beginning}…");
        if text.contains(&cut) {
            *text = text.replace(&cut, &format!("{mark}…"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::StepError;

    #[test]
    fn no_part_of_a_secret_is_repeated() {
        let hidden = crate::providers::Hidden::new;
        let provider = LlmProvider {
            api_key: Some(hidden("sk-abcdef123456")),
            headers: vec![("Authorization".to_owned(), hidden("Token s3cr3t-abcdef"))],
            query: vec![("key".to_owned(), hidden("abc+/1234=="))],
            ..LlmProvider::example()
        };
        let cleaned = |text: &str| {
            let fault = AttemptFailure::nothing(StepError::Failed(text.to_owned()));
            fault.without_key(&provider).error.to_string()
        };
        for text in [
            "bad key sk-abcdef123456",
            "bad key sk-abcdef1…",
            "invalid token s3cr3t-abcdef",
            "Token s3cr3t-abcd…",
            "?key=abc%2B%2F1234%3D%3D",
            "abc+/1234==",
        ] {
            let cleaned = cleaned(text);
            for part in ["abcdef1", "s3cr3t", "1234"] {
                assert!(!cleaned.contains(part), "{text}: {cleaned}");
            }
        }
    }

    #[test]
    fn what_stands_in_a_query_or_is_named_is_a_secret_however_short() {
        let hidden = crate::providers::Hidden::named;
        let provider = LlmProvider {
            base_url: "http://h/v1?key=S3CRETQUERY&v=2".to_owned(),
            headers: vec![("x-key".to_owned(), hidden("hunter2"))],
            ..LlmProvider::example()
        };
        let fault = AttemptFailure::nothing(StepError::Failed(
            "v=2 http://h?key=S3CRETQUERY hunter2".into(),
        ));
        let cleaned = fault.without_key(&provider).error.to_string();
        assert_eq!(cleaned, "failed: v=2 http://h?key=[key] [x-key]");
    }
}
