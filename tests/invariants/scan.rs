//! Rust as words and punctuation marks, without comments, strings and what is compiled only for tests; and what paths name.

/// A word or a punctuation mark, with its line.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// Splits Rust source into words and marks, without comments, strings, characters and lifetimes' quotes.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut found, mut line, mut i) = (Vec::new(), 1, 0);
    while i < chars.len() {
        let start = i;
        match chars[i] {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = after_string(&chars, i),
            // A character such as 'x' or '\n'; anything else after a quote is a lifetime.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            }
            'r' | 'b' | 'c' if raw_hashes(&chars, i).is_some() => i = after_raw_string(&chars, i),
            c if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                found.push(Token { text: chars[start..i].iter().collect(), line });
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.into(), line });
                }
                i += 1;
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The index after a string whose opening quote is at `i`.
fn after_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// How many `#` the raw string at `i` (`r"`, `br#"`, …) opens with, or nothing when there is none.
fn raw_hashes(chars: &[char], i: usize) -> Option<usize> {
    let r = if chars[i] == 'r' { i } else { i + 1 };
    if chars.get(r) != Some(&'r') || (i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_')) {
        return None;
    }
    let n_hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(r + 1 + n_hashes) == Some(&'"')).then_some(n_hashes)
}

/// The index after the raw string that starts at `i`.
fn after_raw_string(chars: &[char], i: usize) -> usize {
    let n_hashes = raw_hashes(chars, i).expect("a raw string");
    let mut j = i;
    while chars[j] != '"' {
        j += 1;
    }
    loop {
        j += 1;
        match chars.get(j) {
            None => return j,
            Some('"') if chars[j + 1..].iter().take_while(|c| **c == '#').count() >= n_hashes => {
                return j + 1 + n_hashes;
            }
            Some(_) => {}
        }
    }
}

/// Whether the tokens from `i` on read as `words`.
fn reads(tokens: &[Token], i: usize, words: &[&str]) -> bool {
    words.iter().enumerate().all(|(k, word)| tokens.get(i + k).is_some_and(|token| token.text == *word))
}

/// The index after the bracket that closes the one at `i`.
fn after_group(tokens: &[Token], mut i: usize) -> usize {
    let mut depth = 0;
    while i < tokens.len() {
        match tokens[i].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

/// Drops every item marked `#[cfg(test)]`.
pub fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if !reads(&tokens, i, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        // The item ends with its first braces, or with a semicolon before them.
        while i < tokens.len() {
            match tokens[i].text.as_str() {
                "{" => {
                    i = after_group(&tokens, i);
                    break;
                }
                ";" => {
                    i += 1;
                    break;
                }
                "(" | "[" => i = after_group(&tokens, i),
                _ => i += 1,
            }
        }
    }
    kept
}

/// The names that stand directly below the path that ends at `i` (`::a` or `::{a::b, c}`), with their lines.
pub fn names_below(tokens: &[Token], i: usize) -> Vec<Token> {
    if !reads(tokens, i, &[":", ":"]) {
        return Vec::new();
    }
    if !reads(tokens, i + 2, &["{"]) {
        return tokens.get(i + 2).cloned().into_iter().collect();
    }
    let end = after_group(tokens, i + 2);
    let (mut names, mut depth) = (Vec::new(), 0);
    for k in i + 2..end {
        match tokens[k].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(tokens[k - 1].text.as_str(), "{" | ",") => names.push(tokens[k].clone()),
            _ => {}
        }
    }
    names
}

/// The names that `tokens`, found in the module with path `module`, uses directly below the crate's root.
pub fn names_below_root(tokens: &[Token], module: &[&str]) -> Vec<Token> {
    let mut names = Vec::new();
    for i in 0..tokens.len() {
        let below_something = i > 0 && tokens[i - 1].text == ":";
        match tokens[i].text.as_str() {
            "crate" | "darkroom" if !below_something => names.extend(names_below(tokens, i + 1)),
            "super" if !below_something => {
                let mut n_up = 1;
                while reads(tokens, i + 3 * n_up - 2, &[":", ":", "super"]) {
                    n_up += 1;
                }
                if n_up == module.len() {
                    names.extend(names_below(tokens, i + 3 * n_up - 2));
                }
            }
            _ => {}
        }
    }
    names
}

/// The names that `tokens`, found in the module with path `module`, uses directly below the module with path `folder`.
pub fn names_below_folder(tokens: &[Token], module: &[&str], folder: &[&str]) -> Vec<Token> {
    let mut names = Vec::new();
    for i in 0..tokens.len() {
        let below_something = i > 0 && tokens[i - 1].text == ":";
        let from = match tokens[i].text.as_str() {
            "crate" if !below_something => Some((Vec::new(), i + 1)),
            "super" if !below_something => {
                let mut n_up = 1;
                while reads(tokens, i + 3 * n_up - 2, &[":", ":", "super"]) {
                    n_up += 1;
                }
                Some((module[..module.len().saturating_sub(n_up)].to_vec(), i + 3 * n_up - 2))
            }
            _ => None,
        };
        let Some((mut at, mut next)) = from else { continue };
        // Along the folder's path, as far as it is spelled here.
        while at.len() < folder.len() && folder.starts_with(&at) && reads(tokens, next, &[":", ":", folder[at.len()]]) {
            at.push(folder[at.len()]);
            next += 3;
        }
        if at == folder {
            names.extend(names_below(tokens, next));
        }
    }
    names
}

/// Lines inside function bodies on which the code asks what it is compiled for.
pub fn cfgs_in_bodies(tokens: &[Token]) -> Vec<usize> {
    let (mut lines, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if tokens[i].text != "fn" {
            i += 1;
            continue;
        }
        while i < tokens.len() && !matches!(tokens[i].text.as_str(), "{" | ";") {
            i = if matches!(tokens[i].text.as_str(), "(" | "[") { after_group(tokens, i) } else { i + 1 };
        }
        if !reads(tokens, i, &["{"]) {
            continue;
        }
        let end = after_group(tokens, i);
        for k in i..end {
            let attribute = reads(tokens, k, &["#", "[", "cfg", "("]) || reads(tokens, k, &["#", "[", "cfg_attr", "("]);
            let in_macro = reads(tokens, k, &["cfg", "!"]) || reads(tokens, k, &["cfg_select", "!"]);
            if attribute || in_macro {
                lines.push(tokens[k].line);
            }
        }
        i = end;
    }
    lines
}
