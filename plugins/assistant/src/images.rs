//! Images in texts, in the form in which the host puts them into tool results:
//! `![image/png](data:image/png;base64,…)`.

/// The beginning of an image, up to its type.
const BEGINNING: &str = "![image/";
/// The text between an image's type and its data.
const DATA: &str = ";base64,";

/// Returns the note that replaces a text that is an image and nothing else.
pub(crate) fn note_of(text: &str) -> Option<String> {
    let (kind, base64) = parse(text)?;
    (text.len() == length(kind, base64)).then(|| note(kind, base64))
}

/// Finds an image that spans a position in a text; returns its start and the note that replaces it.
pub(crate) fn across(text: &str, place: usize) -> Option<(usize, String)> {
    // The position may be inside the image's beginning.
    let until = text.floor_char_boundary(place + BEGINNING.len() - 1);
    let start = text[..until].rfind(BEGINNING)?;
    let (kind, base64) = parse(&text[start..])?;
    let end = start + length(kind, base64);
    (start < place && place < end).then(|| (start, note(kind, base64)))
}

/// Parses the type and the data of an image at the start of a text.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = text.strip_prefix("![")?.split_once("](data:")?;
    let data = rest.strip_prefix(kind)?.strip_prefix(DATA)?;
    let (base64, _) = data.split_once(')')?;
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let sound = kind.starts_with("image/") && base64.chars().all(is_base64);
    sound.then_some((kind, base64))
}

fn length(kind: &str, base64: &str) -> usize {
    "![](data:)".len() + 2 * kind.len() + DATA.len() + base64.len()
}

fn note(kind: &str, base64: &str) -> String {
    let bytes = base64.trim_end_matches('=').len() * 3 / 4;
    format!("[{bytes} bytes of {kind}]")
}

#[cfg(test)]
mod tests {
    use abide_plugin::tools::{Content, Outcome};

    use super::*;
    use crate::results::{Room, cut, tell};

    fn image(bytes: usize) -> String {
        format!(
            "![image/png](data:image/png;base64,{})",
            "QUJD".repeat(bytes / 3)
        )
    }

    #[test]
    fn an_image_is_told_from_other_texts() {
        assert_eq!(
            note_of(&image(30)).as_deref(),
            Some("[30 bytes of image/png]")
        );
        let padded = "![image/png](data:image/png;base64,QUI=)";
        assert_eq!(note_of(padded).as_deref(), Some("[2 bytes of image/png]"));
        for text in [
            "",
            "text",
            "![image/png](http://x/y.png)",
            "![image/png](data:image/jpeg;base64,QUJD)",
            "![image/png](data:image/png;base64,QUJD",
            "![image/png](data:image/png;base64,QU JD)",
            "![text/plain](data:text/plain;base64,QUJD)",
            &format!("{} and more", image(30)),
        ] {
            assert_eq!(note_of(text), None, "{text}");
        }
    }

    #[test]
    fn an_image_is_shown_as_a_whole_or_told_of() {
        let result = |parts: &[&str]| {
            let content = parts.iter().map(|part| Content::Text((*part).to_owned()));
            Ok(Outcome {
                content: content.collect(),
                is_error: false,
            })
        };
        let image = image(300);
        let all = ["before", &image, "behind"];
        let whole = all.join("\n");
        let room = |text, all| Room { text, all };
        assert_eq!(tell(&result(&all), room(100, whole.len())), whole);
        for bytes in [100, 200, whole.len() - 1] {
            let shown = tell(&result(&all), room(100, bytes));
            assert_eq!(shown, "before\n[300 bytes of image/png]\nbehind", "{bytes}");
        }
        // Texts are cut as usual, and the image has its own room.
        let shown = tell(&result(&all), room(10, 1000));
        assert_eq!(
            shown,
            format!("before\n{image}\nbeh\n[cut: 10 of 13 bytes]")
        );
        let more = ["before", &image, "behind", &image, "last"];
        let shown = tell(&result(&more), room(3, image.len() + 4));
        assert_eq!(
            shown,
            format!("bef\n[cut: 3 of 18 bytes]\n{image}\n[300 bytes of image/png]")
        );
    }

    #[test]
    fn no_cut_leaves_half_an_image() {
        let image = image(300);
        let text = format!("häß {image} behind");
        for bytes in 0..text.len() {
            let shown = cut(&text, bytes);
            let halves = shown.contains("![") && !shown.contains(&image);
            assert!(!halves, "{bytes}: {shown}");
            if bytes > 10 && bytes < text.len() - 8 {
                assert!(
                    shown.contains("[300 bytes of image/png]"),
                    "{bytes}: {shown}"
                );
            }
        }
    }
}
