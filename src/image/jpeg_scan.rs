//! Whether the scans of a JPEG file hold the codes of every block.
//!
//! The decoder fills blocks that are missing with grey where the file ends with its end marker all the same, or where a
//! restart interval is absent. This reads all codes first and draws nothing: the lengths of Huffman codes, which
//! coefficients of a progressive file are not zero (8 bytes a block, less than the decoder takes afterwards), and where
//! the restart markers are. Bytes behind the last block of a scan are passed over, as every decoder does.
//!
//! It deliberately leaves arithmetic coding, lossless and hierarchical files alone: the decoder refuses them.

use super::jpeg_file::{EOI, SOS, segment};

/// The end of what can be read of a scan, in words.
type Checked<T> = Result<T, &'static str>;

const MISSING: &str = "a part of the picture is missing";
const BAD_CODE: &str = "a code in a scan is damaged";
const BAD_TABLE: &str = "a table of codes is damaged";
const BAD_SCAN: &str = "a scan's header is damaged";

/// Huffman codes of one table, by the next 16 bits.
#[derive(Clone)]
struct Codes {
    /// For each length, the first 16 bits that are beyond its codes; from 1 to 16.
    ends: [u32; 17],
    /// For each length, what is added to a code to find its value.
    offsets: [i32; 17],
    values: Vec<u8>,
    /// Length and value by the next 8 bits; length 0 where the code is longer.
    short: [(u8, u8); 256],
}

impl Codes {
    fn new(counts: &[u8], values: &[u8]) -> Self {
        let mut codes = Codes { ends: [0; 17], offsets: [0; 17], values: values.to_vec(), short: [(0, 0); 256] };
        let (mut code, mut first) = (0_u32, 0_usize);
        for (length, &n) in (1_usize..).zip(counts) {
            let n = usize::from(n);
            codes.offsets[length] = first as i32 - code as i32;
            if length <= 8 {
                for (i, &value) in values.iter().skip(first).take(n).enumerate() {
                    let start = (code as usize + i) << (8 - length);
                    let end = (start + (1 << (8 - length))).min(256);
                    codes.short[start.min(end)..end].fill((length as u8, value));
                }
            }
            code += n as u32;
            first += n;
            codes.ends[length] = code << (16 - length);
            code <<= 1;
        }
        codes
    }
}

/// The bits of a scan up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    n_held: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.n_held <= 48 {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 1;
                    0xff
                }
                // A marker, or the end.
                Some([0xff, ..] | []) | None => return,
                Some([byte, ..]) => *byte,
            };
            self.at += 1;
            self.held = self.held << 8 | u64::from(byte);
            self.n_held += 8;
        }
    }

    fn take(&mut self, n: u32) -> Checked<u32> {
        if self.n_held < n {
            self.fill();
            if self.n_held < n {
                return Err(MISSING);
            }
        }
        self.n_held -= n;
        Ok((self.held >> self.n_held) as u32 & ((1 << n) - 1))
    }

    fn code(&mut self, codes: &Codes) -> Checked<u8> {
        if self.n_held < 16 {
            self.fill();
        }
        // Behind the last bit come ones, of which no code consists.
        let next = match self.n_held {
            n @ 0..16 => (((self.held << (16 - n)) | ((1 << (16 - n)) - 1)) & 0xffff) as u32,
            n => (self.held >> (n - 16)) as u32 & 0xffff,
        };
        let (length, value) = match codes.short[next as usize >> 8] {
            (0, _) => {
                let length = (9..=16).find(|&length| next < codes.ends[length]);
                let is_at_end = self.n_held < 16;
                let length = length.ok_or(if is_at_end { MISSING } else { BAD_CODE })?;
                let at = (next >> (16 - length)) as i32 + codes.offsets[length];
                let value = usize::try_from(at).ok().and_then(|at| codes.values.get(at));
                (length as u32, *value.ok_or(BAD_CODE)?)
            }
            (length, value) => (u32::from(length), value),
        };
        if length > self.n_held {
            return Err(MISSING);
        }
        self.n_held -= length;
        Ok(value)
    }

    /// Goes on behind the restart marker of that number.
    fn restart(&mut self, number: u8) -> Checked<()> {
        self.n_held = 0;
        loop {
            match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => self.at += 2,
                Some([0xff, 0xff, ..]) => self.at += 1,
                Some([0xff, marker, ..]) if *marker == 0xd0 + number => {
                    self.at += 2;
                    return Ok(());
                }
                Some([0xff, ..] | []) | None => return Err(MISSING),
                Some(_) => self.at += 1,
            }
        }
    }
}

/// A component of the frame.
struct Component {
    id: u8,
    /// Blocks of it in a unit of interleaved scans.
    h: usize,
    v: usize,
    /// Blocks in a row and rows of blocks that hold pixels.
    across: usize,
    down: usize,
    /// Blocks in a row with those that only fill units.
    stride: usize,
    /// In a progressive file, a bit for each coefficient of each block that is not zero.
    is_set: Vec<u64>,
}

