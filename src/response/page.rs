use super::encoded::without_entities;

/// Returns the title and the first paragraph of an HTML page, such as the page of a gateway.
///
/// The result is text on one line, without tags and entities. `None` if the page has no text.
pub(crate) fn summary(page: &str) -> Option<String> {
    let start: String = page.chars().take(MAX_PAGE).collect();
    let blocks = blocks(&start);
    let first = |is_wanted: fn(&str) -> bool| {
        let mut blocks = blocks.iter();
        blocks
            .find(|block| is_wanted(&block.tag))
            .map(|block| block.text.as_str())
    };
    let title = first(|tag| tag == "title");
    let heading = first(|tag| matches!(tag, "h1" | "h2" | "h3"));
    let paragraph =
        first(|tag| tag == "p").or_else(|| first(|tag| tag != "title" && !is_heading(tag)));
    let mut parts: Vec<&str> = Vec::new();
    for part in [title.or(heading), paragraph.or(heading)]
        .into_iter()
        .flatten()
    {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    (!parts.is_empty()).then(|| parts.join(": "))
}

/// Returns `true` if a body is a page of HTML or a document of XML.
pub(crate) fn is_page(content_type: &str, body: &str) -> bool {
    content_type.to_ascii_lowercase().contains("html") || body.trim_start().starts_with('<')
}

/// A text of the page, and the innermost tag that separates the text from others.
struct Block {
    tag: String,
    text: String,
}

/// Splits a page into its texts. Scripts, styles and comments are skipped.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut text = String::new();
    let mut tag = String::new();
    let mut rest = page;
    loop {
        let (before, markup) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        text.push_str(before);
        let Some(markup) = markup.strip_prefix('<') else {
            break;
        };
        if let Some(comment) = markup.strip_prefix("!--") {
            rest = behind(comment, "-->");
            continue;
        }
        let is_markup = markup.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
        if !is_markup {
            text.push('<');
            rest = markup;
            continue;
        }
        rest = behind(markup, ">");
        let name = name(markup);
        match name.as_str() {
            "script" | "style" | "noscript" | "template" => rest = behind_element(rest, &name),
            _ if INLINE.contains(&name.as_str()) => {}
            _ => {
                push(&mut blocks, &tag, &mut text);
                tag = match markup.starts_with('/') {
                    true => String::new(),
                    false => name,
                };
            }
        }
    }
    push(&mut blocks, &tag, &mut text);
    blocks
}

/// Adds the text before a tag as a block, unless the text is blank.
fn push(blocks: &mut Vec<Block>, tag: &str, text: &mut String) {
    let decoded = without_entities(&std::mem::take(text));
    let words: Vec<&str> = decoded.split_whitespace().collect();
    if !words.is_empty() {
        blocks.push(Block {
            tag: tag.to_owned(),
            text: words.join(" "),
        });
    }
}

/// Returns the name of a tag, in lower case.
fn name(markup: &str) -> String {
    let name = markup.trim_start_matches('/');
    let end = name
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(name.len());
    name.get(..end).unwrap_or_default().to_ascii_lowercase()
}

/// Returns the text behind the end of an element that contains no other element.
fn behind_element<'a>(text: &'a str, name: &str) -> &'a str {
    let end = text.match_indices("</").find(|(at, _)| {
        let markup = text.get(at.saturating_add(2)..).unwrap_or_default();
        self::name(markup) == name
    });
    match end {
        Some((at, _)) => behind(text.get(at..).unwrap_or_default(), ">"),
        None => "",
    }
}

fn behind<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

fn is_heading(tag: &str) -> bool {
    matches!(tag, "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
}

/// The tags inside a sentence.
const INLINE: [&str; 14] = [
    "a", "abbr", "b", "code", "em", "font", "i", "small", "span", "strong", "sub", "sup", "tt", "u",
];
/// The characters of a page that are read.
const MAX_PAGE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_and_the_first_paragraph_are_text_without_tags() {
        for (page, expected) in [
            (
                "<!DOCTYPE html><html><head><title>403 Forbidden</title><style>p{color:red}</style></head>\n<body><center><h1>403 Forbidden</h1></center><hr><center>nginx/1.24</center></body>",
                Some("403 Forbidden: nginx/1.24"),
            ),
            (
                "<html><head><title>Access&nbsp;Denied</title></head><body><h1>Access Denied</h1><p>You don&#39;t have <b>permission</b>\r\n to access this.</p><p>Ref 18.5</p>",
                Some("Access Denied: You don't have permission to access this."),
            ),
            (
                "<h2>Our services aren't available</h2>",
                Some("Our services aren't available"),
            ),
            (
                "<h1>502 Bad Gateway</h1><script>if (a < b) { alert('<p>no</p>') }</script><!-- <p>no</p> --><p>The proxy got no response.",
                Some("502 Bad Gateway: The proxy got no response."),
            ),
            ("<p>1 < 2", Some("1 < 2")),
            (
                "<?xml version='1.0'?><fault><string>denied</string></fault>",
                Some("denied"),
            ),
            ("<html><body></body></html>", None),
            ("<script>endless", None),
            ("<", Some("<")),
        ] {
            assert_eq!(summary(page).as_deref(), expected, "{page}");
        }
    }
}
