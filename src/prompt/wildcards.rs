//! Prompts that choose: `{a|b|c}` and `__name__`, as the extension Dynamic Prompts writes them, decided by a seed.
//!
//! - `{a|b}` is one of its options; `{3::a|b}` weighs them, where 1 is usual. `{2$$a|b|c}` is two of them joined by a comma,
//!   `{1-2$$…}` one or two, and `{2$$ and $$a|b|c}` joins them otherwise. Options may be empty and hold what the whole may.
//! - `__name__` is a line of the file of that name, `__folder/name__` of one in a folder, and `__folder/*__` of all that fit.
//!   Lines are read as options are, weights included; `{2$$__name__}` is two lines.
//! - `\{`, `\}`, `\|` and `\__` are these characters. Braces without `|` or `$$` are text, and so is what is not closed, and
//!   `${…}`, which has to do with variables there. What looks like a weight or a number of options and is none is refused.
//!
//! One generator, begun with the seed, decides from left to right. No file is read here: names and lines are the caller's.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// How deep templates are followed.
const MAX_DEPTH: usize = 32;
/// The longest prompt that comes out, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// The most choices that are made.
const MAX_CHOICES: usize = 4096;
/// The most braces that are opened in one text: each that is not closed is looked for to the end.
const MAX_BRACES: usize = 200;
/// The most options that one group takes.
const MAX_CHOSEN: usize = 100;
/// The most names that a message lists.
const MAX_LISTED: usize = 20;

/// Why a name stays text where no lists are given, in the command line's words; the page has its own.
pub const NO_LISTS: &str = "no folder of wildcards is given (--wildcards)";

/// Lines by name; a name has `/` between folders and no ending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wildcards {
    lists: BTreeMap<String, Vec<String>>,
    /// Names whose files are no text, which have no lines.
    unreadable: BTreeSet<String>,
}

impl Wildcards {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Wildcards::default()
    }

    /// Adds the text of a file: one option a line; empty lines, and those that begin with `#`, are left out.
    pub fn add(&mut self, name: &str, text: &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.lists.insert(name.to_owned(), lines.map(str::to_owned).collect());
    }

    /// Adds the bytes of a file in the same way. One that is no UTF-8 is refused when a prompt names it.
    pub fn add_bytes(&mut self, name: &str, bytes: &[u8]) {
        // UTF-16 of plain letters is UTF-8, too, with zeros in it.
        match std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')) {
            Some(text) => self.add(name, text),
            None => {
                self.add(name, "");
                self.unreadable.insert(name.to_owned());
            }
        }
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.keys().map(String::as_str)
    }

    /// The lists of a name, or of all names that fit one with `*`. Case matters only where two names differ in nothing else.
    fn named(&self, name: &str) -> Vec<(&String, &Vec<String>)> {
        let name = name.trim();
        if name.contains('*') {
            return self.lists.iter().filter(|(known, _)| fits(name.as_bytes(), known.as_bytes())).collect();
        }
        let same_letters = || self.lists.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        self.lists.get_key_value(name).or_else(same_letters).into_iter().collect()
    }
}

/// Whether a name fits a pattern, in which `*` is any number of characters.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    // The last `*`, and how much of the name it took: only that one is tried with more.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// A prompt with everything decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// What is drawn.
    pub text: String,
    /// What was left as text and may have been meant otherwise, in sentences without a full stop.
    pub notes: Vec<String>,
}

/// Whether a prompt has anything that [`expand`] would look at; without, it stays what it is.
#[must_use]
pub fn is_template(prompt: &str) -> bool {
    prompt.contains('{') || prompt.contains("__")
}

/// Decides everything in `prompt` with `seed`. Without `wildcards` names stay text, which a note says.
///
/// # Errors
/// [`Error::Request`] about the prompt, in one line: for a name that is not there, an empty list, names that lead to
/// themselves, and for a prompt that grows too long.
pub fn expand(prompt: &str, wildcards: Option<&Wildcards>, seed: u64) -> Result<Expanded> {
    if !is_template(prompt) {
        return Ok(Expanded { text: prompt.to_owned(), notes: Vec::new() });
    }
    let choice = Choice { state: seed, n_made: 0 };
    let mut expansion = Expansion { wildcards, choice, n_bytes: 0, notes: Vec::new() };
    let text = expansion.text(prompt, 0)?;
    Ok(Expanded { text, notes: expansion.notes })
}

