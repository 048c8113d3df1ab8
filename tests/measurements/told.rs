//! Formats and prints the results.

use std::time::Duration;

/// Prints one line of a table: a label and its value.
pub(crate) fn line(what: &str, value: impl AsRef<str>) {
    println!("  {what:<52} {}", value.as_ref());
}

/// Prints a section title.
pub(crate) fn chapter(title: &str) {
    println!("\n{title}");
}

/// Prints the machine's load averages, because other load affects every figure.
pub(crate) fn load() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split_whitespace().take(3).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    line(
        "cores; load averages",
        format!("{cores}; {}", load.join(", ")),
    );
}

/// Formats a duration: in milliseconds below ten seconds, else in seconds.
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// Formats a short duration in milliseconds, with one decimal.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Formats bytes as MiB.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Returns the duration in milliseconds below which `part` of the sorted durations are, or NaN if there
/// are none.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    let time = sorted.get(at.min(sorted.len().saturating_sub(1)));
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// Returns the median, or NaN if there are no figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
