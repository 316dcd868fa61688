//! The one lab of this process. The cluster keeps it as long as the process lives, so a test that waited for another one
//! would wait for ever.

use std::sync::OnceLock;

use podline_lab::Lab;

/// It, or why there is none.
pub(crate) fn lab() -> Result<&'static Lab, String> {
    static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
    let made = LAB.get_or_init(|| {
        Lab::available()?;
        Lab::new().map_err(|error| error.to_string())
    });
    made.as_ref().map_err(Clone::clone)
}