/// The generator: splitmix64 (Steele and others, 2014).
struct Choice {
    state: u64,
    n_made: usize,
}

impl Choice {
    /// A number from 0 up to 1.
    fn unit(&mut self) -> f64 {
        self.n_made += 1;
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The index of one of these weights.
    fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut rest = self.unit() * weights.iter().sum::<f64>();
        for (idx, weight) in weights.iter().enumerate() {
            if rest < *weight {
                return idx;
            }
            rest -= weight;
        }
        weights.len().saturating_sub(1)
    }
}

fn refuse<T>(got: impl Into<String>, expected: impl Into<String>) -> Result<T> {
    Err(Error::Request { field: "prompt", got: got.into(), expected: expected.into() })
}

struct Expansion<'a> {
    wildcards: Option<&'a Wildcards>,
    choice: Choice,
    n_bytes: usize,
    notes: Vec<String>,
}

impl<'a> Expansion<'a> {
    fn grow(&mut self, n_bytes: usize) -> Result<()> {
        self.n_bytes += n_bytes;
        if self.n_bytes > MAX_BYTES || self.choice.n_made > MAX_CHOICES {
            return refuse(
                "a template that grows too long",
                format!("{} KiB and {MAX_CHOICES} choices work", MAX_BYTES >> 10),
            );
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The text with its templates decided.
    fn text(&mut self, text: &str, depth: usize) -> Result<String> {
        if depth > MAX_DEPTH {
            return refuse(
                "wildcards that lead to themselves",
                "a list must not name itself, nor a list that names it",
            );
        }
        if text.matches('{').count() > MAX_BRACES {
            return refuse("a template with too many braces", format!("{MAX_BRACES} work"));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['\\', '{', '$', '_']) {
            out.push_str(&rest[..at]);
            self.grow(at)?;
            rest = &rest[at..];
            let taken = if let Some(escaped) = escaped(rest) {
                out.push_str(escaped);
                escaped.len() + 1
            } else if rest.starts_with("${") {
                let len = braces(&rest[1..]).map_or(2, |inside| inside.len() + 3);
                self.note("variables (${…}) are not known here and stay text".to_owned());
                out.push_str(&rest[..len]);
                len
            } else if let Some(inside) = braces(rest) {
                out.push_str(&self.group(inside, depth)?);
                inside.len() + 2
            } else if let Some(name) = name(rest) {
                out.push_str(&self.wildcard(name, depth)?);
                name.len() + 4
            } else {
                // No character of these is longer than a byte. Of `__` that is no name, both are text.
                let len = if rest.starts_with("__") { 2 } else { 1 };
                out.push_str(&rest[..len]);
                len
            };
            rest = &rest[taken..];
        }
        self.grow(rest.len())?;
        out.push_str(rest);
        Ok(out)
    }

    /// What a group of braces becomes, given what is between them.
    fn group(&mut self, inside: &str, depth: usize) -> Result<String> {
        if let Some(written) = top_level(inside, "$$").map(|at| inside[..at].trim())
            && amount(inside).is_none()
            && looks_like_number(written)
        {
            return refuse(
                format!("the number {written:?} of options in {{{written}$$…}}"),
                "write a whole number (2$$), or the least and the most (1-2$$)",
            );
        }
        let (amount, between, options) = match amount(inside) {
            Some((amount, rest)) => match top_level(rest, "$$") {
                Some(at) => (amount, Some(&rest[..at]), &rest[at + 2..]),
                None => (amount, None, rest),
            },
            None => ((1, 1), None, inside),
        };
        let is_choice = top_level(inside, "|").is_some() || amount_is_given(inside);
        if !is_choice {
            return Ok(format!("{{{}}}", self.text(inside, depth + 1)?));
        }
        let parts = split(options);
        // A name alone stands for its lines.
        let lines = match &parts[..] {
            [only] => name(only.trim()).filter(|name| name.len() + 4 == only.trim().len()),
            _ => None,
        };
        let parts = match lines {
            Some(name) if self.wildcards.is_some() => self.lines(name)?,
            _ => parts,
        };
        let (least, most) = (amount.0.min(parts.len()), amount.1.min(parts.len()));
        let n = if least == most { least } else { least + (self.choice.unit() * (most - least + 1) as f64) as usize };
        if n > MAX_CHOSEN {
            return refuse("a template that grows too long", format!("a group takes {MAX_CHOSEN} options at most"));
        }
        let chosen = self.choose(&parts, n.min(most))?;
        let mut texts = Vec::with_capacity(chosen.len());
        for option in chosen {
            texts.push(self.text(option, depth + 1)?);
        }
        Ok(texts.join(between.unwrap_or(", ")))
    }

    /// So many different options, in the order in which they were drawn.
    fn choose<'t>(&mut self, options: &[&'t str], n: usize) -> Result<Vec<&'t str>> {
        let mut left: Vec<(f64, &str)> = options.iter().map(|option| weighted(option)).collect::<Result<_>>()?;
        let mut chosen = Vec::with_capacity(n);
        while chosen.len() < n {
            let mut weights: Vec<f64> = left.iter().map(|(weight, _)| *weight).collect();
            if weights.iter().sum::<f64>() <= 0.0 {
                weights.fill(1.0);
            }
            let (_, option) = left.remove(self.choice.weighted(&weights));
            chosen.push(option);
            self.grow(0)?;
        }
        Ok(chosen)
    }

    /// A line of a list, its own templates decided.
    fn wildcard(&mut self, name: &str, depth: usize) -> Result<String> {
        if self.wildcards.is_none() {
            self.note(format!("__{name}__ is text: {NO_LISTS}"));
            return Ok(format!("__{name}__"));
        }
        let lines = self.lines(name)?;
        let line = self.choose(&lines, 1)?.remove(0);
        self.text(line, depth + 1)
    }

    /// The lines of a name, at least one.
    fn lines(&self, name: &str) -> Result<Vec<&'a str>> {
        let Some(wildcards) = self.wildcards else { return Ok(Vec::new()) };
        let shown: String = name.chars().take(80).collect();
        let named = wildcards.named(name);
        if let Some((broken, _)) = named.iter().find(|(name, _)| wildcards.unreadable.contains(*name)) {
            return refuse(format!("__{shown}__"), format!("the file of {broken} is no UTF-8 text: save it as UTF-8"));
        }
        let lines: Vec<&str> = named.iter().flat_map(|(_, lines)| *lines).map(String::as_str).collect();
        match named.is_empty() {
            false if lines.is_empty() => refuse(format!("__{shown}__"), "its file has no line to choose"),
            false => Ok(lines),
            true => {
                let n_more = wildcards.lists.len().saturating_sub(MAX_LISTED);
                let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
                let names: Vec<&str> = wildcards.names().take(MAX_LISTED).collect();
                let expected = match names.is_empty() {
                    true => "the folder of wildcards has no .txt file".to_owned(),
                    false => format!("these names are there: {}{more}", names.join(", ")),
                };
                refuse(format!("__{shown}__"), expected)
            }
        }
    }
}

