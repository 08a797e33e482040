//! The first frame of a GIF file: whether all of it is there, and what lies around it where it is smaller than the screen.
//!
//! The decoder leaves the pixels around a smaller frame black and transparent. Pillow has one colour of the frame's palette
//! there: the transparent one, or else the first. The screen's background colour is of no account, as in browsers.

use super::decode::CUT_OFF;

/// Where a frame lies on the screen, and what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    outside: [u8; 4],
}

impl Frame {
    /// Fills what is around the frame in RGBA levels of the screen.
    pub fn fill_outside(&self, rgba: &mut [u8], screen_width: usize) {
        let inside = |from: usize, length: usize, at: usize| (from..from + length).contains(&at);
        for (i, pixel) in rgba.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (x, y) = (i % screen_width, i / screen_width);
            if !(inside(self.left, self.width, x) && inside(self.top, self.height, y)) {
                *pixel = self.outside;
            }
        }
    }
}

/// The first frame; `None` where something else than a frame comes, which the decoder refuses.
///
/// # Errors
/// Where the file ends before the frame does. What follows the frame may be absent, as Pillow has it.
pub(super) fn first_frame(bytes: &[u8]) -> Result<Option<Frame>, &'static str> {
    walk(bytes).ok_or(CUT_OFF)
}

fn walk(bytes: &[u8]) -> Option<Option<Frame>> {
    let number = |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    // The colours that flags announce at this place.
    let palette = |flags: u8, at: usize| {
        let length = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
        bytes.get(at..at + length)
    };
    let screen = palette(*bytes.get(10)?, 13)?;
    let mut at = 13 + screen.len();
    let mut transparent = None;
    loop {
        match *bytes.get(at)? {
            0x21 => {
                if let (0xf9, [4, flags, _, _, index]) = (*bytes.get(at + 1)?, bytes.get(at + 2..at + 7)?) {
                    transparent = (flags & 1 == 1).then_some(usize::from(*index));
                }
                at = end_of_blocks(bytes, at + 2)?;
            }
            0x2c => {
                let own = palette(*bytes.get(at + 9)?, at + 10)?;
                // Behind the palette is the width of the codes.
                end_of_blocks(bytes, at + 11 + own.len())?;
                let palette = if own.is_empty() { screen } else { own };
                let colour = palette.chunks_exact(3).nth(transparent.unwrap_or(0)).unwrap_or_default();
                let mut outside = [0, 0, 0, if transparent.is_some() { 0 } else { 255 }];
                outside[..colour.len()].copy_from_slice(colour);
                let [left, top, width, height] = [number(at + 1)?, number(at + 3)?, number(at + 5)?, number(at + 7)?];
                return Some(Some(Frame { left, top, width, height, outside }));
            }
            _ => return Some(None),
        }
    }
}

/// The place behind blocks that each begin with their length, up to an empty one.
fn end_of_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
