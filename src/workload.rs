mod manifest;
pub use manifest::*;
