//! The sizes of an attention, how its work is cut, and the parameters that its kernels share.

use crate::run::gpu::kernel::{Element, Machine, Matrices, Multiply, bindings, params};

bindings! {
    /// What the kernel is bound to.
    struct Bindings {
        /// Rows of [`Attention::strides`]\[0\]; with packed rows the keys and values too.
        q: ReadWrite T,
        /// `None` when packed.
        k: ReadWrite Option<T>,
        /// `None` when packed.
        v: ReadWrite Option<T>,
        /// \[B,T,heads·head_size\].
        out: ReadWrite T,
    }
}

params! {
    /// The uniform buffer, field for field as in the WGSL file.
    struct Params {
        n_queries: u32,
        n_keys: u32,
        heads: u32,
        head_size: u32,
        q_stride: u32,
        k_stride: u32,
        v_stride: u32,
        out_stride: u32,
        n_query_blocks: u32,
        n_workgroups: u32,
        scale_log2: f32,
        n_slices: u32,
        k_offset: u32,
        v_offset: u32,
        padding_0: u32,
        padding_1: u32,
    }
}

/// Parts of a slice at most: 20 vectors of four in each invocation.
const MAX_PARTS: u32 = 5;
/// Queries, keys and columns of a part that one invocation has.
const OF_ONE: u32 = 4;

/// The most subgroups of a workgroup with cooperative matrices, the side of one, and the most parts of a head that a
/// subgroup has.
const MAX_SUBGROUPS: u32 = 8;
pub(super) const SIDE: u32 = 16;
const MAX_MATRIX_PARTS: u32 = 10;

/// One attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Batch items B.
    pub batch: u32,
    /// Queries T.
    pub queries: u32,
    /// Keys S, at least 1.
    pub keys: u32,
    /// Heads.
    pub heads: u32,
    /// Columns of one head.
    pub head_size: u32,
    /// Scores are multiplied by it.
    pub scale: f32,
    /// Whether later keys are hidden.
    pub causal: bool,
    /// Elements from one row of q, k and v to the next: `heads * head_size` where rows hold nothing else.
    pub strides: [u32; 3],
    /// Whether the rows of one tensor hold q, k and v, one behind the other.
    pub packed: bool,
}

impl Attention {
    /// q, k and v lie without gaps.
    #[must_use]
    pub fn dense(batch: u32, queries: u32, keys: u32, heads: u32, head_size: u32, scale: f32, causal: bool) -> Self {
        Self { batch, queries, keys, heads, head_size, scale, causal, strides: [heads * head_size; 3], packed: false }
    }

    /// q, k and v lie one behind the other in the rows of one tensor.
    #[must_use]
    pub fn packed(self) -> Self {
        Self { strides: [3 * self.heads * self.head_size; 3], packed: true, ..self }
    }
}

/// How the invocations of a workgroup attend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByInvocations {
    /// Along the keys and the columns, and along the queries.
    pub(super) threads: [u32; 2],
    /// Parts of a head's columns in a slice.
    pub(super) n_parts: u32,
    /// Workgroups that share the columns of one block of queries.
    pub(super) n_slices: u32,
    /// Whether the invocations of a query are in one subgroup, and it may be asked.
    pub(super) in_subgroups: bool,
}

impl ByInvocations {
    /// Queries of a workgroup.
    pub(super) fn queries(self) -> u32 {
        OF_ONE * self.threads[1]
    }
}

/// Bytes of workgroup memory that `threads` need: rows of queries and of keys, and a number of each invocation of a query.
fn workgroup_bytes([x, y]: [u32; 2], multiply: Multiply) -> u32 {
    let (queries, keys) = (OF_ONE * y, OF_ONE * x);
    (queries + keys) * (x + 1) * 4 * multiply.bytes() + queries * x * 4
}

/// How cooperative matrices attend.
#[derive(Clone, Copy)]
pub(super) struct ByMatrices {
    pub(super) subgroup_size: u32,
    pub(super) n_subgroups: u32,
    /// Whether the next keys and values have a room of their own.
    pub(super) two_halves: bool,
}

