//! The tensors of a LoRA by layer: the end of a name says what the tensor is for, what stands before it is the layer, in the
//! spelling of whoever wrote the file.

use std::collections::BTreeMap;

/// What a tensor of a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Down,
    Up,
    Mid,
    UpBias,
    Alpha,
    /// Magnitudes by outputs or by inputs, as their shape says.
    DoraScale,
    /// Magnitudes by outputs, whatever their shape.
    MagnitudeVector,
    HadaW1A,
    HadaW1B,
    HadaW2A,
    HadaW2B,
    HadaT1,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    /// The factors of IA3.
    Factors,
    OnInput,
    Diff,
    DiffBias,
    Norm,
    NormBias,
    /// Of a form that is not read: its name.
    Refused(&'static str),
}

/// The ends of names.
const ENDS: [(&str, Role); 46] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".lora_up.bias", Role::UpBias),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_B.bias", Role::UpBias),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".alpha", Role::Alpha),
    (".dora_scale", Role::DoraScale),
    (".lora_magnitude_vector", Role::MagnitudeVector),
    (".lora_magnitude_vector.weight", Role::MagnitudeVector),
    (".hada_w1_a", Role::HadaW1A),
    (".hada_w1_b", Role::HadaW1B),
    (".hada_w2_a", Role::HadaW2A),
    (".hada_w2_b", Role::HadaW2B),
    (".hada_t1", Role::HadaT1),
    (".hada_t2", Role::HadaT2),
    (".lokr_w1", Role::LokrW1),
    (".lokr_w1_a", Role::LokrW1A),
    (".lokr_w1_b", Role::LokrW1B),
    (".lokr_w2", Role::LokrW2),
    (".lokr_w2_a", Role::LokrW2A),
    (".lokr_w2_b", Role::LokrW2B),
    (".lokr_t2", Role::LokrT2),
    (".on_input", Role::OnInput),
    (".diff", Role::Diff),
    (".diff_b", Role::DiffBias),
    (".w_norm", Role::Norm),
    (".b_norm", Role::NormBias),
    (".a1.weight", Role::Refused("GLoRA")),
    (".a2.weight", Role::Refused("GLoRA")),
    (".b1.weight", Role::Refused("GLoRA")),
    (".b2.weight", Role::Refused("GLoRA")),
    (".oft_blocks", Role::Refused("OFT or BOFT")),
    (".oft_diag", Role::Refused("OFT")),
    (".oft_R.weight", Role::Refused("OFT")),
    (".boft_R", Role::Refused("BOFT")),
    (".boft_s", Role::Refused("BOFT")),
    (".set_weight", Role::Refused("set_weight")),
    (".weight", Role::Factors),
];

/// PEFT puts an adapter's name into some: `lora_A.default.weight`.
const NAMED: [(&str, Role); 3] =
    [(".lora_A.", Role::Down), (".lora_B.", Role::Up), (".lora_magnitude_vector.", Role::MagnitudeVector)];

/// In front of vectors for words of the prompt, which some files have too.
pub(in crate::checkpoint) const EMBEDDINGS: &str = "bundle_emb.";

/// A layer's path and the role of a tensor in it; `None` for a name of another form.
fn split(name: &str) -> Option<(&str, Role)> {
    let known = ENDS.iter().filter(|(end, _)| name.ends_with(end)).max_by_key(|(end, _)| end.len());
    // The shortest end fits every name of a weight.
    if let Some((end, role)) = known.filter(|(_, role)| *role != Role::Factors) {
        return Some((&name[..name.len() - end.len()], *role));
    }
    let named = NAMED.iter().find_map(|(infix, role)| {
        let (path, rest) = name.rsplit_once(infix)?;
        let is_name = rest.strip_suffix(".weight").unwrap_or(rest);
        (!is_name.is_empty() && !is_name.contains('.') && is_name != "bias").then_some((path, *role))
    });
    named.or_else(|| known.map(|(end, role)| (&name[..name.len() - end.len()], *role)))
}

/// One layer: its tensors' names by role.
pub(super) type Layer = BTreeMap<Role, String>;

/// The layers by their paths as they are spelled, and names that belong to none.
pub(super) fn layers<'n>(names: impl Iterator<Item = &'n str>) -> (BTreeMap<String, Layer>, Vec<String>) {
    let (mut layers, mut others): (BTreeMap<String, Layer>, Vec<String>) = Default::default();
    for name in names.filter(|name| !name.starts_with(EMBEDDINGS)) {
        match split(name) {
            Some((path, role)) => {
                if let Some(twice) = layers.entry(path.to_owned()).or_default().insert(role, name.to_owned()) {
                    others.push(twice);
                }
            }
            None => others.push(name.to_owned()),
        }
    }
    (layers, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_longest_end() {
        for (name, expected) in [
            ("lora_unet_a_to_q.lora_down.weight", Some(("lora_unet_a_to_q", Role::Down))),
            ("unet.a.to_q.lora_A.default.weight", Some(("unet.a.to_q", Role::Down))),
            ("unet.a.to_q.lora_B.weight", Some(("unet.a.to_q", Role::Up))),
            ("a.attn1.processor.to_q_lora.up.weight", Some(("a.attn1.processor.to_q", Role::Up))),
            ("a.to_q.lora.down.weight", Some(("a.to_q", Role::Down))),
            ("a.lora_magnitude_vector.default", Some(("a", Role::MagnitudeVector))),
            ("a.lora_magnitude_vector.default.weight", Some(("a", Role::MagnitudeVector))),
            ("a.lokr_w1_a", Some(("a", Role::LokrW1A))),
            ("a.diff_b", Some(("a", Role::DiffBias))),
            ("a.weight", Some(("a", Role::Factors))),
            ("a.b", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
        let names = ["x.alpha", "x.lora_up.weight", "x.lora_down.weight", "bundle_emb.word.emb_params", "odd"];
        let (layers, others) = layers(names.into_iter());
        assert_eq!(layers["x"].keys().collect::<Vec<_>>(), [&Role::Down, &Role::Up, &Role::Alpha]);
        assert_eq!(others, ["odd"]);
    }
}
