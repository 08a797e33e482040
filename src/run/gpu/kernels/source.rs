//! The full text of a kernel: the types of the element and the width it is compiled for, its file, and the shared files
//! that it imports.
//!
//! An import is a line `#import name`, and stands for `shared/name.wgsl`. There is no other preprocessing.

use super::{Element, Kernel, Width};

const ELEMENT_F32: &str = include_str!("shared/element_f32.wgsl");
const ELEMENT_F16: &str = include_str!("shared/element_f16.wgsl");
const WIDTH_ONE: &str = include_str!("shared/width_one.wgsl");
const WIDTH_FOUR: &str = include_str!("shared/width_four.wgsl");

/// What a kernel can import.
const IMPORTS: &[(&str, &str)] = &[
    ("activate", include_str!("shared/activate.wgsl")),
    ("epilogue", include_str!("shared/epilogue.wgsl")),
    ("group_norm", include_str!("shared/group_norm.wgsl")),
    ("group_norm_of", include_str!("shared/group_norm_of.wgsl")),
    ("group_norm_sources", include_str!("shared/group_norm_sources.wgsl")),
    ("group_norm_whole", include_str!("shared/group_norm_whole.wgsl")),
    ("linear_group", include_str!("shared/linear_group.wgsl")),
];

impl Kernel {
    /// The WGSL that a device compiles.
    ///
    /// # Panics
    /// When the file imports something that does not exist; a test assembles every kernel.
    #[must_use]
    pub fn source(&self, element: Element, width: Width) -> String {
        // `enable f16;` has to come before everything else, so the element's file is first.
        let mut text = String::from(match element {
            Element::F32 => ELEMENT_F32,
            Element::F16 => ELEMENT_F16,
        });
        text.push_str(match width {
            Width::One => WIDTH_ONE,
            Width::Four => WIDTH_FOUR,
        });
        self.expand(self.wgsl, &mut text);
        text
    }

    fn expand(&self, file: &str, text: &mut String) {
        for line in file.lines() {
            match line.trim().strip_prefix("#import") {
                Some(name) => {
                    let import = IMPORTS.iter().find(|(known, _)| *known == name.trim());
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