/// The character that a backslash takes its meaning from.
fn escaped(text: &str) -> Option<&str> {
    let after = text.strip_prefix('\\')?;
    ["{", "}", "|", "__"].into_iter().find(|escaped| after.starts_with(escaped))
}

/// What is between the brace that a text starts with and the one that closes it.
fn braces(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('{')?;
    let mut depth = 0;
    let mut at = 0;
    while let Some(found) = inside[at..].find(['\\', '{', '}']) {
        at += found;
        match inside.as_bytes()[at] {
            b'\\' => at += escaped(&inside[at..]).map_or(0, str::len),
            b'{' => depth += 1,
            _ if depth == 0 => return Some(&inside[..at]),
            _ => depth -= 1,
        }
        at += 1;
    }
    None
}

/// The name that a text starts with, between its underscores.
fn name(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("__")?;
    let name = &inside[..inside.find("__")?];
    let is_of_names = |c: char| c.is_alphanumeric() || "_-/*. ".contains(c);
    (!name.trim().is_empty() && name.trim() == name && name.chars().all(is_of_names)).then_some(name)
}

/// Where a mark stands outside of inner braces, and without a backslash.
fn top_level(text: &str, mark: &str) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(mark) {
            return Some(at);
        }
        at += if let Some(escaped) = escaped(rest) {
            escaped.len() + 1
        } else if let Some(inside) = braces(rest) {
            inside.len() + 2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
    }
    None
}

