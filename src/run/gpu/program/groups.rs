//! Cuts dispatches into groups whose streamed weights lie in one ring together, and says where each weight lies there.
//!
//! Places depend on the dispatches and the ring's size alone, so that what is bound stays the same from run to run.

use super::super::arena::ALIGNMENT;
use super::super::emit::{Dispatch, Operand};
use super::super::weight_layout::WeightKey;

/// Neighbouring dispatches, and the weights that are brought in before the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The dispatch behind the last one.
    pub end: usize,
    /// The streamed weights that they read, each once, with its offset in the ring.
    pub places: Vec<(WeightKey, u64)>,
}

impl Group {
    /// Where a weight lies in the ring while the group runs.
    #[must_use]
    pub fn place(&self, key: &WeightKey) -> Option<u64> {
        self.places.iter().find(|(placed, _)| placed == key).map(|(_, offset)| *offset)
    }
}

/// Bytes that a weight takes in a ring.
#[must_use]
pub const fn ring_bytes(n_bytes: u64) -> u64 {
    n_bytes.next_multiple_of(ALIGNMENT)
}

/// As few groups as fit, in order. `bytes_of` gives the bytes of a weight that is streamed, nothing for one that stays.
///
/// # Errors
/// The index of a dispatch that alone reads more than the ring has.
pub fn cut(
    dispatches: &[Dispatch],
    bytes_of: impl Fn(&WeightKey) -> Option<u64>,
    ring: u64,
) -> std::result::Result<Vec<Group>, usize> {
    let mut groups = Vec::new();
    let (mut places, mut used) = (Vec::<(WeightKey, u64)>::new(), 0);
    for (idx, dispatch) in dispatches.iter().enumerate() {
        let own = || {
            let weights = dispatch.operands.iter().flatten().filter_map(|operand| match operand {
                Operand::Weight(key) => Some(key),
                Operand::Slot(_) | Operand::Input(_) => None,
            });
            weights.filter_map(|key| bytes_of(key).map(|n_bytes| (key, ring_bytes(n_bytes))))
        };
        let more = |places: &[(WeightKey, u64)]| {
            let mut new: Vec<(&WeightKey, u64)> = Vec::new();
            for (key, n_bytes) in own() {
                if !places.iter().any(|(placed, _)| placed == key) && !new.iter().any(|(known, _)| *known == key) {
                    new.push((key, n_bytes));
                }
            }
            new
        };
        let mut new = more(&places);
        if used + new.iter().map(|(_, n_bytes)| n_bytes).sum::<u64>() > ring {
            if !places.is_empty() {
                groups.push(Group { end: idx, places: std::mem::take(&mut places) });
            }
            (new, used) = (more(&[]), 0);
            if new.iter().map(|(_, n_bytes)| n_bytes).sum::<u64>() > ring {
                return Err(idx);
            }
        }
        for (key, n_bytes) in new {
            places.push((key.clone(), used));
            used += n_bytes;
        }
    }
    groups.push(Group { end: dispatches.len(), places });
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::gpu::kernel::Element;
    use crate::run::gpu::kernels::elementwise::count_non_finite;
    use crate::run::gpu::weight_layout::WeightLayout;

    #[test]
    fn groups_fill_the_ring_and_no_weight_lies_twice_in_one() {
        let key = |name: &str| WeightKey::of_names(&[name], WeightLayout::Vector);
        let dispatch = |names: &[&str]| Dispatch {
            launch: count_non_finite::launch(4, Element::F32).unwrap(),
            operands: names.iter().map(|name| Some(Operand::Weight(key(name)))).collect(),
            name: String::new(),
            shape: String::new(),
            flops: 0,
        };
        let dispatches = [&["a"][..], &[], &["b", "stays"], &["a"], &["c"], &["c", "a"]].map(dispatch);
        let bytes_of = |weight: &WeightKey| (*weight != key("stays")).then_some(200);
        let groups = cut(&dispatches, bytes_of, 512).unwrap();
        let told: Vec<(usize, Vec<(String, u64)>)> = groups
            .iter()
            .map(|group| (group.end, group.places.iter().map(|(key, at)| (key.to_string(), *at)).collect()))
            .collect();
        let at = |name: &str, offset| (name.to_owned(), offset);
        assert_eq!(told, [(4, vec![at("a", 0), at("b", 256)]), (6, vec![at("c", 0), at("a", 256)])]);
        assert_eq!(cut(&dispatches, bytes_of, 256), Err(5));
        assert_eq!(cut(&dispatches, |_| None, 0).unwrap(), [Group { end: 6, places: Vec::new() }]);
    }
}
