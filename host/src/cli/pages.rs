//! What is done with each item of a list.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::error::CliError;
use super::out::{Out, hint};
use crate::documents::Page;

/// Items per page.
pub(super) const PAGE: u32 = 500;

/// Calls `act` with each item of a list, page by page, until it returns false. `path` returns the path of
/// the page behind a place in the list.
pub(super) async fn each<T: DeserializeOwned>(
    client: &Client,
    path: impl Fn(Option<&str>) -> String,
    mut act: impl AsyncFnMut(T) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let mut after: Option<String> = None;
    loop {
        let page: Page<T> = client.get(&path(after.as_deref())).await?;
        let next = page.next_text();
        for item in page.items {
            if !act(item).await? {
                return Ok(());
            }
        }
        // The second condition guards against a daemon that returns the same page again.
        if next.is_none() || next == after {
            return Ok(());
        }
        after = next;
    }
}

/// What was done with the items of a list, one by one.
#[derive(Default)]
pub(super) struct Tally {
    done: Vec<Value>,
    refused: Vec<Value>,
}

impl Tally {
    /// Takes what became of an item: that a daemon refuses one, or does not answer in time, keeps no other
    /// from being done. Returns the answer if it was done.
    ///
    /// # Errors
    /// If nothing can be done with the rest either.
    pub(super) fn take(
        &mut self,
        name: &str,
        item: Value,
        answer: Result<Value, ClientError>,
    ) -> Result<Option<Value>, CliError> {
        match answer {
            Ok(answer) => {
                self.done.push(item);
                Ok(Some(answer))
            }
            Err(error @ (ClientError::Problem(_) | ClientError::Lost { .. })) => {
                hint(format!("{name}: {error}"));
                self.refused.push(item);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reports the end: `done` is the name of what was done, `none` what is said if there was nothing to do,
    /// and `left` what became of those that were refused.
    pub(super) fn report(
        self,
        out: &mut Out,
        as_json: bool,
        done: &str,
        none: &str,
        left: &str,
    ) -> Result<(), CliError> {
        let refused = self.refused.len();
        if as_json {
            out.json(&json!({ done: self.done, "refused": self.refused }))?;
        } else if self.done.is_empty() && refused == 0 {
            out.line(none)?;
        }
        match refused {
            0 => Ok(()),
            count => Err(CliError::Failed(format!(
                "{count} {left}, for the reasons above"
            ))),
        }
    }
}