/// The options between bars.
fn split(text: &str) -> Vec<&str> {
    let mut options = Vec::new();
    let mut rest = text;
    while let Some(at) = top_level(rest, "|") {
        options.push(rest[..at].trim());
        rest = &rest[at + 1..];
    }
    options.push(rest.trim());
    options
}

/// How many options are taken, least and most, and what follows: `2$$`, `1-2$$`, `-2$$`, `1-$$`.
fn amount(inside: &str) -> Option<((usize, usize), &str)> {
    let (amount, rest) = inside.split_once("$$")?;
    let number = |text: &str, other: usize| match text.trim() {
        "" => Some(other),
        text => text.parse().ok(),
    };
    let amount = match amount.split_once('-') {
        Some((least, most)) => (number(least, 0)?, number(most, usize::MAX)?),
        None => {
            let n = amount.trim().parse().ok()?;
            (n, n)
        }
    };
    (amount.0 <= amount.1).then_some((amount, rest))
}

fn amount_is_given(inside: &str) -> bool {
    amount(inside).is_some()
}

/// Whether a text is meant as a number, be it one or not.
fn looks_like_number(text: &str) -> bool {
    let is_of_numbers = |c: char| c.is_ascii_digit() || "+-.,eE ".contains(c);
    let has_digit = text.contains(|c: char| c.is_ascii_digit());
    has_digit && text.chars().all(is_of_numbers) || text.parse::<f64>().is_ok()
}