struct Frame {
    is_progressive: bool,
    units_across: usize,
    units_down: usize,
    components: Vec<Component>,
}

impl Frame {
    /// Of a header whose lengths were looked at; `None` where they are wrong all the same.
    fn new(marker: u8, payload: &[u8]) -> Option<Self> {
        let side = |at: usize| Some(usize::from(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?)));
        let (height, width) = (side(1)?, side(3)?);
        let n = usize::from(*payload.get(5)?);
        let entries = payload.get(6..6 + 3 * n)?.chunks_exact(3);
        let factors = |entry: &[u8]| (usize::from(entry[1] >> 4), usize::from(entry[1] & 15));
        if entries.clone().map(factors).any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return None;
        }
        let most_h = entries.clone().map(|entry| factors(entry).0).max()?;
        let most_v = entries.clone().map(|entry| factors(entry).1).max()?;
        let (units_across, units_down) = (width.div_ceil(8 * most_h), height.div_ceil(8 * most_v));
        let is_progressive = marker == 0xc2;
        let components = entries.map(|entry| {
            let (h, v) = factors(entry);
            let stride = units_across * h;
            Component {
                id: entry[0],
                h,
                v,
                across: (width * h).div_ceil(most_h).div_ceil(8),
                down: (height * v).div_ceil(most_v).div_ceil(8),
                stride,
                is_set: vec![0; if is_progressive { stride * units_down * v } else { 0 }],
            }
        });
        Some(Frame { is_progressive, units_across, units_down, components: components.collect() })
    }
}

/// What a scan brings of each block.
struct Scan<'t> {
    is_progressive: bool,
    first: u32,
    last: u32,
    /// Whether bits of coefficients were there before.
    is_refining: bool,
    /// Blocks that follow without any new coefficient.
    n_empty: u32,
    /// Component, and its two tables.
    parts: Vec<(usize, Option<&'t Codes>, Option<&'t Codes>)>,
}

