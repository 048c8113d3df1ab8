//! Prints boot failures as a table: how long clients wait, and which configuration runs afterwards.

use abide_tests::boot_failure::{Aftermath, BootFailure, provoke};
use anyhow::anyhow;

use crate::told::time;

pub(crate) async fn measure() -> anyhow::Result<()> {
    println!("| failure | hand-over | longest wait | runs then | record | told |");
    println!("| --- | --- | ---: | --- | --- | --- |");
    let mut wrong = Vec::new();
    for failure in BootFailure::ALL {
        let after = provoke(failure).await;
        println!("| {failure} | {} |", row(failure, &after));
        if after.runs_old_config != failure.blames_config() {
            wrong.push(format!("{failure}: another configuration runs than should"));
        }
        if after.refused > 0 {
            let refused = after.refused;
            wrong.push(format!("{failure}: {refused} connections were refused"));
        }
        wrong.extend(after.wrong.iter().map(|lost| format!("{failure}: {lost}")));
    }
    if wrong.is_empty() {
        println!("\nNo message was lost or answered twice, no connection refused.");
        return Ok(());
    }
    Err(anyhow!(wrong.join("\n  ")))
}

fn row(failure: BootFailure, after: &Aftermath) -> String {
    let side = match failure.is_behind_the_hand_over() {
        true => "after",
        false => "before",
    };
    let waited = match after.since_mended {
        Some(since) => format!("{} since it was mended", time(since)),
        None => time(after.longest),
    };
    let runs = match after.runs_old_config {
        true => "the old one",
        false => "the new one",
    };
    let record = after.record.as_deref().unwrap_or("none");
    let text = after.told.replace(['\n', '|'], " ");
    format!("{side} | {waited} | {runs} | {record} | {text}")
}
