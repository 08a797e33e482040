//! The emitter: appends dispatches, and tracks where each value lies, how long its place is live and what each dispatch
//! binds. Every family's emission stands on it; no kernel is named here.
//!
//! Allocates nothing: places are slots with lifetimes, which the arena packs afterwards.

use std::collections::HashMap;
use std::rc::Rc;

use super::arena::Span;
use super::bands::{BandSizes, Cuts, Rows};
use super::fusing::Values;
use super::kernel::{Bind, Element, Launch, Machine};
use super::weight_layout::{WeightKey, WeightLayout};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, Op};

/// Where an operand of a dispatch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A slot of the arena.
    Slot(usize),
    /// An input of the run, by name: what another graph computed, or ids.
    Input(String),
    /// A buffer of weights.
    Weight(WeightKey),
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// What runs.
    pub launch: Launch,
    /// What is bound behind the parameters, in the kernel's order; nothing where the launch does not use a binding.
    pub operands: Vec<Option<Operand>>,
    /// The node's name, for errors.
    pub name: String,
    /// The sizes, for profiles.
    pub shape: String,
    /// Floating-point operations, for cutting submits and for progress.
    pub flops: u64,
}

/// Where a value is.
#[derive(Clone)]
pub(super) enum Storage<'a> {
    /// In one place.
    Whole(Operand),
    /// In bands of rows.
    Bands(Bands<'a>),
    /// Not computed yet: rows are computed on request.
    Deferred(Rc<dyn Deferred<'a> + 'a>),
}

/// A picture whose rows are computed on request.
pub(super) trait Deferred<'a> {
    /// The picture that they are computed from.
    fn source(&self) -> NodeId;

    /// Emits the dispatches that compute the rows into a new slot.
    fn rows(&self, emitter: &mut Emitter<'a>, wanted: Rows) -> Result<Operand>;
}

/// A picture in bands of rows. The first ones are kept; the others are computed again whenever they are read.
#[derive(Clone)]
pub(super) struct Bands<'a> {
    /// The rows of each.
    pub rows: Vec<Rows>,
    /// Where those are that were written.
    pub places: Vec<Option<Operand>>,
    /// Bands that are kept.
    pub n_kept: usize,
    /// Whether they are kept in half of their bytes.
    pub is_packed: bool,
    /// Computes rows.
    pub maker: Rc<dyn Deferred<'a> + 'a>,
}

/// What is kept of a cut value that could be computed again.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    pub root: NodeId,
    /// The places of the bands.
    pub slots: Vec<usize>,
}

/// See the module.
pub(super) struct Emitter<'a> {
    pub graph: &'a Graph,
    /// The type of activations.
    pub element: Element,
    pub machine: Machine,
    /// The largest range that a binding may see, in bytes.
    pub max_binding_bytes: u64,
    pub bands: BandSizes,
    /// The storages that are cut into bands.
    pub cuts: &'a Cuts,
    /// The name of what is emitted, for errors and profiles.
    pub name: String,
    values: &'a Values,
    storages: HashMap<NodeId, Storage<'a>>,
    /// The rows of cut pictures that the task computed last.
    recent: HashMap<NodeId, (Rows, Operand)>,
    keepings: Vec<Keeping>,
    spans: Vec<Span>,
    dispatches: Vec<Dispatch>,
}

/// A shape as four dimensions, ones in front.
pub(super) fn four(shape: &[usize]) -> Result<[u32; 4]> {
    if shape.len() > 4 {
        return Err(Error::Shape { node: format!("{shape:?}"), op: "reshape", reason: "has more than 4 axes".into() });
    }
    let mut four = [1; 4];
    for (to, &from) in four[4 - shape.len()..].iter_mut().zip(shape) {
        *to = from as u32;
    }
    Ok(four)
}

/// Elements of a shape.
pub(super) fn n_elements(shape: &[usize]) -> u32 {
    shape.iter().product::<usize>() as u32
}

