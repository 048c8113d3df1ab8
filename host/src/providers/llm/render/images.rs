//! Images within texts, in Markdown's syntax: `![NAME](data:image/png;base64,...)`. A contract
//! whose messages are texts has no other place for an image.

/// How many bytes of text an image counts for when the size of a request is estimated: about a
/// thousand tokens, as for most models.
const WEIGHT_BYTES: usize = 4_000;
/// The image types that models accept.
const TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// The longest name, in bytes. It bounds the search for the beginning of the name.
const NAME_MAX_BYTES: usize = 256;
const BEGIN: &str = "](data:image/";
const ENCODED: &str = ";base64,";

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TextOrImage<'a> {
    Text(&'a str),
    Image(Image<'a>),
}

/// An image within a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image<'a> {
    /// Its MIME type.
    pub(super) kind: &'a str,
    /// The `data:` URL.
    pub(super) url: &'a str,
    /// Its size, decoded.
    pub(super) bytes: usize,
}

impl Image<'_> {
    /// Returns the text that replaces it for a model that does not accept images.
    pub(super) fn placeholder(&self) -> String {
        format!("[{} bytes of {}]", self.bytes, self.kind)
    }
}

/// Splits a text into its texts and images, in linear time.
pub(super) fn pieces(text: &str) -> Vec<TextOrImage<'_>> {
    let mut pieces = Vec::new();
    // How far the text has been scanned, and where the text that is not yet in a piece begins.
    let (mut seen, mut from) = (0, 0);
    while let Some(found) = text[seen..].find(BEGIN) {
        let bracket = seen + found;
        seen = bracket + BEGIN.len();
        let Some((image, length)) = image_at(&text[bracket + 2..]) else {
            continue;
        };
        let Some(begin) = name_before(&text[from..bracket]).map(|begin| from + begin) else {
            continue;
        };
        if begin > from {
            pieces.push(TextOrImage::Text(&text[from..begin]));
        }
        pieces.push(TextOrImage::Image(image));
        from = bracket + 2 + length + 1;
        seen = from;
    }
    if from < text.len() {
        pieces.push(TextOrImage::Text(&text[from..]));
    }
    pieces
}

/// Returns the position of the `![` before the name at the end of the text. The name must be short,
/// on one line and without brackets.
fn name_before(text: &str) -> Option<usize> {
    let near = text.floor_char_boundary(text.len().saturating_sub(NAME_MAX_BYTES));
    let begin = near + text[near..].rfind("![")?;
    let name = &text[begin + 2..];
    (!name.contains(['[', ']', '\n'])).then_some(begin)
}

/// Returns the image whose `data:` URL begins the text and ends before a `)`, and the URL's length.
fn image_at(text: &str) -> Option<(Image<'_>, usize)> {
    let kind = *TYPES
        .iter()
        .find(|kind| text["data:".len()..].starts_with(*kind))?;
    let data = text["data:".len() + kind.len()..].strip_prefix(ENCODED)?;
    let length = data
        .bytes()
        .position(|byte| !(byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)))?;
    let (data, rest) = data.split_at(length);
    if data.is_empty() || !rest.starts_with(')') {
        return None;
    }
    let url = "data:".len() + kind.len() + ENCODED.len() + length;
    let padding = data.bytes().rev().take_while(|byte| *byte == b'=').count();
    let bytes = (data.len() / 4 * 3).saturating_sub(padding);
    let url_text = &text[..url];
    Some((
        Image {
            kind,
            url: url_text,
            bytes,
        },
        url,
    ))
}

/// Returns the size of a text in bytes, in which each image counts for [`WEIGHT_BYTES`].
pub(in crate::providers::llm) fn weight(text: &str) -> usize {
    if !text.contains(BEGIN) {
        return text.len();
    }
    let pieces = pieces(text).into_iter().map(|piece| match piece {
        TextOrImage::Text(text) => text.len(),
        TextOrImage::Image(_) => WEIGHT_BYTES,
    });
    pieces.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_and_nothing_else_is() {
        let text = "a ![x](data:image/png;base64,AAAA) b ![](data:image/jpeg;base64,AAA=)";
        let found = pieces(text);
        let image = |kind, url, bytes| TextOrImage::Image(Image { kind, url, bytes });
        assert_eq!(
            found,
            [
                TextOrImage::Text("a "),
                image("image/png", "data:image/png;base64,AAAA", 3),
                TextOrImage::Text(" b "),
                image("image/jpeg", "data:image/jpeg;base64,AAA=", 2),
            ]
        );
        for plain in [
            "",
            "no image",
            "![x](data:image/svg+xml;base64,AAAA)",
            "![x](data:image/png;base64,)",
            "![x](data:image/png;base64,AA AA)",
            "![x](data:image/png;base64,AAAA",
            "[x](data:image/png;base64,AAAA)",
            "![x](https://h/x.png)",
            "](data:image/",
        ] {
            let whole: Vec<_> = Some(plain)
                .filter(|text| !text.is_empty())
                .into_iter()
                .collect();
            let whole: Vec<_> = whole.into_iter().map(TextOrImage::Text).collect();
            assert_eq!(pieces(plain), whole, "{plain}");
        }
    }

    #[test]
    fn an_image_weighs_what_a_model_makes_of_it() {
        let image = format!("![x](data:image/png;base64,{})", "A".repeat(100_000));
        assert_eq!(weight(&image), WEIGHT_BYTES);
        assert_eq!(weight("four"), 4);
    }
}
