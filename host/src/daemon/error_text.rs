//! An error and its causes in one line.

/// Returns the texts of an error and of its causes. Some messages have their cause's text already, which
/// is not repeated.
pub(crate) fn error_text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::store::{FailedIo, OpenError, RestoreError};

    #[test]
    fn each_cause_is_told_once() {
        let failed = FailedIo {
            doing: "open",
            path: "/data".into(),
            reason: "no disk".to_owned(),
        };
        let error = RestoreError::Open(OpenError::Io(failed));
        let once = error.to_string();
        assert_eq!(error_text(&error.into()), once);
        let cause: anyhow::Result<()> = Err(anyhow::anyhow!("no disk"));
        let error = cause.context("the store").context("the daemon");
        let error = error.expect_err("it is one");
        assert_eq!(error_text(&error), "the daemon: the store: no disk");
    }
}
