//! Text of strangers on a terminal: what it would act on, or what would turn the line around, is shown as an escape.

/// Whether a terminal does something else with it than show it.
pub fn is_hidden(c: char) -> bool {
    let is_directional =
        matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_directional || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// The text with its ends of lines and tabs, and everything else of that kind as `\u{1b}`.
pub fn visible(text: &str) -> String {
    shown(text, |c| if matches!(c, '\n' | '\t') { None } else { Some(c.escape_unicode().to_string()) })
}

/// The same in one line: ends of lines and tabs are shown as escapes too.
pub fn visible_line(text: &str) -> String {
    shown(text, |c| Some(c.escape_unicode().to_string()))
}

/// JSON of one line: the same inside its strings, as JSON escapes it. Outside of strings there is nothing of the kind.
pub fn visible_json(text: &str) -> String {
    shown(text, |c| Some(format!("\\u{:04x}", u32::from(c))))
}

fn shown(text: &str, escape: impl Fn(char) -> Option<String>) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match escape(c).filter(|_| is_hidden(c)) {
            Some(escaped) => shown.push_str(&escaped),
            None => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_shown() {
        assert_eq!(visible("\u{1b}]0;owned\u{7}\u{1b}[2J"), "\\u{1b}]0;owned\\u{7}\\u{1b}[2J");
        assert_eq!(visible("a\r\n\tb\u{9b}1m\u{7f}"), "a\\u{d}\n\tb\\u{9b}1m\\u{7f}");
        assert_eq!(visible("png.\u{202e}exe \u{2066}x\u{2069}"), "png.\\u{202e}exe \\u{2066}x\\u{2069}");
        assert_eq!(visible_line("a\r\n\tb"), "a\\u{d}\\u{a}\\u{9}b");
        let plain = "ein Äpfelchen, 赤いりんご 👩\u{200d}🚀";
        assert_eq!(visible(plain), plain);
        let json = visible_json(&serde_json::json!({ "a": "\u{9b}\u{202e}\n" }).to_string());
        assert_eq!(json, r#"{"a":"\u009b\u202e\n"}"#);
    }
}
