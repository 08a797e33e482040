//! The full text of a kernel: the types of the element and the width it is compiled for, its file, and the shared files
//! that it imports.
//!
//! An import is a line `#import name`, and stands for `shared/name.wgsl`, here or in the folder of the kernel's family; only
//! `subgroups` stands for what the target's compiler wants to hear before subgroup operations. There is no other preprocessing.

use super::element::{Element, Width};
use super::entry::{Import, Kernel};

const ELEMENT_F32: &str = include_str!("shared/element_f32.wgsl");
const ELEMENT_F16: &str = include_str!("shared/element_f16.wgsl");
const WIDTH_ONE: &str = include_str!("shared/width_one.wgsl");
const WIDTH_FOUR: &str = include_str!("shared/width_four.wgsl");

/// Before subgroup operations: browsers insist on it, and naga does not know it.
#[cfg(target_arch = "wasm32")]
const SUBGROUPS: &str = "enable subgroups;\n";
#[cfg(not(target_arch = "wasm32"))]
const SUBGROUPS: &str = "";

/// What every kernel can import, beside its family's files ([`Kernel::imports`]).
const IMPORTS: &[Import] = &[
    ("activate", include_str!("shared/activate.wgsl")),
    ("linear_group", include_str!("shared/linear_group.wgsl")),
    ("matrix_16", include_str!("shared/matrix_16.wgsl")),
    ("matrix_8", include_str!("shared/matrix_8.wgsl")),
    ("multiply_f16", include_str!("shared/multiply_f16.wgsl")),
    ("multiply_f32", include_str!("shared/multiply_f32.wgsl")),
    ("subgroups", SUBGROUPS),
];

impl Kernel {
    /// The WGSL that a device compiles.
    ///
    /// # Panics
    /// When the file imports something that does not exist; a test assembles every kernel.
    #[must_use]
    pub fn source(&self, element: Element, width: Width) -> String {
        let mut text = String::from(match element {
            Element::F32 => ELEMENT_F32,
            Element::F16 => ELEMENT_F16,
        });
        text.push_str(match width {
            Width::One => WIDTH_ONE,
            Width::Four => WIDTH_FOUR,
        });
        // `enable` has to come before everything else; what the element enables does.
        let mut file = String::new();
        self.expand(self.wgsl, &mut file);
        let (enables, rest): (Vec<_>, Vec<_>) = file.lines().partition(|line| line.starts_with("enable "));
        let lines = |lines: Vec<&str>| lines.into_iter().flat_map(|line| [line, "\n"]).collect::<String>();
        lines(enables) + &text + &lines(rest)
    }

    fn expand(&self, file: &str, text: &mut String) {
        for line in file.lines() {
            match line.trim().strip_prefix("#import") {
                Some(name) => {
                    let import = IMPORTS.iter().chain(self.imports).find(|(known, _)| *known == name.trim());
                    let Some((_, shared)) = import else {
                        panic!("{}.wgsl imports{name}, which is unknown", self.name)
                    };
                    self.expand(shared, text);
                }
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
}
