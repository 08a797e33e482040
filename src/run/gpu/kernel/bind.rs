//! What a kernel is bound to, by name: its parameters and its storage buffers.

use super::entry::Binding;

/// The storage buffers of one kernel, a field for each, whatever stands for a buffer: a place in a plan, a range of bytes,
/// the values of a test. The one place where names become an order; a test compares names, order and access with the WGSL.
pub trait Bind: Sized {
    /// What stands for a buffer.
    type Operand;

    /// Names and access in the order of the file, the parameters first.
    const BINDINGS: &'static [(&'static str, Binding)];

    /// The operands in the order of the file, without the parameters. `None` where the launch does not use a binding.
    fn list(self) -> Vec<Option<Self::Operand>>;
}

/// Declares `Bindings`, the storage buffers of a kernel in the order of its file: name, access, and `T` or, where a launch
/// may do without, `Option<T>`.
macro_rules! bindings {
    ($(#[$meta:meta])* struct Bindings { $($(#[$doc:meta])* $name:ident: $access:ident $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct Bindings<T> { $($(#[$doc])* pub $name: $kind,)* }

        impl<T> $crate::run::gpu::kernel::Bind for Bindings<T> {
            type Operand = T;

            const BINDINGS: &'static [(&'static str, $crate::run::gpu::kernel::Binding)] = &[
                ("params", $crate::run::gpu::kernel::Binding::Uniform),
                $((stringify!($name), $crate::run::gpu::kernel::Binding::$access)),*
            ];

            fn list(self) -> Vec<Option<T>> {
                vec![$(self.$name.into()),*]
            }
        }
    };
}

/// Declares `Params`, the uniform at binding 0.
macro_rules! params {
    ($(#[$meta:meta])* struct Params { $($(#[$doc:meta])* $name:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        pub(super) struct Params { $($(#[$doc])* pub(super) $name: $kind,)* }

        impl Params {
            /// Name and offset of every field, for the test that compares them with the WGSL file.
            pub(super) const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($name), std::mem::offset_of!(Params, $name))),*];
        }
    };
}

pub(in crate::run::gpu) use {bindings, params};
