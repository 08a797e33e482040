//! Notes on parts of a prompt that another program's syntax would understand and the chosen one takes as text. They change
//! nothing that is drawn, and prose with brackets, colons and signs gives none.

use super::{PromptSyntax, a1111, compel, note, schedule};

/// Larger numbers behind a colon are years and times, not weights.
const LIKELY_WEIGHT: f64 = 10.0;
/// Larger ones without a point count something.
const LIKELY_WHOLE: f64 = 2.0;
/// The most characters that are looked at, or shown.
const MAX_SHOWN: usize = 40;

/// Adds the notes.
pub(super) fn say(text: &str, syntax: PromptSyntax, notes: &mut Vec<String>) {
    let here = match syntax {
        PromptSyntax::A1111 => "AUTOMATIC1111's syntax",
        PromptSyntax::Comfy => "ComfyUI's syntax",
        PromptSyntax::Compel => "compel's syntax",
        PromptSyntax::Plain => "a plain prompt",
    };
    if syntax != PromptSyntax::A1111 {
        about_a1111(text, here, notes);
    }
    if matches!(syntax, PromptSyntax::Compel | PromptSyntax::Plain) {
        if let Some(number) = groups(text).find_map(|(inner, _)| weight_inside(inner)) {
            note(notes, &format!("the weight in (…:{number}) is text in {here}; --prompt-syntax a1111 knows it"));
        }
        if syntax == PromptSyntax::Plain && groups(text).any(|(inner, _)| is_group_alone(inner)) {
            note(notes, &format!("((…)) is text in {here}; --prompt-syntax a1111 knows it"));
        }
    }
    if syntax != PromptSyntax::Compel {
        let behind = groups(text).find_map(|(_, after)| weight_behind(after)).map(|sign| format!("(…){sign}"));
        for mark in behind.into_iter().chain(raised_word(text)) {
            note(notes, &format!("the weight in {mark} is text in {here}; --prompt-syntax compel knows it"));
        }
        let operators = compel::OPERATORS.iter().map(|(operator, _)| *operator);
        let joins = operators.filter(|operator| compel::stands_behind_brackets(text, operator));
        for operator in joins.chain(text.contains(".swap(").then_some(".swap")) {
            note(notes, &format!("{operator}() is text in {here}; --prompt-syntax compel knows it"));
        }
    }
}

/// What AUTOMATIC1111's syntax has besides weights.
fn about_a1111(text: &str, here: &str, notes: &mut Vec<String>) {
    // In a prompt of capitals they are words like all others.
    let has_small = text.chars().any(char::is_lowercase);
    for word in ["BREAK", "AND"] {
        if has_small && a1111::has_word(text, word) {
            note(notes, &format!("{word} is a word in {here}; --prompt-syntax a1111 knows it"));
        }
    }
    if schedule::is_scheduled(text) {
        note(notes, &format!("[a:b:n] and [a|b] are text in {here}; --prompt-syntax a1111 knows them"));
    }
    if let Some(tag) = a1111::first_tag(text) {
        note(notes, &format!("{tag} is text in {here}"));
    }
}

/// What round brackets hold, and what follows them, of each pair. A bracket behind a backslash is text.
fn groups(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut open = Vec::new();
    let mut is_escaped = false;
    text.char_indices().filter_map(move |(at, c)| {
        let escaped = is_escaped;
        is_escaped = c == '\\' && !escaped;
        match c {
            '(' if !escaped => {
                open.push(at);
                None
            }
            ')' if !escaped => open.pop().map(|start| (&text[start + 1..at], &text[at + 1..])),
            _ => None,
        }
    })
}

/// Whether a group begins and ends with another one's brackets.
fn is_group_alone(inner: &str) -> bool {
    inner.starts_with('(') && inner.ends_with(')') && inner.chars().take(MAX_SHOWN).any(char::is_alphabetic)
}

/// The number of `x:1.2` as it is written, where it is likely a weight: not in 16:9, 10:30 and chapters.
fn weight_inside(inner: &str) -> Option<&str> {
    let (start, _) = inner.char_indices().rev().take(MAX_SHOWN).last()?;
    let (before, number) = inner[start..].rsplit_once(':')?;
    let number = number.trim();
    let is_written_out = number.chars().all(|c| c.is_ascii_digit() || "+-.".contains(c));
    let weight: f64 = number.parse().ok().filter(|_| is_written_out)?;
    let most = if number.contains('.') { LIKELY_WEIGHT } else { LIKELY_WHOLE };
    (weight.abs() <= most && before.trim_end().ends_with(|c: char| !c.is_ascii_digit())).then_some(number)
}

/// Whether a weight may end before this.
fn is_end(rest: &str) -> bool {
    rest.chars().next().is_none_or(|c| c.is_whitespace() || ",.;:()\"".contains(c))
}

/// The number with a point, or the plus signs, that follow a bracket at once. Numbers without a point may be footnotes and years,
/// and minus signs are dashes.
fn weight_behind(after: &str) -> Option<&str> {
    let signs = after.len() - after.trim_start_matches('+').len();
    if signs > 0 {
        return is_end(&after[signs..]).then_some(&after[..signs]);
    }
    let unsigned = after.strip_prefix('-').unwrap_or(after);
    let len = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let number = after[..after.len() - unsigned.len() + len].trim_end_matches('.');
    let weight: f64 = number.parse().ok().filter(|_| number.contains('.'))?;
    (weight.abs() <= LIKELY_WEIGHT && is_end(&after[number.len()..])).then_some(number)
}