/// An option without the weight that may stand before it.
fn weighted(option: &str) -> Result<(f64, &str)> {
    let Some((written, rest)) = option.split_once("::") else { return Ok((1.0, option)) };
    let written = written.trim();
    match written.parse::<f64>() {
        Ok(weight) if weight.is_finite() && weight >= 0.0 => Ok((weight.min(1e9), rest.trim_start())),
        _ if looks_like_number(written) => refuse(
            format!("the weight {written:?} in {written}::…"),
            "an option's weight is a number from 0 on, as in {3::red|1::blue}",
        ),
        _ => Ok((1.0, option)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> Wildcards {
        let mut lists = Wildcards::new();
        lists.add("animal", "\u{feff}# animals\nfox\r\n\n  owl \nbig {bear|__beast/far__}\n");
        lists.add("beast/far", "yak");
        lists.add("beast/near", "cow");
        lists.add("circle", "a __circle__");
        lists.add("empty", "# nothing\n");
        lists.add("heavy", "0::never\n5::always");
        lists.add("long", &"x".repeat(2000));
        lists
    }

    /// All that come out of the first seeds.
    fn outcomes(prompt: &str) -> Vec<String> {
        let lists = lists();
        let mut all: Vec<String> = (0..200).map(|seed| expand(prompt, Some(&lists), seed).unwrap().text).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn templates_become_their_options() {
        for (prompt, expected) in [
            ("a {red|blue} fox", &["a blue fox", "a red fox"][..]),
            ("{a|}", &["", "a"]),
            ("{ a | b }", &["a", "b"]),
            ("{0::a|3::b}", &["b"]),
            ("{2$$a|b}", &["a, b", "b, a"]),
            ("{1-2$$a|b}", &["a", "a, b", "b", "b, a"]),
            ("{2$$ and $$a|b}", &["a and b", "b and a"]),
            ("{5$$a|b}", &["a, b", "b, a"]),
            ("{x {1|2}|y}", &["x 1", "x 2", "y"]),
            ("__animal__", &["big bear", "big yak", "fox", "owl"]),
            ("__ANIMAL__", &["big bear", "big yak", "fox", "owl"]),
            ("__beast/*__", &["cow", "yak"]),
            ("{2$$__beast/*__}", &["cow, yak", "yak, cow"]),
            ("__heavy__", &["always"]),
            // Text.
            ("no braces (x:1.2) [a|b] <lora:a_b:1>", &["no braces (x:1.2) [a|b] <lora:a_b:1>"]),
            ("{word} {__beast/far__}", &["{word} {yak}"]),
            ("\\{a\\|b\\} \\__animal__ \\(x\\)", &["{a|b} __animal__ \\(x\\)"]),
            ("{a|b", &["{a|b"]),
            ("a}b _x_ ____ __ __", &["a}b _x_ ____ __ __"]),
            ("{a\\|b|a\\|b}", &["a|b"]),
            ("${x={a|b}} {é|é}", &["${x={a|b}} é"]),
        ] {
            assert_eq!(outcomes(prompt), expected, "{prompt}");
        }
    }

    #[test]
    fn the_seed_decides() {
        let prompt = "{a|b|c|d} {1|2|3|4} __animal__";
        let of = |seed| expand(prompt, Some(&lists()), seed).unwrap().text;
        assert_eq!(of(7), of(7));
        // These must stay: a shared seed is a shared prompt.
        assert_eq!([of(0), of(1), of(2)], ["d 2 fox", "c 3 big bear", "c 3 owl"]);
        let share = (0..1000).filter(|&seed| expand("{3::a|b}", None, seed).unwrap().text == "a").count();
        assert!((700..800).contains(&share), "{share}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let refused = |prompt: &str| expand(prompt, Some(&lists()), 0).unwrap_err().to_string();
        let message = refused("a __anmal__");
        assert!(
            message.contains("__anmal__") && message.contains("animal, beast/far, beast/near, circle"),
            "{message}"
        );
        assert!(refused("__empty__").contains("no line"), "{}", refused("__empty__"));
        assert!(refused("__circle__").contains("lead to themselves"));
        assert!(refused("__nothing/*__").contains("__nothing/*__"));
        assert!(refused(&"{x|y}".repeat(5000)).contains("too many braces"));
        assert!(refused(&"__long__ ".repeat(100)).contains("too long"));
        let none = expand("__animal__ ${x}", None, 0).unwrap();
        assert_eq!(none.text, "__animal__ ${x}");
        assert_eq!(none.notes.len(), 2, "{none:?}");
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for prompt in [
            "{3-1$$a|b}",
            "{2.5$$a|b}",
            "{-1-2$$a|b}",
            "{1e999::a|b}",
            "{nan::a|b}",
            "{-3::a|b}",
            "{a|1,5::b}",
            "{inf::a|b}",
        ] {
            let error = expand(prompt, None, 0).map(|expanded| expanded.text);
            let message = error.expect_err(prompt).to_string();
            assert!(message.starts_with("prompt the "), "{prompt}: {message}");
        }
        // Words, and what is not there, are no numbers.
        for (prompt, expected) in [
            ("{std::a|std::a}", "std::a"),
            ("{::a|::a}", "::a"),
            ("{e::a|e::a}", "e::a"),
            ("{US$$|US$$}", "US$$"),
            ("{1e3::a|0::b}", "a"),
        ] {
            assert_eq!(expand(prompt, None, 0).unwrap().text, expected, "{prompt}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_where_it_is_named() {
        let mut lists = lists();
        lists.add_bytes("folder/latin", b"caf\xe9\n");
        lists.add_bytes("wide", b"\xff\xfea\0");
        lists.add_bytes("bare", b"a\0b\0");
        lists.add_bytes("fine", "\u{feff}café".as_bytes());
        for (prompt, name) in
            [("__folder/latin__", "latin"), ("__folder/*__", "latin"), ("{2$$__wide__}", "wide"), ("__bare__", "bare")]
        {
            let message = expand(prompt, Some(&lists), 0).unwrap_err().to_string();
            assert!(message.contains("UTF-8") && message.contains(name), "{message}");
        }
        assert_eq!(expand("__fine__", Some(&lists), 0).unwrap().text, "café");
    }

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, expected) in [
            ("a/*", "a/b/c", true),
            ("*", "", true),
            ("*x*y", "axbxy", true),
            ("*x*y", "axbx", false),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
