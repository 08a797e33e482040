//! The vocabulary is part of the program: half a megabyte, so that a checkpoint works offline.

/// CLIP's `merges.txt`: a first line with a version, then 48894 merges. The page has the same file beside it.
#[must_use]
pub fn built_in() -> Option<&'static str> {
    Some(include_str!("../../../www/clip_merges.txt"))
}
