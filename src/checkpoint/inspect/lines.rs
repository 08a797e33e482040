//! A report for people: a dozen lines.

use std::cmp::Reverse;

use super::{Fit, Report, Share};
use crate::error::words::{counted, in_words};

/// How many tags are shown.
const N_TAGS: usize = 8;

/// What training left is told about from so many bytes on.
const WORTH_TELLING: u64 = 1_000_000;

/// The memory of graphics cards, in gigabytes.
const CARDS: [u64; 12] = [1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 32, 48];

impl Report {
    /// What it is in one line: for a list of files.
    #[must_use]
    pub fn line(&self) -> String {
        let mut what = self.words.kind.to_owned();
        if let Some(family) = self.words.family {
            what += &format!(", {family}");
        }
        if let Some(variant) = self.variant.filter(|variant| *variant != "base") {
            what += &format!(" ({variant})");
        }
        if let Some(lora) = &self.lora {
            what += &format!(", {}", lora.format);
            if let Some(rank) = lora.rank {
                what += &format!(", rank {rank}");
            }
        }
        if let Some(n) = self.vectors {
            what += &format!(", {}", counted(n, "vector"));
        }
        if self.prediction == Some("v") {
            what += ", v-prediction";
        }
        format!("{what}, {}", in_words(self.bytes))
    }

    /// The report, one string a line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let rows = self.rows().into_iter().map(|(what, text)| format!("  {what:<12} {text}"));
        std::iter::once(format!("{}: {}", self.file, self.line())).chain(rows).collect()
    }

    /// What there is to tell besides [`Report::line`]: what each row is about, or nothing where it goes on with the row
    /// before, and the text.
    #[must_use]
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut say = |what: &str, text: String| rows.push((what.to_owned(), text));
        let types = if self.types.is_empty() { "none".to_owned() } else { self.types.join(" ") };
        let layout = self.layout.map_or(String::new(), |layout| format!(", {layout} names"));
        say("tensors", format!("{}, {types}{layout}", self.tensors));
        if let Some(pipeline) = &self.about.pipeline {
            say("pipeline", pipeline.clone());
        }
        if !self.components.present.is_empty() {
            let mut present: Vec<_> = self.components.present.iter().collect();
            present.sort_by_key(|(_, share)| Reverse(share.bytes));
            let present: Vec<String> = present.into_iter().map(|(name, share)| part(name, share)).collect();
            say("components", present.join(", "));
        }
        if !self.components.missing.is_empty() {
            say("missing", self.components.missing.join(", "));
        }
        if self.leftovers.bytes >= WORTH_TELLING {
            say(
                "left over",
                format!(
                    "{} in {} that no picture needs",
                    in_words(self.leftovers.bytes),
                    counted(self.leftovers.tensors, "tensor")
                ),
            );
        }
        if let Some(prediction) = self.prediction {
            let how = self.words.evidence.map_or(String::new(), |evidence| format!(", {evidence}"));
            let schedule = if self.ztsnr { "; the noise schedule ends without signal (ztsnr)" } else { "" };
            say("prediction", format!("{prediction}{how}{schedule}"));
        }
        if let Some(lora) = &self.lora {
            let mut of = vec![format!("{} of {}", counted(lora.layers, "layer"), lora.parts.join(", "))];
            if lora.ranks.len() > 1 {
                let ranks: Vec<String> = lora.ranks.iter().take(12).map(ToString::to_string).collect();
                of.push(format!("ranks {}", ranks.join(" ")));
            }
            of.extend(lora.spelling.map(|spelling| format!("{spelling} names")));
            of.extend(lora.locon.then(|| "kernels of convolutions (LoCon)".to_owned()));
            of.extend(lora.dora.then(|| "magnitudes (DoRA)".to_owned()));
            of.extend((lora.embeddings > 0).then(|| counted(lora.embeddings, "embedding")));
            say("changes", of.join(", "));
        }
        if let Some(preset) = self.preset {
            say("few steps", format!("{} (preset {})", preset.describe(), preset.name()));
        }
        self.say_about(&mut say);
        if let Some(problem) = &self.problem {
            let is_problem = self.refused || matches!(self.kind, "checkpoint" | "unet" | "other");
            let what = if is_problem { "problem" } else { "use" };
            say(what, problem.clone());
        }
        for advice in &self.advice {
            say("advice", advice.clone());
        }
        if let Some(fit) = &self.fits {
            say("fits", gpu(fit));
            say("", format!("a CPU with {} of memory for its weights as f32", in_words(fit.cpu_f32_bytes)));
            for assumed in &fit.assumed {
                say("", format!("({assumed})"));
            }
        }
        rows
    }

    fn say_about(&self, say: &mut impl FnMut(&str, String)) {
        let about = &self.about;
        let texts = [
            ("title", &about.title),
            ("author", &about.author),
            ("license", &about.license),
            ("description", &about.description),
            ("trained on", &about.base),
            ("resolution", &about.resolution),
            ("trigger", &about.trigger),
        ];
        for (what, text) in texts {
            if let Some(text) = text {
                say(what, text.clone());
            }
        }
        if !about.tags.is_empty() {
            let tags: Vec<String> = about.tags.iter().take(N_TAGS).map(|(tag, n)| format!("{tag} ({n})")).collect();
            say("tags", tags.join(", "));
        }
    }
}

/// A component with its types; where it has several, the bytes of each.
fn part(name: &str, share: &Share) -> String {
    let types: Vec<String> = match share.types.len() {
        1 => share.types.keys().cloned().collect(),
        _ => share.types.iter().map(|(dtype, bytes)| format!("{dtype} {}", in_words(*bytes))).collect(),
    };
    format!("{name} {} ({})", in_words(share.bytes), types.join(", "))
}

fn gpu(fit: &Fit) -> String {
    // A tenth is left for the screen and the driver.
    let card = |bytes: u64| {
        let card = CARDS.into_iter().find(|card| card * 900_000_000 >= bytes);
        card.map_or_else(|| in_words(bytes), |card| format!("{card} GB"))
    };
    let (resident, staged) = (fit.gpu_resident_bytes, fit.gpu_staged_bytes);
    let least = resident.min(staged);
    let mut text = format!("a GPU with {} or more ({} with everything loaded", card(least), in_words(resident));
    if staged < resident {
        text += &format!(", {} one component after another", in_words(staged));
    }
    let least = |bytes: [u64; 2]| in_words(bytes[0].min(bytes[1]));
    let quantised =
        format!("; {} with --weights q8_0, {} with q4_0", least(fit.gpu_q8_0_bytes), least(fit.gpu_q4_0_bytes));
    text + &format!("; f16, {}x{}{quantised})", fit.width, fit.height)
}