/// The first word with two plus signs or more behind it. Single letters are languages and classes: C++, A++.
fn raised_word(text: &str) -> Option<String> {
    text.match_indices("++").find_map(|(at, _)| {
        let before = &text[..at];
        let word: Vec<char> = before.chars().rev().take(MAX_SHOWN).take_while(|c| c.is_alphanumeric()).collect();
        if word.iter().filter(|c| c.is_alphabetic()).count() < 2 {
            return None;
        }
        let after = text[at..].trim_start_matches('+');
        let signs = &text[at..text.len() - after.len()];
        is_end(after).then(|| word.into_iter().rev().chain(signs.chars().take(MAX_SHOWN)).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Role, parse};
    use super::*;

    const ALL: [PromptSyntax; 4] =
        [PromptSyntax::A1111, PromptSyntax::Comfy, PromptSyntax::Compel, PromptSyntax::Plain];

    fn notes(text: &str, syntax: PromptSyntax) -> Vec<String> {
        parse(text, syntax, Role::Prompt, 20).unwrap().notes
    }

    #[test]
    fn a_tag_in_the_negative_prompt_is_said() {
        for syntax in ALL {
            let notes = parse("bad <lora:ink:0.5>", syntax, Role::Negative, 20).unwrap().notes;
            assert!(notes.len() == 1 && notes[0].starts_with("<lora:ink:0.5> "), "{syntax:?}: {notes:?}");
        }
        let parsed = parse("bad <b> \\<lora:ink>", PromptSyntax::A1111, Role::Negative, 20).unwrap();
        assert!(parsed.notes.iter().all(|note| note.starts_with("<lora:ink>")), "{:?}", parsed.notes);
    }

    #[test]
    fn what_others_know_is_said() {
        let [a1111, comfy, compel, plain] = ALL;
        for (text, mark, known_to, noted) in [
            ("a (red ball)1.3, there", "(…)1.3", "compel", &[a1111, comfy, plain][..]),
            ("(a red ball)-0.5", "(…)-0.5", "compel", &[a1111, comfy, plain]),
            ("(red ball)++ there", "(…)++", "compel", &[a1111, comfy, plain]),
            ("a (red ball)+", "(…)+", "compel", &[a1111, comfy, plain]),
            ("a red++ ball", "red++", "compel", &[a1111, comfy, plain]),
            ("a red ball+++, there", "ball+++", "compel", &[a1111, comfy, plain]),
            ("(\"a\", \"b\").and()", ".and()", "compel", &[a1111, comfy, plain]),
            ("(\"a\", \"b\").blend(0.7, 0.3)", ".blend()", "compel", &[a1111, comfy, plain]),
            ("a (red ball:1.3) there", "(…:1.3)", "a1111", &[compel, plain]),
            ("a (red ball : .5 ) there", "(…:.5)", "a1111", &[compel, plain]),
            ("a (red ball:2)", "(…:2)", "a1111", &[compel, plain]),
            ("a ((red ball)) there", "((…))", "a1111", &[plain]),
            ("a ball BREAK there", "BREAK", "a1111", &[comfy, compel, plain]),
            ("a ball AND a cat", "AND", "a1111", &[comfy, compel, plain]),
            ("a [ball:cat:0.5]", "[a:b:n]", "a1111", &[comfy, compel, plain]),
        ] {
            for syntax in ALL {
                let said = notes(text, syntax);
                if noted.contains(&syntax) {
                    let knows = format!("--prompt-syntax {known_to} knows ");
                    let fits = |said: &String| said.contains(mark) && said.contains(&knows);
                    assert!(said.len() == 1 && fits(&said[0]), "{text} in {syntax:?}: {said:?}");
                } else {
                    assert!(said.is_empty(), "{text} in {syntax:?}: {said:?}");
                }
            }
        }
        assert!(notes("cat.swap(dog)", plain)[0].contains(".swap()"));
    }

    #[test]
    fn prose_is_not_talked_about() {
        for text in [
            "a red apple on a table, oil on canvas",
            "a portrait (oil on canvas, 1890) in the manner of Rembrandt",
            "a poster: (c)2024, all rights reserved",
            "a clock at (10:30), ratio (16:9), verse (John 3:16), a scale of (1:2)",
            "(ISO:400) film, f/1.8, 35mm (1.4)",
            "a screen full of C++ code, energy class A++, 18+ only",
            "the well-known semi-automatic (pre)- and post-war camera -- and a dog--or a cat",
            "a note (see below)1 with a footnote (again)2.",
            "black and white, the best ++ of all",
            "RED AND BLUE, TAKE A BREAK",
            "www.example.and.com (a site) and more",
            "a [sic] quote, 3 [10:30]",
            r"a ball \(toy\)1.5",
            ":) and :( faces",
        ] {
            for syntax in ALL {
                let said = notes(text, syntax);
                assert!(said.is_empty(), "{text} in {syntax:?}: {said:?}");
            }
        }
    }

    #[test]
    fn hostile_prompts_take_no_time() {
        for text in ["(".repeat(100_000), "(a:1.".repeat(20_000), "++".repeat(50_000), "()".repeat(50_000) + "1.1"] {
            say(&text, PromptSyntax::Plain, &mut Vec::new());
        }
        say(&("(".repeat(50_000) + &")".repeat(50_000)), PromptSyntax::Plain, &mut Vec::new());
        say(&("a++ ".repeat(25_000)), PromptSyntax::Plain, &mut Vec::new());
    }
}
