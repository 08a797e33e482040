//! Rows of cut pictures: gathered where they are read, put away where they were computed.

use super::{copy, pack, round_packed, unpack};
use crate::error::Result;
use crate::graph::NodeId;
use crate::run::gpu::bands::Rows;
use crate::run::gpu::emit::{Bands, Emitter, Operand, Storage};

/// A place that holds the wanted rows of a picture, and the rows that it holds: the picture itself, one of its bands, or a
/// copy.
pub(in crate::run::gpu) fn rows_of(emitter: &mut Emitter<'_>, root: NodeId, wanted: Rows) -> Result<(Operand, Rows)> {
    if let Some(recent) = emitter.recent(root, wanted) {
        return Ok(recent);
    }
    let bands = match emitter.storage(root).cloned() {
        None | Some(Storage::Whole(_)) => {
            let &[_, height, ..] = emitter.shape(root) else { return emitter.refuse("bands", "wants a picture") };
            return Ok((emitter.whole(root)?, Rows { first: 0, n: height }));
        }
        Some(Storage::Deferred(deferred)) => return Ok((deferred.rows(emitter, wanted)?, wanted)),
        Some(Storage::Bands(bands)) => bands,
    };
    let place =
        bands.rows.iter().position(|rows| rows.contain(wanted)).and_then(|i| Some((i, bands.places[i].clone()?)));
    if let Some((i, operand)) = place
        && !bands.is_packed
    {
        return Ok((operand, bands.rows[i]));
    }
    let gathered = gathered(emitter, root, &bands, wanted)?;
    emitter.remember(root, wanted, &gathered);
    Ok((gathered, wanted))
}

/// A place that holds exactly the wanted rows of a picture, from its first byte on.
pub(in crate::run::gpu) fn exactly(emitter: &mut Emitter<'_>, root: NodeId, wanted: Rows) -> Result<Operand> {
    let (operand, rows) = rows_of(emitter, root, wanted)?;
    if rows.first == wanted.first {
        return Ok(operand);
    }
    let out = emitter.slot_of_rows(root, wanted.n);
    copy_rows(emitter, root, (operand, rows), &out, wanted)?;
    Ok(out)
}

/// Copies the rows that two places have in common.
fn copy_rows(
    emitter: &mut Emitter<'_>,
    root: NodeId,
    (source, from): (Operand, Rows),
    out: &Operand,
    to: Rows,
) -> Result<()> {
    let &[_, _, width, channels] = emitter.shape(root) else { return emitter.refuse("bands", "wants a picture") };
    let part = from.and(to);
    let size = [1, part.n, width, channels].map(|n| n as u32);
    let copy = copy::Copy::rows(size, (part.first - from.first) as u32, (part.first - to.first) as u32);
    let launch = copy::launch(&copy, emitter.element)?;
    emitter.emit(launch, copy::Bindings { source, out: out.clone() }, format!("{size:?}"), 0);
    Ok(())
}

/// Rows of a cut picture in a slot of their own: from the bands that are kept, and the others computed.
fn gathered<'a>(emitter: &mut Emitter<'a>, root: NodeId, bands: &Bands<'a>, wanted: Rows) -> Result<Operand> {
    let kept = |i: usize| bands.places[i].clone();
    let first_missing =
        (0..bands.rows.len()).find(|&i| kept(i).is_none()).map_or(wanted.end(), |i| bands.rows[i].first);
    // Bands are kept from the first on.
    let computed = Rows { first: first_missing, n: usize::MAX - first_missing }.and(wanted);
    if computed == wanted {
        return bands.maker.rows(emitter, wanted);
    }
    let computed = if computed.n > 0 { Some(bands.maker.rows(emitter, computed)?).zip(Some(computed)) } else { None };
    let out = emitter.slot_of_rows(root, wanted.n);
    for (i, &rows) in bands.rows.iter().enumerate() {
        let part = rows.and(wanted);
        let Some(source) = kept(i).filter(|_| part.n > 0) else { continue };
        if bands.is_packed {
            let of_row = emitter.row_elements(root);
            let values = |n_rows: usize| (n_rows * of_row) as u32;
            let (from, to) = (values(part.first - rows.first), values(part.first - wanted.first));
            let launch = unpack::launch(values(part.n), from, to)?;
            emitter.emit(launch, unpack::Bindings { source, out: out.clone() }, format!("{}x{of_row}", part.n), 0);
        } else {
            copy_rows(emitter, root, (source, rows), &out, wanted)?;
        }
    }
    if let Some(computed) = computed {
        copy_rows(emitter, root, computed, &out, wanted)?;
    }
    Ok(out)
}

/// Puts away a band that was computed into a slot of its own.
pub(in crate::run::gpu) fn put_away(
    emitter: &mut Emitter<'_>,
    root: NodeId,
    band: usize,
    computed: Operand,
) -> Result<()> {
    let Some((rows, is_packed)) = emitter.bands_of(root).map(|bands| (bands.rows[band], bands.is_packed)) else {
        return emitter.refuse("bands", "has none");
    };
    let place = if is_packed {
        let n_values = rows.n * emitter.row_elements(root);
        let out = emitter.slot(n_values as u64 * 2);
        let launch = pack::launch(n_values as u32, 0, 0)?;
        let bindings = pack::Bindings { source: computed, out: out.clone() };
        emitter.emit(launch, bindings, format!("{n_values}"), 0);
        out
    } else {
        computed
    };
    emitter.keep_band(root, band, place);
    Ok(())
}

/// Rounds rows that are computed again to what they would be if they had been kept.
pub(in crate::run::gpu) fn as_if_kept(
    emitter: &mut Emitter<'_>,
    root: NodeId,
    n_rows: usize,
    computed: &Operand,
) -> Result<()> {
    if emitter.bands_of(root).is_some_and(|bands| bands.is_packed) {
        let n_values = n_rows * emitter.row_elements(root);
        let launch = round_packed::launch(n_values as u32)?;
        emitter.emit(launch, round_packed::Bindings { values: computed.clone() }, format!("{n_values}"), 0);
    }
    Ok(())
}