impl<'a> Emitter<'a> {
    pub fn new(
        graph: &'a Graph,
        values: &'a Values,
        machine: Machine,
        max_binding_bytes: u64,
        bands: BandSizes,
        cuts: &'a Cuts,
    ) -> Self {
        Emitter {
            graph,
            element: machine.element,
            machine,
            max_binding_bytes,
            bands,
            cuts,
            name: String::new(),
            values,
            storages: HashMap::new(),
            recent: HashMap::new(),
            keepings: Vec::new(),
            spans: Vec::new(),
            dispatches: Vec::new(),
        }
    }

    /// The lifetimes of the slots, the dispatches, and what is kept of cut values that could be computed again.
    pub fn finish(self) -> (Vec<Span>, Vec<Dispatch>, Vec<Keeping>) {
        (self.spans, self.dispatches, self.keepings)
    }

    pub fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    pub fn shape(&self, id: NodeId) -> &'a [usize] {
        &self.node(id).shape
    }

    /// The last dimension of a value.
    pub fn width(&self, id: NodeId) -> u32 {
        self.shape(id).last().copied().unwrap_or(0) as u32
    }

    pub fn flops(&self, id: NodeId) -> u64 {
        self.graph.cost(self.node(id)).flops
    }

    pub fn root(&self, id: NodeId) -> NodeId {
        self.values.root(id)
    }

    pub fn refuse<T>(&self, op: &'static str, reason: impl Into<String>) -> Result<T> {
        Err(Error::Shape { node: format!("{}: {}", self.graph.name, self.name), op, reason: reason.into() })
    }

    /// A new slot, live from the next dispatch on.
    pub fn slot(&mut self, n_bytes: u64) -> Operand {
        let at = self.dispatches.len();
        self.spans.push(Span { n_bytes: n_bytes.next_multiple_of(4).max(16), first: at, last: at });
        Operand::Slot(self.spans.len() - 1)
    }

    fn keep_until(&mut self, operand: &Operand, dispatch: usize) {
        if let Operand::Slot(slot) = operand {
            self.spans[*slot].last = dispatch;
        }
    }

    /// Keeps results live until all dispatches are done.
    pub fn keep_to_the_end<'o>(&mut self, operands: impl IntoIterator<Item = &'o Operand>) {
        let end = self.dispatches.len();
        operands.into_iter().for_each(|operand| self.keep_until(operand, end));
    }

    /// Appends a dispatch. None is ever removed again: what depends on later readers is decided before the call.
    pub fn emit<B: Bind<Operand = Operand>>(&mut self, launch: Launch, bindings: B, shape: String, flops: u64) {
        debug_assert_eq!(launch.kernel.bindings, B::BINDINGS, "{}: bound as another kernel", launch.kernel.name);
        let at = self.dispatches.len();
        let operands = bindings.list();
        operands.iter().flatten().for_each(|operand| self.keep_until(operand, at));
        self.dispatches.push(Dispatch { launch, operands, name: self.name.clone(), shape, flops });
    }

    pub fn storage(&self, root: NodeId) -> Option<&Storage<'a>> {
        self.storages.get(&root)
    }

    pub fn store(&mut self, root: NodeId, storage: Storage<'a>) {
        self.storages.insert(root, storage);
    }

    /// Whether a value lies in one place.
    pub fn is_whole(&self, root: NodeId) -> bool {
        matches!(self.storages.get(&root), Some(Storage::Whole(_)))
    }

    /// The place of a value that lies in one piece, for a task that reads it.
    pub fn whole(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.root(id);
        match self.storages.get(&root) {
            Some(Storage::Whole(operand)) => Ok(operand.clone()),
            Some(_) => self.refuse("reshape", "cannot be read whole, because it is cut into bands"),
            // A slot made now would hold whatever lay there before: a picture of rubbish instead of an error.
            None => self.refuse("reshape", format!("reads {}, which nothing has written", self.node(root).name)),
        }
    }

    /// The place where a task writes its value in one piece; made with the first dispatch that writes it.
    pub fn room(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.root(id);
        if self.storages.contains_key(&root) {
            return self.whole(root);
        }
        let operand = self.slot(self.values.n_elements(self.graph, root) as u64 * self.element.bytes());
        self.storages.insert(root, Storage::Whole(operand.clone()));
        Ok(operand)
    }

    /// A weight that has a buffer of its own.
    pub fn weight(&self, id: NodeId) -> Operand {
        Operand::Weight(WeightKey::of(self.graph, &[id], WeightLayout::Vector))
    }

    /// An operand that is a value or a weight with a buffer of its own.
    pub fn operand(&mut self, id: NodeId) -> Result<Operand> {
        let root = self.root(id);
        if matches!(self.node(root).op, Op::Weight) { Ok(self.weight(root)) } else { self.whole(id) }
    }

    /// Ends a task: rows that it computed are not reused by others, which would keep them alive for long.
    pub fn end_task(&mut self) {
        self.recent.clear();
    }

    /// Rows of a cut picture that the task computed last, if the wanted ones are among them.
    pub fn recent(&self, root: NodeId, wanted: Rows) -> Option<(Operand, Rows)> {
        let (rows, operand) = self.recent.get(&root)?;
        rows.contain(wanted).then(|| (operand.clone(), *rows))
    }

    /// Has rows of a cut picture found by [`Emitter::recent`].
    pub fn remember(&mut self, root: NodeId, rows: Rows, operand: &Operand) {
        self.recent.insert(root, (rows, operand.clone()));
    }

    /// Whether a value is cut into bands.
    pub fn is_cut(&self, root: NodeId) -> bool {
        self.cuts.contains(root)
    }

    /// Begins a cut value, none of whose bands is written yet. Where they can be computed again, not all may be kept.
    pub fn begin_bands(&mut self, root: NodeId, maker: Rc<dyn Deferred<'a> + 'a>, can_be_again: bool) -> Result<()> {
        let &[_, height, _, channels] = self.shape(root) else { return self.refuse("bands", "wants a picture") };
        let rows = self.cuts.of_height(height, height);
        let n_kept = if can_be_again { self.cuts.n_kept(root, rows.len()) } else { rows.len() };
        let n_bytes = self.node(root).n_elements() as u64 * self.element.bytes();
        let is_packed = self.element == Element::F32 && channels.is_multiple_of(4) && n_bytes > self.bands.packed_bytes;
        if can_be_again {
            self.keepings.push(Keeping { root, slots: Vec::new() });
        }
        let places = vec![None; rows.len()];
        self.storages.insert(root, Storage::Bands(Bands { rows, places, n_kept, is_packed, maker }));
        Ok(())
    }

    /// The bands of a value.
    pub fn bands_of(&self, root: NodeId) -> Option<&Bands<'a>> {
        match self.storages.get(&root) {
            Some(Storage::Bands(bands)) => Some(bands),
            _ => None,
        }
    }

    /// Keeps a band that was written.
    pub fn keep_band(&mut self, root: NodeId, band: usize, place: Operand) {
        if let (Operand::Slot(slot), Some(keeping)) = (&place, self.keepings.iter_mut().find(|k| k.root == root)) {
            keeping.slots.push(*slot);
        }
        if let Some(Storage::Bands(bands)) = self.storages.get_mut(&root) {
            bands.places[band] = Some(place);
        }
    }

    /// Elements of a row of a picture \[B,H,W,C\].
    pub fn row_elements(&self, root: NodeId) -> usize {
        self.shape(root)[2..].iter().product()
    }

    /// A slot for some rows of a picture.
    pub fn slot_of_rows(&mut self, root: NodeId, n_rows: usize) -> Operand {
        self.slot((n_rows * self.row_elements(root)) as u64 * self.element.bytes())
    }
}