impl Attention {
    /// How invocations do it: in parts that fit the head, and as many as the workgroup memory has room for, because keys
    /// and values are brought once a workgroup. In this order they were the fastest on an H100.
    pub(super) fn invocations(&self, machine: &Machine, multiply: Multiply) -> ByInvocations {
        let head_size = self.head_size;
        let ways: &[[u32; 2]] = match head_size {
            size if size.is_multiple_of(40) => &[[10, 16], [10, 8]],
            64 => &[[16, 16], [8, 32], [8, 16]],
            size if size.is_multiple_of(64) => &[[16, 16], [16, 8], [8, 16]],
            _ => &[[8, 16]],
        };
        let fits = |threads: &&[u32; 2]| workgroup_bytes(**threads, multiply) <= machine.workgroup_bytes;
        let threads = ways.iter().find(fits).copied().unwrap_or([8, 8]);
        let parts = head_size.div_ceil(OF_ONE * threads[0]);
        let n_slices = parts.div_ceil(MAX_PARTS);
        // Slices of equal width, rather than full ones and a rest.
        let in_subgroups =
            threads[0].is_power_of_two() && machine.least_subgroup.is_some_and(|least| threads[0] <= least);
        ByInvocations { threads, n_parts: parts.div_ceil(n_slices), n_slices, in_subgroups }
    }

    /// The class that it belongs to when what it multiplies in is measured: powers of two of its queries and keys, columns of a
    /// head, type of activations.
    #[must_use]
    pub fn class(&self, element: Element) -> String {
        let power = |n: u32| f64::from(n.max(1)).log2().round() as u32;
        format!("attention q{} k{} h{} {element:?}", power(self.queries), power(self.keys), self.head_size)
    }

    /// Floating-point operations, a multiplication and an addition being two.
    #[must_use]
    pub fn flops(&self) -> f64 {
        [self.batch, self.heads, self.queries, self.keys, self.head_size].iter().map(|n| f64::from(*n)).product::<f64>()
            * 4.0
    }

    /// Whether it can be multiplied in f32 and in f16: activations are f16, and no cooperative matrices do it.
    #[must_use]
    pub fn has_choice(&self, machine: &Machine) -> bool {
        machine.element == Element::F16 && self.matrices(machine).is_none()
    }

    /// Whether the invocations of a query are in one subgroup and ask it.
    #[must_use]
    pub fn asks_subgroups(&self, machine: &Machine, multiply: Multiply) -> bool {
        self.matrices(machine).is_none() && self.invocations(machine, multiply).in_subgroups
    }

    /// How the machine's cooperative matrices do it, if they can.
    pub(super) fn matrices(&self, machine: &Machine) -> Option<ByMatrices> {
        let Attention { head_size, strides, .. } = *self;
        let Matrices { side, subgroup_size } = machine.matrices?;
        let in_eights = [head_size, strides[0], strides[1], strides[2]].iter().all(|size| size.is_multiple_of(8));
        let parts = head_size.div_ceil(SIDE);
        let can = machine.element == Element::F16
            && side == SIDE
            && (8..=64).contains(&subgroup_size)
            && in_eights
            && parts <= MAX_MATRIX_PARTS;
        // Eight subgroups of 16 queries each were the fastest on an H200, before four of 32.
        let n_subgroups = MAX_SUBGROUPS.min(256 / subgroup_size);
        let fits = |by: &ByMatrices| {
            let tiles = 2 * (1 + u32::from(by.two_halves)) * 32 * (2 * parts + 1) * 16;
            let of_a_query = 9 * 16 + 10 * 8;
            tiles + by.n_subgroups * SIDE * of_a_query <= machine.workgroup_bytes
        };
        let by = |n_subgroups, two_halves| ByMatrices { subgroup_size, n_subgroups, two_halves };
        let ways =
            [by(n_subgroups, true), by(n_subgroups, false), by(n_subgroups / 2, true), by(n_subgroups / 2, false)];
        ways.into_iter().find(fits).filter(|_| can)
    }
}
