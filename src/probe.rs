pub(crate) mod lag;
pub(crate) mod slots;
