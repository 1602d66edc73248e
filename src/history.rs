//! Placeholder until the judge is merged.
use crate::event::Event;
#[derive(Debug)]
pub struct History;
impl History {
    pub fn replay(_: &[Event]) -> Result<Self, String> {
        Err("the judge is not merged yet".into())
    }
}
