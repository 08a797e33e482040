//! Where every intermediate value lives: one arena of as few buffers as the adapter's limit allows, offsets fixed before
//! anything runs.
//!
//! Values whose lifetimes do not overlap share bytes. Lifetimes include the dispatch that writes a value and every
//! dispatch that reads it, so no dispatch reads a range that it writes.

/// Offsets are multiples of it: WebGPU's default `minStorageBufferOffsetAlignment`.
pub const ALIGNMENT: u64 = 256;

/// Placed values are listed by windows of so many dispatches, so that only those near in time are compared.
const WINDOW: usize = 64;

/// One value to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes.
    pub n_bytes: u64,
    /// The first dispatch that touches it.
    pub first: usize,
    /// The last dispatch that touches it.
    pub last: usize,
}

/// What values are sorted by before they are placed.
type OrderKey = fn(&Span) -> (u64, u64);

impl Span {
    /// Dispatches from the first to the last.
    fn life(&self) -> u64 {
        (self.last.saturating_sub(self.first) + 1) as u64
    }

    fn overlaps(&self, other: &Span) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The buffer of the arena.
    pub buffer: usize,
    /// Bytes before it.
    pub offset: u64,
}

/// Places in the order of the spans, and the bytes of each buffer of the arena, none of which is larger than
/// `max_buffer_bytes` unless a single value is. No order of placing is best for every graph, so a few are tried: within a
/// few per cent of the largest sum of live bytes on UNets and VAEs.
#[must_use]
pub fn place(spans: &[Span], max_buffer_bytes: u64) -> (Vec<Place>, Vec<u64>) {
    // Offsets count through all buffers as if they lay one behind the other; no value crosses from one to the next.
    let largest = spans.iter().map(|span| span.n_bytes.next_multiple_of(ALIGNMENT)).max().unwrap_or(0);
    let buffer_bytes = (max_buffer_bytes / ALIGNMENT * ALIGNMENT).max(largest).max(ALIGNMENT);
    let keys: [OrderKey; 4] = [
        |span| (u64::MAX - span.n_bytes, span.first as u64),
        |span| (span.first as u64, u64::MAX - span.n_bytes),
        |span| (u64::MAX - span.last as u64, u64::MAX - span.n_bytes),
        |span| (u64::MAX - span.n_bytes.saturating_mul(span.life()), span.first as u64),
    ];
    let mut best: Option<(Vec<u64>, Vec<u64>)> = None;
    for key in keys {
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by_key(|&i| key(&spans[i]));
        let placed = place_in_order(spans, &order, buffer_bytes);
        let total = |placed: &(Vec<u64>, Vec<u64>)| placed.1.iter().sum::<u64>();
        if best.as_ref().is_none_or(|best| total(&placed) < total(best)) {
            best = Some(placed);
        }
    }
    let (offsets, buffers) = best.unwrap_or_default();
    let place = |at: u64| Place { buffer: (at / buffer_bytes) as usize, offset: at % buffer_bytes };
    (offsets.into_iter().map(place).collect(), buffers)
}

/// Each value at the lowest offset that is free for its whole life.
fn place_in_order(spans: &[Span], order: &[usize], buffer_bytes: u64) -> (Vec<u64>, Vec<u64>) {
    let mut offsets = vec![0; spans.len()];
    // Those that were placed, by the windows in which they are alive: most are for a short while.
    let end = spans.iter().map(|span| span.last + 1).max().unwrap_or(0);
    let mut placed: Vec<Vec<usize>> = vec![Vec::new(); end.div_ceil(WINDOW)];
    let mut buffers: Vec<u64> = Vec::new();
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for &i in order {
        let span = &spans[i];
        let n_bytes = span.n_bytes.next_multiple_of(ALIGNMENT);
        taken.clear();
        let windows = span.first / WINDOW..span.last / WINDOW + 1;
        for other in placed[windows.clone()].iter().flatten().copied() {
            if spans[other].overlaps(span) {
                taken.push((offsets[other], offsets[other] + spans[other].n_bytes.next_multiple_of(ALIGNMENT)));
            }
        }
        taken.sort_unstable();
        taken.dedup();
        let whole =
            |at: u64| if at % buffer_bytes + n_bytes > buffer_bytes { at.next_multiple_of(buffer_bytes) } else { at };
        let mut at = 0;
        for &(from, to) in &taken {
            if from >= at + n_bytes {
                break;
            }
            at = whole(at.max(to));
        }
        offsets[i] = at;
        placed[windows].iter_mut().for_each(|window| window.push(i));
        let buffer = (at / buffer_bytes) as usize;
        if buffers.len() <= buffer {
            buffers.resize(buffer + 1, 0);
        }
        buffers[buffer] = buffers[buffer].max(at % buffer_bytes + n_bytes);
    }
    (offsets, buffers)
}

/// The bytes alive at each dispatch.
#[must_use]
pub fn alive(spans: &[Span]) -> Vec<u64> {
    let n = spans.iter().map(|span| span.last + 1).max().unwrap_or(0);
    let (mut begun, mut ended) = (vec![0; n + 1], vec![0; n + 1]);
    for span in spans {
        begun[span.first] += span.n_bytes;
        ended[span.last + 1] += span.n_bytes;
    }
    let mut now = 0;
    let at = |t: usize| {
        now = now + begun[t] - ended[t];
        now
    };
    (0..n).map(at).collect()
}

/// The largest sum of bytes alive at one dispatch: no arena can be smaller.
#[must_use]
pub fn lower_bound(spans: &[Span]) -> u64 {
    alive(spans).into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_alive_together_never_share_bytes() {
        // A pseudo-random net of lifetimes; the generator is a fixed linear congruence.
        let mut state = 1u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % n
        };
        let spans: Vec<Span> =
            (0..300).map(|i| Span { n_bytes: 1 + next(10_000), first: i, last: i + 1 + next(12) as usize }).collect();
        for max_buffer_bytes in [u64::MAX, 16_384, 10_240] {
            let (places, buffers) = place(&spans, max_buffer_bytes);
            for i in 0..spans.len() {
                let (a, a_bytes) = (places[i], spans[i].n_bytes);
                assert_eq!(a.offset % ALIGNMENT, 0);
                assert!(a.offset + a_bytes <= buffers[a.buffer]);
                for j in 0..i {
                    let (b, b_bytes) = (places[j], spans[j].n_bytes);
                    let apart =
                        a.buffer != b.buffer || a.offset + a_bytes <= b.offset || b.offset + b_bytes <= a.offset;
                    assert!(apart || !spans[i].overlaps(&spans[j]), "{i} and {j} share bytes while both are alive");
                }
            }
            let total: u64 = buffers.iter().sum();
            assert!(buffers.iter().all(|&n_bytes| n_bytes <= max_buffer_bytes), "{buffers:?}");
            assert!(total >= lower_bound(&spans));
            assert!((total as f64) < 1.5 * lower_bound(&spans) as f64, "{total} for {}", lower_bound(&spans));
        }
        let (_, buffers) = place(&spans, u64::MAX);
        assert!((buffers[0] as f64) < 1.3 * lower_bound(&spans) as f64, "{buffers:?} for {}", lower_bound(&spans));
    }
}
