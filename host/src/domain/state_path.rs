//! The path of a part of a guest's state, such as `settings.voice` or `messages[17..]`.

use std::fmt::Write as _;

use super::shorten::shorten;

/// The longest path that is shown, in bytes.
const PATH_BYTES: usize = 256;

/// The longest key that is shown, in bytes.
const KEY_BYTES: usize = 64;

/// One step of a path.
pub(super) enum Part<'a> {
    Key(&'a str),
    Item(usize),
    /// All items from this one on.
    ItemsFrom(usize),
}

/// Returns a path as text. Keys are the guest's: one that is not plain is quoted, and escaped for terminals.
pub(super) fn shown(path: &[Part<'_>]) -> String {
    let mut text = String::new();
    for part in path {
        if text.len() > PATH_BYTES {
            break;
        }
        let _ = match part {
            Part::Item(at) => write!(text, "[{at}]"),
            Part::ItemsFrom(at) => write!(text, "[{at}..]"),
            Part::Key(key) => {
                let mut key = key[..key.ceil_char_boundary(KEY_BYTES + 1)].to_owned();
                shorten(&mut key, KEY_BYTES);
                let dot = if text.is_empty() { "" } else { "." };
                match is_plain(&key) {
                    true => write!(text, "{dot}{key}"),
                    false => write!(text, "[{key:?}]"),
                }
            }
        };
    }
    shorten(&mut text, PATH_BYTES);
    text
}

fn is_plain(key: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !key.is_empty() && key.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::Part::{Item, ItemsFrom, Key};
    use super::*;

    #[test]
    fn a_path_is_read_at_a_glance() {
        let path = [
            Key("settings"),
            Key("voix_préférée"),
            Item(3),
            Item(0),
            Key("a-1"),
        ];
        assert_eq!(shown(&path), "settings.voix_préférée[3][0].a-1");
        assert_eq!(shown(&[ItemsFrom(0)]), "[0..]");
        assert_eq!(shown(&[Key("17"), ItemsFrom(17)]), "17[17..]");
    }

    #[test]
    fn any_other_key_is_quoted() {
        let path = [Key("a.b"), Key(""), Key("c[0]"), Key("d\"e"), Key("f g")];
        assert_eq!(shown(&path), r#"["a.b"][""]["c[0]"]["d\"e"]["f g"]"#);
        let hidden = [
            '\0',
            '\n',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{206f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{e0001}',
            '\u{e007f}',
        ];
        for c in hidden {
            for key in [format!("{c}"), format!("a{c}"), format!("{c}é")] {
                let path = shown(&[Key(&key)]);
                assert!(path.starts_with("[\""), "{path:?}");
                assert!(!path.contains(c), "{path:?}");
            }
        }
    }

    #[test]
    fn a_path_is_short_and_what_is_cut_is_marked() {
        let key = "é".repeat(1_000_000);
        let path = shown(&[Key("a"), Key(&key), Key("b")]);
        assert_eq!(path, format!("a[\"{}…\"].b", "é".repeat(KEY_BYTES / 2)));
        let path: Vec<_> = (0..100).map(|_| Key(&key)).collect();
        let path = shown(&path);
        assert!(path.len() <= PATH_BYTES + '…'.len_utf8(), "{path}");
        assert!(path.ends_with('…'));
        let escaped = shown(&[Key(&"\u{1b}".repeat(64))]);
        assert!(escaped.len() <= PATH_BYTES + '…'.len_utf8(), "{escaped}");
    }
}