impl Scan<'_> {
    fn block(&mut self, bits: &mut Bits<'_>, part: usize, is_set: Option<&mut u64>) -> Checked<()> {
        let (_, dc, ac) = self.parts[part];
        match is_set {
            None => {
                let n = bits.code(dc.ok_or(BAD_TABLE)?)?;
                bits.take(u32::from(n.min(16)))?;
                let ac = ac.ok_or(BAD_TABLE)?;
                let mut k = 1;
                while k < 64 {
                    match bits.code(ac)? {
                        0xf0 => k += 16,
                        code if code & 15 == 0 => break,
                        code => {
                            bits.take(u32::from(code & 15))?;
                            k += 1 + u32::from(code >> 4);
                        }
                    }
                }
                Ok(())
            }
            Some(_) if self.first == 0 && self.is_refining => bits.take(1).map(drop),
            Some(_) if self.first == 0 => {
                let n = bits.code(dc.ok_or(BAD_TABLE)?)?;
                bits.take(u32::from(n.min(16))).map(drop)
            }
            Some(is_set) if self.is_refining => self.refine(bits, ac.ok_or(BAD_TABLE)?, is_set),
            Some(is_set) => {
                if self.n_empty > 0 {
                    self.n_empty -= 1;
                    return Ok(());
                }
                let ac = ac.ok_or(BAD_TABLE)?;
                let mut k = self.first;
                while k <= self.last {
                    let code = bits.code(ac)?;
                    let (run, n) = (u32::from(code >> 4), u32::from(code & 15));
                    match (run, n) {
                        (15, 0) => k += 16,
                        (_, 0) => {
                            self.n_empty = (1 << run) - 1 + bits.take(run)?;
                            break;
                        }
                        _ => {
                            bits.take(n)?;
                            *is_set |= 1_u64.checked_shl(k + run).unwrap_or(0);
                            k += run + 1;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// One more bit of the coefficients that are not zero, and new ones between them.
    fn refine(&mut self, bits: &mut Bits<'_>, ac: &Codes, is_set: &mut u64) -> Checked<()> {
        let mut k = self.first;
        if self.n_empty == 0 {
            while k <= self.last {
                let code = bits.code(ac)?;
                let (mut run, n) = (u32::from(code >> 4), u32::from(code & 15));
                if n == 0 && run < 15 {
                    self.n_empty = (1 << run) + bits.take(run)?;
                    break;
                }
                if n != 0 {
                    bits.take(1)?;
                }
                while k <= self.last {
                    if *is_set >> k & 1 == 1 {
                        bits.take(1)?;
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
                if n != 0 && k <= self.last {
                    *is_set |= 1 << k;
                }
                k += 1;
            }
        }
        if self.n_empty > 0 {
            let rest = (k..=self.last).filter(|k| *is_set >> k & 1 == 1).count();
            for _ in 0..rest {
                bits.take(1)?;
            }
            self.n_empty -= 1;
        }
        Ok(())
    }
}

/// Reads all codes of all scans of a file whose segments [`super::jpeg_file::inspect`] has looked at.
///
/// # Errors
/// What is missing, in words.
pub(super) fn check(bytes: &[u8]) -> Checked<()> {
    let mut tables: [Option<Codes>; 8] = Default::default();
    let mut frame: Option<Frame> = None;
    let mut interval = 0;
    let mut at = 0;
    while let Some(found) = segment(bytes, at) {
        at = found.end;
        let payload = found.payload;
        match found.marker {
            EOI => break,
            0xc0..=0xc2 => frame = Some(Frame::new(found.marker, payload).ok_or("its frame header is damaged")?),
            0xc4 => read_tables(payload, &mut tables).ok_or(BAD_TABLE)?,
            0xdd => interval = usize::from(u16::from_be_bytes(*payload.first_chunk().ok_or("a header is damaged")?)),
            SOS => {
                // Of another kind of coding, the decoder's business.
                let Some(frame) = &mut frame else { return Ok(()) };
                let mut scan = scan_of(payload, frame, &tables).ok_or(BAD_SCAN)?;
                let mut bits = Bits { bytes, at, held: 0, n_held: 0 };
                check_scan(frame, &mut scan, &mut bits, interval)?;
                at = bits.at;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tables 0 to 3 are those of the first coefficients, 4 to 7 those of the others.
fn read_tables(mut payload: &[u8], tables: &mut [Option<Codes>; 8]) -> Option<()> {
    while let Some((&place, rest)) = payload.split_first() {
        let (counts, rest) = rest.split_at_checked(16)?;
        let n = counts.iter().map(|&n| usize::from(n)).sum();
        let (values, rest) = rest.split_at_checked(n)?;
        // Of the length L there are at most 2^L codes, less those that longer ones begin with.
        let used: u32 = (1..).zip(counts).map(|(length, &n)| u32::from(n) << (16 - length)).sum();
        if used > 1 << 16 || place >> 4 > 1 || place & 15 > 3 {
            return None;
        }
        tables[usize::from((place >> 4) * 4 + (place & 15))] = Some(Codes::new(counts, values));
        payload = rest;
    }
    Some(())
}

fn scan_of<'t>(payload: &[u8], frame: &Frame, tables: &'t [Option<Codes>; 8]) -> Option<Scan<'t>> {
    let (&n, rest) = payload.split_first()?;
    let (entries, rest) = rest.split_at_checked(2 * usize::from(n))?;
    let parts = entries.chunks_exact(2).map(|entry| {
        let component = frame.components.iter().position(|component| component.id == entry[0])?;
        let table = |place: u8| tables.get(usize::from(place)).and_then(Option::as_ref);
        Some((component, table(entry[1] >> 4 & 3), table(4 + (entry[1] & 3))))
    });
    let parts = parts.collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty())?;
    let [first, last, bits] = *rest.first_chunk::<3>()?;
    let (first, last) = (u32::from(first), u32::from(last));
    // Scans of other coefficients than the first one have one component.
    if frame.is_progressive && (first > last || last > 63 || (first > 0 && parts.len() > 1)) {
        return None;
    }
    let is_refining = bits >> 4 != 0;
    Some(Scan { is_progressive: frame.is_progressive, first, last, is_refining, n_empty: 0, parts })
}

fn check_scan(frame: &mut Frame, scan: &mut Scan<'_>, bits: &mut Bits<'_>, interval: usize) -> Checked<()> {
    let is_interleaved = scan.parts.len() > 1;
    let (across, down) = match scan.parts.first() {
        Some(&(part, _, _)) if !is_interleaved => (frame.components[part].across, frame.components[part].down),
        _ => (frame.units_across, frame.units_down),
    };
    let (mut to_restart, mut number) = (interval, 0);
    for y in 0..down {
        for x in 0..across {
            if interval > 0 && to_restart == 0 {
                bits.restart(number)?;
                (to_restart, number) = (interval, (number + 1) % 8);
                scan.n_empty = 0;
            }
            to_restart = to_restart.saturating_sub(1);
            for part in 0..scan.parts.len() {
                let component = &mut frame.components[scan.parts[part].0];
                let (h, v) = if is_interleaved { (component.h, component.v) } else { (1, 1) };
                for i in 0..h * v {
                    let place = (y * v + i / h) * component.stride + x * h + i % h;
                    let is_set = if scan.is_progressive { component.is_set.get_mut(place) } else { None };
                    scan.block(bits, part, is_set)?;
                }
            }
        }
    }
    Ok(())
}
